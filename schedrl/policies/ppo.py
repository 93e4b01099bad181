"""PPO from Stable-Baselines3 on the population of a vector environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from schedrl.environments.registration import variant_of
from schedrl.environments.sb3 import Sb3VectorEnv
from schedrl.policies.ppo_spec import PPOSpec

__all__ = ["CommonBaseline", "SteppedPPO", "build", "make_training_env"]


class CommonBaseline(VecEnvWrapper):
    """Scale rewards and subtract, at every step, the mean reward of the other runs of the group.

    Runs that share a seed differ by their actions alone, so what they have in common says nothing about an action.
    Leaving a run's own reward out of its baseline keeps the policy gradient unbiased (Kool et al. 2019).

    Args:
        venv: The environment, the runs of a group in step with each other.
        center: Subtract the baseline; with one run there is none.
        scale: Factor on rewards.
        group_size: Runs in a group; all of them when absent.
    """

    def __init__(self, venv: VecEnv, *, center: bool, scale: float, group_size: int | None = None) -> None:
        super().__init__(venv)
        self.group_size = group_size or venv.num_envs
        self.center, self.scale = center and self.group_size > 1, scale

    def reset(self) -> Any:
        """Begin new episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step and change its rewards."""
        observations, rewards, dones, infos = self.venv.step_wait()
        changed = self.scale * rewards.astype(np.float64)
        if self.center:
            groups = changed.reshape(-1, self.group_size)
            others = (groups.sum(axis=1, keepdims=True) - groups) / (self.group_size - 1)
            changed = (groups - others).ravel()
        return observations, changed.astype(np.float32), dones, infos


def make_training_env(env_id: str, spec: PPOSpec, seed: int, **overrides: Any) -> VecEnv:
    """The environment as PPO sees it: monitored, rewards centred, test images left out."""
    if variant_of(env_id).family == "training":
        overrides = {key: value for key, value in overrides.items() if key.split(".")[0] != "test_bound"}
        overrides["test_bound"] = None
    vector = gym.make_vec(env_id, num_envs=spec.num_envs, **overrides)
    env = VecMonitor(Sb3VectorEnv(vector, shared_seed=spec.shared_seed, group_size=spec.group_size))
    env.seed(seed)
    return CommonBaseline(
        env, center=spec.center_rewards, scale=spec.reward_scale, group_size=spec.group_size
    )


class SteppedPPO(PPO):
    """PPO that reports when an update is complete, the one moment at which its state is small and whole.

    Attributes:
        after_update: Called with the number of updates so far.
        completed_timesteps: Environment steps that have entered an update.
    """

    after_update: Callable[[int], None] | None = None
    completed_timesteps: int = 0

    def train(self) -> None:
        """Update the policy, then report. An update that is interrupted leaves nothing behind."""
        before = {name: tensor.clone() for name, tensor in self.policy.state_dict().items()}
        try:
            super().train()
        except BaseException:
            self.policy.load_state_dict(before)
            raise
        self.completed_timesteps = self.num_timesteps
        if self.after_update is not None:
            self.after_update(self.completed_timesteps // (self.n_steps * self.n_envs))


def build(
    env: VecEnv, spec: PPOSpec, seed: int, after_update: Callable[[int], None] | None = None
) -> SteppedPPO:
    """SB3's PPO with the given hyperparameters, on the CPU (its network is tiny)."""
    n_steps = spec.episodes_per_update * env.get_attr("variant", 0)[0].episode_steps
    rollout = n_steps * spec.num_envs
    model = SteppedPPO(
        "MlpPolicy",
        env,
        learning_rate=(lambda remaining: spec.learning_rate * remaining)
        if spec.anneal
        else spec.learning_rate,
        n_steps=n_steps,
        batch_size=max(rollout // spec.minibatches, 2),
        n_epochs=spec.n_epochs,
        gamma=spec.gamma,
        gae_lambda=spec.gae_lambda,
        clip_range=spec.clip_range,
        ent_coef=spec.ent_coef,
        vf_coef=spec.vf_coef,
        max_grad_norm=spec.max_grad_norm,
        use_sde=spec.use_sde,
        policy_kwargs={"net_arch": list(spec.net_arch), "log_std_init": spec.log_std_init},
        stats_window_size=spec.episodes_per_update * spec.num_envs,
        seed=seed,
        device="cpu",
    )
    model.after_update = after_update
    return model
