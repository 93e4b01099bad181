"""The kernel outside its environment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schedrl import data, schedules
from schedrl.diffusion.process import alpha_sigma
from schedrl.environments.registration import training_variant
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.errors import SchedrlError
from schedrl.policies.agent_files import load_agent, read_description
from schedrl.policies.dko import DKO
from schedrl.policies.ppo_training import request_for, train
from schedrl.schedules import Schedule

KERNELS = ("schedrl/DigitsKernel-v0", "schedrl/DigitsKernelBare-v0", "schedrl/DigitsKernelImages-v0")


@pytest.fixture(scope="module")
def kernels(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trained for two updates with large steps, so that they have gone somewhere from the reference."""
    folder = tmp_path_factory.mktemp("kernels")
    return {
        env_id: train(
            request_for(env_id, 0, dict(tiny), num_envs=2, total_timesteps=40, learning_rate=0.02),
            folder / env_id.rsplit("/", 1)[-1],
        )
        for env_id in KERNELS
    }


def made_inside(folder: Path) -> tuple[Schedule, TrainingVectorEnv]:
    """The schedule that the policy makes in its environment."""
    import json

    variant = read_description(folder).variant
    env = TrainingVectorEnv(1, variant=training_variant(variant.id, variant.model_dump(mode="json")))
    policy = load_agent(folder, env.variant)
    observation, _ = env.reset(seed=3)
    for _ in range(env.variant.action.num_knots):
        action, _ = policy.predict(observation, deterministic=True)
        observation, *_ = env.step(action)
    (made,) = json.loads(env.schedule[0])
    return schedules.from_dict(made), env


@pytest.mark.parametrize("env_id", KERNELS[:2])
def test_it_makes_the_environments_schedule(kernels: dict[str, Path], env_id: str) -> None:
    inside, env = made_inside(kernels[env_id])
    dko = DKO.load(kernels[env_id])
    outside = dko.schedule(env.runs.images.train[:32])
    assert outside == inside
    assert schedules.from_dict(outside.model_dump(mode="json")) == outside
    reference = dko.action.reference
    assert np.abs(outside.logsnr_steps(1000) - reference.logsnr_steps(1000)).max() > 0.05
    # Any T is the same law.
    coarse = outside.log_alphas_cumprod(50)
    np.testing.assert_allclose(coarse, outside.log_alphas_cumprod(1000)[19::20], rtol=1e-9)


def test_images_of_their_own(kernels: dict[str, Path], tiny: dict[str, Any]) -> None:
    dko = DKO.load(kernels[KERNELS[1]])
    images = data.load(training_variant(KERNELS[0], tiny).data).train[:6]
    each = dko.image_schedules(images)
    assert len({law.model_dump_json() for law in each}) > 1
    # Alone an image is its own batch, with the same noise.
    np.testing.assert_allclose(each[0].betas(1000), dko.schedule(images[:1]).betas(1000), rtol=1e-5)
    # Other data, of another size and in colours: what is seen is a number.
    rng = np.random.default_rng(0)
    assert dko.schedule(rng.uniform(-1, 1, (3, 3, 12, 16)).astype(np.float32)).betas(10).shape == (10,)


def test_over_single_images_it_is_level_and_slope(kernels: dict[str, Path]) -> None:
    inside, env = made_inside(kernels[KERNELS[2]])
    dko = DKO.load(kernels[KERNELS[2]])
    images = env.runs.images.train
    each = dko.image_schedules(images[:8])
    assert len({law.model_dump_json() for law in each}) > 1
    betas = dko.betas(0.3, np.array([0.2, 0.4, 0.6]), np.zeros(3))
    logs = np.log(betas)
    assert logs[1] - logs[0] == pytest.approx(logs[2] - logs[1], rel=1e-6)  # linear in σ, within its bounds
    # The environment's law is the mean over all training images, which this sees as one batch.
    outside = dko.schedule(images)
    assert np.abs(np.log(outside.betas(1000)) - np.log(inside.betas(1000))).max() < 0.1


class Watchful:
    """More noise where the local deviation is large."""

    def predict(self, observation: Any, *_: Any, **__: Any) -> tuple[np.ndarray, None]:
        return np.clip(0.3 * (observation[:, 1:2] - 0.4), -1.0, 1.0).astype(np.float32), None


@pytest.mark.parametrize("per_image", [False, True])
def test_a_sampler_steps_by_the_state_it_is_in(per_image: bool) -> None:
    dko = DKO(Watchful(), training_variant(KERNELS[0]))
    variance, levels = 0.25, list[Tensor]()

    def exact(z: Tensor, logsnr: Tensor) -> Tensor:
        """Of Gaussian data."""
        levels.append(logsnr[0])
        alpha, sigma = alpha_sigma(logsnr, z.ndim)
        return sigma / (alpha**2 * variance + sigma**2) * z

    start = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start[60:] *= 1.5
    data_like = 0.5 * np.random.default_rng(1).standard_normal((32, 1, 8, 8)).astype(np.float32)
    end = float(dko.schedule(data_like).logsnr_steps(1000)[-1])
    drawn = dko.sample(exact, start, 1000, start_logsnr=end, per_image=per_image)
    assert float(drawn[:60].var()) == pytest.approx(
        variance, rel=0.15
    )  # the last knots go through the noise fast
    seen = torch.stack(levels)
    assert seen.shape == (1000, 100)
    assert bool((seen[1:] >= seen[:-1]).all())
    assert float(seen[0].std()) < 1e-12
    assert bool((seen[10].std() > 1e-3) == per_image)
    one = dko.sample(exact, start, 1, start_logsnr=end)
    alpha, sigma = alpha_sigma(torch.tensor([end], dtype=torch.float64), 4)
    torch.testing.assert_close(one, variance * alpha / (alpha**2 * variance + sigma**2) * start)


def test_what_is_no_kernel_is_refused(trained: Path, kernels: dict[str, Path], tiny: dict[str, Any]) -> None:
    with pytest.raises(SchedrlError, match="whose actions are no kernel's"):
        DKO.load(trained)
    with pytest.raises(SchedrlError, match="agent 'cosine': is no trained kernel"):
        DKO.load("cosine")
    dko = DKO.load(kernels[KERNELS[0]])
    for time in (-0.1, 1.0, math.nan):
        with pytest.raises(SchedrlError, match="time: must lie in"):
            dko.betas(time, np.array([0.3]), np.array([0.0]))
    with pytest.raises(SchedrlError, match=r"images: must be \[n, C, H, W\]"):
        dko.schedule(np.zeros((8, 8), np.float32))
    with pytest.raises(SchedrlError, match="num_steps: must be at least 1"):
        dko.sample(lambda z, _: z, torch.zeros(1, 1, 8, 8), 0, start_logsnr=-6.0)


def test_what_it_cannot_see_is_named(tiny: dict[str, Any], tmp_path: Path) -> None:
    overrides = {**tiny, "observation.features": ["time", "gradient_norm"]}
    made = train(request_for(KERNELS[0], 0, overrides, num_envs=2, total_timesteps=20), tmp_path / "sees")
    with pytest.raises(SchedrlError, match="sees 'gradient_norm', which exists only in a training"):
        DKO.load(made)
