"""Stable-Baselines3 over a native vector environment (SB3 does not take Gymnasium's; see its issue 1608)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from schedrl.errors import SchedrlError

__all__ = ["Sb3VectorEnv"]


class Sb3VectorEnv(VecEnv):
    """Adapter from a Gymnasium ``VectorEnv`` with SAME_STEP autoreset to SB3's ``VecEnv``.

    Args:
        env: The vector environment.
        shared_seed: Seed the runs of a group alike, so that they differ by their actions alone (common random numbers).
            For training; evaluation uses independent seeds.
        group_size: Number of neighbouring runs in a group; all of them when absent.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], *, shared_seed: bool = False, group_size: int | None = None
    ) -> None:
        if env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            raise SchedrlError("the vector environment must reset finished runs within the step (SAME_STEP)")
        self.env, self.shared_seed = env, shared_seed
        self.group_size = (group_size or env.num_envs) if shared_seed else 1
        if env.num_envs % self.group_size:
            raise SchedrlError(
                f"group_size: must divide the number of runs, {env.num_envs} (got {self.group_size})"
            )
        self._actions: np.ndarray[Any, Any] | None = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        if shared_seed:
            self.seed()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seeds of the next reset: ``seed``, or a fresh one, counted up from group to group."""
        first = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._seeds = [first + run // self.group_size for run in range(self.num_envs)]
        return self._seeds

    def reset(self) -> Any:
        seeded = any(seed is not None for seed in self._seeds)
        observations, infos = self.env.reset(seed=list(self._seeds) if seeded else None)  # type: ignore[arg-type]
        self.reset_infos = _rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        assert self._actions is not None
        observations, rewards, ended, truncated, infos = self.env.step(self._actions)
        rows = _rows(infos, self.num_envs)
        for run in np.flatnonzero(ended | truncated):
            row = rows[run]
            row.update(row.pop("final_info"))
            row["terminal_observation"] = row.pop("final_obs")
            row["TimeLimit.truncated"] = bool(truncated[run] and not ended[run])
        return observations, rewards.astype(np.float32), ended | truncated, rows

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The vector environment's attribute, once per run."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Results of the vector environment's method, called once per run."""
        method = getattr(self.env, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Runs are never wrapped one by one."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray[Any, Any] | None]:
        frames: Any = self.env.render() if self.render_mode == "rgb_array" else None
        return [None] * self.num_envs if frames is None else list(frames)


def _rows(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Every run's own info out of a vector environment's."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, values in infos.items():
        if key.startswith("_"):
            continue
        numbers = isinstance(values, np.ndarray) and values.ndim == 1
        column = _rows(values, count) if isinstance(values, dict) else values.tolist() if numbers else values
        for row, value, given in zip(rows, column, infos[f"_{key}"], strict=True):
            if given:
                row[key] = value
    return rows
