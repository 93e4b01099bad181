"""Hand-made policies. They speak SB3's ``predict``, so ``evaluate_policy`` and the benchmark accept them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schedrl.diffusion.ava import AVALaw
from schedrl.environments.base import Variant
from schedrl.environments.training.actions import Memory
from schedrl.environments.training.observations import LOG_UNIT, MEMORY_FEATURES
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import AVAAgent
from schedrl.schedules import Schedule

__all__ = ["AVAPolicy", "Features", "Gains", "Policy", "RandomPolicy", "SchedulePolicy", "State", "as_rows"]

State = tuple[NDArray[Any], ...]


class Policy(Protocol):
    """What maps observations to actions; SB3's ``PolicyPredictor``."""

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Actions ``[runs, ...]`` for observations ``[runs, entries]``, and the state to hand back next time."""


class Features:
    """Reads named entries out of observations."""

    def __init__(self, variant: TrainingVariant, needed: tuple[str, ...], who: str) -> None:
        names = variant.observation.names
        missing = [name for name in needed if name not in names]
        if missing:
            raise SchedrlError(
                f"{who} needs the observation '{missing[0]}'; {variant.id} shows {', '.join(names)}"
            )
        self._places = {name: names.index(name) for name in needed}

    def get(self, observation: NDArray[np.float32], name: str) -> NDArray[np.float64]:
        """An entry's column, ``[runs]``."""
        return observation[:, self._places[name]].astype(np.float64)


class _Encoder:
    """Turns wanted schedules into the environment's actions."""

    def __init__(self, variant: TrainingVariant, who: str) -> None:
        self.action, self.limits = variant.action, (variant.bound.logsnr_max, variant.bound.logsnr_min)
        self._carried = MEMORY_FEATURES[: len(self.action.initial_memory)]
        needed = ("time",) if self.action.kind == "kernel" else self._carried
        self.features = Features(variant, needed, who)

    def __call__(self, wanted: list[Schedule], observation: NDArray[np.float32]) -> NDArray[Any]:
        runs = len(observation)
        knots = np.zeros(runs, dtype=np.int64)
        if self.action.kind == "kernel":
            knots = np.rint(self.features.get(observation, "time") * self.action.num_knots).astype(np.int64)
        carried = self.memory(observation)
        made: dict[tuple[Schedule, int, Memory], NDArray[Any]] = {}
        keys = list(zip(wanted, knots.tolist(), carried, strict=True))
        for key in keys:
            if key not in made:
                made[key] = np.asarray(self.action.encode(*key, self.limits))
        return np.stack([made[key] for key in keys])

    def memory(self, observation: NDArray[np.float32]) -> list[Memory]:
        """What every run carries, as it shows in its observation."""
        columns = [(self.features.get(observation, name) * LOG_UNIT).tolist() for name in self._carried]
        return list(zip(*columns, strict=True)) if columns else [()] * len(observation)


class SchedulePolicy:
    """Follows one schedule, as closely as the environment's actions can.

    Args:
        schedule: The schedule.
        variant: The environment it acts in.

    Raises:
        SchedrlError: Its actions cannot represent the schedule.
    """

    def __init__(self, schedule: Schedule, variant: TrainingVariant) -> None:
        self.schedule = schedule
        self._encode = _Encoder(variant, f"schedule '{schedule.name}'")
        variant.action.encode(schedule, 0, variant.action.initial_memory, self._encode.limits)

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """The schedule's actions."""
        rows, single = as_rows(observation)
        actions = self._encode([self.schedule] * len(rows), rows)
        return (actions[0] if single else actions), None


