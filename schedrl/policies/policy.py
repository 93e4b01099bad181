"""Policies that nothing was learned for: a fixed schedule, AVA's controllers, a sequence of actions, random actions.

All have SB3's ``predict``, so ``evaluate_policy`` and the benchmark accept them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.diffusion.ava import AVALaw
from schedrl.environments.definition import Variant
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.runs import SamplingRuns
from schedrl.environments.training.actions import DSCAction, Memory
from schedrl.environments.training.observations import LOG_UNIT, MEMORY_FEATURES
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.schedules import Schedule
from schedrl.schedules.conversions import FloatArray

State = tuple[NDArray[Any], ...]
"""What a policy remembers between two steps: arrays with one row per run."""

Rows = NDArray[np.float32]
"""Observations ``[runs, entries]``."""


class Policy(Protocol):
    """Maps observations to actions; SB3's ``PolicyPredictor``."""

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Actions ``[runs, ...]`` for observations ``[runs, entries]``, and the state to hand back next time."""


class BatchPolicy(ABC):
    """A policy that acts in many runs at once; this class handles single observations and starts of episodes."""

    def begin(self, runs: int) -> State:
        """State at the start of an episode in each of ``runs`` runs; empty for a policy without memory."""
        return ()

    @abstractmethod
    def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
        """Actions ``[runs, ...]`` for observations ``[runs, entries]``, and the next state."""

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Act, as SB3's policies do.

        Args:
            observation: ``[runs, entries]``, or ``[entries]`` of a single run.
            state: What the last call returned; None before the first.
            episode_start: Runs ``[runs]`` in which an episode begins; their state starts over.
            deterministic: Act without exploration.

        Returns:
            Actions ``[runs, ...]``, or one action for a single run, and the state; None without memory.
        """
        given = np.asarray(observation, dtype=np.float32)
        rows = np.atleast_2d(given)
        first = self.begin(len(rows))
        if state is None:
            state = first
        elif episode_start is not None:
            starts = np.atleast_1d(episode_start)
            state = tuple(np.where(starts, new, old) for new, old in zip(first, state, strict=True))
        actions, after = self.act(rows, state, deterministic)
        return (actions[0] if given.ndim == 1 else actions), after or None


class _Features:
    """Reads named entries out of observations."""

    def __init__(self, variant: TrainingVariant, needed: Sequence[str], who: str) -> None:
        names = variant.observation.names
        missing = [name for name in needed if name not in names]
        if missing:
            raise SchedrlError(
                f"{who} needs the observation '{missing[0]}'; {variant.id} shows {', '.join(names)}"
            )
        self._columns = {name: names.index(name) for name in needed}

    def get(self, rows: Rows, name: str) -> NDArray[np.float64]:
        """An entry's column, ``[runs]``."""
        return rows[:, self._columns[name]].astype(np.float64)

    def memory(self, rows: Rows, names: Sequence[str]) -> list[Memory]:
        """The logarithms that every run carries from phase to phase, as its observation shows them."""
        columns = [(self.get(rows, name) * LOG_UNIT).tolist() for name in names]
        return list(zip(*columns, strict=True)) if columns else [()] * len(rows)


class _Encoder:
    """Turns wanted schedules into the environment's actions."""

    def __init__(self, variant: TrainingVariant, who: str) -> None:
        self._action, self._limits = variant.action, (variant.bound.logsnr_max, variant.bound.logsnr_min)
        self._carried = MEMORY_FEATURES[: len(self._action.initial_memory)]
        self._sweeps = self._action.num_knots > 1
        self._features = _Features(variant, [*self._carried, *(["time"] if self._sweeps else [])], who)

    def check(self, schedule: Schedule) -> None:
        """Raise if the actions cannot represent a schedule."""
        self._action.encode(schedule, 0, self._action.initial_memory, self._limits)

    def __call__(self, wanted: list[Schedule], rows: Rows) -> NDArray[Any]:
        knots = np.zeros(len(rows), dtype=np.int64)
        if self._sweeps:
            knots = np.rint(self._features.get(rows, "time") * self._action.num_knots).astype(np.int64)
        carried = self._features.memory(rows, self._carried)
        made: dict[tuple[Schedule, int, Memory], NDArray[Any]] = {}
        keys = list(zip(wanted, knots.tolist(), carried, strict=True))
        for key in keys:
            if key not in made:
                made[key] = np.asarray(self._action.encode(*key, self._limits))
        return np.stack([made[key] for key in keys])


