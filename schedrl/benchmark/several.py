"""A protocol in one environment or several: one result file, a table and a section of the report for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from schedrl.benchmark.document import Block, Heading, Image, write_document
from schedrl.benchmark.manifest import MANIFEST, Several, family_of, read_json_model, write_manifest
from schedrl.benchmark.protocol import work_of
from schedrl.benchmark.protocol_file import Comparison
from schedrl.benchmark.running import Work
from schedrl.benchmark.sampling.comparison import SamplingPlan, sampling_work_of
from schedrl.benchmark.sampling.manifest import write_sampling_manifest
from schedrl.benchmark.sampling.records import SamplingResult
from schedrl.benchmark.store import Line, Result
from schedrl.files import dump_json, ensure_folder, write_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["describe", "show", "work_in", "write_several_report"]


def work_in(comparisons: Sequence[Comparison], device: str = "cpu") -> tuple[type[Line], list[list[Work]]]:
    """What the lines of a protocol's results are, and the rows of each of its environments.

    Args:
        comparisons: All of one family.
        device: Torch device of the networks.
    """
    plans = [comparison.plan for comparison in comparisons]
    works = [
        sampling_work_of(plan) if isinstance(plan, SamplingPlan) else work_of(plan, device) for plan in plans
    ]
    return SamplingResult if isinstance(plans[0], SamplingPlan) else Result, works


def describe(folder: Path, comparisons: Sequence[Comparison], results: Path) -> None:
    """Write what a folder's results are about.

    Args:
        folder: Of the protocol.
        comparisons: One per environment.
        results: The file that all of their runs are in.

    Raises:
        SchedrlError: The folder cannot be written.
    """
    several = len(comparisons) > 1
    for comparison in comparisons:
        target = folder / comparison.folder if several else folder
        plan, overrides = comparison.plan, comparison.overrides
        if isinstance(plan, SamplingPlan):
            write_sampling_manifest(target, plan, results, overrides, within=folder)
        else:
            reference = comparison.reference
            write_manifest(target, plan, results, reference=reference, overrides=overrides, within=folder)
    if several:
        index = Several(parts=tuple(comparison.folder for comparison in comparisons))
        write_text(folder / MANIFEST, dump_json(index.model_dump(mode="json")))


def show(comparison: Comparison, results: Sequence[Line], console: Console) -> None:
    """Print the table of one environment.

    Args:
        comparison: What it is about.
        results: Its runs.
        console: Where to.
    """
    if isinstance(comparison.plan, SamplingPlan):
        from schedrl.benchmark.sampling.show import print_sampling_summary
        from schedrl.benchmark.sampling.table import summarise_sampling

        print_sampling_summary(summarise_sampling(cast("Sequence[SamplingResult]", results)), console)
    else:
        from schedrl.benchmark.show import print_summary
        from schedrl.benchmark.table import summarise

        runs = cast("Sequence[Result]", results)
        print_summary(summarise(runs, comparison.reference, comparison.plan.notes), console)


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
    from schedrl.benchmark.report import report_blocks
    from schedrl.benchmark.sampling.report import sampling_report_blocks
    from schedrl.benchmark.together import together_blocks

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
