"""Configured schedulers keep their grid, say what rounding costs, and can be read back by diffusers alone."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as library
import numpy as np
import pytest

from schedrl.errors import SchedrlError
from schedrl.export import SCHEDULERS, Provenance, ScheduleFile, convert
from schedrl.schedules import get, grid
from schedrl.sources import Gaussian

Make = Callable[..., ScheduleFile]

diffusers: Any = library  # its methods have no types


@pytest.mark.parametrize("name", SCHEDULERS)
def test_is_an_instance_with_the_law_and_the_grid(make: Make, name: str) -> None:
    file = make("linear", 10)
    made = file.to_diffusers(name, "v_prediction")  # type: ignore[arg-type]
    plain = getattr(diffusers, name)
    assert isinstance(made, plain)
    assert made.config.prediction_type == "v_prediction"
    theirs = plain(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    np.testing.assert_allclose(made.alphas_cumprod.numpy(), theirs.alphas_cumprod.numpy(), rtol=1e-5)
    assert made.timesteps[0] == 999
    assert made.timesteps[-1] == 0


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_pipelines_call_keeps_the_grid_and_another_number_is_refused(make: Make, name: str) -> None:
    made = make("linear", 10).to_diffusers(name)  # type: ignore[arg-type]
    before = made.timesteps.clone()
    made.set_timesteps(10, device="cpu")
    assert (made.timesteps == before).all()
    with pytest.raises(SchedrlError, match=r"num_inference_steps: must be 10.*got 50"):
        made.set_timesteps(50)


def test_multistep_solver_steps_on_the_levels(make: Make) -> None:
    file = make("linear", 10)
    made = file.to_diffusers("DPMSolverMultistepScheduler")
    np.testing.assert_allclose(made.sigmas.numpy(), file.sigmas, rtol=1e-6)
    assert len(made.timesteps) == 10


def test_first_order_multistep_is_ddim(make: Make) -> None:
    import torch

    file = make("linear", 10)
    multistep, euler = (file.to_diffusers(name, "sample") for name in (SCHEDULERS[4], SCHEDULERS[2]))  # type: ignore[arg-type]
    multistep.register_to_config(solver_order=1)
    outputs = []
    for made in (multistep, euler):
        state = torch.ones(1, 3) * made.init_noise_sigma
        for t in made.timesteps:
            state = made.step(torch.tanh(made.scale_model_input(state, t)), t, state).prev_sample
        outputs.append(state)
    assert torch.allclose(outputs[0], outputs[1], rtol=1e-4)


def test_rounding_is_to_the_nearest_step_and_its_cost_is_exact(make: Make) -> None:
    file = make("scaled-linear", 10, eigenvalues=[2.0, 0.3, 0.02])
    placed = file.to_diffusers("DDIMScheduler").placed
    assert placed.timesteps.tolist() == np.rint(np.array(file.timesteps)[:-1] - 1).tolist()
    alphas = get("scaled-linear").alphas_cumprod(1000)[placed.timesteps.astype(int)]
    rounded = np.append(np.sqrt((1 - alphas) / alphas), 0.0)
    np.testing.assert_allclose(placed.sigmas, rounded, rtol=1e-9)
    source = Gaussian([2.0, 0.3, 0.02])
    from schedrl.schedules import Grid

    expected = source.kl(Grid(sigmas=tuple(rounded.tolist()))) - source.kl(file.grid)
    assert placed.cost == pytest.approx(expected, rel=1e-9)
    assert expected != 0.0
    assert "rounded to whole training steps" in placed.notes[0]
    assert file.to_diffusers().placed.notes == ()
    assert file.to_diffusers().placed.cost == 0.0


def test_steps_that_round_alike_stay_different() -> None:
    crowded = grid("exponential", 30, sigma_min=0.0101, sigma_max=0.011)
    file = ScheduleFile.of(crowded, "ddim", Provenance(method="x"), get("linear"))
    steps = file.placed(whole=True).timesteps
    assert len(steps) == 30
    assert (np.diff(steps) < 0).all()
    assert steps[-1] >= 0
    assert steps[0] <= 999


def test_levels_outside_the_law_move_to_its_ends(make: Make) -> None:
    file = make("scaled-linear", 12, sigma_min=0.002, sigma_max=80.0, eigenvalues=[1.0])
    placed = file.placed()
    ends = np.exp(-0.5 * get("scaled-linear").logsnr_steps(1000))[[-1, 0]]
    np.testing.assert_allclose(placed.sigmas[[0, -2]], ends)
    assert (np.diff(placed.sigmas) < 0).all()
    assert len(placed.sigmas) < 13
    assert "outside the training schedule's range" in placed.notes[0]
    assert "left out" in placed.notes[1]


def test_plain_diffusers_reads_the_written_config_and_grid(make: Make, tmp_path: Path) -> None:
    file = make("scaled-linear", 10)
    convert(file, "diffusers", tmp_path / "euler")
    made = diffusers.EulerDiscreteScheduler.from_pretrained(tmp_path / "euler")
    content = json.loads((tmp_path / "euler" / "grid.json").read_text())
    made.set_timesteps(**{content["argument"]: content[content["argument"]]})
    np.testing.assert_allclose(made.sigmas.numpy(), file.sigmas, rtol=1e-6)

    convert(make("scaled-linear", 10, "heun"), "diffusers", tmp_path / "heun")
    made = diffusers.HeunDiscreteScheduler.from_pretrained(tmp_path / "heun")
    content = json.loads((tmp_path / "heun" / "grid.json").read_text())
    made.set_timesteps(timesteps=content["timesteps"])
    np.testing.assert_allclose(made.sigmas.numpy()[[0, *range(1, 19, 2), 19]], file.sigmas, rtol=1e-3)

    convert(make("scaled-linear", 10, "ddpm"), "diffusers", tmp_path / "ddpm")
    made = diffusers.DDPMScheduler.from_pretrained(tmp_path / "ddpm")
    content = json.loads((tmp_path / "ddpm" / "grid.json").read_text())
    made.set_timesteps(timesteps=content["timesteps"])
    assert made.timesteps.tolist() == content["timesteps"]
    assert made.config.clip_sample is False


@pytest.mark.parametrize(
    ("scheduler", "prediction", "match"),
    [
        ("EulerScheduler", "epsilon", r"unknown scheduler 'EulerScheduler'; did you mean"),
        ("DDIMScheduler", "eps", r"unknown prediction_type 'eps'"),
    ],
)
def test_wrong_names(make: Make, scheduler: str, prediction: Any, match: str) -> None:
    with pytest.raises(SchedrlError, match=match):
        make().to_diffusers(scheduler, prediction)  # type: ignore[arg-type]


def test_needs_a_law_and_an_end_at_data(make: Make) -> None:
    with pytest.raises(SchedrlError, match=r"field 'training': is needed"):
        ScheduleFile.of(grid("karras", 4), "ddim", Provenance(method="x")).to_diffusers()
    with pytest.raises(SchedrlError, match=r"field 'sigmas': must end at 0"):
        make(final_zero=False).to_diffusers()


def test_without_diffusers_the_error_says_what_to_install(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **fields: Any) -> Any:
        if name == "diffusers":
            raise ImportError(name)
        return real(name, *more, **fields)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SchedrlError, match=r"pip install 'schedrl\[export\]'"):
        make().to_diffusers()


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler"])
def test_a_pipeline_calls_its_network_at_the_grids_steps(make: Make, name: str) -> None:
    import torch

    network = diffusers.UNet2DModel(
        sample_size=4,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(int(inputs[1])))
    kind = getattr(diffusers, name.replace("Scheduler", "Pipeline"))
    pipeline = kind(network, getattr(diffusers, name)())
    made = make("linear", 6).to_diffusers(name)  # type: ignore[arg-type]
    pipeline.scheduler = made
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    images = pipeline(num_inference_steps=6, output_type="np", generator=generator).images
    assert images.shape == (1, 4, 4, 1)
    assert seen == made.placed.timesteps.tolist()
    with pytest.raises(SchedrlError, match="must be 6"):
        pipeline(num_inference_steps=7)
