"""From runs to the table's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schedrl.errors import SchedrlError
from schedrl.experiments.akod.records import Run
from schedrl.experiments.akod.runner import Experiment
from schedrl.experiments.reach import Reach, runs_reach
from schedrl.stats.intervals import Interval, mean, paired_difference

__all__ = ["BASELINE", "Entry", "entries", "find"]

BASELINE = "plain"
"""The row that the paper compares with, under either optimizer."""


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    Attributes:
        row: Name of the row.
        runs: Its runs, in the order of the seeds.
        step_seconds: Of an optimizer step of one run, measured in turns with the other rows.
    """

    row: str
    runs: tuple[Run, ...]
    step_seconds: float

    @property
    def test_bound(self) -> Interval:
        """Bits/dim on test images; runs that diverged at the bound at which they count as such."""
        return mean([run.test_bound for run in self.runs])

    @property
    def diverged(self) -> int:
        """Runs that did."""
        return sum(run.diverged_at is not None for run in self.runs)

    @property
    def train_seconds(self) -> float:
        """Of a whole run, without measurements."""
        return self.step_seconds * self.runs[0].steps[-1]

    @property
    def step_flops(self) -> int:
        """Of an optimizer step of one run."""
        return self.runs[0].step_flops

    def frechet(self, way: str) -> Interval | None:
        """By one way of sampling, over the runs that did not diverge; absent if fewer than two did not."""
        found = [run.frechet.get(way) for run in self.runs]
        distances = [distance for distance in found if distance is not None]
        return mean(distances) if len(distances) > 1 else None

    def minus(self, other: Entry) -> Interval:
        """Difference of test bounds, paired by seed."""
        return paired_difference([r.test_bound for r in self.runs], [r.test_bound for r in other.runs])

    def frechet_ratio(self, other: Entry, way: str) -> Interval | None:
        """Fréchet distance over the other's, geometric mean over the seeds at which neither diverged."""
        pairs = [
            (one.frechet.get(way), two.frechet.get(way))
            for one, two in zip(self.runs, other.runs, strict=True)
        ]
        logs = [float(np.log(one / two)) for one, two in pairs if one and two]
        if len(logs) < 2:
            return None
        found = mean(logs)
        return Interval(*(float(np.exp(x)) for x in (found.value, found.low, found.high)))

    def reach(self, other: Entry, *, seconds: bool = False) -> Reach:
        """How much sooner it has what another has at the end, in iterations or in seconds."""
        if seconds:
            return runs_reach(self.runs, other.runs, self.step_seconds, other.step_seconds)
        return runs_reach(self.runs, other.runs)


def entries(experiment: Experiment) -> list[Entry]:
    """The table's lines, in the order of the plan.

    Raises:
        SchedrlError: Runs are missing.
    """
    made, timings = [], experiment.timings
    for row in experiment.plan.rows:
        found = {run.seed: run for run in experiment.runs if run.row == row.name}
        missing = [seed for seed in experiment.plan.seeds if seed not in found]
        if missing or timings is None or row.name not in timings.step_seconds:
            raise SchedrlError(
                f"experiment: {len(missing)} runs of row '{row.name}' or its timing are missing; "
                "the same `schedrl experiment` goes on"
            )
        runs = tuple(found[seed] for seed in experiment.plan.seeds)
        made.append(Entry(row.name, runs, timings.step_seconds[row.name]))
    return made


def find(table: Sequence[Entry], name: str) -> Entry | None:
    """A line of the table, if it is there."""
    return next((entry for entry in table if entry.row == name), None)
