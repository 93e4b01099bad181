"""The table of training environments: a row per agent and form, paired differences, and what learning was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from schedrl.benchmark.results import TrainingResult
from schedrl.errors import SchedrlError
from schedrl.stats.intervals import (
    Interval,
    interquartile_mean,
    mean,
    paired_difference,
)
from schedrl.stats.profiles import improvement

__all__ = [
    "Answer",
    "Role",
    "TrainingRow",
    "TrainingSummary",
    "Verdict",
    "answers_of",
    "best_by_validation",
    "named_groups",
    "paired_by_seed",
    "role_of",
    "summarise_training",
]

Role = Literal["learned", "hand-made", "searched", "random"]
"""What a row is to the question."""

_EQUAL = 1.1
"""Costs are equal up to this factor; a search that spent more than that is no rival."""

_KINDS: dict[str, Role] = {"trained": "learned", "sequence": "searched", "random": "random"}


def role_of(kind: str) -> Role:
    """The role of a kind of agent.

    Examples:
        >>> role_of("sequence"), role_of("ava")
        ('searched', 'hand-made')
    """
    return _KINDS.get(kind, "hand-made")


@dataclass(frozen=True)
class Answer:
    """One question, answered.

    Attributes:
        learned: Name of the learned row.
        against: Whom it is compared with.
        rival: Name of the best of those; None if there is none.
        difference: Test bound of the learned row minus the rival's, paired by seed, bits/dim.
        num_pairs: Seeds that both have, over all environments.
        candidates: Rows that the rival was chosen from.
        cost: Optimizer steps that finding the learned row and the rival took.
        missing: Why there is no rival.
        environments: That the difference is averaged over.
    """

    learned: str
    against: Literal["hand-made", "searched"]
    rival: str | None = None
    difference: Interval | None = None
    num_pairs: int = 0
    candidates: int = 0
    cost: tuple[int, int] = (0, 0)
    missing: str = ""
    environments: int = 1

    @property
    def verdict(self) -> Literal["better", "worse", "not told apart", "not answered"]:
        """Lower bounds are better."""
        if self.difference is None:
            return "not answered"
        if not self.difference.excludes_zero:
            return "not told apart"
        return "better" if self.difference.high < 0.0 else "worse"

    def text(self) -> str:
        """The answer as a few sentences; its first words, in bold, are the verdict."""
        what = (
            "hand-made schedule"
            if self.against == "hand-made"
            else f"searched schedule at {self._cost()} compute"
        )
        if self.difference is None or self.rival is None:
            return (
                f"**Whether {self.learned} is better than the best {what} is not answered**: {self.missing}."
            )
        if self.verdict == "not told apart":
            head = f"**{self.learned} and the best {what}, {self.rival}, are not told apart**"
        else:
            head = f"**{self.learned} is {self.verdict} than the best {what}, {self.rival}**"
        return f"{head}: {self._numbers()} {self._choice()}"

    def _cost(self) -> str:
        own, other = self.cost
        return "equal" if self.rival is None or _EQUAL * other >= own else "less"

    def _numbers(self) -> str:
        assert self.difference is not None
        found, over = self.difference, ""
        if self.environments > 1:
            over = f", averaged over {self.environments} environments"
        if self.num_pairs < 2:
            return f"its test bound is {found.value:+.4f} bits/dim from it{over}; one seed has no interval."
        return (
            f"its test bound minus the other's is {found.value:+.4f} bits/dim{over}, 95 % interval "
            f"[{found.low:+.4f}, {found.high:+.4f}] over {self.num_pairs} paired seeds; below zero, "
            f"{self.learned} is better."
        )

    def _choice(self) -> str:
        parts = []
        if self.against == "searched":
            own, other = self.cost
            parts.append(f"Finding them took {own} and {other} optimizer steps.")
        if self.candidates > 1:
            parts.append(
                f"The rival is the best of {self.candidates} by its validation bound on these seeds, which favours it."
            )
        return " ".join(parts) or "There was no other to choose from."


def paired_by_seed(group: Sequence[TrainingResult], reference: Sequence[TrainingResult]) -> Interval | None:
    """Test bounds of one row minus another's, over the seeds that both have; None if they share none."""
    ours = {result.seed: result.test_bound for result in group}
    theirs = {result.seed: result.test_bound for result in reference}
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    return paired_difference([ours[seed] for seed in shared], [theirs[seed] for seed in shared])


def best_by_validation(groups: Mapping[str, Sequence[TrainingResult]]) -> str | None:
    """Name of the row with the least mean validation bound; test images have no say."""
    if not groups:
        return None
    return min(groups, key=lambda name: float(np.mean([result.bound for result in groups[name]])))


