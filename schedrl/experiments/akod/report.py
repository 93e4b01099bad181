"""The experiment's report: verdicts first, then the table, the figures, and what the paper prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schedrl.experiments.akod.claims import INCONSISTENCIES, READING, claims, first_lines
from schedrl.experiments.akod.figures import frechet_figure, quality_figure, surrogate_figure
from schedrl.experiments.akod.runner import RUNS, Experiment, load_experiment
from schedrl.experiments.akod.table import BASELINE, Entry, entries, find
from schedrl.experiments.reach import Reach
from schedrl.files import ensure_folder
from schedrl.report.claims import verdicts
from schedrl.report.document import Block, Bullets, Code, Heading, Paragraph, Table, write_document
from schedrl.report.figures import image

__all__ = ["COLUMNS", "cells", "sample_cells", "write_akod_report"]

COLUMNS = ("row", "test bound", "minus plain", "steps", "time", "ms/step", "MFLOP", "weights", "div.", "cost")
"""Headings of the first table."""


def cells(entry: Entry, baseline: Entry | None, steps: int) -> list[str]:
    """An entry's cells, in the order of ``COLUMNS``; cost in training runs of ``steps``."""
    difference = fewer = faster = ""
    if baseline is not None and baseline.row != entry.row:
        difference = entry.minus(baseline).plus_minus("+.3f")
        fewer, faster = _times(entry.reach(baseline)), _times(entry.reach(baseline, seconds=True))
    run = entry.runs[0]
    return [
        entry.row,
        entry.test_bound.plus_minus(".3f"),
        difference,
        fewer,
        faster,
        f"{1e3 * entry.step_seconds:.2f}",
        f"{entry.step_flops / 1e6:.0f}",
        f"{run.parameters}",
        str(entry.diverged),
        f"{run.search_steps / steps:.0f}",
    ]


def sample_cells(entry: Entry, ways: Sequence[str]) -> list[str]:
    """Fréchet distances."""
    found = [entry.frechet(way) for way in ways]
    return [entry.row, *("" if each is None else each.plus_minus(".2f") for each in found)]


def baseline_of(entry: Entry, table: Sequence[Entry]) -> Entry | None:
    """The plain row under the same optimizer."""
    return find(table, f"{BASELINE}-dsc" if entry.row.endswith("-dsc") else BASELINE)


def _times(found: Reach) -> str:
    return f"{found.speed_up.value:.2f}x" if found.speed_up is not None else f"{found.reached}/{found.runs}"


def explanation(experiment: Experiment) -> str:
    """How to read the tables."""
    setting = experiment.plan.setting
    return (
        f"{len(experiment.plan.seeds)} held-out seeds a row, {setting.steps} optimizer steps a run, batch "
        f"{setting.variant.training.batch_size}, one learning rate for all. `test bound`: bits/dim on test images, "
        "lower is better, mean and 95 % interval (Student's t); `minus plain`: paired by seed, under the same "
        "optimizer. `steps`, `time`: how many times fewer iterations, and how many times less time, until the "
        "validation bound is what `plain` has at the end; or how many runs got there at all. `ms/step`: a run's share "
        "of the time of an optimizer step of all seeds together, all rows timed in turns, the median. `MFLOP`: "
        "operations of the matrix products in a step. `weights`: parameters. `div.`: runs that diverged. `cost`: "
        "training runs that the kernel was learned from."
    )


