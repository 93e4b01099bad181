"""The map of the package is short and true."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

PATHS = ("An action becomes a reward", "A benchmark file becomes a page", "Images become a scheduler")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_it_has_at_most_200_lines() -> None:
    assert len(TEXT.splitlines()) <= 200


def test_every_room_and_module_of_the_package_has_one_row() -> None:
    rows = re.findall(r"^\| (`schedrl/.*?) \|", section("Rooms"), re.M)
    named = [path for row in rows for path in re.findall(r"`schedrl/([\w.]+)/?`", row)]
    there = {
        path.name for path in (ROOT / "schedrl").iterdir() if not path.name.startswith(("_", "py.typed"))
    }
    assert len(named) == len(set(named))
    assert set(named) == there


@pytest.mark.parametrize("title", PATHS)
def test_a_path_passes_at_most_twelve_files_that_exist(title: str) -> None:
    files = re.findall(r"^\| `(schedrl/\S+)` \|", section(title), re.M)
    assert 2 <= len(files) <= 12
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_every_named_class_exists() -> None:
    """Names in the table of what varies are defined somewhere in the package."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "schedrl").rglob("*.py"))
    bases = re.findall(r"^\| [\w ,]+ \| (.*?) \|", section("What varies, and where to add to it"), re.M)
    names = [word for cell in bases for word in re.findall(r"`(\w+)`", cell)]
    assert len(names) > 15
    assert [word for word in names if not re.search(rf"^(class )?{word}\b", code, re.M)] == []