def answers_of(
    learned: str, own: Sequence[TrainingResult], others: Mapping[str, Sequence[TrainingResult]]
) -> tuple[Answer, Answer]:
    """Both answers for one learned row.

    Args:
        learned: Its name.
        own: Its runs.
        others: Runs of every row of the comparison, by name.
    """
    rows = {name: group for name, group in others.items() if {r.seed for r in group} & {r.seed for r in own}}
    hand_made = {name: group for name, group in rows.items() if role_of(group[0].kind) == "hand-made"}
    searches = {name: group for name, group in rows.items() if role_of(group[0].kind) == "searched"}
    limit = _EQUAL * own[0].search_steps
    equal = {name: group for name, group in searches.items() if group[0].search_steps <= limit}
    none = "no search is in this comparison"
    if searches and not equal:
        none = (
            f"every search in this comparison spent more than the {own[0].search_steps} optimizer steps of it"
        )
    return (
        _answer(learned, own, hand_made, "hand-made", "no hand-made row is in this comparison"),
        _answer(learned, own, equal, "searched", none),
    )


def _answer(
    learned: str,
    own: Sequence[TrainingResult],
    rivals: Mapping[str, Sequence[TrainingResult]],
    against: Literal["hand-made", "searched"],
    missing: str,
) -> Answer:
    name = best_by_validation(rivals)
    if name is None:
        return Answer(learned, against, missing=missing)
    rival = rivals[name]
    return Answer(
        learned,
        against,
        rival=name,
        difference=paired_by_seed(own, rival),
        num_pairs=len({r.seed for r in own} & {r.seed for r in rival}),
        candidates=len(rivals),
        cost=(own[0].search_steps, rival[0].search_steps),
    )


_SEED = 5
"""Of the bootstrap: the same results give the same table."""


_LISTED = 6
"""Rows that a sentence names."""


@dataclass(frozen=True)
class TrainingRow:
    """An agent in one form.

    Attributes:
        name: Of the row: the agent's, with its form where the agent has two rows.
        label: The agent's name.
        form: ``action`` or ``exact``.
        kind: Kind of agent.
        num_seeds: Runs.
        test_bound: Mean over seeds with its t interval, bits/dim.
        validation: Mean bound on validation images, bits/dim, by which a best row is chosen.
        iqm: Interquartile mean with the t interval of a trimmed mean, bits/dim.
        difference: This row minus the reference, paired by seed; None for the reference itself.
        probability: That a run of the reference beats a run of this row; None for the reference itself.
        mean_return: Mean return.
        phases: Phases that the return is summed over.
        num_diverged: Runs that diverged.
        search_steps: Optimizer steps spent to find the agent.
    """

    name: str
    label: str
    form: str
    kind: str
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

    @property
    def role(self) -> Role:
        """Learned, hand-made, searched or random."""
        return role_of(self.kind)

    @property
    def learned(self) -> bool:
        """Whether it was trained."""
        return self.role == "learned"


@dataclass(frozen=True)
class Verdict:
    """How a learned agent stands against every row that is not learned, each paired difference with its interval.

    Attributes:
        name: The learned agent.
        clear: Rows that are worse, the interval clear of zero.
        open: Rows of which that cannot be said.
        worse_than: Rows that are better than it, the interval clear of zero.
    """

    name: str
    clear: dict[str, Interval]
    open: dict[str, Interval]
    worse_than: dict[str, Interval]

    def text(self) -> str:
        """What it comes to, in one or two sentences."""
        if not (self.clear or self.open or self.worse_than):
            return f"{self.name}: there is no other row to compare it with."
        if not (self.open or self.worse_than):
            name, least = min(self.clear.items(), key=lambda item: item[1].low)
            return (
                f"{self.name} has a better test bound than every row that is not learned: each paired difference "
                f"has a 95 % interval clear of zero (the closest: {name}, {least:+.4f})."
            )
        parts = []
        if self.worse_than:
            parts.append(f"{self.name} is worse than {_listed(self.worse_than)}.")
        if self.open:
            parts.append(
                f"{self.name} is not shown to be better than {_listed(self.open)}: the interval holds zero."
            )
        parts.append(
            f"It is better, clear of zero, than {len(self.clear)} rows that are not learned."
            if self.clear
            else ""
        )
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class TrainingSummary:
    """The table.

    Attributes:
        env_id: The environment.
        reward: Its kind of reward.
        optimizer_steps: Of a run.
        seeds: Held-out seeds, all those that occur.
        reference: Name of the row that the others are compared with.
        rows: By mean test bound, the best first.
        verdicts: One per learned agent.
        answers: Whether learning was worth it: two per learned agent.
        notes: What else to say under the table.
    """

    env_id: str
    reward: str
    optimizer_steps: int
    seeds: tuple[int, ...]
    reference: str
    rows: tuple[TrainingRow, ...]
    verdicts: tuple[Verdict, ...]
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def row(self, name: str) -> TrainingRow:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def best(self, role: Role) -> TrainingRow | None:
        """The best row of a role by its validation bound, if there is one."""
        rows = [row for row in self.rows if row.role == role]
        return min(rows, key=lambda row: row.validation, default=None)

    @property
    def ranking_by_reward(self) -> list[tuple[str, float]]:
        """Rows by mean reward per phase, the most rewarded first."""
        earned = [(row.name, row.mean_return / row.phases) for row in self.rows]
        return sorted(earned, key=lambda item: -item[1])


