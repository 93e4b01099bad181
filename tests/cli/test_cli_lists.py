"""What the command line says about itself and about the catalogues."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import schedrl
from schedrl.cli.common import Ticker, parse_settings
from schedrl.environments.registration import definitions
from schedrl.errors import SchedrlError
from schedrl.policies import catalogue

Run = Callable[..., Any]


def test_the_command_line_is_light() -> None:
    program = "import sys, schedrl.cli; print({'torch', 'matplotlib', 'stable_baselines3', 'scipy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_user_gets_help(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("--help")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    for command in ("envs", "agents", "plan", "train", "evaluate", "benchmark", "report", "demo"):
        assert command in out


@pytest.mark.parametrize(
    "command", ["envs", "agents", "plan", "train", "evaluate", "benchmark", "report", "demo"]
)
def test_every_command_teaches(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage: schedrl" in result.output
    assert command in ("envs", "agents") or "Example" in result.output


def test_the_version(run: Run) -> None:
    assert run("--version").output == f"schedrl {schedrl.__version__}\n"


def test_environments_are_listed(run: Run) -> None:
    result = run("envs")
    assert result.exit_code == 0
    for env_id in definitions():
        assert env_id in result.output
    assert "digits (missing)" not in result.output
    assert "cifar10 (missing)" in result.output
    assert "looked in" in result.output


def test_agents_are_listed(run: Run) -> None:
    result = run("agents")
    assert result.exit_code == 0
    for name in catalogue():
        assert name in result.output


def test_settings_are_json_or_toml_or_words() -> None:
    texts = [
        "a=1",
        "b.c=true",
        "d=[1, 2]",
        "e={x=1}",
        'f={"y": null}',
        "g=word",
        "h=1e-3",
        "i=a/b.npz",
        "j = 2",
    ]
    assert parse_settings(texts, "--set") == {
        "a": 1,
        "b.c": True,
        "d": [1, 2],
        "e": {"x": 1},
        "f": {"y": None},
        "g": "word",
        "h": 1e-3,
        "i": "a/b.npz",
        "j": 2,
    }
    assert parse_settings(None, "--set") == {}


@pytest.mark.parametrize("text", ["", "a", "=1", "a b=1", "a..b=1", "a=[1", "a=two words", "a="])
def test_other_settings_are_refused(text: str) -> None:
    with pytest.raises(SchedrlError, match=r"^--set: "):
        parse_settings([text], "--set")


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    tick = Ticker(100, "training", 10, None)
    for done in range(1, 101):
        tick(done, f"return {done}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 1/100, return 1"
    assert lines[1].startswith("training: 11/100, return 11, about ")
    assert len(lines) == 11
    assert lines[-1] == "training: 100/100, return 100"
