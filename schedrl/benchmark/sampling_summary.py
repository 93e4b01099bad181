"""The table of sampling environments: a row per agent, with its regret and what finding its grids took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.summary import BOOTSTRAP_SEED, Summary, SummaryRow, check_comparable
from schedrl.environments.sampling.rewards import ERROR_RANGE
from schedrl.schedules.conversions import FloatArray
from schedrl.stats.intervals import Interval, geometric_mean


@dataclass(frozen=True)
class SamplingRow(SummaryRow):
    """An agent.

    Attributes:
        num_sources: Number of sources that it was measured on.
        error: Geometric mean of its error, with a bootstrap interval over sources.
        ratio: Geometric mean of its error over the yardstick's on the same source, likewise.
        worst: The greatest of those ratios.
        versus: Geometric mean of its error over that of the learned agent; None for that agent, or without one.
        wins: Share of sources on which the learned agent's error is smaller; None likewise.
        evaluations: Mean number of sampler runs spent on each source.
        training_steps: Sampler steps that its training spent.
        seconds: Mean wall-clock time per source.
        parts: Mean of what the error is made of.
    """

    num_sources: int
    error: Interval
    ratio: Interval
    worst: float
    versus: Interval | None
    wins: float | None
    evaluations: float
    training_steps: int
    seconds: float
    parts: dict[str, float]


@dataclass(frozen=True)
class SamplingSummary(Summary):
    """The table of a sampling environment.

    Attributes:
        rows: By mean ratio, the best first.
        yardstick: What ratios are to: ``optimum`` where it is known, else ``reference``.
        num_sources: Number of held-out sources.
        num_steps: Least and greatest N.
        learned: Name of the learned agent that the others are compared with, if there is one.
    """

    rows: tuple[SamplingRow, ...]
    yardstick: str
    num_sources: int
    num_steps: tuple[int, int]
    learned: str | None


def summarise_sampling(results: Sequence[SamplingResult]) -> SamplingSummary:
    check_comparable(results, "fingerprint")
    groups: dict[str, dict[int, SamplingResult]] = {}
    for result in results:
        groups.setdefault(result.agent, {})[result.seed] = result
    known = all(result.optimum is not None for result in results)
    learned = next((result.agent for result in results if result.role == "learned"), None)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    rows = [
        _row(name, group, None if name == learned or learned is None else groups[learned], known, rng)
        for name, group in groups.items()
    ]
    rows.sort(key=lambda row: row.ratio.value)
    steps = [result.num_steps for result in results]
    return SamplingSummary(
        env_id=results[0].env_id,
        yardstick="optimum" if known else "reference",
        num_sources=len({result.seed for result in results}),
        num_steps=(min(steps), max(steps)),
        learned=learned,
        rows=tuple(rows),
    )


def _row(
    name: str,
    group: dict[int, SamplingResult],
    learned: dict[int, SamplingResult] | None,
    known: bool,
    rng: np.random.Generator,
) -> SamplingRow:
    runs = list(group.values())
    error = _errors(runs)
    yardstick = np.array([(run.optimum if known else run.reference) or 0.0 for run in runs])
    ratio = error / positive(yardstick)
    versus, wins = None, None
    if learned is not None and (shared := sorted(group.keys() & learned.keys())):
        against = _errors([group[seed] for seed in shared]) / _errors([learned[seed] for seed in shared])
        versus, wins = (
            geometric_mean(against, rng),
            float((against > 1.0).mean() + 0.5 * (against == 1.0).mean()),
        )
    return SamplingRow(
        name=name,
        kind=runs[0].kind,
        num_sources=len(runs),
        error=geometric_mean(error, rng),
        ratio=geometric_mean(ratio, rng),
        worst=float(ratio.max()),
        versus=versus,
        wins=wins,
        evaluations=float(np.mean([run.evaluations for run in runs])),
        training_steps=runs[0].training_steps,
        seconds=float(np.mean([run.seconds for run in runs])),
        parts={part: float(np.mean([run.parts[part] for run in runs])) for part in runs[0].parts},
    )


def _errors(runs: Sequence[SamplingResult]) -> FloatArray:
    return positive(np.array([run.error for run in runs]))


def positive(values: FloatArray) -> FloatArray:
    """Errors whose logarithms and ratios are numbers, cut as the environment's rewards cut them."""
    return np.clip(values, *ERROR_RANGE)