class Gains:
    """K of every run, moved by AVA's rule at the first step of each phase but the first of an episode.

    Args:
        laws: Of every run; a single one serves any number of runs.
        variant: The environment.
        who: Asks, for messages.

    Raises:
        SchedrlError: An observation that the rule needs is not shown.
    """

    def __init__(self, laws: Sequence[AVALaw], variant: TrainingVariant, who: str) -> None:
        self._laws, self._moves = laws, variant.episode.phases > 1
        self._sweeps = variant.action.num_knots > 1
        needed = ("gradient_norm", "gradient_average", "budget") if self._moves else ()
        self._features = Features(variant, (*needed, *(("time",) if self._sweeps else ())), who)

    def next(
        self,
        rows: NDArray[np.float32],
        state: State | None,
        episode_start: NDArray[np.bool_] | None,
    ) -> NDArray[np.float64]:
        """K ``[runs]`` for these observations.

        Args:
            rows: Observations.
            state: ``(K,)`` of the last call, or None at the very beginning.
            episode_start: Runs that begin an episode.
        """
        laws = list(self._laws) * len(rows) if len(self._laws) == 1 else self._laws
        first = np.array([law.initial_gain for law in laws])
        gains = first if state is None else np.asarray(state[0])
        if episode_start is not None:
            gains = np.where(np.atleast_1d(episode_start), first, gains)
        if not self._moves:
            return gains
        norms, averages = (
            np.exp(self._features.get(rows, name)) for name in ("gradient_norm", "gradient_average")
        )
        due = self._features.get(rows, "budget") < 1.0
        if self._sweeps:
            due &= self._features.get(rows, "time") == 0.0
        moved = [law.moved(*now) for law, *now in zip(laws, gains, norms, averages, strict=True)]
        kept: NDArray[np.float64] = np.where(due, moved, gains)
        return kept


class AVAPolicy:
    """Paper A's controller in any environment whose actions can represent its law.

    The state is ``(K,)``, one per run.

    Args:
        agent: Its constants.
        variant: The environment it acts in.
    """

    def __init__(self, agent: AVAAgent, variant: TrainingVariant) -> None:
        self.agent = agent
        who = f"agent '{agent.name}'"
        self._gains, self._encode = Gains([agent], variant, who), _Encoder(variant, who)
        # The law at other K, too: a choice may offer AVA's law at one K only.
        reached = {agent.initial_gain}
        if variant.episode.phases > 1:
            reached |= {agent.minimum, agent.maximum}
        for gain in reached:
            variant.action.encode(agent.law(gain), 0, variant.action.initial_memory, self._encode.limits)

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """The actions of β(t) = β_init + K(1 − exp(−αt)) at the present K."""
        rows, single = as_rows(observation)
        gains = self._gains.next(rows, state, episode_start)
        actions = self._encode([self.agent.law(gain) for gain in gains.tolist()], rows)
        return (actions[0] if single else actions), (gains,)


class RandomPolicy:
    """Actions drawn evenly from the action space.

    Args:
        variant: The environment it acts in, of either family.
        seed: Of its own random numbers; with one per run, a run's actions do not depend on the others beside it.

    Raises:
        SchedrlError: On acting, other than as many runs as seeds.
    """

    def __init__(self, variant: Variant, seed: int | Sequence[int]) -> None:
        self._several = not isinstance(seed, int)
        self._spaces = []
        for number in [seed] if isinstance(seed, int) else seed:
            space = variant.action_space()
            space.seed(number)
            self._spaces.append(space)

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """New random actions."""
        rows, single = as_rows(observation)
        if self._several and len(rows) != len(self._spaces):
            raise SchedrlError(
                f"observation: a row per seed is needed, {len(self._spaces)} (got {len(rows)})"
            )
        spaces = self._spaces if self._several else self._spaces * len(rows)
        actions = np.stack([np.asarray(space.sample()) for space in spaces])
        return (actions[0] if single else actions), None


def as_rows(observation: Any) -> tuple[NDArray[np.float32], bool]:
    """Observations as rows, and whether it was a single one."""
    array = np.asarray(observation, dtype=np.float32)
    return np.atleast_2d(array), array.ndim == 1
