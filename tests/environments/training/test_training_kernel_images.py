"""A kernel over single images."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from schedrl import schedules
from schedrl.diffusion.noise import ImageScheduleNoise
from schedrl.environments.registration import training_variant
from schedrl.environments.training.actions import KernelAction, relative_deviation
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.errors import SchedrlError

IMAGES, PLAIN = "schedrl/DigitsKernelImages-v0", "schedrl/DigitsKernel-v0"


def episode(env: TrainingVectorEnv, sweep: np.ndarray) -> tuple[list[Any], dict[str, Any]]:
    seen = [env.reset(seed=[5] * env.num_envs)[0]]
    infos: dict[str, Any] = {}
    for actions in sweep:
        observation, _, _, _, infos = env.step(actions.astype(np.float32))
        seen.append(observation)
    return seen, {**infos["final_info"], "schedule": env.schedule}


def test_without_a_slope_it_is_the_plain_kernel(tiny: dict[str, Any]) -> None:
    levels = np.random.default_rng(0).uniform(-0.5, 0.5, (10, 1, 1))
    plain = TrainingVectorEnv(1, variant=training_variant(PLAIN, tiny))
    images = TrainingVectorEnv(1, variant=training_variant(IMAGES, tiny))
    seen, final = episode(plain, levels)
    shown, last = episode(images, np.concatenate([levels, np.zeros_like(levels)], axis=2))
    for first, second in zip(seen[:-1], shown[:-1], strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    made, same = (schedules.from_dict(json.loads(each["schedule"][0])[0]) for each in (final, last))
    np.testing.assert_allclose(made.betas(1000), same.betas(1000), rtol=1e-9)
    np.testing.assert_allclose(final["bound"], last["bound"], rtol=1e-3)


def test_with_a_slope_images_differ(tiny: dict[str, Any]) -> None:
    sweep = np.tile([[[0.0, 0.0], [0.0, 1.0]]], (10, 1, 1))
    env = TrainingVectorEnv(2, variant=training_variant(IMAGES, tiny))
    env.reset(seed=[5, 5])
    for actions in sweep[:-1]:
        env.step(actions.astype(np.float32))
    env.runs.sweep.append(sweep[-1].astype(np.float32))
    noise = env.runs.begin_phase().noise
    assert isinstance(noise, ImageScheduleNoise)
    walked = noise.log_alpha_bar
    assert walked.shape == (2, len(env.runs.images.train), 11)
    assert (np.diff(walked, axis=2) < 0.0).all()
    assert np.ptp(walked[0, :, -1]) < 1e-9
    assert np.ptp(walked[1, :, -1]) > 0.1


def test_the_first_knot_by_hand(tiny: dict[str, Any]) -> None:
    env = TrainingVectorEnv(1, variant=training_variant(IMAGES, tiny))
    action, deviation = env.variant.action, env.runs.local_deviation
    assert isinstance(action, KernelAction)
    sigma = deviation.at_images(np.zeros(len(deviation)))
    relative = np.clip((sigma - sigma.mean()) / (2 * sigma.std()), -1, 1)
    walked = action.image_walk(np.array([[[0.25, -0.5]]]), deviation, env.runs.limits)
    reference = action.betas(np.zeros((1, 1, 2)), env.runs.limits)[0, 0]
    expected = 100 * np.log1p(-reference * np.exp(0.25 - 0.5 * relative))
    np.testing.assert_allclose(walked[0, :, 1], expected, rtol=1e-9)


def test_images_alike_have_no_relative_deviation() -> None:
    np.testing.assert_array_equal(relative_deviation(np.full((2, 5), 0.3)), 0.0)
    assert np.abs(relative_deviation(np.array([[0.0] * 99 + [1.0]]))).max() == 1.0


def test_hand_made_schedules_act_with_their_level(tiny: dict[str, Any]) -> None:
    variant = training_variant(IMAGES, tiny)
    action = variant.action
    law = schedules.get("tangent", gamma=0.25)
    limits = (variant.bound.logsnr_max, variant.bound.logsnr_min)
    sweep = np.stack([action.encode(law, knot, (), limits) for knot in range(10)])[:, None]
    assert sweep.shape == (10, 1, 2)
    assert not sweep[..., 1].any()
    (made,), _ = action.schedules(sweep, np.zeros((1, 0)), limits)
    found, wanted = (each.logsnr_steps(1000)[99::100].clip(*limits[::-1]) for each in (made, law))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_too_many_images_are_refused_before_any_work(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from schedrl.environments.training import runs

    monkeypatch.setattr(runs, "_EVERY_IMAGE", 1000)
    with pytest.raises(SchedrlError, match=r"action\.per_image: 3 runs x .* lower data\.limit"):
        TrainingVectorEnv(3, variant=training_variant(IMAGES, tiny))


def test_the_field_does_not_change_other_environments() -> None:
    assert "per_image" not in training_variant(PLAIN).model_dump(mode="json")["action"]
    assert training_variant(IMAGES).model_dump(mode="json")["action"]["per_image"] is True
