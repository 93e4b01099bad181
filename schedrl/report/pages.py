"""The entry points of reports: the table of one environment on a terminal, and the report of a benchmark's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from schedrl.benchmark.manifest import Several, family_of, read_manifest
from schedrl.benchmark.tasks import Task
from schedrl.files import ensure_folder
from schedrl.report import sampling_report, training_report
from schedrl.report.document import Block, Heading, Image, Table, write_document

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["FAMILIES", "WIDTH", "FamilyReport", "picture", "print_summary", "print_table", "write_report"]


WIDTH = 100
"""Longest line on a terminal, in characters."""


class FamilyReport(Protocol):
    """What a report says about the environments of one family. Summaries are of the family's own type."""

    def table(self, summary: Any, *, full: bool) -> Table:
        """The table of one environment, for a report (``full``) or a terminal; learned agents are in ``**``."""

    def explanation(self, summary: Any) -> str:
        """What the table's columns mean."""

    def conclusions(self, summary: Any) -> list[str]:
        """What follows from the table, one statement per line."""

    def report_blocks(self, folder: Path, listen: Callable[[str], None]) -> tuple[str, list[Block]]:
        """The environment's id and its report.

        Args:
            folder: Folder of a benchmark in this environment.
            listen: Is given each step before it begins.
        """

    def together_blocks(self, folders: Sequence[Path]) -> list[Block]:
        """What several environments of a benchmark say together; each has its folder."""

    def picture(self, task: Any) -> bytes:
        """A PNG of the first run of a task."""


FAMILIES: dict[str, FamilyReport] = {"training": training_report, "sampling": sampling_report}
"""The families of environments by name."""


def picture(task: Task) -> bytes:
    """A PNG of the first run of a task."""
    return FAMILIES[task.variant.family].picture(task)


def print_table(made: Table, console: Console) -> None:
    """Print a table of a report under its caption; a row whose first cell is marked ``**`` is printed in bold."""
    from rich import box, table
    from rich.text import Text

    grid = table.Table(
        box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False, collapse_padding=True, show_edge=False
    )
    for place, head in enumerate(made.heads):
        grid.add_column(head, justify="left" if place < made.left else "right", overflow="fold")
    for cells in made.rows:
        bold = "bold" if cells[0].startswith("**") else ""
        grid.add_row(*(Text(cell.replace("**", "")) for cell in cells), style=bold)
    for part in (Text(made.caption.rstrip("."), "bold"), grid):
        console.print(part, width=min(console.width, WIDTH))
        console.print()


def print_summary(family: str, summary: Any, console: Console) -> None:
    """Print the table of one environment with what it means.

    Args:
        family: The environment's family.
        summary: Its summary.
        console: Where to print it.
    """
    from rich.text import Text

    report, width = FAMILIES[family], min(console.width, WIDTH)
    print_table(report.table(summary, full=False), console)
    console.print(Text(report.explanation(summary), "dim"), width=width)
    console.print()
    for line in report.conclusions(summary):
        console.print(Text(line.replace("**", "")), width=width)


def write_report(folder: Path, listen: Callable[[str], None] | None = None) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures/*.png`` into a benchmark's folder.

    Args:
        folder: The folder, as ``schedrl benchmark -f FOLDER`` leaves it. With several environments the report has a
            section for each.
        listen: Is given each step before it begins.

    Returns:
        The HTML file.

    Raises:
        SchedrlError: The benchmark is missing or damaged, or the folder cannot be written.
    """
    tell = listen or (lambda _: None)
    if family_of(folder) != "several":
        env_id, blocks = _environment(folder, tell)
        return write_document(folder, blocks, env_id)
    parts = read_manifest(folder, Several).parts
    title = folder.resolve().name
    ensure_folder(folder / "figures", "report folder")
    blocks = [Heading(f"{title}: {len(parts)} environments", 1)]
    for name, family in FAMILIES.items():
        if same := [folder / part for part in parts if family_of(folder / part) == name]:
            blocks += family.together_blocks(same)
    for part in parts:
        blocks += [_inside(block, part) for block in _environment(folder / part, tell)[1]]
    return write_document(folder, blocks, title)


def _environment(folder: Path, tell: Callable[[str], None]) -> tuple[str, list[Block]]:
    family = FAMILIES.get(family_of(folder), FAMILIES["training"])
    return family.report_blocks(folder, tell)


def _inside(block: Block, part: str) -> Block:
    """A block of one environment's own report as a block of the whole."""
    if isinstance(block, Heading):
        return replace(block, level=min(3, block.level + 1))
    if isinstance(block, Image):
        return replace(block, path=f"{part}/{block.path}")
    return block