class SchedulePolicy(BatchPolicy):
    """Follows one schedule, as closely as the environment's actions can.

    Args:
        schedule: The schedule.
        variant: The environment it acts in.
    """

    def __init__(self, schedule: Schedule, variant: TrainingVariant) -> None:
        self.schedule = schedule
        self._encode = _Encoder(variant, f"schedule '{schedule.name}'")
        self._encode.check(schedule)

    def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
        return self._encode([self.schedule] * len(rows), rows), ()


class AVAPolicy(BatchPolicy):
    """AVA's controller in any environment whose actions can represent its law.

    K moves at the first step of each phase but the first of an episode. The state is ``(K,)``, one per run.

    Args:
        laws: Constants of every run; a single law serves any number of runs.
        variant: The environment it acts in.
        who: Name of the agent in messages.
    """

    def __init__(self, laws: AVALaw | Sequence[AVALaw], variant: TrainingVariant, who: str = "AVA") -> None:
        self._laws = [laws] if isinstance(laws, AVALaw) else list(laws)
        self._prepare(variant, who)
        self._moves, self._sweeps = variant.episode.phases > 1, variant.action.num_knots > 1
        needed = ("gradient_norm", "gradient_average", "budget") if self._moves else ()
        self._features = _Features(variant, (*needed, *(("time",) if self._sweeps else ())), who)

    def _prepare(self, variant: TrainingVariant, who: str) -> None:
        """Check what is needed to turn K into actions."""
        self._encode = _Encoder(variant, who)
        for law in self._laws:
            # The law at other K, too: a choice may offer AVA's law at one K only.
            for gain in {
                law.initial_gain,
                *((law.minimum, law.maximum) if variant.episode.phases > 1 else ()),
            }:
                self._encode.check(law.law(gain))

    def _actions(self, laws: Sequence[Any], gains: list[float], rows: Rows) -> NDArray[Any]:
        """The actions of β(t) = β_init + K(1 − exp(−αt))."""
        return self._encode([law.law(gain) for law, gain in zip(laws, gains, strict=True)], rows)

    def begin(self, runs: int) -> State:
        return (np.array([law.initial_gain for law in self._of_runs(runs)]),)

    def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
        """Move K, and take the actions of the law at the new K."""
        laws, gains = self._of_runs(len(rows)), np.asarray(state[0])
        if self._moves:
            norms, averages = (
                np.exp(self._features.get(rows, name)) for name in ("gradient_norm", "gradient_average")
            )
            due = self._features.get(rows, "budget") < 1.0
            if self._sweeps:
                due &= self._features.get(rows, "time") == 0.0
            moved = [law.moved(*now) for law, *now in zip(laws, gains, norms, averages, strict=True)]
            gains = np.where(due, moved, gains)
        return self._actions(laws, gains.tolist(), rows), (gains,)

    def _of_runs(self, runs: int) -> Sequence[AVALaw]:
        return self._laws * runs if len(self._laws) == 1 else self._laws


class AVADSCLaw(AVALaw):
    """AVA's law and rule, and DSC's constants.

    Attributes:
        gamma: γ.
        boost: λ.
    """

    gamma: Annotated[float, Field(ge=1e-6, le=1e6)]
    boost: Annotated[float, Field(ge=1e-6, le=1e6)]


