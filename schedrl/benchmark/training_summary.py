"""The table of training environments: a row per agent and form, and whether learning was worth it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.summary import BOOTSTRAP_SEED, Summary, SummaryRow, check_comparable
from schedrl.errors import SchedrlError
from schedrl.policies.agents import Role
from schedrl.stats.intervals import (
    Interval,
    interquartile_mean,
    mean,
    paired_difference,
)
from schedrl.stats.profiles import improvement

_EQUAL = 1.1
"""Costs count as equal up to this factor; a search that spent more is no rival."""

Groups = Mapping[str, Sequence[TrainingResult]]
"""Runs of rows, by the name of the row."""


@dataclass(frozen=True)
class Answer:
    """Whether a learned row is better than the best hand-made row, or than the best search of equal cost.

    Attributes:
        learned: Name of the learned row.
        against: Role of the rows that it is compared with.
        rival: Name of the best of those; None if there is none.
        difference: Test bound of the learned row minus the rival's, paired by seed, bits/dim.
        num_pairs: Seeds that both have, over all environments.
        candidates: Number of rows that the rival was chosen from.
        cost: Optimizer steps that finding the learned row and the rival took.
        missing: Why there is no rival.
        environments: Number of environments that the difference is averaged over.
    """

    learned: str
    against: Role
    rival: str | None = None
    difference: Interval | None = None
    num_pairs: int = 0
    candidates: int = 0
    cost: tuple[int, int] = (0, 0)
    missing: str = ""
    environments: int = 1

    @property
    def verdict(self) -> Literal["better", "worse", "not told apart", "not answered"]:
        if self.difference is None:
            return "not answered"
        if not self.difference.excludes_zero:
            return "not told apart"
        return "better" if self.difference.high < 0.0 else "worse"

    @property
    def equal_cost(self) -> bool:
        """Whether the rival cost as much as the learned row, and not less."""
        own, other = self.cost
        return self.rival is None or _EQUAL * other >= own


@dataclass(frozen=True)
class Verdict:
    """A learned agent against every row that is not learned.

    Attributes:
        name: The learned agent.
        differences: Test bound of each row minus that of the learned agent, paired by seed.
    """

    name: str
    differences: dict[str, Interval]

    @property
    def clear(self) -> dict[str, Interval]:
        """Rows that are worse: the whole interval is above zero."""
        return {name: found for name, found in self.differences.items() if found.low > 0.0}

    @property
    def worse_than(self) -> dict[str, Interval]:
        """Rows that are better: the whole interval is below zero."""
        return {name: found for name, found in self.differences.items() if found.high < 0.0}

    @property
    def open(self) -> dict[str, Interval]:
        return {name: found for name, found in self.differences.items() if not found.excludes_zero}


@dataclass(frozen=True)
class TrainingRow(SummaryRow):
    """An agent in one form.

    Attributes:
        label: The agent's label.
        form: ``action`` or ``exact``.
        num_seeds: Number of runs.
        test_bound: Mean over seeds with its t interval, bits/dim.
        validation: Mean bound on validation images, bits/dim, by which a best row is chosen.
        iqm: Interquartile mean with the t interval of a trimmed mean, bits/dim.
        difference: This row minus the reference, paired by seed; None for the reference itself.
        probability: That a run of the reference beats a run of this row; None for the reference itself.
        mean_return: Mean return.
        phases: Number of phases that the return is summed over.
        num_diverged: Number of runs that diverged.
        search_steps: Optimizer steps that finding the agent took.
    """

    label: str
    form: str
    num_seeds: int
    test_bound: Interval
    validation: float
    iqm: Interval
    difference: Interval | None
    probability: Interval | None
    mean_return: float
    phases: int
    num_diverged: int
    search_steps: int


@dataclass(frozen=True)
class TrainingSummary(Summary):
    """The table of a training environment.

    Attributes:
        rows: By mean test bound, the best first.
        reward: Kind of reward.
        optimizer_steps: Optimizer steps of a run.
        seeds: Held-out seeds, all those that occur.
        reference: Name of the row that the others are compared with.
        verdicts: One per learned agent.
        answers: Whether learning was worth it: two per learned agent.
        notes: More to say under the table.
    """

    rows: tuple[TrainingRow, ...]
    reward: str
    optimizer_steps: int
    seeds: tuple[int, ...]
    reference: str
    verdicts: tuple[Verdict, ...]
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()

    def row(self, name: str) -> TrainingRow:
        return next(row for row in self.rows if row.name == name)

    def best(self, role: Role) -> TrainingRow | None:
        """The best row of a role by its validation bound, if there is one."""
        rows = [row for row in self.rows if row.role == role]
        return min(rows, key=lambda row: row.validation, default=None)

    @property
    def ranking_by_reward(self) -> list[tuple[str, float]]:
        """Rows by mean reward per phase, the highest first."""
        earned = [(row.name, row.mean_return / row.phases) for row in self.rows]
        return sorted(earned, key=lambda item: -item[1])


def summarise_training(
    results: Sequence[TrainingResult], reference: str | None = None, notes: Sequence[str] = ()
) -> TrainingSummary:
    """Build the table.

    Args:
        results: Runs of one environment that can be compared: equal protocol.
        reference: Label of the agent to compare with; the first learned one when absent, else the best row.
        notes: More to say under the table.
    """
    check_comparable(results, "env_id", "fingerprint", "protocol")
    groups = named_groups(results)
    learned = {name: group for name, group in groups.items() if group[0].role == "learned"}
    others = {name: group for name, group in groups.items() if name not in learned}
    chosen = _reference(groups, reference)
    said = list(notes)
    if not learned:
        said.append(f"No agent here is learned; differences are to the best row, {chosen}.")
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    rows = [
        _row(name, group, None if name == chosen else groups[chosen], rng) for name, group in groups.items()
    ]
    return TrainingSummary(
        env_id=results[0].env_id,
        reward=results[0].reward,
        optimizer_steps=max(result.optimizer_steps for result in results),
        seeds=tuple(sorted({result.seed for result in results})),
        reference=chosen,
        rows=tuple(sorted(rows, key=lambda row: row.test_bound.value)),
        verdicts=tuple(
            Verdict(name, {n: d for n, other in others.items() if (d := paired_by_seed(other, group))})
            for name, group in learned.items()
        ),
        answers=tuple(
            answer for name, group in learned.items() for answer in answers_of(name, group, others)
        ),
        notes=tuple(said),
    )


def named_groups(results: Sequence[TrainingResult]) -> dict[str, list[TrainingResult]]:
    """Runs of each row by its name: the agent's, with its form where the agent has two rows."""
    groups: dict[tuple[str, str], list[TrainingResult]] = {}
    for result in results:
        groups.setdefault((result.agent, result.form), []).append(result)
    labels = [label for label, _ in groups]
    return {
        f"{label} ({form})" if labels.count(label) > 1 else label: group
        for (label, form), group in groups.items()
    }


