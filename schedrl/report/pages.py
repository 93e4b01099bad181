"""The entry points of reports: the table of one environment on a terminal, and the report of a benchmark's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedrl.benchmark.manifest import Several, family_of, read_json_model
from schedrl.files import ensure_folder
from schedrl.report import sampling_report, training_report
from schedrl.report.document import Block, Heading, Image, write_document
from schedrl.report.ranking import ranking_blocks
from schedrl.report.terminal import PrintedTable, print_table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["FAMILIES", "FamilyReport", "print_summary", "write_report"]


@dataclass(frozen=True)
class FamilyReport:
    """What reports say about environments of one family.

    Attributes:
        terminal_table: The table of one environment, from its summary.
        report_blocks: The environment's id and its report, from a benchmark's folder and a listener.
        together_blocks: What several environments say together, from the folders of each.
    """

    terminal_table: Callable[[Any], PrintedTable]
    report_blocks: Callable[[Path, Callable[[str], None]], tuple[str, list[Block]]]
    together_blocks: Callable[[Sequence[Path]], list[Block]]


FAMILIES = {
    "training": FamilyReport(training_report.terminal_table, training_report.report_blocks, ranking_blocks),
    "sampling": FamilyReport(
        sampling_report.terminal_table, sampling_report.report_blocks, lambda folders: []
    ),
}
"""The families of environments by name."""


def print_summary(family: str, summary: Any, console: Console) -> None:
    """Print the table of one environment.

    Args:
        family: The environment's family.
        summary: Its summary.
        console: Where to print it.
    """
    print_table(FAMILIES[family].terminal_table(summary), console)


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
    parts = read_json_model(folder, Several).parts
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
