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
from schedrl.errors import SchedrlError, UnexpectedArgumentError, unknown_name
from schedrl.schedules.schedule import as_count

Observation = NDArray[np.float32]

RENDER_MODES = ("rgb_array", "ansi")


class PopulationEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """Base of the vector environments: many episodes of one variant, advanced together.

    By default a finished run begins a new episode within the same step; its last observation and info are in
    ``infos["final_obs"]`` and ``infos["final_info"]``. ``reset(seed=s)`` seeds run i with ``s + i``;
    ``reset(seed=[s, s, ...])`` seeds them alike. Infos have the same entries, numbers and arrays of one shape, from
    reset to end. Everything is as in Gymnasium's ``SyncVectorEnv`` of single environments.

    A subclass names its variant's class, makes its ``runs``, and implements the abstract methods.

    Args:
        num_envs: Number of runs.
        variant: The definition, as a model or as plain data.
        render_mode: ``"rgb_array"``, ``"ansi"`` or None.
        autoreset_mode: Gymnasium's ``AutoresetMode``, or its value.
        overrides: Fields of the variant to change; see :func:`schedrl.errors.with_fields`.

    Raises:
        SchedrlError: Bad definition, missing data, unknown render or autoreset mode; also a ``TypeError`` for an
            argument that is neither an option nor a field.
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
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **overrides: Any,
    ) -> None:
        fields = (type(variant) if isinstance(variant, Variant) else self.variant_type).model_fields
        for name in overrides:
            if (field := name.split(".")[0]) not in fields:
                named = f"{type(self).__name__} got an unexpected keyword argument '{name}'"
                raise UnexpectedArgumentError(f"{named}: {unknown_name('field', field, fields)}")
        made = (
            variant.changed(overrides, variant.id)
            if isinstance(variant, Variant)
            else parse_variant(variant, overrides)
        )
        self.variant = of_family(made, self.variant_type)
        if render_mode not in (None, *RENDER_MODES):
            raise SchedrlError(f"render_mode: must be one of {', '.join(RENDER_MODES)} (got {render_mode!r})")
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            modes = ", ".join(mode.value for mode in AutoresetMode)
            raise SchedrlError(f"autoreset_mode: must be one of {modes} (got {autoreset_mode!r})") from None
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.num_envs, self.render_mode = as_count("num_envs", num_envs, most=1_000_000), render_mode
        self.single_action_space = self.variant.action_space()
        self.single_observation_space = self.variant.observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._ready, self._done = False, np.zeros(num_envs, dtype=np.bool_)

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Name of every entry of an observation."""
        return self.variant.observation_names

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes, in all runs unless ``options`` choose some.

        Args:
            seed: One seed for run 0, counted up for the others; or one seed per run; or None to continue each run's
                random numbers.
            options: ``reset_mask``, boolean ``[runs]``, resets these runs only.
        """
        mask = self._reset_mask(options or {})
        seeds = [
            given if chosen else None
            for given, chosen in zip(spread_seeds(seed, self.num_envs), mask, strict=True)
        ]
        if seeds[0] is not None or self._np_random is None:
            self._np_random, self._np_random_seed = seeding.np_random(seeds[0])
        self._seed(seeds)
        self._start(np.flatnonzero(mask))
        self._ready, self._done = True, self._done & ~mask
        return self.observe(), _masked(self._infos(), mask)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take one action per run.

        Raises:
            SchedrlError: An action is not finite, out of range or wrongly shaped; :meth:`reset` was not called, or
                without autoreset not after an episode's end.
        """
        mode, waiting = self.autoreset_mode, self._done
        if not self._ready or (mode is AutoresetMode.DISABLED and waiting.all()):
            raise SchedrlError("no episode is running: call reset() before step()")
        if mode is AutoresetMode.DISABLED and waiting.any():
            runs = ", ".join(map(str, np.flatnonzero(waiting)))
            way = "reset them with options={'reset_mask': ended} before step()"
            raise SchedrlError(f"the episodes of runs {runs} have ended: {way}")
        checked = checked_actions(actions, self.action_space, self.single_action_space)
        rewards, ended = self._advance(checked, waiting)
        if waiting.any():  # NEXT_STEP: instead of a step they begin a new episode
            self._start(np.flatnonzero(waiting))
        infos: dict[str, Any] = {}
        if ended.any():
            self._finish(ended)
            if mode is AutoresetMode.SAME_STEP:
                infos = {"final_obs": self._last_observations(ended), "_final_obs": ended.copy()}
                infos |= {"final_info": _masked(self._infos(), ended), "_final_info": ended.copy()}
                self._start(np.flatnonzero(ended))
        self._done = ended.copy() if mode is not AutoresetMode.SAME_STEP else self._done
        infos |= _masked(self._infos(), np.ones(self.num_envs, dtype=np.bool_))
        return self.observe(), rewards, ended, np.zeros(self.num_envs, dtype=np.bool_), infos

    def render(self) -> tuple[Any, ...] | None:
        """A picture or a line per run, by ``render_mode``."""
        return tuple(self.renderers[self.render_mode](self.runs)) if self.render_mode else None

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to continue exactly: arrays, and plain JSON."""
        arrays, meta = self.runs.state()
        return arrays, {**meta, "ready": self._ready, "done": self._done.tolist()}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        self.runs.restore(arrays, meta)
        self._ready = bool(meta["ready"])
        self._done = np.array(meta.get("done", [False] * self.num_envs), dtype=np.bool_)

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
        self, actions: NDArray[Any], idle: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Take a step in every run but the ``idle`` ones: rewards, 0 for those, and which episodes ended."""

    @abstractmethod
    def _finish(self, ended: NDArray[np.bool_]) -> None:
        """Measure the episodes that ended, for :meth:`_infos`."""

    @abstractmethod
    def _infos(self) -> dict[str, NDArray[Any]]:
        """Infos of all runs, ``[runs, ...]``; 0 for what is measured at an episode's end, until then."""

    def _reset_mask(self, options: Mapping[str, Any]) -> NDArray[np.bool_]:
        mask = options.get("reset_mask", everyone := np.ones(self.num_envs, dtype=np.bool_))
        if not (isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == everyone.shape):
            raise SchedrlError(
                f"reset_mask: must be a boolean array of shape {everyone.shape} (got {mask!r})"
            )
        if not mask.any():
            raise SchedrlError("reset_mask: must choose at least one run")
        if not (self._ready or mask.all()):
            raise SchedrlError("reset_mask: the first reset must be of all runs")
        return mask

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
        observations, infos = self.vector.reset(seed=seed)
        return observations[0], _single(infos)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        observations, rewards, ended, _, infos = self.vector.step(np.asarray(action)[None])
        return observations[0], float(rewards[0]), bool(ended[0]), False, _single(infos)

    def render(self) -> Any:
        """A picture (``rgb_array``) or a line (``ansi``) of the episode."""
        frames = self.vector.render()
        return None if frames is None else frames[0]


def _masked(infos: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Infos in Gymnasium's form: copies, 0 where a run has none, and the masks."""
    made: dict[str, Any] = {}
    for name, values in infos.items():
        made[name] = np.zeros_like(values)
        made[name][mask] = values[mask]
        made[f"_{name}"] = mask.copy()
    return made


def _single(infos: Mapping[str, Any]) -> dict[str, Any]:
    """The info of a vector environment of one run as that of a single environment."""
    firsts = {name: values[0] for name, values in infos.items() if not name.startswith("_")}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in firsts.items()}


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