def summarise_training(
    results: Sequence[TrainingResult], reference: str | None = None, notes: Sequence[str] = ()
) -> TrainingSummary:
    """Build the table of a comparison.

    Args:
        results: Runs of one environment that can be compared: equal protocol.
        reference: Label of the agent to compare with; the first learned one when absent, else the best row.
        notes: To be passed on.

    Raises:
        SchedrlError: There are no results, they cannot be compared, or the reference is not among them.
    """
    if not results:
        raise SchedrlError("no results to make a table of")
    for what in ("env_id", "fingerprint", "protocol"):
        if len({getattr(result, what) for result in results}) > 1:
            raise SchedrlError(f"results of different {what} cannot be compared in one table")
    groups = named_groups(results)
    chosen = _reference(groups, reference)
    rng = np.random.default_rng(_SEED)
    rows = [
        _row(name, group, None if name == chosen else groups[chosen], rng) for name, group in groups.items()
    ]
    rows.sort(key=lambda row: row.test_bound.value)
    learned = [name for name, group in groups.items() if group[0].kind == "trained"]
    others = {name: group for name, group in groups.items() if name not in learned}
    said = list(notes)
    if not learned:
        said.append(f"No agent here is learned; differences are to the best row, {chosen}.")
    return TrainingSummary(
        env_id=results[0].env_id,
        reward=results[0].reward,
        optimizer_steps=max(result.optimizer_steps for result in results),
        seeds=tuple(sorted({result.seed for result in results})),
        reference=chosen,
        rows=tuple(rows),
        verdicts=tuple(_verdict(name, groups[name], others) for name in learned),
        answers=tuple(answer for name in learned for answer in answers_of(name, groups[name], others)),
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


def _reference(groups: dict[str, list[TrainingResult]], label: str | None) -> str:
    if label is not None:
        named = [name for name, group in groups.items() if group[0].agent == label]
        if not named:
            agents = ", ".join(group[0].agent for group in groups.values())
            raise SchedrlError(f"reference: '{label}' is not among the agents {agents}")
        return named[0]
    learned = [name for name, group in groups.items() if group[0].kind == "trained"]
    if learned:
        return learned[0]
    return min(groups, key=lambda name: float(np.mean([result.test_bound for result in groups[name]])))


def _row(
    name: str, group: list[TrainingResult], reference: list[TrainingResult] | None, rng: np.random.Generator
) -> TrainingRow:
    bounds = [result.test_bound for result in group]
    difference = probability = None
    if reference is not None:
        difference = paired_by_seed(group, reference)
        # Bounds are better when lower: the row's exceeding the reference's is the reference's win.
        probability = improvement([bounds], [[r.test_bound for r in reference]], rng, resamples=10_000)
    first = group[0]
    return TrainingRow(
        name=name,
        label=first.agent,
        form=first.form,
        kind=first.kind,
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


def _verdict(name: str, learned: list[TrainingResult], others: dict[str, list[TrainingResult]]) -> Verdict:
    clear: dict[str, Interval] = {}
    unclear: dict[str, Interval] = {}
    worse_than: dict[str, Interval] = {}
    for other, group in others.items():
        difference = paired_by_seed(group, learned)
        if difference is None:
            continue
        side = clear if difference.low > 0.0 else worse_than if difference.high < 0.0 else unclear
        side[other] = difference
    return Verdict(name, clear, unclear, worse_than)


def _listed(rows: dict[str, Interval]) -> str:
    """Names and differences, the least favourable first, the end of a long list only counted."""
    ordered = sorted(rows.items(), key=lambda item: item[1].value)
    text = ", ".join(f"{name} {difference:+.4f}" for name, difference in ordered[:_LISTED])
    return text if len(ordered) <= _LISTED else f"{text} and {len(ordered) - _LISTED} more"
