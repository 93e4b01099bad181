"""The runs of a row, and what they show: numbers, and verdicts on claims about the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schedrl.experiments.records import ExperimentRun
from schedrl.report.claims import Claim, by_interval
from schedrl.stats.intervals import Interval, mean, paired_difference


@dataclass(frozen=True)
class Reach:
    """How much sooner a row reaches the final validation bound of another row, run by run of the same seed.

    Attributes:
        reached: Number of runs that reach it within the budget.
        runs: Number of runs compared: those whose counterpart did not diverge.
        speed_up: The other row's steps (or seconds) over this row's, geometric mean over the runs; absent unless all
            of them reach it.
    """

    reached: int
    runs: int
    speed_up: Interval | None

    def __str__(self) -> str:
        return f"{self.reached}/{self.runs}" if self.speed_up is None else f"{self.speed_up.value:.2f}x"

    def count(self, rival: RowRuns) -> str:
        return f"{self.reached} of {self.runs} runs reach the quality of `{rival.row}`"


@dataclass(frozen=True)
class RowRuns:
    """The runs of one row at one learning rate.

    Attributes:
        row: Name of the row.
        runs: The runs, in the order of the seeds.
        tuned: Whether the learning rate is the best of the row's trials.
        step_seconds: Time of an optimizer step of one run, measured in turns with the other rows; 0 if it was not.
    """

    row: str
    runs: tuple[ExperimentRun, ...]
    tuned: bool = False
    step_seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """The learning rate, where several are tried."""
        return self.runs[0].rate

    @property
    def test_bound(self) -> Interval:
        """Bits/dim on test images; a diverged run counts with the worst bound."""
        return mean([run.test_bound for run in self.runs])

    @property
    def validation_bound(self) -> float:
        """Mean validation bound at the end, bits/dim."""
        return float(np.mean([run.bounds[-1] for run in self.runs]))

    @property
    def diverged(self) -> int:
        return sum(run.diverged_at is not None for run in self.runs)

    @property
    def step_flops(self) -> int:
        """Floating-point operations of an optimizer step of one run."""
        return self.runs[0].step_flops

    @property
    def sampled_images_per_second(self) -> float | None:
        """Sampling throughput, from one timing of all runs together."""
        speeds = [r.sampled_images_per_second for r in self.runs if r.sampled_images_per_second is not None]
        return float(np.mean(speeds)) if speeds else None

    def frechet(self, way: str = "") -> Interval | None:
        """Fréchet distance of the runs that did not diverge, for a way of sampling; None if they are fewer than two."""
        found = [run.distance(way) for run in self.runs]
        distances = [distance for distance in found if distance is not None]
        return mean(distances) if len(distances) > 1 else None

    def minus(self, other: RowRuns) -> Interval:
        """Difference of test bounds, paired by seed."""
        return paired_difference([r.test_bound for r in self.runs], [r.test_bound for r in other.runs])

    def frechet_minus(self, other: RowRuns, way: str = "") -> Interval | None:
        """Difference of Fréchet distances over the seeds at which neither diverged; None if fewer than two."""
        pairs = self._distances(other, way)
        return mean([one - two for one, two in pairs]) if len(pairs) > 1 else None

    def frechet_ratio(self, other: RowRuns, way: str = "") -> Interval | None:
        """Fréchet distance over the other row's, geometric mean over the same seeds as :meth:`frechet_minus`."""
        logs = [float(np.log(one / two)) for one, two in self._distances(other, way) if one and two]
        return _geometric(logs) if len(logs) > 1 else None

    def _distances(self, other: RowRuns, way: str) -> list[tuple[float, float]]:
        pairs = [(a.distance(way), b.distance(way)) for a, b in zip(self.runs, other.runs, strict=True)]
        return [(one, two) for one, two in pairs if one is not None and two is not None]

    def reach(self, other: RowRuns, *, seconds: bool = False) -> Reach:
        """How much sooner this row reaches the final validation bound of another, in optimizer steps or in seconds."""
        own_price, price = (self.step_seconds, other.step_seconds) if seconds else (1.0, 1.0)
        pairs = [
            (run, rival)
            for run, rival in zip(self.runs, other.runs, strict=True)
            if rival.diverged_at is None
        ]
        logs: list[float] = []
        for run, rival in pairs:
            target = rival.bounds[-1]
            own, first = (steps_to_reach(each.steps, each.bounds, target) for each in (run, rival))
            if own is not None and first is not None:
                logs.append(float(np.log(first * price / (own * own_price))))
        whole = bool(pairs) and len(logs) == len(pairs)
        return Reach(len(logs), len(pairs), _geometric(logs) if whole else None)

    def diverged_beside(self, rival: RowRuns) -> str:
        """How many runs of this row and of its rival diverged, to append to a measurement; empty if none did."""
        return "".join(
            f"; {row.diverged} of {len(row.runs)} runs of `{row.row}` diverged"
            for row in (self, rival)
            if row.diverged
        )

    def better_bound(self, claim: str, rival: RowRuns) -> Claim:
        """Verdict on the claim that this row has a better test bound; a rival with diverged runs decides nothing."""
        difference = self.minus(rival)
        measured = f"`{self.row}` minus `{rival.row}`: {difference.plus_minus('+.3f')} bits/dim"
        verdict = "not decided" if rival.diverged else by_interval(difference)
        return Claim(claim, verdict, measured + self.diverged_beside(rival))

    def sooner(self, claim: str, rival: RowRuns, share: float, *, seconds: bool = False) -> Claim:
        """Verdict on the claim that this row reaches the rival's final validation bound at a share of its cost.

        The ``share`` is of the rival's optimizer steps, or of its ``seconds``.
        """
        found, lost = self.reach(rival, seconds=seconds), self.diverged_beside(rival)
        if (faster := found.speed_up) is None:
            few = found.runs > 0 and 2 * found.reached <= found.runs
            verdict = "does not hold" if few else "not decided"
            return Claim(claim, verdict, f"`{self.row}`: {found.count(rival)}{lost}")
        needed = Interval(*(1.0 / x for x in (faster.value, faster.high, faster.low)))
        measured = (
            f"`{self.row}` takes {needed:.2f} of the {'seconds' if seconds else 'optimizer steps'} of `{rival.row}` to "
            f"reach its quality, a speed-up of {faster:.2f}"
        )
        return Claim(claim, below(needed, share), measured + lost)


def steps_to_reach(steps: Sequence[int], bounds: Sequence[float], target: float) -> float | None:
    """Optimizer steps at which a curve first falls to ``target``, linear between measurements; None if it never does.

    A curve that is below the target at the first measurement counts as reaching it there.

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


def find_row(table: Sequence[RowRuns], name: str, tuned: bool = False) -> RowRuns | None:
    """A row of the table, None if it is not there."""
    return next((row for row in table if row.row == name and row.tuned == tuned), None)


def below(value: Interval, limit: float) -> str:
    """Verdict on the claim that a value is at most ``limit``."""
    if value.high <= limit:
        return "holds"
    return "does not hold" if value.low > limit else "not decided"


def shown(value: Interval | float | None, spec: str) -> str:
    """A number, or an interval as ``value ± half width``; nothing for None."""
    if value is None:
        return ""
    return value.plus_minus(spec) if isinstance(value, Interval) else f"{value:{spec}}"


def _geometric(logs: Sequence[float]) -> Interval:
    found = mean(logs)
    return Interval(*(float(np.exp(x)) for x in (found.value, found.low, found.high)))
