"""PPO's hyperparameters as data: ``agents/ppo.toml``, keyed by environment id over common defaults."""

from __future__ import annotations

import tomllib
from typing import Annotated, Any

from pydantic import Field, model_validator

from schedrl.catalogue import folder
from schedrl.errors import Spec, parse

__all__ = ["PPOSpec", "ppo_spec"]


class PPOSpec(Spec):
    """How PPO learns in one environment.

    Attributes:
        total_timesteps: Environment steps of a whole training.
        num_envs: Runs trained side by side.
        episodes_per_update: Whole episodes of every run between two updates. Rollouts end where episodes end.
        n_epochs: Passes over a rollout.
        minibatches: Parts a rollout is cut into in each pass.
        learning_rate: Of the policy and value networks (Adam).
        anneal: Let it fall linearly to 0 at ``total_timesteps``: updates rest on few runs, and a constant rate keeps
            wandering around the optimum.
        gamma: Discount; 1 because returns telescope.
        gae_lambda: 1 uses whole returns, 0 one-step differences.
        clip_range: PPO's ε.
        ent_coef: Weight of the entropy bonus.
        vf_coef: Weight of the value loss.
        max_grad_norm: Clip of the update's gradient.
        net_arch: Hidden widths of policy and value networks.
        log_std_init: Log of the exploration's standard deviation at the start (actions live in [−1, 1]).
        use_sde: Exploration by a random function of the state that is drawn once per rollout, so that it is
            constant over a sweep, instead of independent noise at each step.
        shared_seed: All runs of an update share seeds, so they differ by their actions alone.
        group_size: With ``shared_seed``, only so many runs in a row share a seed, and an update sees as many seeds as
            there are such groups; all runs when absent. It divides ``num_envs``.
        center_rewards: Subtract from each run's reward the mean of the other runs' at the same step; with shared
            seeds this takes the seed's luck out without bias.
        reward_scale: Factor on rewards, for the value network.
    """

    total_timesteps: Annotated[int, Field(ge=1)] = 1024
    num_envs: Annotated[int, Field(ge=1, le=4096)] = 32
    episodes_per_update: Annotated[int, Field(ge=1)] = 1
    n_epochs: Annotated[int, Field(ge=1)] = 8
    minibatches: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    anneal: bool = True
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    gae_lambda: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    clip_range: Annotated[float, Field(gt=0.0)] = 0.2
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.0
    vf_coef: Annotated[float, Field(ge=0.0)] = 0.5
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 0.5
    net_arch: tuple[Annotated[int, Field(ge=1)], ...] = (32, 32)
    log_std_init: float = -1.0
    use_sde: bool = False
    shared_seed: bool = True
    group_size: Annotated[int, Field(ge=1)] | None = None
    center_rewards: bool = True
    reward_scale: Annotated[float, Field(gt=0.0)] = 10.0

    @model_validator(mode="after")
    def _whole_groups(self) -> PPOSpec:
        if self.group_size is not None and self.num_envs % self.group_size:
            raise ValueError(f"group_size must divide num_envs = {self.num_envs} (got {self.group_size})")
        return self


def ppo_spec(env_id: str, **overrides: Any) -> PPOSpec:
    """Hyperparameters for an environment: the defaults, then its own table, then ``overrides``.

    Raises:
        SchedrlError: Unknown field or bad value.
    """
    with folder("agents").joinpath("ppo.toml").open("rb") as file:
        table = tomllib.load(file)
    fields = {**table.get("defaults", {}), **table.get("environments", {}).get(env_id, {}), **overrides}
    return parse(PPOSpec, fields, f"PPO hyperparameters of {env_id}")
