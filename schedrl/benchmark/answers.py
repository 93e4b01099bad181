"""Was learning worth it? A learned agent against the best hand-made row, and against the best search of equal cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schedrl.benchmark.store import Result
from schedrl.stats.intervals import Interval, paired_difference

__all__ = ["Answer", "Role", "answers_of", "best_by_validation", "paired_by_seed", "role_of"]

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


def paired_by_seed(group: Sequence[Result], reference: Sequence[Result]) -> Interval | None:
    """Test bounds of one row minus another's, over the seeds that both have; None if they share none."""
    ours = {result.seed: result.test_bound for result in group}
    theirs = {result.seed: result.test_bound for result in reference}
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    return paired_difference([ours[seed] for seed in shared], [theirs[seed] for seed in shared])


def best_by_validation(groups: Mapping[str, Sequence[Result]]) -> str | None:
    """Name of the row with the least mean validation bound; test images have no say."""
    if not groups:
        return None
    return min(groups, key=lambda name: float(np.mean([result.bound for result in groups[name]])))


def answers_of(
    learned: str, own: Sequence[Result], others: Mapping[str, Sequence[Result]]
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
    own: Sequence[Result],
    rivals: Mapping[str, Sequence[Result]],
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
