"""The table of a sampling comparison for people: on a terminal, and for a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedrl.benchmark.sampling_summary import SamplingRow, SamplingSummary
from schedrl.report.show import WIDTH
from schedrl.stats.intervals import Interval

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["explanation", "findings", "print_sampling_summary", "report_table", "title"]


def title(summary: SamplingSummary) -> str:
    """What the table shows."""
    low, high = summary.num_steps
    steps = f"{low}" if low == high else f"{low} to {high}"
    return f"{summary.env_id}: final errors on {summary.num_sources} held-out sources, {steps} steps"


def explanation(summary: SamplingSummary) -> str:
    """What the columns mean."""
    over = "the exact optimum" if summary.yardstick == "optimum" else "the environment's reference grid"
    text = (
        f"x {summary.yardstick}: error over that of {over} on the same source, geometric mean "
        "[95 % bootstrap interval over sources]. worst: the greatest of those ratios. "
    )
    if summary.learned is not None:
        text += (
            f"x {summary.learned}: error over that of {summary.learned}; above 1, {summary.learned} is better. "
            f"loses: share of sources on which {summary.learned} is better. "
        )
    return text + (
        "runs: sampler runs spent on each source to find its grid; a policy spends none, its training (train, in "
        "sampler steps) once for all sources. ms: time to find one grid, sources in batches."
    )


def findings(summary: SamplingSummary) -> list[str]:
    """What follows from the table, one statement per line, whichever way it went."""
    if summary.learned is None:
        return [f"No agent here is learned. {summary.rows[0].name} has the least error."]
    own = next(row for row in summary.rows if row.name == summary.learned)
    lines = []
    if summary.yardstick == "optimum":
        lines.append(
            f"{own.name} is {_percent(own.ratio)} above the exact optimum, at worst {100.0 * (own.worst - 1.0):.2f} %."
        )
    known = summary.yardstick == "optimum"
    closed = [
        row for row in summary.rows if row.kind == "grid" and not (known and row.name == "grid-optimum")
    ]
    searched = [row for row in summary.rows if row.evaluations > 0]
    lines += _against(own, closed, "closed form")
    lines += _against(own, searched, "search")
    return lines


def _against(own: SamplingRow, others: list[SamplingRow], what: str) -> list[str]:
    if not others or others[0].versus is None:
        return []
    best = others[0]
    assert best.versus is not None
    versus = best.versus
    if versus.low > 1.0:
        verdict = f"{own.name} is better"
    elif versus.high < 1.0:
        verdict = f"{own.name} is worse"
    else:
        verdict = "neither is shown to be better"
    spent = f", which spent {best.evaluations:.0f} sampler runs on each source" if best.evaluations else ""
    return [f"Against the best {what}, {best.name}{spent}: {verdict} (error ratio {versus:.4f})."]


def _percent(ratio: Interval) -> str:
    low, high = 100.0 * (ratio.low - 1.0), 100.0 * (ratio.high - 1.0)
    return f"{100.0 * (ratio.value - 1.0):.2f} % [{low:.2f}, {high:.2f}]"


def _cells(summary: SamplingSummary, row: SamplingRow, *, full: bool) -> list[str]:
    versus = "" if row.versus is None else f"{row.versus:.3f}" if full else _short(row.versus.value)
    cells = [
        row.name,
        f"{row.error:.4g}" if full else f"{row.error.value:.4g}",
        f"{row.ratio:.4f}" if full or row.ratio.high < 10.0 else f"{row.ratio:.3g}",
        _short(row.worst),
    ]
    if summary.learned is not None:
        cells += [versus, "" if row.wins is None else f"{row.wins:.2f}"]
    cells += [f"{value:.4f}" for value in row.parts.values()] if full else []
    return [
        *cells,
        f"{row.evaluations:.0f}",
        f"{row.training_steps:.3g}" if row.training_steps else "0",
        f"{1e3 * row.seconds:.2g}",
    ]


def _heads(summary: SamplingSummary, *, full: bool) -> list[str]:
    heads = ["agent", "error", f"x {summary.yardstick}", "worst"]
    if summary.learned is not None:
        heads += [f"x {summary.learned}", "loses"]
    if full and summary.rows:
        heads += [f"mean {name}".replace("_", " ") for name in summary.rows[0].parts]
    return [*heads, "runs", "train", "ms"]


def print_sampling_summary(summary: SamplingSummary, console: Console) -> None:
    """Print the table and what follows from it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False, collapse_padding=True, show_edge=False)
    for place, name in enumerate(_heads(summary, full=False)):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in summary.rows:
        cells = _cells(summary, row, full=False)
        table.add_row(*(Text(cell) for cell in cells), style="bold" if row.learned else "")
    width = min(console.width, WIDTH)
    console.print(Text(title(summary), style="bold"), width=width)
    console.print()
    console.print(table, width=width)
    console.print()
    console.print(Text(explanation(summary), style="dim"), width=width)
    console.print()
    for line in findings(summary):
        console.print(Text(line), width=width)


def report_table(summary: SamplingSummary) -> tuple[list[str], list[list[str]]]:
    """Headings and rows for a report: every column, intervals in full."""
    rows = []
    for row in summary.rows:
        name, *others = _cells(summary, row, full=True)
        rows.append([f"**{name}**" if row.learned else name, *others])
    return _heads(summary, full=True), rows


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 100.0 else f"{value:.3g}"
