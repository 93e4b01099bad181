"""What PPO sees of rewards: each run's against those of the runs that share its seed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from schedrl.errors import SchedrlError
from schedrl.policies.ppo import CommonBaseline, ppo_spec


class Paying(gym.Env[Any, Any]):
    """Pays a fixed reward."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, reward: float) -> None:
        self.reward = reward

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), self.reward, False, False, {}


def paid(rewards: list[float], **options: Any) -> list[float]:
    env = CommonBaseline(DummyVecEnv([lambda r=r: Paying(r) for r in rewards]), **options)  # type: ignore[misc]
    env.reset()
    _, changed, _, _ = env.step(np.zeros((len(rewards), 1), np.float32))
    return [float(value) for value in changed]


def test_the_mean_of_the_others_is_subtracted() -> None:
    assert paid([1.0, 2.0, 6.0], center=True, scale=1.0) == [-3.0, -1.5, 4.5]
    assert paid([1.0, 2.0, 6.0], center=False, scale=2.0) == [2.0, 4.0, 12.0]
    assert paid([3.0], center=True, scale=2.0) == [6.0]


def test_only_within_a_group() -> None:
    assert paid([1.0, 3.0, 10.0, 30.0], center=True, scale=1.0, group_size=2) == [-2.0, 2.0, -20.0, 20.0]
    assert paid([1.0, 3.0], center=True, scale=1.0, group_size=1) == [1.0, 3.0]


def test_groups_divide_the_runs() -> None:
    assert ppo_spec("schedrl/GaussianSampling-v0").group_size == 4
    assert ppo_spec("schedrl/DigitsKnots-v0").group_size is None
    with pytest.raises(SchedrlError, match=r"group_size must divide num_envs = 10 \(got 4\)"):
        ppo_spec("schedrl/GaussianSampling-v0", num_envs=10)
