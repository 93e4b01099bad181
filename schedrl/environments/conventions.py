"""Gymnasium's conventions as both families keep them: seeds, checked actions, one environment as a vector of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError

__all__ = [
    "RENDER_MODES",
    "Observation",
    "PopulationEnv",
    "SingleEnv",
    "checked_actions",
    "checked_render_mode",
    "spread_seeds",
]

Observation = NDArray[np.float32]

RENDER_MODES = ("rgb_array", "ansi")


class PopulationEnv(Protocol):
    """What the package asks of a vector environment beyond Gymnasium: its definition, and exact continuation."""

    num_envs: int

    @property
    def variant(self) -> TrainingVariant | SamplingVariant:
        """The definition."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to go on exactly: arrays, and plain JSON."""

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""


def checked_render_mode(render_mode: str | None) -> str | None:
    """A render mode that exists.

    Raises:
        SchedrlError: It does not.
    """
    if render_mode not in (None, *RENDER_MODES):
        raise SchedrlError(f"render_mode: must be one of {', '.join(RENDER_MODES)} (got {render_mode!r})")
    return render_mode


def spread_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """One seed per environment: counted up from one number, or as given.

    Raises:
        SchedrlError: As many seeds as environments are needed, none of them negative.

    Examples:
        >>> spread_seeds(3, 2), spread_seeds([5, 5], 2), spread_seeds(None, 2)
        ([3, 4], [5, 5], [None, None])
    """
    if seed is None or isinstance(seed, (int, np.integer)):
        seeds = [None if seed is None else int(seed) + place for place in range(num_envs)]
    else:
        seeds = list(seed)
    if len(seeds) != num_envs:
        raise SchedrlError(f"seed: {num_envs} environments need {num_envs} seeds (got {len(seeds)})")
    if (negative := next((one for one in seeds if one is not None and one < 0), None)) is not None:
        raise SchedrlError(f"seed: must not be negative (got {negative})")
    return seeds


def checked_actions(actions: NDArray[Any], space: gym.Space[Any], single: gym.Space[Any]) -> NDArray[Any]:
    """Actions of all environments, finite, in range and of the right shape.

    Raises:
        SchedrlError: They are not.
    """
    array = np.asarray(actions)
    if array.shape != space.shape:
        raise SchedrlError(f"action: shape must be {space.shape} (got {array.shape})")
    if not np.issubdtype(array.dtype, np.number):
        raise SchedrlError(f"action: must be numbers (got dtype {array.dtype})")
    if not np.isfinite(array).all():
        raise SchedrlError("action: every entry must be finite (got NaN or infinity)")
    if isinstance(single, gym.spaces.Discrete):
        if not np.issubdtype(array.dtype, np.integer):
            raise SchedrlError(f"action: must be integers (got dtype {array.dtype})")
        low, high = 0, int(single.n) - 1
    else:
        low, high = -1, 1
    if (array < low).any() or (array > high).any():
        worst = array.ravel()[np.argmax(np.abs(array - 0.5 * (low + high)))]
        raise SchedrlError(f"action: entries must lie in [{low}, {high}] (got {worst})")
    return array


class SingleEnv(gym.Env[Observation, Any]):
    """A vector environment of one, as a Gymnasium environment.

    Args:
        arguments: Those of the vector environment.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012

    vector_type: ClassVar[Any]
    """The vector environment."""

    def __init__(self, **arguments: Any) -> None:
        self.vector = self.vector_type(1, autoreset_mode=AutoresetMode.DISABLED, **arguments)
        self.variant, self.render_mode = self.vector.variant, self.vector.render_mode
        self.action_space = self.vector.single_action_space
        self.observation_space = self.vector.single_observation_space

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Name of every entry of an observation."""
        names: tuple[str, ...] = self.variant.observation_names
        return names

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a new episode; ``seed`` fixes it entirely."""
        super().reset(seed=seed)
        observations, _ = self.vector.reset(seed=seed)
        return observations[0], {"observation_names": self.observation_names}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one action."""
        observations, rewards, ended, _, infos = self.vector.step(np.asarray(action)[None])
        info = {key: _plain(values[0]) for key, values in infos.items() if not key.startswith("_")}
        return observations[0], float(rewards[0]), bool(ended[0]), False, info

    def render(self) -> Any:
        """A picture (``rgb_array``) or a line (``ansi``) of the episode."""
        frames = self.vector.render()
        return None if frames is None else frames[0]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
