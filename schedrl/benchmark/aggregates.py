"""A protocol's environments taken together: one ranking, and the answers over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import Answer, Role, answers_of, role_of
from schedrl.stats.intervals import Interval
from schedrl.stats.profiles import (
    PerformanceProfile,
    aggregate,
    improvement,
    optimality_gap,
    paired_aggregate,
    performance_profile,
)

__all__ = ["BASE", "Aggregate", "AggregateRow", "aggregate_environments"]

BASE = "cosine"
"""Scores are differences to this agent's runs, where it is in the comparison."""

_SEED = 5
"""Of the bootstraps: the same results give the same table."""

_THRESHOLDS = 81
"""Of a performance profile."""

Array = NDArray[np.float64]
Key = tuple[str, str]


@dataclass(frozen=True)
class AggregateRow:
    """A row that every environment has.

    A score is the test bound of the base minus that of the row, on the same environment and seed, in bits/dim:
    higher is better, and 0 is as good as the base.

    Attributes:
        name: Of the row.
        role: What it is to the question.
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
    """Several environments as one comparison.

    Attributes:
        environments: Their ids.
        num_seeds: Per environment, those that all rows have in all of them.
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
    """Rows, seeds and environments as matrices, and what they come to.

    Args:
        parts: Results of each environment.
        reference: Label of the agent that probabilities are about; the first learned one when absent, else the base.

    Returns:
        None if the environments have no row in common, or no seed.
    """
    groups = [_groups(results) for results in parts]
    common = [key for key in groups[0] if all(key in others for others in groups[1:])]
    if not common:
        return None
    every = [{result.seed for result in group[key]} for group in groups for key in common]
    seeds = sorted(set.intersection(*every))
    if not seeds:
        return None
    labels = [label for label, _ in common]
    names = {key: f"{key[0]} ({key[1]})" if labels.count(key[0]) > 1 else key[0] for key in common}
    chosen = {key: [_of(group[key], seeds) for group in groups] for key in common}
    bounds = {names[key]: _bounds(runs) for key, runs in chosen.items()}
    kinds = {names[key]: runs[0][0].kind for key, runs in chosen.items()}
    by_label = {label: names[(label, form)] for label, form in reversed(common)}
    base = by_label.get(BASE) or by_label.get(reference or "") or names[common[0]]
    learned = next((name for name, kind in kinds.items() if kind == "trained"), None)
    told = by_label.get(reference or "") or learned or base
    everything = dict.fromkeys(key for group in groups for key in group)
    return Aggregate(
        environments=tuple(results[0].env_id for results in parts),
        num_seeds=len(seeds),
        base=base,
        reference=told,
        rows=_rows(bounds, kinds, base, told),
        answers=_answers({names[key]: runs for key, runs in chosen.items()}),
        left_out=tuple(f"{label} ({form})" for label, form in everything if (label, form) not in common),
        shared=len({results[0].protocol for results in parts}) < len(parts),
    )


def _groups(results: Sequence[TrainingResult]) -> dict[Key, list[TrainingResult]]:
    groups: dict[Key, list[TrainingResult]] = {}
    for result in results:
        groups.setdefault((result.agent, result.form), []).append(result)
    return groups


def _of(group: Sequence[TrainingResult], seeds: Sequence[int]) -> list[TrainingResult]:
    """A run per seed, in their order."""
    by_seed = {result.seed: result for result in group}
    return [by_seed[seed] for seed in seeds]


def _bounds(runs: Sequence[Sequence[TrainingResult]]) -> Array:
    """Test bounds ``[environments, seeds]``."""
    return np.array([[result.test_bound for result in row] for row in runs])


def _rows(
    bounds: Mapping[str, Array], kinds: Mapping[str, str], base: str, reference: str
) -> tuple[AggregateRow, ...]:
    rng = np.random.default_rng(_SEED)
    scores = {name: bounds[base] - values for name, values in bounds.items()}
    best = np.max([values.mean(axis=1) for values in scores.values()], axis=0)
    # From the worst run of the better half of the rows on: some laws are bad beyond any common scale.
    ordered = sorted(scores.values(), key=lambda values: -float(values.mean()))
    low = min(float(values.min()) for values in ordered[: max(len(ordered) // 2, 1)])
    thresholds = np.linspace(low, max(float(values.max()) for values in ordered), _THRESHOLDS)
    rows = [
        AggregateRow(
            name=name,
            role=role_of(kinds[name]),
            # Lower bounds are better, so the base comes first.
            score=paired_aggregate(bounds[base], values, rng),
            gap=_not_negative(aggregate(scores[name] - best[:, None], rng, optimality_gap(0.0))),
            probability=None if name == reference else improvement(-bounds[reference], -values, rng),
            profile=performance_profile(scores[name], thresholds, rng),
        )
        for name, values in bounds.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.score.value))


def _not_negative(gap: Interval) -> Interval:
    """No run misses a target by less than nothing, though an interval of few seeds may say so."""
    return Interval(gap.value, max(gap.low, 0.0), gap.high)


def _answers(chosen: Mapping[str, Sequence[Sequence[TrainingResult]]]) -> tuple[Answer, ...]:
    """As for one environment, of bounds and costs that are means over environments.

    Environments share their seeds and may share data and weights with them, so they are averaged seed by seed first:
    the interval then holds whatever they have in common.
    """
    flat = {name: _averaged(runs) for name, runs in chosen.items()}
    made: list[Answer] = []
    for name, runs in flat.items():
        if role_of(runs[0].kind) != "learned":
            continue
        others = {other: group for other, group in flat.items() if role_of(group[0].kind) != "learned"}
        made += [replace(answer, environments=len(chosen[name])) for answer in answers_of(name, runs, others)]
    return tuple(made)


def _averaged(runs: Sequence[Sequence[TrainingResult]]) -> list[TrainingResult]:
    """One result per seed, its bounds and its cost averaged over environments."""
    cost = round(float(np.mean([row[0].search_steps for row in runs])))
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
