"""A paper's sentences, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schedrl.report.document import Block, Paragraph, Table
from schedrl.stats.intervals import Interval

__all__ = ["Claim", "by_interval", "verdicts"]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, or a question it leaves open, and the verdict.

    Attributes:
        text: What is claimed.
        verdict: ``"holds"``, ``"does not hold"`` or ``"not decided"``.
        measured: The numbers, for people.
    """

    text: str
    verdict: str
    measured: str


def by_interval(difference: Interval) -> str:
    """Lower is better."""
    if not difference.excludes_zero:
        return "not decided"
    return "holds" if difference.high < 0.0 else "does not hold"


def verdicts(made: Sequence[Claim], reading: str, whose: str = "the paper claims") -> list[Block]:
    """The claims as a report's first table.

    Args:
        made: The claims.
        reading: How to read them.
        whose: Who claims it.
    """
    if not made:
        return [Paragraph("The rows that the paper's claims are about are not among these.")]
    lines = [[claim.text, f"**{claim.verdict}**", claim.measured] for claim in made]
    return [
        Paragraph(f"What {whose}, at this scale. {reading}"),
        Table(("claim", "verdict", "measured"), lines, left=3, caption="Claims, verdicts and measurements."),
    ]
