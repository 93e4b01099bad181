"""The table of a benchmark on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["WIDTH", "PrintedTable", "print_table"]

WIDTH = 100
"""Longest line, in characters."""


@dataclass(frozen=True)
class PrintedTable:
    """A table and what surrounds it.

    Attributes:
        title: What the table shows.
        heads: Column headings.
        rows: Rows, each as long as ``heads``.
        bold: Whether each row is printed in bold: the learned agents' are.
        left: Number of leading text columns; the others hold numbers.
        explanation: What the columns mean.
        findings: What follows from the table, one statement per line; ``**`` marks are dropped.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: Sequence[bool]
    left: int
    explanation: str
    findings: Sequence[str]


def print_table(made: PrintedTable, console: Console) -> None:
    """Print a table with its title, explanation and findings."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False, collapse_padding=True, show_edge=False)
    for place, head in enumerate(made.heads):
        table.add_column(head, justify="left" if place < made.left else "right", overflow="fold")
    for cells, bold in zip(made.rows, made.bold, strict=True):
        table.add_row(*(Text(cell) for cell in cells), style="bold" if bold else "")
    width = min(console.width, WIDTH)
    for part in (Text(made.title, style="bold"), table, Text(made.explanation, style="dim")):
        console.print(part, width=width)
        console.print()
    for line in made.findings:
        console.print(Text(line.replace("**", "")), width=width)
