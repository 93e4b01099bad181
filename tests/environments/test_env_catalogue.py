"""Every registered environment keeps Gymnasium's and Stable-Baselines3's rules; warnings are errors.

Networks, batches and phases are cut down, and pictures that may not be there are replaced by random ones of their
shape: what is checked is the environment.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from schedrl import data
from schedrl.environments.registration import definitions, training_variant, variant_of
from schedrl.errors import MissingDataError

IDS = sorted(definitions())
NEED_FILES = [key for key in IDS if any(images.name != "digits" for images in variant_of(key).image_sets)]

SHRINK: dict[str, Any] = {
    "episode.steps_per_phase": 2,
    "bound.images": 2,
    "test_bound.images": 2,
    "training.batch_size": 2,
    "training.network": {"channels": [4, 8], "embedding": 8, "groups": 2},
}
TRAINING = [key for key in IDS if variant_of(key).family == "training"]
SAMPLING = [key for key in IDS if variant_of(key).family == "sampling"]


def overrides(env_id: str, stand_in: dict[str, dict[str, Any]]) -> dict[str, Any]:
    variant = variant_of(env_id)
    prefix = "" if variant.family == "training" else "source."
    changes = dict(SHRINK) if variant.family == "training" else {}
    return changes | {
        f"{prefix}data": stand_in[images.name] for images in variant.image_sets if images.name in stand_in
    }


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium(env_id: str, stand_in: dict[str, dict[str, Any]]) -> None:
    env = gym.make(env_id, **overrides(env_id, stand_in)).unwrapped
    check_env(env)


@pytest.mark.parametrize("env_id", IDS)
def test_stable_baselines(env_id: str, stand_in: dict[str, dict[str, Any]]) -> None:
    check_env_sb3(gym.make(env_id, **overrides(env_id, stand_in)).unwrapped)


@pytest.mark.parametrize("env_id", TRAINING)
def test_an_episode(env_id: str, stand_in: dict[str, dict[str, Any]]) -> None:
    """With random actions it ends when its budget is spent, and the vector environment agrees with its spaces."""
    variant = training_variant(env_id, overrides(env_id, stand_in))
    vector = gym.make_vec(env_id, num_envs=2, **overrides(env_id, stand_in))
    vector.action_space.seed(0)
    observations, infos = vector.reset(seed=1)
    assert observations in vector.observation_space
    names = vector.observation_names  # type: ignore[attr-defined]
    assert len(names) == len(set(names)) == observations.shape[1]
    length = variant.episode.phases * variant.action.num_knots
    for step in range(1, length + 1):
        observations, rewards, ended, truncated, infos = vector.step(vector.action_space.sample())
        assert observations in vector.observation_space
        assert np.isfinite(rewards).all()
        assert not truncated.any()
        assert ended.all() == ended.any() == (step == length)
    final = infos["final_info"]
    assert final["optimizer_steps"].tolist() == [variant.optimizer_steps] * 2
    assert np.isfinite(final["bound"]).all()
    assert np.isfinite(final["test_bound"]).all()
    made = vector.schedule  # type: ignore[attr-defined]
    assert [len(json.loads(text)) for text in made] == [variant.episode.phases] * 2
    assert not final["diverged"].any()


@pytest.mark.parametrize("env_id", IDS)
def test_specs_survive_json(env_id: str, stand_in: dict[str, dict[str, Any]]) -> None:
    env = gym.make(env_id, **overrides(env_id, stand_in))
    assert env.spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.variant == env.unwrapped.variant  # type: ignore[attr-defined]


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("env_id", NEED_FILES)
@pytest.mark.parametrize("many", [False, True])
def test_missing_data(env_id: str, many: bool) -> None:
    (name,) = (images.name for images in variant_of(env_id).image_sets)
    with pytest.raises(MissingDataError) as caught:
        gym.make_vec(env_id, num_envs=2) if many else gym.make(env_id)
    message = str(caught.value)
    assert message.startswith(f"{name}: missing ")  # which files
    assert "; looked in " in message  # where it looked
    assert str(Path.cwd() / "data") in message
    assert "set SCHEDRL_DATA to a folder that has them" in message  # how to get them
    assert "\n" not in message


@pytest.mark.parametrize("env_id", [key for key in TRAINING if "Fashion" in key])
def test_fashion_mnist_trains_a_phase(env_id: str) -> None:
    """The real pictures, where SCHEDRL_DATA has them; everything but the length of the phase as shipped."""
    problem = data.missing(data.get("fashion-mnist"))
    if problem is not None or "SCHEDRL_DATA" not in os.environ:
        pytest.skip("SCHEDRL_DATA does not name a folder with Fashion-MNIST")
    env = gym.make(env_id, episode={"steps_per_phase": 3}, bound={"images": 8}, test_bound=None)
    env.reset(seed=0)
    knots = training_variant(env_id).action.num_knots
    action = np.zeros(env.action_space.shape or (), np.float32)
    seen = [env.step(action) for _ in range(knots)]
    assert not any(ended for _, _, ended, _, _ in seen)
    assert [info["optimizer_steps"] for *_, info in seen] == [0] * (knots - 1) + [3]
    assert float(seen[-1][1]) > 0.0
    assert not seen[-1][4]["diverged"]
