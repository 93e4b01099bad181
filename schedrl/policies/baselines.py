"""Hand-made policies. They speak SB3's ``predict``, so ``evaluate_policy`` and the benchmark accept them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.base import Variant
from schedrl.environments.training.actions import Memory
from schedrl.environments.training.observations import LOG_UNIT, MEMORY_FEATURES
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import AVAAgent
from schedrl.schedules import Schedule

__all__ = ["AVAPolicy", "Features", "Policy", "RandomPolicy", "SchedulePolicy", "State", "as_rows"]

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


class AVAPolicy:
    """Paper A's controller in any environment whose actions can represent its law.

    The state is ``(K,)``, one per run. K moves at the first step of each phase but the first of an episode.

    Args:
        agent: Its constants.
        variant: The environment it acts in.
    """

    def __init__(self, agent: AVAAgent, variant: TrainingVariant) -> None:
        self.agent = agent
        needed = ("gradient_norm", "gradient_average", "budget") if variant.episode.phases > 1 else ()
        self._features = Features(variant, needed, f"agent '{agent.name}'")
        self._encode = _Encoder(variant, f"agent '{agent.name}'")
        self._knots, self._moves = variant.action.num_knots, variant.episode.phases > 1
        # The law at other K, too: a choice may offer AVA's law at one K only.
        for gain in (
            (agent.initial_gain, agent.minimum, agent.maximum) if self._moves else (agent.initial_gain,)
        ):
            variant.action.encode(self.agent.law(gain), 0, variant.action.initial_memory, self._encode.limits)

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """The actions of β(t) = β_init + K(1 − exp(−αt)) at the present K."""
        rows, single = as_rows(observation)
        gains = np.full(len(rows), self.agent.initial_gain) if state is None else np.asarray(state[0]).copy()
        if episode_start is not None:
            gains[np.atleast_1d(episode_start)] = self.agent.initial_gain
        if self._moves:
            gains = self._move(gains, rows)
        actions = self._encode([self.agent.law(gain) for gain in gains.tolist()], rows)
        return (actions[0] if single else actions), (gains,)

    def _move(self, gains: NDArray[np.float64], rows: NDArray[np.float32]) -> NDArray[np.float64]:
        norm = np.exp(self._features.get(rows, "gradient_norm"))
        average = np.exp(self._features.get(rows, "gradient_average"))
        due = self._features.get(rows, "budget") < 1.0
        if self._knots > 1:
            due &= self._encode.features.get(rows, "time") == 0.0
        kept: NDArray[np.float64] = np.where(due, self.agent.moved(gains, norm, average), gains)
        return kept


class RandomPolicy:
    """Actions drawn evenly from the action space.

    Args:
        variant: The environment it acts in, of either family.
        seed: Of its own random numbers.
    """

    def __init__(self, variant: Variant, seed: int) -> None:
        self._space = variant.action_space()
        self._space.seed(seed)

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """New random actions."""
        rows, single = as_rows(observation)
        actions = np.stack([np.asarray(self._space.sample()) for _ in rows])
        return (actions[0] if single else actions), None


def as_rows(observation: Any) -> tuple[NDArray[np.float32], bool]:
    """Observations as rows, and whether it was a single one."""
    array = np.asarray(observation, dtype=np.float32)
    return np.atleast_2d(array), array.ndim == 1
