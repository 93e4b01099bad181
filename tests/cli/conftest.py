"""The command line, in this process or as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner, Result

Run = Callable[..., Result]

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def surrounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no data but what is in the package."""
    monkeypatch.delenv("SCHEDRL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Rich measures the terminal that the tests happen to run in.
    monkeypatch.setenv("COLUMNS", "120")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""

    def invoke(*words: str) -> Result:
        from schedrl.cli import app

        return CliRunner().invoke(app, list(words), catch_exceptions=False, prog_name="schedrl")

    return invoke


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a user does."""

    def begin(*words: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "schedrl", *words]
        return subprocess.Popen(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )

    return begin
