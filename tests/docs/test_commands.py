"""Every command and every example on the pages runs, but for those that are marked as long."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.docs.pages import PAGES, ROOT, Block, blocks, name

# Commands that are not the package's own; only marked blocks have them.
OTHER = {"pip", "tensorboard", "torchrun", "cd", "npm", "node", ".venv/bin/pre-commit"}

VENV = ".venv/bin/python"


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.kind in ("bash", "python") and not block.skipped]


def pictures(folder: Path) -> None:
    """Ninety pictures of 16 x 16 pixels: a disc in one colour on another."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows, columns = np.mgrid[0:16, 0:16]
    for number in range(90):
        disc = np.hypot(*(np.stack([rows, columns]) - rng.uniform(4, 12, (2, 1, 1)))) < rng.uniform(2, 6)
        colours = rng.integers(0, 256, (2, 3))
        picture = np.where(disc[..., None], colours[0], colours[1]).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_markers_are_known(page: Path) -> None:
    for block in blocks(page):
        assert block.known, f"{name(page)}:{block.line}: unknown marker '{block.marker}'"
        assert block.kind, f"{name(page)}:{block.line}: a block without a language"


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one empty folder that has ``pictures/``, as a reader who follows the page would run it."""
    from schedrl.cli import app

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SCHEDRL_DATA", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    pictures(work / "pictures")
    scope: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        where = f"{name(page)}:{block.line}"
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        if block not in runnable(page) or (block.needs and importlib.util.find_spec(block.needs) is None):
            continue
        if block.kind == "python":
            exec(compile(block.text, where, "exec"), scope)
            continue
        for command in block.commands():
            program, *words = shlex.split(command)
            if program == VENV:
                subprocess.run(
                    [sys.executable, str(ROOT / words[0]), *words[1:]], check=True, stdout=subprocess.DEVNULL
                )
                continue
            assert program == "schedrl", f"{where}: {command}: not a command of the package; mark the block"
            result = CliRunner().invoke(app, words, catch_exceptions=False, prog_name="schedrl")
            assert result.exit_code == 0, f"{where}: {command}\n{result.output}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_long_commands_have_valid_options(page: Path) -> None:
    """What is too long to run is parsed: a command or an option that is gone is an error here, too."""
    from schedrl.cli import app

    for block in blocks(page):
        if block.kind != "bash" or not block.skipped:
            continue
        for command in block.commands():
            program, *words = shlex.split(command)
            if program != "schedrl":
                script = ROOT / (words[0] if program == VENV else program)
                assert program in OTHER or script.is_file(), f"{name(page)}:{block.line}: {command}"
                continue
            # The whole line is parsed before --help is answered.
            result = CliRunner().invoke(app, [*words, "--help"], prog_name="schedrl")
            assert result.exit_code == 0, f"{name(page)}:{block.line}: {command}\n{result.output}"


def test_the_tutorial_ends_with_samples() -> None:
    """The page that goes from a folder to samples has its steps in this order."""
    page = ROOT / "docs" / "tutorials" / "own-pictures.md"
    assert [block.kind for block in runnable(page)] == ["bash", "bash", "bash", "python", "python"]