class AVADSCPolicy(AVAPolicy):
    """AVA-DSC: AVA's controller for K, and constants for α, γ and λ; laws are :class:`AVADSCLaw`."""

    def _prepare(self, variant: TrainingVariant, who: str) -> None:
        if not isinstance(variant.action, DSCAction):
            raise SchedrlError(
                f"{who}: needs the action kind 'dsc', which {variant.id} does not have ('{variant.action.kind}')"
            )
        self._action = variant.action
        for law in self._laws:
            if law.beta_init != self._action.beta_init:
                raise SchedrlError(
                    f"{who}: beta_init must be the environment's, {self._action.beta_init} (got {law.beta_init})"
                )
        self._shown = _Features(variant, MEMORY_FEATURES, who)

    def _actions(self, laws: Sequence[Any], gains: list[float], rows: Rows) -> NDArray[Any]:
        """The changes towards the law at the present K, and towards α, γ and λ."""
        carried = self._shown.memory(rows, MEMORY_FEATURES)
        return np.stack(
            [
                self._action.towards(law.law(gain), law.gamma, law.boost, memory)
                for law, gain, memory in zip(laws, gains, carried, strict=True)
            ]
        )


class SequencePolicy(BatchPolicy):
    """Takes the actions of a sequence one after the other, from the start of every episode.

    The state is ``(step,)``, the environment steps that each run has taken in its episode.

    Args:
        actions: One row per environment step of an episode; a discrete action is a row of one whole number.
        variant: The environment it acts in.
        who: Name of the agent in messages.
    """

    def __init__(
        self, actions: Sequence[Sequence[float]], variant: TrainingVariant, who: str = "policy 'sequence'"
    ) -> None:
        space = variant.action_space()
        if len(actions) != variant.episode_steps:
            raise SchedrlError(
                f"{who}: has {len(actions)} actions, and an episode of {variant.id} has {variant.episode_steps}"
            )
        discrete = isinstance(space, gym.spaces.Discrete)
        width = 1 if discrete else int(np.prod(space.shape or ()))
        if any(len(row) != width for row in actions):
            raise SchedrlError(
                f"{who}: an action in {variant.id} has {width} numbers, not those of its sequence"
            )
        rows = np.array(actions)
        self._actions: NDArray[Any] = (
            rows[:, 0].astype(np.int64)
            if discrete
            else rows.astype(np.float32).reshape(-1, *(space.shape or ()))
        )
        whole = not discrete or bool((rows == np.rint(rows)).all())
        if not whole or not all(space.contains(action) for action in self._actions):
            raise SchedrlError(f"{who}: an action of its sequence is outside of the actions of {variant.id}")

    def begin(self, runs: int) -> State:
        return (np.zeros(runs, dtype=np.int64),)

    def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
        step = np.asarray(state[0])
        return self._actions[np.minimum(step, len(self._actions) - 1)], (step + 1,)


class RandomPolicy(BatchPolicy):
    """Actions drawn evenly from the action space.

    Args:
        variant: The environment it acts in, of either family.
        seed: Of its own random numbers. With one seed per run, a run's actions do not depend on the other runs.
    """

    def __init__(self, variant: Variant, seed: int | Sequence[int]) -> None:
        self._several = not isinstance(seed, int)
        self._spaces = []
        for number in [seed] if isinstance(seed, int) else seed:
            space = variant.action_space()
            space.seed(number)
            self._spaces.append(space)

    def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
        if self._several and len(rows) != len(self._spaces):
            raise SchedrlError(
                f"observation: a row per seed is needed, {len(self._spaces)} (got {len(rows)})"
            )
        spaces = self._spaces if self._several else self._spaces * len(rows)
        return np.stack([np.asarray(space.sample()) for space in spaces]), ()


def walk(policy: Policy, problems: SamplingProblems) -> FloatArray:
    """Grids ``[B, greatest N + 1]`` that a policy's actions give on sampling problems, without exploration."""
    runs = SamplingRuns(problems.variant, len(problems))
    runs.adopt(problems)
    state: State | None = None
    start = np.ones(len(problems), dtype=np.bool_)
    while runs.remaining.any():
        actions, state = policy.predict(runs.observe(), state=state, episode_start=start, deterministic=True)
        start = np.zeros(len(problems), dtype=np.bool_)
        runs.advance(np.asarray(actions)[:, 0].astype(np.float64))
    return runs.levels[:, : problems.width].copy()
