"""Gymnasium's conventions, for both families: seeds, checked actions, autoreset, infos, rendering."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from schedrl.environments.definition import Variant
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import of_family, parse_variant
from schedrl.errors import SchedrlError
from schedrl.schedules.schedule import as_count

__all__ = ["Observation", "PopulationEnv", "SingleEnv", "checked_actions", "spread_seeds"]

Observation = NDArray[np.float32]

RENDER_MODES = ("rgb_array", "ansi")


class PopulationEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """Base of the vector environments: many episodes of one variant, advanced together.

    A finished run begins a new episode within the same step; its last observation and info are in
    ``infos["final_obs"]`` and ``infos["final_info"]``. ``reset(seed=s)`` seeds run i with ``s + i``;
    ``reset(seed=[s, s, ...])`` seeds them alike.

    A subclass names its variant's class, makes its ``runs``, and implements the abstract methods.

    Args:
        num_envs: Number of runs.
        variant: The definition, as a model or as plain data.
        render_mode: ``"rgb_array"``, ``"ansi"`` or None.
        autoreset_mode: ``SAME_STEP`` or ``DISABLED``.
        overrides: Fields of the variant to change; see :func:`schedrl.errors.with_fields`.

    Raises:
        SchedrlError: Bad definition, missing data, unknown render mode.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium declares it so)

    variant_type: ClassVar[type[TrainingVariant] | type[SamplingVariant]]
    renderers: ClassVar[dict[str, Any]]
    """Functions that draw all runs, by render mode."""

    variant: TrainingVariant | SamplingVariant
    runs: Any

    def __init__(
        self,
        num_envs: int = 1,
        *,
        variant: Variant | Mapping[str, Any],
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        **overrides: Any,
    ) -> None:
        made = (
            variant.changed(overrides, variant.id)
            if isinstance(variant, Variant)
            else parse_variant(variant, overrides)
        )
        self.variant = of_family(made, self.variant_type)
        if render_mode not in (None, *RENDER_MODES):
            raise SchedrlError(f"render_mode: must be one of {', '.join(RENDER_MODES)} (got {render_mode!r})")
        self.metadata = {**type(self).metadata, "autoreset_mode": autoreset_mode}
        self.num_envs, self.render_mode = as_count("num_envs", num_envs, most=1_000_000), render_mode
        self.single_action_space = self.variant.action_space()
        self.single_observation_space = self.variant.observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._autoreset = autoreset_mode is AutoresetMode.SAME_STEP
        self._ready = False

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Name of every entry of an observation."""
        return self.variant.observation_names

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes in all runs.

        Args:
            seed: One seed for run 0, counted up for the others; or one seed per run; or None to continue each run's
                random numbers.
            options: Not used.
        """
        seeds = spread_seeds(seed, self.num_envs)
        if seeds[0] is not None or self._np_random is None:
            self._np_random, self._np_random_seed = seeding.np_random(seeds[0])
        self._seed(seeds)
        self._start(np.arange(self.num_envs))
        self._ready = True
        names = np.empty(self.num_envs, dtype=object)
        names[:] = [self.observation_names] * self.num_envs
        mask = np.ones(self.num_envs, dtype=np.bool_)
        return self.observe(), {"observation_names": names, "_observation_names": mask}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take one action per run.

        Raises:
            SchedrlError: An action is not finite, out of range or wrongly shaped, or :meth:`reset` was not called.
        """
        if not self._ready:
            raise SchedrlError("no episode is running: call reset() before step()")
        checked = checked_actions(actions, self.action_space, self.single_action_space)
        rewards, ended, infos = self._advance(checked)
        if ended.any():
            if self._autoreset:
                infos |= {"final_obs": self._last_observations(ended), "_final_obs": ended.copy()}
                infos |= {"final_info": self._report(ended, {}), "_final_info": ended.copy()}
                self._start(np.flatnonzero(ended))
            else:
                self._report(ended, infos)
                # Without autoreset only a reset can follow the end of all episodes.
                self._ready = not ended.all()
        return self.observe(), rewards, ended, np.zeros(self.num_envs, dtype=np.bool_), infos

    def render(self) -> tuple[Any, ...] | None:
        """A picture or a line per run, by ``render_mode``."""
        return tuple(self.renderers[self.render_mode](self.runs)) if self.render_mode else None

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to continue exactly: arrays, and plain JSON."""
        arrays, meta = self.runs.state()
        return arrays, {**meta, "ready": self._ready}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.runs.restore(arrays, meta)
        self._ready = bool(meta["ready"])

    @abstractmethod
    def observe(self) -> Observation:
        """The present observations ``[runs, entries]``."""

    @abstractmethod
    def _seed(self, seeds: Sequence[int | None]) -> None:
        """Seed the runs; one without a seed continues its random numbers, or begins with fresh ones."""

    @abstractmethod
    def _start(self, rows: NDArray[np.int64]) -> None:
        """Begin new episodes in some runs."""

    @abstractmethod
    def _advance(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, Any]]:
        """Take an environment step in every run: rewards, which episodes ended, and infos of the step."""

    @abstractmethod
    def _report(self, ended: NDArray[np.bool_], infos: dict[str, Any]) -> dict[str, Any]:
        """Add the last infos of the episodes that ended to ``infos``, in Gymnasium's form, and return it."""

    def _last_observations(self, ended: NDArray[np.bool_]) -> NDArray[Any]:
        """``final_obs``: observations at the end of the episodes that ended; the other rows mean nothing."""
        return self.observe()


class SingleEnv(gym.Env[Observation, Any]):
    """A vector environment of one run as a Gymnasium environment.

    Args:
        arguments: Those of the vector environment.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012

    vector_type: ClassVar[type[Any]]

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
        observations, rewards, ended, _, infos = self.vector.step(np.asarray(action)[None])
        info = {
            key: values[0].item() if isinstance(values[0], np.generic) else values[0]
            for key, values in infos.items()
            if not key.startswith("_")
        }
        return observations[0], float(rewards[0]), bool(ended[0]), False, info

    def render(self) -> Any:
        """A picture (``rgb_array``) or a line (``ansi``) of the episode."""
        frames = self.vector.render()
        return None if frames is None else frames[0]


def spread_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """One seed per environment: counted up from one number, or as given.

    Raises:
        SchedrlError: The number of seeds differs from ``num_envs``, or a seed is negative.

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
    """Actions of all environments as an array.

    Raises:
        SchedrlError: An action is not finite, out of range or wrongly shaped.
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
