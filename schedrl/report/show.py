"""The table for people: on a terminal, as plain text, and for a report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from schedrl.benchmark.training_summary import TrainingRow, TrainingSummary

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "COLUMNS",
    "WIDTH",
    "answers",
    "cells",
    "explanation",
    "findings",
    "print_summary",
    "report_table",
    "title",
]

WIDTH = 100
"""Columns that the printed table keeps to."""


def _bound(row: TrainingRow) -> str:
    return row.test_bound.plus_minus(".4f") if row.num_seeds > 1 else f"{row.test_bound.value:.4f}"


def _iqm(row: TrainingRow) -> str:
    return f"{row.iqm:.3f}" if row.num_seeds > 1 else f"{row.iqm.value:.3f}"


def _difference(row: TrainingRow) -> str:
    if row.difference is None:
        return "reference"
    if math.isinf(row.difference.low):
        return f"{row.difference.value:+.4f}"
    return row.difference.plus_minus("+.4f")


def _probability(row: TrainingRow) -> str:
    return "" if row.probability is None else f"{row.probability.value:.2f}"


def _cost(summary: TrainingSummary, row: TrainingRow) -> str:
    return f"{row.search_steps / max(summary.optimizer_steps, 1):.4g}"


COLUMNS = ("agent", "form", "test bound", "interquartile", "difference", "P", "return", "div.", "cost")
"""Headings of the printed table."""


def cells(summary: TrainingSummary, row: TrainingRow) -> list[str]:
    """A row's cells, in the order of ``COLUMNS``."""
    return [
        row.label,
        row.form,
        _bound(row),
        _iqm(row),
        _difference(row),
        _probability(row),
        f"{row.mean_return:.3f}",
        str(row.num_diverged),
        _cost(summary, row),
    ]


def title(summary: TrainingSummary) -> str:
    """What the table shows."""
    return (
        f"{summary.env_id}: test bound in bits/dim (lower is better), {len(summary.seeds)} held-out seeds, "
        f"{summary.optimizer_steps} optimizer steps a run"
    )


def explanation(summary: TrainingSummary) -> str:
    """What the columns mean."""
    return (
        "test bound: mean ± 95 % t interval. interquartile: mean of the middle half "
        "[95 % interval of a trimmed mean]. "
        f"difference: row minus {summary.reference}, paired by seed, ± 95 %; above zero, {summary.reference} is "
        f"better. P: probability that a run of {summary.reference} beats one of the row. div.: diverged runs. "
        "cost: training runs spent to find the agent. "
        "form exact: the law as written; action: as the environment's actions can express it."
    )


def answers(summary: TrainingSummary) -> list[str]:
    """Whether learning was worth it, one statement per line, its verdict in bold as in Markdown."""
    if not summary.answers:
        return ["**Whether learning was worth it is not answered**: no learned agent is in this comparison."]
    return [answer.text() for answer in summary.answers]


def findings(summary: TrainingSummary) -> list[str]:
    """What follows from the table, one statement per line, whichever way it went."""
    lines = [verdict.text() for verdict in summary.verdicts]
    if summary.verdicts:
        lines.append("Each interval is for its own comparison; none is widened for their number.")
    if summary.reward != "bound":
        order = ", ".join(f"{name} {value:+.4f}" for name, value in summary.ranking_by_reward)
        lines.append(
            f"By what an agent earns here (reward `{summary.reward}`, per phase) the order would be: {order}."
        )
    counts = sorted({row.num_seeds for row in summary.rows})
    if len(counts) > 1:
        short = [f"{row.name} {row.num_seeds}" for row in summary.rows if row.num_seeds < counts[-1]]
        lines.append(f"Not every row has every seed: {', '.join(short)} of {counts[-1]}.")
    return [*lines, *summary.notes]


def print_summary(summary: TrainingSummary, console: Console) -> None:
    """Print the table and what follows from it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
        pad_edge=False,
        collapse_padding=True,
        show_edge=False,
        expand=False,
    )
    for name in COLUMNS:
        table.add_column(
            name, justify="left" if name in ("agent", "form") else "right", overflow="fold", no_wrap=False
        )
    for row in summary.rows:
        table.add_row(*(Text(cell) for cell in cells(summary, row)), style="bold" if row.learned else "")
    width = min(console.width, WIDTH)
    console.print(Text(title(summary), style="bold"), width=width)
    console.print()
    console.print(table, width=width)
    console.print()
    console.print(Text(explanation(summary), style="dim"), width=width)
    console.print()
    for line in [*answers(summary), *findings(summary)]:
        console.print(Text(line.replace("**", "")), width=width)


def report_table(summary: TrainingSummary) -> tuple[list[str], list[list[str]]]:
    """Headings and rows for a report: every column, intervals in full."""
    heads = ["agent", "form", "seeds", "test bound", "interquartile mean", f"minus {summary.reference}"]
    heads += [f"P({summary.reference} better)", "return", "diverged", "search cost, runs"]
    rows = []
    for row in summary.rows:
        several = row.num_seeds > 1
        difference, probability = row.difference, row.probability
        rows.append(
            [
                f"**{row.label}**" if row.learned else row.label,
                row.form,
                str(row.num_seeds),
                _bound(row),
                f"{row.iqm:.4f}" if several else f"{row.iqm.value:.4f}",
                "reference" if difference is None else f"{difference:+.4f}" if several else _difference(row),
                "" if probability is None else f"{probability:.2f}" if several else _probability(row),
                f"{row.mean_return:.4f}",
                str(row.num_diverged),
                _cost(summary, row),
            ]
        )
    return heads, rows
