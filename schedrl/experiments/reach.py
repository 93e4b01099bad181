"""How soon a row gets to the quality that another one has at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from schedrl.stats.intervals import Interval, mean

__all__ = ["Curve", "Reach", "runs_reach", "steps_to_reach"]


class Curve(Protocol):
    """A run's validation bound over its training."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Optimizer steps at which it was measured."""

    @property
    def bounds(self) -> tuple[float, ...]:
        """What was measured."""

    @property
    def diverged_at(self) -> int | None:
        """Where it diverged, if it did."""


@dataclass(frozen=True)
class Reach:
    """Iterations to another row's final quality, run by run of the same seed.

    Attributes:
        reached: Runs that reached it within the budget.
        runs: Those of them whose counterpart did not diverge.
        speed_up: The other row's iterations, or their cost, over this row's, geometric mean over the runs; absent
            unless all reached it.
    """

    reached: int
    runs: int
    speed_up: Interval | None


def steps_to_reach(steps: Sequence[int], bounds: Sequence[float], target: float) -> float | None:
    """Optimizer steps at which a curve first falls to ``target``, linear between measurements; None if it does not.

    Before the first measurement nothing is known, so a curve that begins below counts as reaching it there.

    Examples:
        >>> steps_to_reach([10, 20, 30], [3.0, 2.0, 1.0], 1.5)
        25.0
        >>> steps_to_reach([10, 20], [3.0, 2.0], 1.0) is None
        True
    """
    for place, (step, bound) in enumerate(zip(steps, bounds, strict=True)):
        if bound <= target:
            if place == 0:
                return float(step)
            before, above = steps[place - 1], bounds[place - 1]
            return before + (step - before) * (above - target) / (above - bound)
    return None


def runs_reach(
    runs: Sequence[Curve], rivals: Sequence[Curve], cost: float = 1.0, rival_cost: float = 1.0
) -> Reach:
    """How soon a row's runs have what another's have at the end.

    Args:
        runs: In the order of the seeds.
        rivals: In the same order.
        cost: Of a step of the row, in any unit; 1 counts iterations.
        rival_cost: Of a step of the other.
    """
    logs: list[float] = []
    usable = 0
    for run, rival in zip(runs, rivals, strict=True):
        if rival.diverged_at is not None:
            continue
        usable += 1
        target = rival.bounds[-1]
        own, first = (steps_to_reach(each.steps, each.bounds, target) for each in (run, rival))
        if own is not None and first is not None:
            logs.append(float(np.log(first * rival_cost / (own * cost))))
    if usable == 0 or len(logs) < usable:
        return Reach(len(logs), usable, None)
    around = mean(logs)
    return Reach(
        len(logs), usable, Interval(*(float(np.exp(x)) for x in (around.value, around.low, around.high)))
    )
