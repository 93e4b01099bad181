"""``schedrl fit`` as a user runs it: killed, resumed, on two processes, with bad input."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from schedrl.diffusion.trained_models import FittedModel
from schedrl.fit.fitting import CHECKPOINT

OPTIONS = [
    "fit", "--data", "digits", "--network", "unet-akod-digits", "--batch-size", "6", "--log-every", "2",
    "--checkpoint-every", "4", "--eval-every", "8", "--sample-every", "0",
    "--set", 'training.network={"channels":[4,8],"embedding":8,"groups":2}',
    "--set", "bound.images=8", "--set", "bound.levels=5",
]  # fmt: skip
# The package of this checkout, whatever the working directory and wherever it is installed.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def command(folder: Path, *more: str, processes: int = 1) -> list[str]:
    start = [sys.executable, "-m", "schedrl"]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        start = [sys.executable, *launcher, "-m", "schedrl"]
    return [*start, *OPTIONS, "-f", str(folder), *more]


def run(folder: Path, *more: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *more, processes=processes),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def without_times(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines(folder)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "whole"
    done = run(folder, "-n", "40")
    assert done.returncode == 0, done.stderr
    return folder


def test_it_trains_and_says_where(unbroken: Path) -> None:
    model = FittedModel.load(unbroken)
    assert model.description.steps == 40
    assert model.description.training.network.msfi is not None
    assert {line["learning_rate"] for line in lines(unbroken)} == {3e-3}
    assert [line["step"] for line in lines(unbroken)] == list(range(2, 41, 2))
    assert [line["step"] for line in lines(unbroken) if "bound" in line] == [8, 16, 24, 32, 40]
    assert (unbroken / "samples" / "step-0000040.png").read_bytes().startswith(b"\x89PNG")
    assert list((unbroken / "tensorboard").iterdir())


def test_killed_at_a_random_step_it_ends_in_the_same_bits(unbroken: Path, tmp_path: Path) -> None:
    count = random.Random(time.time_ns()).randrange(
        2, 18
    )  # lines, of 20; the first checkpoint comes after the second
    process = subprocess.Popen(
        command(tmp_path, "-n", "40"), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline, log = time.monotonic() + 120, tmp_path / "log.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / CHECKPOINT).exists() and log.read_bytes().count(b"\n") >= count:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was not at its end
    assert not (tmp_path / "model.json").exists()
    done = run(tmp_path, "-n", "40")
    assert done.returncode == 0, done.stderr
    for name in (CHECKPOINT, "model.safetensors"):
        first, second = load_file(unbroken / name), load_file(tmp_path / name)
        assert first.keys() == second.keys()
        for key, array in first.items():
            np.testing.assert_array_equal(
                array, second[key], err_msg=f"{name} {key}, killed after line {count}"
            )
    assert without_times(tmp_path) == without_times(unbroken)


def test_two_processes_follow_one(unbroken: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "-n", "20", processes=2)
    assert done.returncode == 0, done.stderr
    both, alone = lines(tmp_path), lines(unbroken)[:10]
    assert [line["step"] for line in both] == [line["step"] for line in alone]  # one log
    np.testing.assert_allclose([x["loss"] for x in both], [x["loss"] for x in alone], rtol=1e-4)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [CHECKPOINT, "model.safetensors"]
    # And one goes on where two have stopped.
    done = run(tmp_path, "-n", "40")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        [x["loss"] for x in lines(tmp_path)], [x["loss"] for x in lines(unbroken)], rtol=1e-3
    )
    # Nothing left to do is done at once, and changes nothing.
    before = (tmp_path / CHECKPOINT).read_bytes()
    assert run(tmp_path, "-n", "40").returncode == 0
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (None, "error: process 1: npz: missing file 'own.npz'"),
        (1, "error: data: the processes have different training images"),
    ],
    ids=["missing", "different"],
)
def test_what_is_wrong_in_one_process_ends_both(other: int | None, message: str, tmp_path: Path) -> None:
    for rank, seed in enumerate((0, other)):
        (tmp_path / str(rank)).mkdir()
        if seed is not None:
            images = np.random.default_rng(seed).integers(0, 256, (40, 8, 8), dtype=np.uint8)
            np.savez(tmp_path / str(rank) / "own.npz", images=images)
    options = [
        "--data", "own.npz", "--network", "unet-digits", "-n", "4", "-f", str(tmp_path / "out"),
        "--set", "data.validation=8", "--set", "data.test=8",
    ]  # fmt: skip
    # Each process in a folder of its own, as on two machines.
    place = f'cd "{tmp_path}/$RANK" && exec "{sys.executable}" -m schedrl fit "$@"'
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    done = subprocess.run(
        [sys.executable, *launcher, "bash", "-c", place, "bash", *options],
        env=ENVIRONMENT,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len([line for line in said if line.startswith(message)]) == 1, done.stderr
    assert done.stderr.count("Traceback (most recent call last)") == 1, done.stderr  # the launcher's own
    assert "exitcode  : 2 " in done.stderr
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schedule", "cosin"], "did you mean 'cosine'"),
        (["--schedule", "tangent:steep"], "a number must follow the colon"),
        (["--schedule", '{"name":"tangent","gama":1}'], "did you mean 'gamma'"),
        (["--schedule", "missing.json"], "cannot be read"),
        (["--network", "unet-digit"], "did you mean 'unet-digits'"),
        (["--data", "digit"], "did you mean 'digits'"),
        (["--size", "8"], "--size: is for folders"),
        (["--set", "training.batch=3"], "did you mean"),
        (["--checkpoint-every", "3"], "must be a multiple of log_every = 2"),
        (["--device", "cuda:17"], "cannot be used here"),
        (["--set", "training.batch_size=0"], "greater than or equal to 1 (got 0)"),
    ],
)
def test_bad_input_is_one_line_before_any_work(options: list[str], message: str, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from schedrl.cli import app

    result = CliRunner().invoke(app, [*OPTIONS, "-f", str(tmp_path / "x"), "-n", "4", *options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "x").exists()


def test_another_training_is_not_written_over(unbroken: Path) -> None:
    from typer.testing import CliRunner

    from schedrl.cli import app

    result = CliRunner().invoke(app, [*OPTIONS, "-f", str(unbroken), "-n", "40", "--schedule", "linear"])
    assert result.exit_code == 2
    assert "holds another training (schedule.name: cosine there, linear now)" in " ".join(
        result.output.split()
    )
    result = CliRunner().invoke(app, [*OPTIONS, "-f", str(unbroken), "-n", "30"])
    assert result.exit_code == 2
    assert "has taken 40 already (got 30)" in " ".join(result.output.split())
    damaged = unbroken.parent / "damaged"
    damaged.mkdir()
    (damaged / "fit.json").write_bytes((unbroken / "fit.json").read_bytes())
    (damaged / CHECKPOINT).write_bytes((unbroken / CHECKPOINT).read_bytes()[:500])
    result = CliRunner().invoke(app, [*OPTIONS, "-f", str(damaged), "-n", "40"])
    assert result.exit_code == 2
    assert "is damaged" in " ".join(result.output.split())
