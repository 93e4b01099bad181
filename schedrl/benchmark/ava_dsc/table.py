"""From runs to the table's numbers: the paper's three columns, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedrl.benchmark.ava_dsc.records import Run
from schedrl.benchmark.ava_dsc.runner import Experiment
from schedrl.errors import SchedrlError
from schedrl.metrics.intervals import Interval, geometric_mean, mean, paired_difference

__all__ = ["BASELINE", "Entry", "Reach", "entries", "steps_to_reach"]

BASELINE = "cosine"
"""The row whose quality at the end is the target of the others' iterations."""

_SEED = 20_240_501
"""Of the bootstrap."""


@dataclass(frozen=True)
class Reach:
    """Iterations to the baseline's final quality.

    Attributes:
        reached: Runs that reached it within the budget.
        runs: All of them.
        speed_up: Baseline's iterations over the row's, geometric mean over the runs; absent unless all reached it.
    """

    reached: int
    runs: int
    speed_up: Interval | None


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    Attributes:
        row: Name of the row.
        tuned: Whether its learning rate is the best of its trials.
        rate: The learning rate.
        test_bound: Bits/dim.
        difference: To the baseline at the same treatment of the learning rate, paired by seed; absent for itself.
        frechet: Over the runs that did not diverge; absent if fewer than two did not.
        reach: Iterations to the baseline's quality.
        sampled_images_per_second: Generation speed.
        train_images_per_second: Training speed.
        diverged: Runs that did.
        runs: All of them.
        search_steps: Optimizer steps of the trials, or of an agent's training as well.
    """

    row: str
    tuned: bool
    rate: float
    test_bound: Interval
    difference: Interval | None
    frechet: Interval | None
    reach: Reach
    sampled_images_per_second: Interval | None
    train_images_per_second: Interval
    diverged: int
    runs: int
    search_steps: int


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


def entries(experiment: Experiment) -> list[Entry]:
    """The table's lines, in the order of the plan, the fixed learning rate first.

    Raises:
        SchedrlError: Runs are missing.
    """
    made: list[Entry] = []
    for tuned in (False, True):
        baseline = _runs_of(experiment, BASELINE, tuned) if _has(experiment, BASELINE) else None
        made += [
            _entry(row.name, tuned, _runs_of(experiment, row.name, tuned), baseline)
            for row in experiment.plan.rows
        ]
    return made


def _entry(name: str, tuned: bool, runs: list[Run], baseline: list[Run] | None) -> Entry:
    test = np.array([run.test_bound for run in runs])
    difference = None
    if baseline is not None and name != BASELINE:
        difference = paired_difference(test, np.array([run.test_bound for run in baseline]))
    distances = [run.frechet for run in runs if run.frechet is not None]
    sampled = [r.sampled_images_per_second for r in runs if r.sampled_images_per_second is not None]
    return Entry(
        row=name, tuned=tuned, rate=runs[0].rate, test_bound=mean(test), difference=difference,
        frechet=mean(distances) if len(distances) > 1 else None, reach=_reach(runs, baseline),
        sampled_images_per_second=mean(sampled) if len(sampled) > 1 else None,
        train_images_per_second=mean([run.train_images_per_second for run in runs]),
        diverged=sum(run.diverged_at is not None for run in runs), runs=len(runs),
        search_steps=runs[0].search_steps,
    )  # fmt: skip


def _reach(runs: list[Run], baseline: list[Run] | None) -> Reach:
    if baseline is None:
        return Reach(0, len(runs), None)
    ratios: list[float] = []
    for run, other in zip(runs, baseline, strict=True):
        target = other.bounds[-1]
        own = steps_to_reach(run.steps, run.bounds, target)
        first = steps_to_reach(other.steps, other.bounds, target)
        assert first is not None
        if own is not None:
            ratios.append(first / own)
    whole = len(ratios) == len(runs)
    speed_up = geometric_mean(ratios, np.random.default_rng(_SEED)) if whole else None
    return Reach(len(ratios), len(runs), speed_up)


def _has(experiment: Experiment, name: str) -> bool:
    return any(row.name == name for row in experiment.plan.rows)


def _runs_of(experiment: Experiment, name: str, tuned: bool) -> list[Run]:
    """Runs of a row in the order of the seeds; of several tuned rates, those of the latest."""
    found = {run.seed: run for run in experiment.runs if run.row == name and run.tuned == tuned}
    missing = [seed for seed in experiment.plan.seeds if seed not in found]
    if missing:
        raise SchedrlError(
            f"experiment: {len(missing)} runs of row '{name}' are missing; the same `schedrl experiment` goes on"
        )
    return [found[seed] for seed in experiment.plan.seeds]


def curve(runs: Sequence[Run]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Mean validation bound along training: steps, and bits/dim."""
    return np.array(runs[0].steps), np.mean([run.bounds for run in runs], axis=0)
