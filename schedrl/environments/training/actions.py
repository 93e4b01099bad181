"""What an agent may decide, and how a decision becomes a noise schedule.

Each kind is a frozen model that a variant names by ``kind``. All are pure: from the actions of one sweep (and, for
``gain``, the gain carried from phase to phase) follow the schedules of the next phase. ``encode`` is the way back:
the actions that reproduce a given schedule as closely as the kind can, which is how a hand-made schedule acts as a
policy in any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl import schedules
from schedrl.environments.training.action_base import (
    ActionKind,
    Array,
    BoxAction,
    Memory,
    PhaseAction,
    Range,
)
from schedrl.environments.training.ava_actions import DSCAction, GainAction, LogRange
from schedrl.environments.training.kernel_action import KernelAction
from schedrl.errors import SchedrlError
from schedrl.schedules import AnySchedule, Schedule

__all__ = [
    "ActionKind",
    "AnyAction",
    "ChoiceAction",
    "DSCAction",
    "GainAction",
    "KernelAction",
    "KnotsAction",
    "LogRange",
    "Memory",
    "Range",
]


class KnotsAction(BoxAction):
    """The whole schedule at once: the share of training noise in each of ``bins`` equal cells of log-SNR.

    The shares are softmax(log of the reference's shares + ``scale`` × action); their cumulative sum places the knots
    of a monotone piecewise-linear λ(u). Action 0 is the reference, cut to the measured range.

    Attributes:
        bins: Cells between the measurement's end points.
        scale: Change of a log share at action ±1.
        reference: The schedule of action 0.

    Examples:
        >>> action = KnotsAction(bins=2, reference={"name": "uniform", "logsnr_max": 8.0, "logsnr_min": -6.0})
        >>> sweep = np.array([[[1.0, -1.0]]])  # one knot, one run: data end up, noise end down
        >>> (law,), _ = action.schedules(sweep, np.zeros(1), (8.0, -6.0))
        >>> law.fraction_above(1.0).round(3)  # 1 / (1 + exp(-2 * scale))
        np.float64(0.982)
    """

    kind: Literal["knots"] = "knots"
    bins: Annotated[int, Field(ge=2, le=200)] = 10
    scale: Annotated[float, Field(gt=0.0, le=20.0)] = 2.0
    reference: AnySchedule

    @property
    def width(self) -> int:
        """Number of bins."""
        return self.bins

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        """Decode shares into piecewise-linear schedules."""
        logits = np.log(self._shares(self.reference, limits)) + self.scale * sweep[-1].astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        edges = np.linspace(*limits, self.bins + 1)
        return [schedules.PiecewiseLogSNR.from_density(edges, row) for row in shares], memory

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        """Logits of the schedule's own shares, relative to the reference."""
        logits = np.log(self._shares(schedule, limits) / self._shares(self.reference, limits)) / self.scale
        # Logits matter only up to a constant: centring uses the box best.
        logits -= 0.5 * (logits.max() + logits.min())
        return logits.clip(-1.0, 1.0).astype(np.float32)

    def _shares(self, schedule: Schedule, limits: Range) -> Array:
        edges = np.linspace(*limits, self.bins + 1)
        shares = np.diff(schedule.fraction_above(edges))
        # A floor keeps every share reachable: the logarithm of an empty cell is not an action.
        shares = np.maximum(shares, 1e-4 * max(float(shares.sum()), 1e-12))
        normalised: Array = shares / shares.sum()
        return normalised


class ChoiceAction(PhaseAction):
    """One of the given schedules, exactly.

    Attributes:
        choices: What can be chosen, two schedules or more.
    """

    kind: Literal["choice"] = "choice"
    choices: Annotated[tuple[AnySchedule, ...], Field(min_length=2)]

    @classmethod
    def of(cls, *choices: Schedule) -> ChoiceAction:
        """A choice among any number of schedules. A variant needs two, so a single schedule is offered twice."""
        return cls.model_validate({"choices": choices if len(choices) > 1 else choices * 2})

    def space(self) -> gym.spaces.Discrete:
        """One number per choice."""
        return gym.spaces.Discrete(len(self.choices))

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        """Look the choice up."""
        return [self.choices[int(index)] for index in sweep[-1]], memory

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.int64]:
        """Place of the schedule among the choices."""
        if schedule not in self.choices:
            raise SchedrlError(f"action kind 'choice' does not offer schedule {schedule.model_dump_json()}")
        return np.asarray(self.choices.index(schedule), dtype=np.int64)


AnyAction = Annotated[
    KernelAction | KnotsAction | GainAction | DSCAction | ChoiceAction, Field(discriminator="kind")
]
"""Any action kind, chosen by ``kind``."""


def stack_actions(actions: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join per-run actions into one array ``[runs, ...]``."""
    return np.stack([np.asarray(action) for action in actions])
