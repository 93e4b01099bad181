"""The entry points of reports: the table of one environment on a terminal, and the report of a benchmark's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedrl.benchmark.manifest import Several, family_of, read_manifest
from schedrl.benchmark.results import Result
from schedrl.benchmark.tasks import Task
from schedrl.errors import printable
from schedrl.files import ensure_folder
from schedrl.report.document import Block, Heading, Image, Table, write_document
from schedrl.report.family_report import FamilyReport
from schedrl.report.sampling_report import SamplingReport
from schedrl.report.training_report import TrainingReport

if TYPE_CHECKING:
    from rich.console import Console


WIDTH = 100
"""Longest line on a terminal, in characters."""


FAMILIES: dict[str, type[FamilyReport[Any, Any]]] = {"training": TrainingReport, "sampling": SamplingReport}
"""The families of environments by name."""


def picture(task: Task) -> bytes:
    """A PNG file of the first run of a task."""
    return FAMILIES[task.variant.family].picture(task)


def statistics(family: str, results: Sequence[Result]) -> list[tuple[str, str]]:
    """What one agent came to: names and values."""
    return FAMILIES[family].statistics(results)


def print_table(made: Table, console: Console) -> None:
    """Print a table of a report under its caption; a row whose first cell is marked ``**`` is printed in bold."""
    from rich import box, table
    from rich.text import Text

    grid = table.Table(
        box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False, collapse_padding=True, show_edge=False
    )
    for place, head in enumerate(made.heads):
        grid.add_column(
            Text(printable(head)), justify="left" if place < made.left else "right", overflow="fold"
        )
    for cells in made.rows:
        bold = "bold" if cells[0].startswith("**") else ""
        grid.add_row(*(Text(printable(cell.replace("**", ""))) for cell in cells), style=bold)
    for part in (Text(printable(made.caption.rstrip(".")), "bold"), grid):
        console.print(part, width=min(console.width, WIDTH))
        console.print()


def print_summary(family: str, summary: Any, console: Console) -> None:
    """Print the table of one environment of a family, with what it means and what follows from it."""
    from rich.text import Text

    report, width = FAMILIES[family], min(console.width, WIDTH)
    print_table(report.table(summary, full=False), console)
    console.print(Text(printable(report.explanation(summary)), "dim"), width=width)
    console.print()
    for line in report.conclusions(summary):
        console.print(Text(printable(line.replace("**", ""))), width=width)


def write_report(folder: Path, listen: Callable[[str], None] | None = None) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures/*.png`` into a benchmark's folder.

    A benchmark in several environments gets one report with a section for each.

    Args:
        folder: The folder, as ``schedrl benchmark -f FOLDER`` leaves it.
        listen: Is given each step before it begins.

    Returns:
        The HTML file.
    """
    tell = listen or (lambda _: None)
    if family_of(folder) != "several":
        report = _opened(folder)
        return write_document(folder, report.blocks(tell), report.manifest.variant.id)
    parts = read_manifest(folder, Several).parts
    ensure_folder(folder / "figures", "report folder")
    reports = {part: _opened(folder / part) for part in parts}
    title = folder.resolve().name
    blocks: list[Block] = [Heading(f"{title}: {len(parts)} environments", 1)]
    for family in FAMILIES.values():
        if same := [report for report in reports.values() if isinstance(report, family)]:
            blocks += family.together(same)
    for part, report in reports.items():
        blocks += [_inside(block, part) for block in report.blocks(tell)]
    return write_document(folder, blocks, title)


def _opened(folder: Path) -> FamilyReport[Any, Any]:
    return FAMILIES.get(family_of(folder), TrainingReport)(folder)


def _inside(block: Block, part: str) -> Block:
    """A block of one environment's own report as a block of the whole."""
    if isinstance(block, Heading):
        return replace(block, level=min(3, block.level + 1))
    if isinstance(block, Image):
        return replace(block, path=f"{part}/{block.path}")
    return block
