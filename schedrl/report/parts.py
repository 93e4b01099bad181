"""What a test bound is made of, and how good samples are: parts of a report that older results lack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from schedrl.benchmark.results import Quality, TrainingResult
from schedrl.benchmark.training_summary import TrainingSummary, named_groups
from schedrl.report.document import Block, Paragraph, Table
from schedrl.stats.intervals import Interval, mean, paired_difference

__all__ = ["bound_bins", "quality_table"]


def bound_bins(
    results: Sequence[TrainingResult], names: Sequence[str], reference: str, levels: int
) -> dict[str, list[Interval]]:
    """Differences to the reference by cell of λ, from λ_max on, paired by seed, bits/dim.

    Args:
        results: Runs.
        names: Rows that are wanted; one without cells is left out.
        reference: Row that differences are to.
        levels: Cells.
    """
    groups = named_groups(results)

    def of(name: str) -> dict[int, tuple[float, ...]]:
        return {r.seed: r.test_bins for r in groups[name] if len(r.test_bins) == levels and not r.diverged}

    base = of(reference)
    made = {}
    for name in names:
        own = of(name)
        if shared := sorted(own.keys() & base.keys()):
            made[name] = [
                paired_difference([own[seed][cell] for seed in shared], [base[seed][cell] for seed in shared])
                for cell in range(levels)
            ]
    return made


def quality_table(results: Sequence[TrainingResult], summary: TrainingSummary) -> list[Block] | None:
    """Distances of samples to the data, row by row in the table's order; None if none were drawn."""
    groups = {
        name: [run.quality for run in runs if run.quality is not None and run.quality.frechet is not None]
        for name, runs in named_groups(results).items()
    }
    first = next((found[0] for found in groups.values() if found), None)
    if first is None:
        return None
    named = "FID" if first.features == "inception" else f"Fréchet, {first.features}"
    heads = ["agent", "form", "seeds", f"{named} (n = {first.samples})", f"KID (n = {first.samples})"]
    heads += [f"precision (n = {first.samples})", f"recall (n = {first.samples})"]
    rows = []
    for row in summary.rows:
        found = groups[row.name]
        cells = [
            _mean(found, lambda quality: quality.frechet, ".3f"),
            _mean(found, lambda quality: quality.kid, ".4f"),
            _mean(found, lambda quality: quality.precision, ".3f"),
            _mean(found, lambda quality: quality.recall, ".3f"),
        ]
        label = f"**{row.label}**" if row.learned else row.label
        rows.append([label, row.form, str(len(found)), *cells])
    against = f" against {first.reference_samples} training images" if first.reference_samples else ""
    caption = (
        f"Quality of samples: {first.samples} images a network by {first.sampler.upper()}, {first.steps} steps"
        f"{against}, features `{first.features}`; mean and 95 % interval over seeds."
    )
    text = (
        "Lower is better for Fréchet and kernel distances, higher for precision and recall. Fréchet distances depend "
        "on the number of samples: compare only equal ones."
    )
    return [Table(heads, rows, caption=caption), Paragraph(text)]


def _mean(found: Sequence[Quality], part: Callable[[Quality], float | None], spec: str) -> str:
    values = [value for quality in found if (value := part(quality)) is not None]
    if not values:
        return ""
    return mean(values).plus_minus(spec) if len(values) > 1 else f"{values[0]:{spec}}"
