"""From runs to the table's numbers: the paper's three columns, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schedrl.errors import SchedrlError
from schedrl.experiments.ava_dsc.records import Run
from schedrl.experiments.ava_dsc.runner import Experiment
from schedrl.experiments.reach import Reach, runs_reach
from schedrl.stats.intervals import Interval, mean, paired_difference

__all__ = ["BASELINE", "LINEAR", "Entry", "entries", "find", "reach"]

BASELINE, LINEAR = "cosine", "linear-printed"
"""The rows that the paper compares with. The table's differences are to the first."""


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    Attributes:
        row: Name of the row.
        tuned: Whether its learning rate is the best of its trials.
        rate: The learning rate.
        runs: Its runs, in the order of the seeds.
    """

    row: str
    tuned: bool
    rate: float
    runs: tuple[Run, ...]

    @property
    def test_bound(self) -> Interval:
        """Bits/dim on test images; runs that diverged at the bound at which they count as such."""
        return mean([run.test_bound for run in self.runs])

    @property
    def validation_bound(self) -> float:
        """Mean validation bound at the end, by which readings are chosen."""
        return float(np.mean([run.bounds[-1] for run in self.runs]))

    @property
    def diverged(self) -> int:
        """Runs that did."""
        return sum(run.diverged_at is not None for run in self.runs)

    @property
    def frechet(self) -> Interval | None:
        """Over the runs that did not diverge; absent if fewer than two did not."""
        distances = [run.frechet for run in self.runs if run.frechet is not None]
        return mean(distances) if len(distances) > 1 else None

    @property
    def sampled_images_per_second(self) -> float | None:
        """Generation speed, one timing of all runs together."""
        speeds = [r.sampled_images_per_second for r in self.runs if r.sampled_images_per_second is not None]
        return float(np.mean(speeds)) if speeds else None

    @property
    def search_steps(self) -> int:
        """Optimizer steps of the trials, and of finding an agent's constants or policy."""
        return self.runs[0].search_steps

    def minus(self, other: Entry) -> Interval:
        """Difference of test bounds, paired by seed."""
        return paired_difference([r.test_bound for r in self.runs], [r.test_bound for r in other.runs])

    def frechet_minus(self, other: Entry) -> Interval | None:
        """Difference of Fréchet distances over the seeds at which neither diverged, if there are two."""
        pairs = [
            (one.frechet, two.frechet)
            for one, two in zip(self.runs, other.runs, strict=True)
            if one.frechet is not None and two.frechet is not None
        ]
        if len(pairs) < 2:
            return None
        return paired_difference([one for one, _ in pairs], [two for _, two in pairs])


def reach(entry: Entry, other: Entry) -> Reach:
    """How soon a row has what another has at the end."""
    return runs_reach(entry.runs, other.runs)


def entries(experiment: Experiment) -> list[Entry]:
    """The table's lines, in the order of the plan, the fixed learning rate first.

    Raises:
        SchedrlError: Runs are missing.
    """
    made: list[Entry] = []
    for tuned in (False, True):
        for row in experiment.plan.rows:
            runs = _runs_of(experiment, row.name, tuned)
            made.append(Entry(row.name, tuned, runs[0].rate, runs))
    return made


def find(table: Sequence[Entry], name: str, tuned: bool) -> Entry | None:
    """A line of the table, if it is there."""
    return next((entry for entry in table if entry.row == name and entry.tuned == tuned), None)


def _runs_of(experiment: Experiment, name: str, tuned: bool) -> tuple[Run, ...]:
    rate = experiment.rate_of(name) if tuned else experiment.plan.setting.fixed_rate
    found = {
        run.seed: run
        for run in experiment.runs
        if run.row == name and run.tuned == tuned and run.rate == rate
    }
    missing = [seed for seed in experiment.plan.seeds if seed not in found]
    if missing:
        raise SchedrlError(
            f"experiment: {len(missing)} runs of row '{name}' are missing; the same `schedrl experiment` goes on"
        )
    return tuple(found[seed] for seed in experiment.plan.seeds)
