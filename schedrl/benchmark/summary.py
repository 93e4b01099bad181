"""What the tables of both families have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schedrl.benchmark.results import Result
from schedrl.errors import SchedrlError
from schedrl.policies.agents import Role, role_of

BOOTSTRAP_SEED = 5
"""The same results give the same table."""


@dataclass(frozen=True)
class SummaryRow:
    """A row of the table.

    Attributes:
        name: Name of the row: the agent's label, with its form where the agent has two rows.
        kind: Kind of agent.
    """

    name: str
    kind: str

    @property
    def role(self) -> Role:
        """Learned, hand-made, searched or random."""
        return role_of(self.kind)

    @property
    def learned(self) -> bool:
        """Whether the agent was trained."""
        return self.role == "learned"


@dataclass(frozen=True)
class Summary:
    """The table of a benchmark in one environment.

    Attributes:
        env_id: The environment.
        rows: The best first.
    """

    env_id: str
    rows: tuple[SummaryRow, ...]


def check_comparable(results: Sequence[Result], *fields: str) -> None:
    """Raise if results differ in one of the fields, or there are none."""
    if not results:
        raise SchedrlError("no results to make a table of")
    for field in fields:
        if len({getattr(result, field) for result in results}) > 1:
            raise SchedrlError(f"results of different {field} cannot be compared in one table")
