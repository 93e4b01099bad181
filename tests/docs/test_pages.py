"""What the pages say about the repository is so: paths, links, ids and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium
import pytest
import typer

import schedrl
from tests.docs.pages import PAGES, ROOT, name

# Files and folders of the repository, named in text or code.
_PATH = re.compile(r"(?<![\w/.-])(?:schedrl|scripts|benchmarks|docs|tests|envs|agents)/[\w./-]*[\w/]")

_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def ids() -> list[str]:
    return [env_id for env_id in gymnasium.registry if env_id.startswith("schedrl/")]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(_PATH.findall(text)) - set(ids())
    missing = [path for path in named if not (ROOT / path).exists()]
    missing += [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    assert not missing


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    assert sum(line.startswith("|") for line in lines) <= 6 + 2, "one table, of at most six rows"
    assert sum(line.startswith("![") for line in lines) == 1


def test_every_environment_has_a_row() -> None:
    page = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    assert schedrl.__version__
    assert {f"schedrl/{slug}" for slug in re.findall(r"^\| `(\w+-v\d+)`", page, re.M)} == set(ids())


def test_every_command_has_a_row() -> None:
    from schedrl.cli import app

    def leaves(command: object, words: str) -> list[str]:
        below = getattr(command, "commands", None)
        if below is None:
            return [words]
        return [leaf for key, each in below.items() for leaf in leaves(each, f"{words} {key}")]

    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(schedrl [a-z ]+)` \|", page, re.M)
    assert sorted(listed) == sorted(leaves(typer.main.get_command(app), "schedrl"))
