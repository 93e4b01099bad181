"""Folders that two commands want, and disks that fill."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedrl.files import locked_folder

Run = Callable[..., Any]

FIT = [
    "fit", "--data", "digits", "--network", "unet-akod-digits", "--batch-size", "6", "--log-every", "2",
    "--checkpoint-every", "2", "--eval-every", "0", "--sample-every", "0", "-n", "6", "-f", "out",
    "--set", 'training.network={"channels":[4,8],"embedding":8,"groups":2}',
    "--set", "bound.images=8", "--set", "bound.levels=5",
]  # fmt: skip
KNOTS = ["--env", "schedrl/DigitsKnots-v0"]


@pytest.mark.parametrize(
    "words",
    [
        FIT,
        ["search", *KNOTS, "--algo", "halving", "--budget", "20", "-f", "out"],
        ["experiment", "ava-dsc", "--seeds", "2", "--rows", "cosine", "-f", "out"],
    ],
    ids=lambda words: words[0],
)
def test_a_second_command_in_a_folder_is_refused(run: Run, words: list[str], tiny_options: list[str]) -> None:
    options = [] if words[0] == "fit" else tiny_options
    with locked_folder(Path("out")):
        before = sorted(Path("out").iterdir())
        result = run(*words, *options)
        assert sorted(Path("out").iterdir()) == before
    assert result.exit_code == 2
    assert f"error: out: process {os.getpid()} on " in result.stderr
    assert "works there; wait for its end" in result.stderr


@pytest.mark.parametrize("command", ["train", "fit"])
def test_a_disk_that_fills_in_a_training_is_one_line(
    run: Run, command: str, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = FIT if command == "fit" else ["train", *KNOTS, *tiny_options, "-n", "6", "--num-envs", "2"]
    folder = Path("out" if command == "fit" else "runs/ppo/DigitsKnots-v0_1")

    def full(writer: object, data: bytes) -> None:
        if (folder / "checkpoint.safetensors").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("tensorboard.summary.writer.event_file_writer.RecordWriter.write", full)
        result = run(*words)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert line.endswith("No space left on device")
    assert "Traceback" not in result.stderr
    result = run(*words) if command == "fit" else run("train", "--resume", str(folder))
    assert result.exit_code == 0, result.stderr


def test_a_full_disk_behind_the_output_is_one_line(start: Callable[..., subprocess.Popen[str]]) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("envs", stdout=full)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err == "error: cannot write what was asked for: No space left on device\n"


def test_a_log_of_others_is_left_as_it_is(run: Run) -> None:
    Path("out").mkdir()
    for content in ("my notes", '{"a": 1}'):
        Path("out", "log.jsonl").write_text(content)
        result = run(*FIT)
        assert result.exit_code == 2
        assert "log.jsonl: is another file: it must begin with" in result.stderr
        assert Path("out", "log.jsonl").read_text() == content


def test_results_are_checked_before_a_search(run: Run, tiny_options: list[str]) -> None:
    Path("mine.toml").write_text(
        'name = "mine"\nkind = "schedule-search"\nbudget = 20\nsearch = { name = "halving" }\n'
    )
    Path("notes.json").write_text(json.dumps({"a": 1}))
    result = run("benchmark", *KNOTS, *tiny_options, "--agents", "mine.toml", "--json", "notes.json")
    assert result.exit_code == 2
    assert "notes.json: is another file" in result.stderr
    assert Path("notes.json").read_text() == '{"a": 1}'
    assert not list(Path().glob("**/searches"))
