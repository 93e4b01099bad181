"""Paper A's actions: K alone, or K and α together with DSC's γ and λ."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schedrl import schedules
from schedrl.diffusion.training_spec import DSCCoefficients
from schedrl.environments.training.action_base import Array, BoxAction, Memory, Range
from schedrl.errors import SchedrlError, Spec
from schedrl.schedules import Schedule

__all__ = ["DSCAction", "GainAction", "LogRange"]


class GainAction(BoxAction):
    """Paper A's K: each phase changes log K in β(t) = β_init + K (1 − exp(−αt)).

    Attributes:
        beta_init: β_init.
        alpha: α.
        initial_gain: K at the start of an episode.
        minimum: Least K.
        maximum: Greatest K.
        scale: Change of log K at action ±1.
    """

    kind: Literal["gain"] = "gain"
    beta_init: Annotated[float, Field(gt=0.0, le=1e6)] = 0.1
    alpha: Annotated[float, Field(gt=0.0, le=1e6)] = 2.0
    initial_gain: Annotated[float, Field(ge=1e-6, le=1e6)] = 20.0
    minimum: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.5
    maximum: Annotated[float, Field(ge=1e-6, le=1e6)] = 200.0
    scale: Annotated[float, Field(gt=0.0)] = 1.5

    @model_validator(mode="after")
    def _ordered(self) -> GainAction:
        if not self.minimum <= self.initial_gain <= self.maximum:
            raise ValueError(
                f"initial_gain must lie in [minimum, maximum] = [{self.minimum}, {self.maximum}] "
                f"(got {self.initial_gain})"
            )
        return self

    @property
    def initial_memory(self) -> Memory:
        """log K at the start."""
        return (math.log(self.initial_gain),)

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        """AVA's law at the new K."""
        moved = memory + self.scale * sweep[-1].astype(np.float64)
        memory = moved.clip(math.log(self.minimum), math.log(self.maximum))
        return [self.law(math.exp(log_gain)) for log_gain in memory[:, 0].tolist()], memory

    def law(self, gain: float) -> Schedule:
        """AVA's law at a given K."""
        return schedules.AVA(beta_init=self.beta_init, K=gain, alpha=self.alpha)

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        """The change of log K towards the K of an AVA law; other laws are out of reach."""
        if not isinstance(schedule, schedules.AVA):
            raise SchedrlError(
                f"action kind 'gain' can represent AVA's law only, not schedule '{schedule.name}'"
            )
        change = (math.log(schedule.K) - memory[0]) / self.scale
        return np.array([np.clip(change, -1.0, 1.0)], dtype=np.float32)


class LogRange(Spec):
    """A positive number that an agent moves by steps of its logarithm.

    Attributes:
        initial: At the start of an episode.
        minimum: Least.
        maximum: Greatest.
        scale: Change of the logarithm at action ±1.
    """

    initial: Annotated[float, Field(ge=1e-6, le=1e6)]
    minimum: Annotated[float, Field(ge=1e-6, le=1e6)]
    maximum: Annotated[float, Field(ge=1e-6, le=1e6)]
    scale: Annotated[float, Field(gt=0.0, le=20.0)] = 1.5

    @model_validator(mode="after")
    def _ordered(self) -> LogRange:
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError(
                f"initial must lie in [minimum, maximum] = [{self.minimum}, {self.maximum}] (got {self.initial})"
            )
        return self


class DSCAction(BoxAction):
    """Paper A's future work: each phase changes the logs of AVA's K and α and of DSC's γ and λ.

    The law is β(t) = β_init + K (1 − exp(−αt)), the rate η_t = η · exp(−γ β) · (1 + λ ‖∇L‖); the optimizer must be
    ``"dsc"``. Action 0 leaves all four as they are.

    Attributes:
        beta_init: β_init.
        gain: K.
        alpha: α.
        gamma: γ; at its least it hardly acts.
        boost: λ; likewise.

    Examples:
        >>> action = DSCAction()
        >>> sweep = np.array([[[1.0, 0.0, 0.0, -1.0]]])  # one knot, one run: more noise, less boost
        >>> (law,), memory = action.schedules(sweep, np.array([action.initial_memory]), (8.0, -6.0))
        >>> round(law.K, 2), action.coefficients(memory).boost.round(4).tolist()
        (89.63, [0.0223])
    """

    kind: Literal["dsc"] = "dsc"
    beta_init: Annotated[float, Field(gt=0.0, le=1e6)] = 0.1
    gain: LogRange = LogRange(initial=20.0, minimum=0.5, maximum=200.0)
    alpha: LogRange = LogRange(initial=2.0, minimum=0.1, maximum=50.0)
    gamma: LogRange = LogRange(initial=1.0, minimum=0.01, maximum=100.0)
    boost: LogRange = LogRange(initial=0.1, minimum=0.001, maximum=10.0)

    @property
    def _ranges(self) -> tuple[LogRange, LogRange, LogRange, LogRange]:
        return self.gain, self.alpha, self.gamma, self.boost

    @property
    def width(self) -> int:
        """Four."""
        return len(self._ranges)

    @property
    def initial_memory(self) -> Memory:
        """Logs of K, α, γ and λ at the start."""
        return tuple(math.log(each.initial) for each in self._ranges)

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        """AVA's law at the new K and α."""
        scale, low, high = (
            np.array([getattr(each, name) for each in self._ranges])
            for name in ("scale", "minimum", "maximum")
        )
        memory = (memory + scale * sweep[-1].astype(np.float64)).clip(np.log(low), np.log(high))
        laws = np.exp(memory[:, :2]).tolist()
        return [self.law(gain, alpha) for gain, alpha in laws], memory

    def coefficients(self, memory: Array) -> DSCCoefficients:
        """γ and λ."""
        return DSCCoefficients(gamma=np.exp(memory[:, 2]), boost=np.exp(memory[:, 3]))

    def law(self, gain: float, alpha: float) -> Schedule:
        """AVA's law at given K and α."""
        return schedules.AVA(beta_init=self.beta_init, K=gain, alpha=alpha)

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        """The changes towards the K and α of an AVA law, γ and λ left as they are; other laws are out of reach."""
        return self.towards(schedule, math.exp(memory[2]), math.exp(memory[3]), memory)

    def towards(self, schedule: Schedule, gamma: float, boost: float, memory: Memory) -> NDArray[np.float32]:
        """The changes towards an AVA law, γ and λ."""
        if not isinstance(schedule, schedules.AVA):
            raise SchedrlError(
                f"action kind 'dsc' can represent AVA's law only, not schedule '{schedule.name}'"
            )
        wanted = (schedule.K, schedule.alpha, gamma, boost)
        changes = [
            (math.log(min(max(value, each.minimum), each.maximum)) - now) / each.scale
            for value, now, each in zip(wanted, memory, self._ranges, strict=True)
        ]
        return np.clip(changes, -1.0, 1.0).astype(np.float32)
