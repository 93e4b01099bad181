"""Bad input: one line, exit code 2, no traceback, and nothing left behind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

KNOTS = ("--env", "schedrl/DigitsKnots-v0")

BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "id": (
        ("train", "--env", "schedrl/DigitKnots-v0"),
        "unknown environment 'schedrl/DigitKnots-v0'; did you mean",
    ),
    "field": (("train", *KNOTS, "--set", "action.bin=3"), "did you mean 'action.bins'?"),
    "schedule": (("train", *KNOTS, "--set", "action.reference=cosin"), "did you mean 'cosine'?"),
    "data set": (("train", *KNOTS, "--set", "data.name=digit"), "did you mean 'digits'?"),
    "range": (("train", *KNOTS, "--set", "action.bins=1"), "field 'action.bins': Input should be greater"),
    "not finite": (("train", *KNOTS, "--set", "action.scale=NaN"), "field 'action.scale'"),
    "syntax": (("train", *KNOTS, "--set", "action.bins"), "--set: must be KEY=VALUE"),
    "hyperparameter": (("train", *KNOTS, "--hp", "learning_rat=1"), "did you mean 'learning_rate'?"),
    "hyperparameter range": (("train", *KNOTS, "--hp", "gamma=2"), "field 'gamma'"),
    "algorithm": (("train", *KNOTS, "--algo", "pp"), "unknown algorithm 'pp'; did you mean 'ppo'?"),
    "no id": (("train",), "--env: is needed"),
    "missing data": (
        ("train", "--env", "schedrl/FashionKnots-v0"),
        "fashion-mnist: missing FashionMNIST/raw/train-images-idx3-ubyte[.gz]",
    ),
    "missing file": (("train", "--env", "mine.toml"), "variant file mine.toml: cannot be read"),
    "device": (("train", *KNOTS, "--device", "nonsense"), "device 'nonsense'"),
    "resume nothing": (("train", "--resume", "nowhere"), "nowhere: no training to resume"),
    "resume and set": (("train", "--resume", "x", "--set", "a=1"), "only -n can be given with it"),
    "agent": (
        ("benchmark", *KNOTS, "--agents", "cosine,linea"),
        "unknown agent 'linea'; did you mean 'linear'?",
    ),
    "no agents": (("benchmark", *KNOTS, "--agents", ","), "--agents: names at least one agent"),
    "same label": (
        ("benchmark", *KNOTS, "--agents", "cosine,cosine=linear"),
        "two agents are called 'cosine'",
    ),
    "no environment": (("benchmark",), "--env: is needed, or a benchmark file"),
    "benchmark file": (("benchmark", "mine.toml"), "benchmark file mine.toml: cannot be read"),
    "file and options": (
        ("benchmark", "mine.toml", "--agents", "cosine"),
        "--agents: is set by mine.toml",
    ),
    "jobs and ray": (("benchmark", *KNOTS, "--jobs", "2", "--ray"), "--jobs: Ray decides"),
    "reference": (("benchmark", *KNOTS, "--agents", "cosine", "--reference", "ppo"), "--reference: 'ppo'"),
    "no form": (
        ("benchmark", "--env", "schedrl/DigitsGain-v0", "--agents", "cosine", "--form", "action"),
        "nothing to measure; no form `action` for cosine",
    ),
    "bench data": (
        ("benchmark", "--env", "schedrl/Cifar10Kernel-v0"),
        "cifar10: missing cifar-10-batches-py",
    ),
    "evaluate agent": (("evaluate", *KNOTS, "--agent", "cosin"), "did you mean 'cosine'?"),
    "evaluate form": (
        ("evaluate", "--env", "schedrl/DigitsGain-v0", "--agent", "cosine"),
        "action kind 'gain' can represent AVA's law only",
    ),
    "picture": (
        ("evaluate", *KNOTS, "--agent", "cosine", "--render", "a.gif"),
        "--render: must be a .png file",
    ),
    "report": (("report", "nowhere"), "nowhere: no benchmark to report"),
    "demo": (("demo", "--set", "action.bin=3"), "did you mean 'action.bins'?"),
}


def assert_one_line(result: Any, message: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input(name: str, run: Run, surrounding: Path) -> None:
    words, message = BAD[name]
    assert_one_line(run(*words), message)
    assert list(surrounding.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", *KNOTS, "-f", "file"), "output folder file/ppo: cannot be written"),
        (("benchmark", *KNOTS, "--agents", "cosine", "-f", "file/x"), "--folder file/x: cannot be written"),
        (
            ("benchmark", *KNOTS, "--agents", "cosine", "--json", "file/x.jsonl"),
            "--json: folder file: cannot be written",
        ),
        (("benchmark", *KNOTS, "--agents", "cosine", "--json", "folder"), "--json folder: is a folder"),
        (("evaluate", *KNOTS, "--agent", "cosine", "--json", "file/x.json"), "cannot be written"),
        (("evaluate", *KNOTS, "--agent", "cosine", "--render", "file/x.png"), "cannot be written"),
        (("demo", "-f", "file"), "--folder file: cannot be written"),
    ],
)
def test_output_that_cannot_be_written(
    words: tuple[str, ...], message: str, run: Run, surrounding: Path
) -> None:
    (surrounding / "file").write_text("in the way")
    (surrounding / "folder").mkdir()
    assert_one_line(run(*words), message)


def test_damaged_agents(run: Run, trained: Path, surrounding: Path) -> None:
    shutil.copytree(trained, "agent")
    (surrounding / "agent" / "policy.safetensors").write_bytes(b"noise")
    for command in ("benchmark --agents agent", "evaluate --agent agent"):
        assert_one_line(run(*command.split(), *KNOTS), "policy.safetensors is damaged")
    (surrounding / "agent" / "agent.json").write_text("{")
    for command in ("benchmark --agents agent", "evaluate --agent agent"):
        assert_one_line(run(*command.split(), *KNOTS), "agent.json: is not JSON")
    (surrounding / "agent" / "training.json").write_text("{")
    assert_one_line(run("train", "--resume", "agent"), "training.json: is not JSON")


def test_agents_of_another_environment(run: Run, trained: Path) -> None:
    for command in ("benchmark --agents", "evaluate --agent"):
        result = run(*command.split(), str(trained), "--env", "schedrl/DigitsKernel-v0")
        assert_one_line(
            result, "was trained in schedrl/DigitsKnots-v0, whose observations or actions are not"
        )


def test_damaged_results(run: Run, surrounding: Path) -> None:
    (surrounding / "r.jsonl").write_text("{}\n")
    result = run("benchmark", *KNOTS, "--agents", "cosine", "--json", "r.jsonl")
    assert_one_line(result, "result file r.jsonl: line 1 is not a result")


def test_usage_errors_are_code_2_too(run: Run) -> None:
    for words in (("train", "--nonsense"), ("nonsense",), ("benchmark", *KNOTS, "--seeds", "0")):
        result = run(*words)
        assert result.exit_code == 2
        assert "Traceback" not in result.stderr


def test_a_user_sees_no_traceback(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("train", "--env", "schedrl/DigitsKnot-v0")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: unknown environment")
    assert err.count("\n") == 1
