"""From runs to rows: one per agent and form, with its intervals and its difference to the reference agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from schedrl.benchmark.store import Result
from schedrl.errors import SchedrlError
from schedrl.metrics.intervals import (
    Interval,
    interquartile_mean,
    mean,
    paired_difference,
    probability_of_improvement,
)

__all__ = ["Row", "Summary", "Verdict", "summarise"]

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
    iqm: Interval
    difference: Interval | None
    probability: Interval | None
    mean_return: float
    phases: int
    num_diverged: int
    search_steps: int

    @property
    def learned(self) -> bool:
        """Whether it was trained."""
        return self.kind == "trained"


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
            return f"{self.name}: there is no hand-made row to compare it with."
        if not (self.open or self.worse_than):
            name, least = min(self.clear.items(), key=lambda item: item[1].low)
            return (
                f"{self.name} has a better test bound than every hand-made row: each paired difference has a 95 % "
                f"interval clear of zero (the closest: {name}, {least:+.4f})."
            )
        parts = []
        if self.worse_than:
            parts.append(f"{self.name} is worse than {_listed(self.worse_than)}.")
        if self.open:
            parts.append(
                f"{self.name} is not shown to be better than {_listed(self.open)}: the interval holds zero."
            )
        parts.append(
            f"It is better, clear of zero, than {len(self.clear)} hand-made rows." if self.clear else ""
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
        notes: What else to say under the table.
    """

    env_id: str
    reward: str
    optimizer_steps: int
    seeds: tuple[int, ...]
    reference: str
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = field(default=())

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    @property
    def best_hand_made(self) -> Row | None:
        """The best row that is not learned, if there is one."""
        return next((row for row in self.rows if not row.learned), None)

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
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.agent, result.form), []).append(result)
    chosen = _reference(groups, reference)
    rng = np.random.default_rng(_SEED)
    labels = [label for label, _ in groups]
    names = {key: f"{key[0]} ({key[1]})" if labels.count(key[0]) > 1 else key[0] for key in groups}
    rows = [
        _row(names[key], group, None if key == chosen else groups[chosen], rng)
        for key, group in groups.items()
    ]
    rows.sort(key=lambda row: row.test_bound.value)
    learned = [key for key, group in groups.items() if group[0].kind == "trained"]
    others = {names[key]: group for key, group in groups.items() if key not in learned}
    said = list(notes)
    if not learned:
        said.append(f"No agent here is learned; differences are to the best row, {names[chosen]}.")
    return Summary(
        env_id=results[0].env_id,
        reward=results[0].reward,
        optimizer_steps=max(result.optimizer_steps for result in results),
        seeds=tuple(sorted({result.seed for result in results})),
        reference=names[chosen],
        rows=tuple(rows),
        verdicts=tuple(_verdict(names[key], groups[key], others) for key in learned),
        notes=tuple(said),
    )


def _reference(groups: dict[tuple[str, str], list[Result]], label: str | None) -> tuple[str, str]:
    if label is not None:
        named = [key for key in groups if key[0] == label]
        if not named:
            raise SchedrlError(
                f"reference: '{label}' is not among the agents {', '.join(k[0] for k in groups)}"
            )
        return named[0]
    learned = [key for key, group in groups.items() if group[0].kind == "trained"]
    if learned:
        return learned[0]
    return min(groups, key=lambda key: float(np.mean([result.test_bound for result in groups[key]])))


def _row(name: str, group: list[Result], reference: list[Result] | None, rng: np.random.Generator) -> Row:
    bounds = [result.test_bound for result in group]
    difference = probability = None
    if reference is not None:
        difference = _difference(group, reference)
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
        iqm=interquartile_mean(bounds),
        difference=difference,
        probability=probability,
        mean_return=float(np.mean([result.episode_return for result in group])),
        phases=max(len(result.schedule) for result in group),
        num_diverged=sum(result.diverged for result in group),
        search_steps=first.search_steps,
    )


def _difference(group: list[Result], reference: list[Result]) -> Interval | None:
    ours = {result.seed: result.test_bound for result in group}
    theirs = {result.seed: result.test_bound for result in reference}
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    return paired_difference([ours[seed] for seed in shared], [theirs[seed] for seed in shared])


def _verdict(name: str, learned: list[Result], others: dict[str, list[Result]]) -> Verdict:
    clear: dict[str, Interval] = {}
    unclear: dict[str, Interval] = {}
    worse_than: dict[str, Interval] = {}
    for other, group in others.items():
        difference = _difference(group, learned)
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
