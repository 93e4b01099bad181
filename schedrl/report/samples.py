"""Samples in a report: the quality of those on record, and images of networks that are trained again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schedrl import data
from schedrl.benchmark.evaluation import replay
from schedrl.benchmark.results import Quality, TrainingResult
from schedrl.benchmark.training_summary import TrainingRow, TrainingSummary, named_groups
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import MissingDataError
from schedrl.report.document import Block, Heading, Paragraph, Sentences, Table
from schedrl.report.figures import samples_figure, worded_image
from schedrl.schedules import Schedule
from schedrl.stats.intervals import mean

_WORDS = Sentences("training.txt.j2")

_IMAGES = 16
"""Images per network."""

_MEASURES = {"frechet": ".3f", "kid": ".4f", "precision": ".3f", "recall": ".3f"}
"""Measures of quality, and the format of their numbers."""


def samples_blocks(
    variant: TrainingVariant,
    results: Sequence[TrainingResult],
    summary: TrainingSummary,
    rows: Sequence[TrainingRow],
    programs: Sequence[Sequence[Schedule]],
) -> list[Block]:
    """The section about samples: a network is trained for each of ``rows``, by its schedules, phase by phase."""
    blocks: list[Block] = [Heading("Samples"), *quality_table(results, summary)]
    seed = summary.seeds[0]
    try:
        images = data.load(variant.data).test[:_IMAGES]
        drawn, bounds = replay(variant, programs, seed, _IMAGES)
    except MissingDataError as error:
        return [*blocks, Paragraph(f"No samples: {error}.")]
    panels = [
        (f"{row.name}\nvalidation bound {bound:.4f}", samples)
        for row, samples, bound in zip(rows, drawn, bounds.tolist(), strict=True)
    ]
    figure = samples_figure([*panels, ("test images", np.asarray(images))])
    names = [row.name for row in rows]
    return [*blocks, worded_image(_WORDS, "samples", figure, seed, names, _IMAGES)]


def quality_table(results: Sequence[TrainingResult], summary: TrainingSummary) -> list[Block]:
    """Distances between samples and data, row by row in the summary's order; empty if no samples were drawn."""
    groups = {
        name: [run.quality for run in runs if run.quality is not None and run.quality.frechet is not None]
        for name, runs in named_groups(results).items()
    }
    first = next((found[0] for found in groups.values() if found), None)
    if first is None:
        return []
    named = "FID" if first.features == "inception" else f"Fréchet, {first.features}"
    heads = ["agent", "form", "seeds"]
    heads += [f"{measure} (n = {first.samples})" for measure in (named, "KID", "precision", "recall")]
    rows = [
        [
            f"**{row.label}**" if row.learned else row.label,
            row.form,
            str(len(groups[row.name])),
            *(_mean(groups[row.name], measure, spec) for measure, spec in _MEASURES.items()),
        ]
        for row in summary.rows
    ]
    return [Table(heads, rows, caption=_WORDS.quality(first)), Paragraph(_WORDS.quality_explanation())]


def _mean(found: Sequence[Quality], measure: str, spec: str) -> str:
    values = [value for quality in found if (value := getattr(quality, measure)) is not None]
    if not values:
        return ""
    return mean(values).plus_minus(spec) if len(values) > 1 else f"{values[0]:{spec}}"
