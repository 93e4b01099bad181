"""A protocol in one environment or several: a table and a section of the report for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from schedrl.benchmark.benchmark_file import Part
from schedrl.benchmark.manifest import Several, family_of, read_json_model
from schedrl.benchmark.results import SamplingResult, TrainingResult
from schedrl.benchmark.sampling_summary import summarise_sampling
from schedrl.benchmark.sampling_tasks import SamplingPlan
from schedrl.benchmark.store import Line
from schedrl.benchmark.training_summary import summarise_training
from schedrl.files import ensure_folder
from schedrl.report.comparison import report_blocks
from schedrl.report.document import Block, Heading, Image, write_document
from schedrl.report.sampling.report import sampling_report_blocks
from schedrl.report.sampling.show import print_sampling_summary
from schedrl.report.show import print_summary
from schedrl.report.together import together_blocks

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["show", "write_several_report"]


def show(comparison: Part, results: Sequence[Line], console: Console) -> None:
    """Print the table of one environment.

    Args:
        comparison: What it is about.
        results: Its runs.
        console: Where to.
    """
    if isinstance(comparison.plan, SamplingPlan):
        print_sampling_summary(summarise_sampling(cast("Sequence[SamplingResult]", results)), console)
    else:
        runs = cast("Sequence[TrainingResult]", results)
        print_summary(summarise_training(runs, comparison.reference, comparison.plan.notes), console)


def write_several_report(folder: Path, listen: Callable[[str], None] | None = None) -> Path:
    """Write one report with a section per environment.

    Args:
        folder: Of the protocol, as ``schedrl benchmark FILE -f FOLDER`` leaves it.
        listen: Told what is being done.

    Returns:
        The HTML file.

    Raises:
        SchedrlError: A comparison is missing or damaged, or the folder cannot be written.
    """
    parts = read_json_model(folder, Several).parts
    ensure_folder(folder, "report folder")
    ensure_folder(folder / "figures", "report folder")
    blocks: list[Block] = [
        Heading(f"{folder.resolve().name}: {len(parts)} environments", 1),
        *together_blocks([folder / part for part in parts if family_of(folder / part) == "training"]),
    ]
    for part in parts:
        sampling = family_of(folder / part) == "sampling"
        made = (sampling_report_blocks if sampling else report_blocks)(folder / part, listen)
        blocks += [_inside(block, part) for block in made]
    return write_document(folder, blocks, folder.resolve().name)


def _inside(block: Block, part: str) -> Block:
    """A block of a part's own report as one of the whole."""
    if isinstance(block, Heading):
        return replace(block, level=min(3, block.level + 1))
    if isinstance(block, Image):
        return replace(block, path=f"{part}/{block.path}")
    return block