def write_akod_report(folder: Path) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures/*.png`` into an experiment's folder.

    Raises:
        SchedrlError: Runs are missing, or the folder cannot be written.
    """
    experiment = load_experiment(folder)
    table = entries(experiment)
    ensure_folder(folder / "figures", "report folder")
    name = f"AKOD on {experiment.plan.setting.data}"
    first = first_lines(table)
    blocks: list[Block] = [
        Heading(name, 1),
        *([Paragraph(first)] if first else []),
        *verdicts(claims(table), READING),
        *_tables(experiment, table),
        *_pictures(experiment, table),
        *_surrogates(table),
        Heading("What the paper prints"),
        Bullets(INCONSISTENCIES),
        *_method(folder, experiment),
    ]
    return write_document(folder, blocks, name)


def _tables(experiment: Experiment, table: Sequence[Entry]) -> list[Block]:
    setting = experiment.plan.setting
    lines = [cells(entry, baseline_of(entry, table), setting.steps) for entry in table]
    ways = [way.label for way in setting.samplings]
    whats = tuple(f"`{row.name}`: {row.what}" for row in experiment.plan.rows)
    return [
        Heading("Training"),
        Paragraph(explanation(experiment)),
        Table(COLUMNS, lines, left=1),
        Heading("Samples"),
        Paragraph(
            f"Fréchet distance of {setting.samples} samples to the training images over the features "
            f"`{setting.extractor}`, lower is better. It is not FID, and it is biased in the number of samples, which "
            "is the same everywhere. Steps lie evenly in log-SNR; a network with MSFI is shown the feature of the step "
            "before, and its own one-step prediction for the step to come."
        ),
        Table(("row", *ways), [sample_cells(entry, ways) for entry in table], left=1),
        Heading("Rows", 3),
        Bullets(whats),
    ]


def _pictures(experiment: Experiment, table: Sequence[Entry]) -> list[Block]:
    adamw = [entry for entry in table if not entry.row.endswith("-dsc")] or list(table)
    ways = [way.label for way in experiment.plan.setting.samplings]
    left_out = "Means over seeds. Rows of which a run diverged are left out."
    return [
        image("quality-steps", quality_figure(adamw, "Quality over iterations"), left_out),
        image("quality-seconds", quality_figure(adamw, "Quality over time", seconds=True), left_out),
        image("samples", frechet_figure(adamw, ways, "Samples"), "Means over seeds and 95 % intervals."),
    ]


def _surrogates(table: Sequence[Entry]) -> list[Block]:
    picture = surrogate_figure(
        [entry for entry in table if not entry.row.endswith("-dsc")],
        "What a sampler has for the feature of t−1",
    )
    if picture is None:
        return []
    lines = []
    for entry in table:
        runs = [run for run in entry.runs if run.surrogate_error]
        if runs:
            worst = np.mean([max(run.surrogate_error) for run in runs])
            middle = np.mean([np.median(run.surrogate_error) for run in runs])
            still = np.mean([np.median(run.standing_still) for run in runs])
            lines.append([entry.row, f"{middle:.4f}", f"{worst:.4f}", f"{still:.4f}"])
    return [
        Heading("MSFI's surrogate"),
        Paragraph(
            "In training F(t−1) is the feature of the same image and noise with less noise. A sampler has the feature "
            "of its own one-step prediction. Relative errors on test images, at the shortest distance of training: "
            "the median over log-SNR, the worst, and the median error of using F(t) instead."
        ),
        Table(("row", "median", "worst", "F(t) instead"), lines, left=1),
        image(
            "surrogate",
            picture,
            "Dotted: F(t) in its place. Where that is as good, the surrogate adds nothing.",
        ),
    ]


def _method(folder: Path, experiment: Experiment) -> list[Block]:
    plan, run = experiment.plan, experiment.runs[0]
    setting = plan.setting
    optimizer = setting.variant.training.optimizer
    versions = ", ".join(f"{name} {value}" for name, value in sorted(run.versions.items()))
    command = f"schedrl experiment akod --data {setting.data} --seeds {len(plan.seeds)} -f {folder}"
    command += "".join(f" {option}" for option in plan.options)
    return [
        Heading("Method"),
        Paragraph(
            f"Network, data and budget are those of `{setting.variant.id}` (fingerprint "
            f"`{setting.variant.fingerprint()}`), T = {setting.variant.timesteps}. AdamW with learning rate "
            f"{optimizer.learning_rate:g} and weight decay {optimizer.weight_decay:g}; DSC scales that rate. Every run "
            f"is a line of `{RUNS}`."
        ),
        Paragraph(f"Hardware: {run.hardware}. Software: {versions}."),
        Code(command),
    ]
