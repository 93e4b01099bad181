"""A protocol in one environment or several: what its results are, and what its folder says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from schedrl.benchmark.benchmark_file import Part
from schedrl.benchmark.manifest import MANIFEST, Several, write_sampling_manifest, write_training_manifest
from schedrl.benchmark.results import SamplingResult, TrainingResult
from schedrl.benchmark.sampling_summary import SamplingSummary, summarise_sampling
from schedrl.benchmark.sampling_tasks import SamplingPlan, sampling_work_of
from schedrl.benchmark.store import Line
from schedrl.benchmark.tasks import Work
from schedrl.benchmark.training_summary import TrainingSummary, summarise_training
from schedrl.benchmark.training_tasks import work_of
from schedrl.files import dump_json, write_text

__all__ = ["describe", "summary_of", "work_in"]


def work_in(comparisons: Sequence[Part], device: str = "cpu") -> tuple[type[Line], list[list[Work]]]:
    """What the lines of a protocol's results are, and the rows of each of its environments.

    Args:
        comparisons: All of one family.
        device: Torch device of the networks.
    """
    plans = [comparison.plan for comparison in comparisons]
    works = [
        sampling_work_of(plan) if isinstance(plan, SamplingPlan) else work_of(plan, device) for plan in plans
    ]
    return SamplingResult if isinstance(plans[0], SamplingPlan) else TrainingResult, works


def describe(folder: Path, comparisons: Sequence[Part], results: Path) -> None:
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
            write_training_manifest(
                target, plan, results, reference=reference, overrides=overrides, within=folder
            )
    if several:
        index = Several(parts=tuple(comparison.folder for comparison in comparisons))
        write_text(folder / MANIFEST, dump_json(index.model_dump(mode="json")))


def summary_of(comparison: Part, results: Sequence[Line]) -> TrainingSummary | SamplingSummary:
    """The table of one environment."""
    if isinstance(comparison.plan, SamplingPlan):
        return summarise_sampling(cast("Sequence[SamplingResult]", results))
    runs = cast("Sequence[TrainingResult]", results)
    return summarise_training(runs, comparison.reference, comparison.plan.notes)
