"""From runs to rows: one per agent and form, with its intervals and its difference to the reference agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from schedrl.benchmark.answers import Answer, Role, answers_of, paired_by_seed, role_of
from schedrl.benchmark.store import Result
from schedrl.errors import SchedrlError
from schedrl.stats.intervals import (
    Interval,
    interquartile_mean,
    mean,
    probability_of_improvement,
)

__all__ = ["Row", "Summary", "Verdict", "named_groups", "summarise"]

_SEED = 5
"""Of the bootstrap: the same results give the same table."""


_LISTED = 6
"""Rows that a sentence names."""


@dataclass(frozen=True)
class Row:
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
class Summary:
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
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def best(self, role: Role) -> Row | None:
        """The best row of a role by its validation bound, if there is one."""
        rows = [row for row in self.rows if row.role == role]
        return min(rows, key=lambda row: row.validation, default=None)

    @property
    def ranking_by_reward(self) -> list[tuple[str, float]]:
        """Rows by mean reward per phase, the most rewarded first."""
        earned = [(row.name, row.mean_return / row.phases) for row in self.rows]
        return sorted(earned, key=lambda item: -item[1])


def summarise(results: Sequence[Result], reference: str | None = None, notes: Sequence[str] = ()) -> Summary:
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
    return Summary(
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


def named_groups(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Runs of each row by its name: the agent's, with its form where the agent has two rows."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.agent, result.form), []).append(result)
    labels = [label for label, _ in groups]
    return {
        f"{label} ({form})" if labels.count(label) > 1 else label: group
        for (label, form), group in groups.items()
    }


def _reference(groups: dict[str, list[Result]], label: str | None) -> str:
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


def _row(name: str, group: list[Result], reference: list[Result] | None, rng: np.random.Generator) -> Row:
    bounds = [result.test_bound for result in group]
    difference = probability = None
    if reference is not None:
        difference = paired_by_seed(group, reference)
        # Bounds are better when lower: the row's exceeding the reference's is the reference's win.
        probability = probability_of_improvement(bounds, [r.test_bound for r in reference], rng)
    first = group[0]
    return Row(
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


def _verdict(name: str, learned: list[Result], others: dict[str, list[Result]]) -> Verdict:
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
