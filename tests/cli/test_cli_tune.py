"""``schedrl schedule tune`` as a user runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from typer.testing import CliRunner

from schedrl.cli import app
from schedrl.export import ScheduleFile

NETWORK = "tests.design.test_tuning:gaussian_network"


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["schedule", "tune", *words])
    return done.exit_code, " ".join((done.output or "").split())


def test_a_grid_for_each_number_of_steps(tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    code, text = run(
        "--model", NETWORK, "--steps", "4,8", "--solver", "dpm++2m", "--images", "20000", "-o", str(out)
    )
    assert code == 0, text
    assert "better than the best default" in text
    assert "trailing" in text
    for n in (4, 8):
        file = ScheduleFile.read(tmp_path / f"s-{n}.json")
        assert (file.sampler, file.num_steps) == ("dpm++2m", n)
        assert file.provenance.measured["over the best default"] < 1.0
        scheduler: Any = file.to_diffusers(prediction_type="epsilon")
        assert diffusers.DPMSolverMultistepScheduler in type(scheduler).__mro__
        assert len(scheduler.timesteps) == n


@pytest.mark.parametrize("solver", ["ddim", "euler", "heun", "dpm++2m", "unipc"])
def test_what_is_written_samples_as_it_was_tuned(solver: str, tmp_path: Path) -> None:
    """diffusers' own scheduler, made from the file, gives the images that the search judged."""
    from schedrl.diffusion.network_on_table import load_network

    out = tmp_path / "s.json"
    code, text = run(
        "--model", NETWORK, "--steps", "5", "--solver", solver, "--images", "30000", "-o", str(out)
    )
    assert code == 0, text
    file = ScheduleFile.read(out)
    scheduler = file.to_diffusers(prediction_type="epsilon")
    scheduler.set_timesteps(5)
    network = load_network(NETWORK)
    start = network.noise(3, 7)
    z = start.float() * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(z, t)
        told = torch.full((3,), float(t))
        z = scheduler.step(network.predict(shown, told), t, z).prev_sample
    steps = tuple(t - 1.0 for t in file.timesteps[:-1]) if file.timesteps is not None else ()
    ours = network.sample(solver, tuple(round(t, 6) for t in steps), start)  # type: ignore[arg-type]
    assert float((ours - z).abs().max()) < 1e-4 * float(z.abs().max())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere"], "error: --model nowhere: there is no such folder"),
        (["--model", NETWORK, "--solver", "rk45"], "--solver"),
        (["--model", NETWORK, "--steps", "0"], "--steps: must be whole numbers from 1 on"),
        (["--model", NETWORK, "--steps", "ten"], "--steps: must be whole numbers from 1 on"),
        (["--model", NETWORK, "--budget", "soon"], "--budget: must be a time"),
        (["--model", NETWORK, "--images", "10"], "are needed"),
        (["--model", NETWORK, "--steps", "2000", "--images", "10000000"], "steps: must be at most"),
        (["--model", NETWORK, "--class", "1", "--images", "30000"], "--class"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    code, text = run(*words, "-o", str(tmp_path / "s.json"))
    assert code == 2, text
    assert message in text
    assert not (tmp_path / "s.json").exists()
