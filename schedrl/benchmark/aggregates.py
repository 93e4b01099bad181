"""The environments of a benchmark taken together: one ranking, and the answers over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.summary import BOOTSTRAP_SEED
from schedrl.benchmark.training_summary import Answer, answers_of
from schedrl.policies.agents import Role
from schedrl.stats.intervals import Interval
from schedrl.stats.profiles import (
    PerformanceProfile,
    aggregate,
    improvement,
    optimality_gap,
    paired_aggregate,
    performance_profile,
)

_BASE = "cosine"
"""Scores are differences to this agent's runs, where it is in the benchmark."""

_THRESHOLDS = 81
"""Thresholds of a performance profile."""

Runs = list[list[TrainingResult]]
"""Runs of one row: a list per environment, each with a run per seed in their order."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AggregateRow:
    """A row that every environment has.

    A score is the test bound of the base minus that of the row, on the same environment and seed, in bits/dim:
    higher is better, and 0 is as good as the base.

    Attributes:
        name: Name of the row.
        role: What its agent is to the question whether learning was worth it.
        score: Interquartile mean of its scores.
        gap: Mean amount by which its scores miss the mean score of each environment's best row.
        probability: That a run of the reference beats a run of the row; None for the reference itself.
        profile: Share of its runs above each score.
    """

    name: str
    role: Role
    score: Interval
    gap: Interval
    probability: Interval | None
    profile: PerformanceProfile


@dataclass(frozen=True)
class Aggregate:
    """Several environments in one table.

    Attributes:
        environments: Their ids.
        num_seeds: Number of seeds that all rows have in all environments.
        base: Row that scores are differences to.
        reference: Row that probabilities are about.
        rows: By interquartile mean, the best first.
        answers: Two per learned agent; differences are means over environments, with a t interval over seeds.
        left_out: Rows that some environment does not have.
        shared: Whether environments share their data, network and training, and with them the luck of a seed.
    """

    environments: tuple[str, ...]
    num_seeds: int
    base: str
    reference: str
    rows: tuple[AggregateRow, ...]
    answers: tuple[Answer, ...]
    left_out: tuple[str, ...]
    shared: bool


def aggregate_environments(
    parts: Sequence[Sequence[TrainingResult]], reference: str | None = None
) -> Aggregate | None:
    """Take environments together.

    Args:
        parts: Results of each environment.
        reference: Label of the agent that probabilities are about; the first learned one when absent, else the base.

    Returns:
        None if the environments have no row in common, or no seed.
    """
    groups: list[dict[tuple[str, str], dict[int, TrainingResult]]] = [{} for _ in parts]
    for group, results in zip(groups, parts, strict=True):
        for result in results:
            group.setdefault((result.agent, result.form), {})[result.seed] = result
    common = [key for key in groups[0] if all(key in others for others in groups[1:])]
    if not common:
        return None
    seeds = sorted(set.intersection(*(set(group[key]) for group in groups for key in common)))
    if not seeds:
        return None
    labels = [label for label, _ in common]
    rows: dict[str, Runs] = {}
    by_label: dict[str, str] = {}
    for label, form in common:
        name = f"{label} ({form})" if labels.count(label) > 1 else label
        rows[name] = [[group[label, form][seed] for seed in seeds] for group in groups]
        by_label.setdefault(label, name)
    base = by_label.get(_BASE) or by_label.get(reference or "") or next(iter(rows))
    learned = next((name for name, runs in rows.items() if _role(runs) == "learned"), base)
    chosen = by_label.get(reference or "", learned)
    every = dict.fromkeys(key for group in groups for key in group)
    return Aggregate(
        environments=tuple(results[0].env_id for results in parts),
        num_seeds=len(seeds),
        base=base,
        reference=chosen,
        rows=_rows(rows, base, chosen),
        answers=_answers(rows),
        left_out=tuple(f"{label} ({form})" for label, form in every if (label, form) not in common),
        shared=len({results[0].protocol for results in parts}) < len(parts),
    )


def _role(runs: Runs) -> Role:
    return runs[0][0].role


def _rows(rows: Mapping[str, Runs], base: str, reference: str) -> tuple[AggregateRow, ...]:
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    bounds: dict[str, Array] = {
        name: np.array([[result.test_bound for result in part] for part in runs])
        for name, runs in rows.items()
    }
    scores = {name: bounds[base] - values for name, values in bounds.items()}
    best = np.max([values.mean(axis=1) for values in scores.values()], axis=0)
    # From the worst run of the better half of the rows on: some schedules are bad beyond any common scale.
    ordered = sorted(scores.values(), key=lambda values: -float(values.mean()))
    low = min(float(values.min()) for values in ordered[: max(len(ordered) // 2, 1)])
    thresholds = np.linspace(low, max(float(values.max()) for values in ordered), _THRESHOLDS)
    made = [
        AggregateRow(
            name=name,
            role=_role(rows[name]),
            # Lower bounds are better, so the base comes first.
            score=paired_aggregate(bounds[base], values, rng),
            gap=_not_negative(aggregate(scores[name] - best[:, None], rng, optimality_gap(0.0))),
            probability=None if name == reference else improvement(-bounds[reference], -values, rng),
            profile=performance_profile(scores[name], thresholds, rng),
        )
        for name, values in bounds.items()
    ]
    return tuple(sorted(made, key=lambda row: -row.score.value))


def _not_negative(gap: Interval) -> Interval:
    """No run misses a target by less than nothing, though an interval of few seeds may say so."""
    return Interval(gap.value, max(gap.low, 0.0), gap.high)


def _answers(rows: Mapping[str, Runs]) -> tuple[Answer, ...]:
    """As for one environment, of bounds and costs that are means over environments.

    Environments share their seeds and may share data and weights with them, so they are averaged seed by seed first:
    the interval then holds whatever they have in common.
    """
    flat = {name: _averaged(runs) for name, runs in rows.items()}
    others = {name: runs for name, runs in flat.items() if runs[0].role != "learned"}
    return tuple(
        replace(answer, environments=len(rows[name]))
        for name, runs in flat.items()
        if name not in others
        for answer in answers_of(name, runs, others)
    )


def _averaged(runs: Runs) -> list[TrainingResult]:
    """One result per seed, its bounds and its cost averaged over environments."""
    cost = round(float(np.mean([part[0].search_steps for part in runs])))
    return [
        same[0].model_copy(
            update={
                "test_bound": float(np.mean([result.test_bound for result in same])),
                "bound": float(np.mean([result.bound for result in same])),
                "search_steps": cost,
            }
        )
        for same in zip(*runs, strict=True)
    ]