def paired_by_seed(
    group: Sequence[TrainingResult],
    reference: Sequence[TrainingResult],
    value: Callable[[TrainingResult], float] = lambda result: result.test_bound,
) -> Interval | None:
    """Test bounds (or other values) of a row minus another's, over the seeds of both; None if they share none."""
    ours = {result.seed: value(result) for result in group}
    theirs = {result.seed: value(result) for result in reference}
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    return paired_difference([ours[seed] for seed in shared], [theirs[seed] for seed in shared])


def bound_bins(
    results: Sequence[TrainingResult], names: Sequence[str], reference: str, levels: int
) -> dict[str, list[Interval]]:
    """Rows minus the reference in each of ``levels`` cells of λ, from λ_max on, paired by seed, bits/dim.

    Rows are given by their names; those whose runs have no cells, or diverged, are left out.
    """
    groups = {
        name: [run for run in runs if len(run.test_bins) == levels and not run.diverged]
        for name, runs in named_groups(results).items()
    }

    def value(cell: int) -> Callable[[TrainingResult], float]:
        return lambda run: run.test_bins[cell]

    made = {}
    for name in names:
        cells = [paired_by_seed(groups[name], groups[reference], value(cell)) for cell in range(levels)]
        if known := [cell for cell in cells if cell is not None]:
            made[name] = known
    return made


def best_by_validation(groups: Groups) -> str | None:
    """Name of the row with the least mean validation bound; the choice does not look at test images."""
    return min(groups, key=lambda name: float(np.mean([r.bound for r in groups[name]])), default=None)


def answers_of(learned: str, own: Sequence[TrainingResult], others: Groups) -> list[Answer]:
    """Both answers for one learned row.

    Args:
        learned: Its name.
        own: Its runs.
        others: Runs of every row that is not learned.
    """
    seeds, cost = {result.seed for result in own}, own[0].search_steps
    shared = {name: (group, len(seeds & {result.seed for result in group})) for name, group in others.items()}
    made = []
    questions: dict[Role, str] = {"hand-made": "hand-made row", "searched": "search"}
    for against, what in questions.items():
        rivals = {n: group for n, (group, pairs) in shared.items() if group[0].role == against and pairs}
        missing = f"no {what} is in this benchmark"
        if against == "searched" and rivals:
            rivals = {n: group for n, group in rivals.items() if group[0].search_steps <= _EQUAL * cost}
            missing = f"every search in this benchmark spent more than the {cost} optimizer steps of it"
        answer = Answer(learned, against, missing=missing)
        if (name := best_by_validation(rivals)) is not None:
            rival, pairs = shared[name]
            answer = Answer(
                learned,
                against,
                rival=name,
                difference=paired_by_seed(own, rival),
                num_pairs=pairs,
                candidates=len(rivals),
                cost=(cost, rival[0].search_steps),
            )
        made.append(answer)
    return made


def _reference(groups: Groups, label: str | None) -> str:
    if label is not None:
        named = [name for name, group in groups.items() if group[0].agent == label]
        if not named:
            agents = ", ".join(group[0].agent for group in groups.values())
            raise SchedrlError(f"reference: '{label}' is not among the agents {agents}")
        return named[0]
    learned = [name for name, group in groups.items() if group[0].role == "learned"]
    if learned:
        return learned[0]
    return min(groups, key=lambda name: float(np.mean([result.test_bound for result in groups[name]])))


def _row(
    name: str,
    group: Sequence[TrainingResult],
    reference: Sequence[TrainingResult] | None,
    rng: np.random.Generator,
) -> TrainingRow:
    bounds, first = [result.test_bound for result in group], group[0]
    difference = probability = None
    if reference is not None:
        difference = paired_by_seed(group, reference)
        # Lower bounds are better: where the row's is higher, the reference wins.
        theirs = [[result.test_bound for result in reference]]
        probability = improvement([bounds], theirs, rng, resamples=10_000)
    return TrainingRow(
        name=name,
        kind=first.kind,
        label=first.agent,
        form=first.form,
        num_seeds=len(group),
        test_bound=mean(bounds),
        validation=float(np.mean([result.bound for result in group])),
        iqm=interquartile_mean(bounds),
        difference=difference,
        probability=probability,
        mean_return=float(np.mean([result.episode_return for result in group])),
        phases=max(len(result.schedule) for result in group),
        num_diverged=sum(result.diverged for result in group),
        search_steps=first.search_steps,
    )
