"""The experiment's report: verdicts first, then the table, the figures, and what the paper prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schedrl.experiments.ava_dsc.claims import INCONSISTENCIES, READING, claims
from schedrl.experiments.ava_dsc.figures import quality_figure, traces_figure
from schedrl.experiments.ava_dsc.records import Run
from schedrl.experiments.ava_dsc.runner import RUNS, TRIALS, Experiment, load_experiment
from schedrl.experiments.ava_dsc.table import BASELINE, Entry, entries, find, reach
from schedrl.files import ensure_folder
from schedrl.report.claims import verdicts
from schedrl.report.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Paragraph,
    Table,
    write_document,
)
from schedrl.report.figures import image

__all__ = ["COLUMNS", "cells", "write_experiment_report"]

COLUMNS = ("row", "rate", "test bound", "minus cosine", "Fréchet", "sooner", "img/s", "div.", "cost")
"""Headings of the table."""


def cells(entry: Entry, baseline: Entry | None, steps: int) -> list[str]:
    """An entry's cells, in the order of ``COLUMNS``; cost in training runs of ``steps``."""
    difference = reached = ""
    if baseline is not None and baseline.row != entry.row:
        difference = entry.minus(baseline).plus_minus("+.3f")
        found = reach(entry, baseline)
        reached = (
            f"{found.speed_up.value:.2f}x" if found.speed_up is not None else f"{found.reached}/{found.runs}"
        )
    speed = entry.sampled_images_per_second
    return [
        entry.row,
        f"{entry.rate:g}",
        entry.test_bound.plus_minus(".3f"),
        difference,
        "" if entry.frechet is None else entry.frechet.plus_minus(".2f"),
        reached,
        "" if speed is None else f"{speed:.0f}",
        str(entry.diverged),
        f"{entry.search_steps / steps:.0f}",
    ]


def explanation(experiment: Experiment) -> str:
    """How to read the table."""
    setting = experiment.plan.setting
    return (
        f"{len(experiment.plan.seeds)} held-out seeds a row, {setting.steps} optimizer steps a run, batch "
        f"{setting.variant.training.batch_size}. `test bound`: bits/dim on test images, lower is better, mean and 95 % "
        f"interval (Student's t); `minus {BASELINE}`: paired by seed. `Fréchet`: distance of {setting.samples} samples "
        f"(DDIM, {setting.sampler_steps} steps) to the training images over the features `{setting.extractor}`; it is "
        "not FID, and it is biased in the number of samples, which is the same for all. `sooner`: how many times "
        "fewer iterations until the validation bound is what cosine has at the end; or how many runs got there at all. "
        "`img/s`: images generated per second, all runs side by side, one timing of the same work for every row. "
        "`div.`: runs that diverged; they enter the "
        "bounds at the value at which a run counts as diverged. `cost`: training runs spent on finding the learning "
        f"rate ({setting.trial_seeds} seeds at each of {len(setting.rates)} rates for every row), and on an agent's "
        "constants or policy."
    )


def write_experiment_report(folder: Path) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures/*.png`` into an experiment's folder.

    Raises:
        SchedrlError: Runs are missing, or the folder cannot be written.
    """
    experiment = load_experiment(folder)
    table = entries(experiment)
    ensure_folder(folder / "figures", "report folder")
    name = f"AVA-DSC on {experiment.plan.setting.data}"
    blocks: list[Block] = [
        Heading(name, 1),
        *verdicts(claims(table), READING),
        *_tables(experiment, table),
        *_pictures(experiment),
        Heading("What the paper prints"),
        Paragraph("Where it contradicts itself, every reading was built and is a row above."),
        Bullets(INCONSISTENCIES),
        *_method(folder, experiment),
    ]
    return write_document(folder, blocks, name)


def _tables(experiment: Experiment, table: Sequence[Entry]) -> list[Block]:
    blocks: list[Block] = [Heading("Results"), Paragraph(explanation(experiment))]
    for tuned in (False, True):
        title = "Learning rate tuned for every row" if tuned else "The same learning rate for all"
        baseline = find(table, BASELINE, tuned)
        steps = experiment.plan.setting.steps
        lines = [cells(entry, baseline, steps) for entry in table if entry.tuned == tuned]
        blocks += [Heading(title, 3), Table(COLUMNS, lines, left=1)]
    whats = tuple(f"`{row.name}`: {row.what}" for row in experiment.plan.rows)
    return [*blocks, Heading("Rows", 3), Bullets(whats)]


def _pictures(experiment: Experiment) -> list[Block]:
    blocks: list[Block] = [Heading("Training")]
    for tuned in (False, True):
        runs: dict[str, list[Run]] = {row.name: [] for row in experiment.plan.rows}
        for run in experiment.runs:
            if run.tuned == tuned:
                runs[run.row].append(run)
        what = "tuned learning rates" if tuned else "fixed learning rate"
        key = "tuned" if tuned else "fixed"
        moving = {name: rows for name, rows in runs.items() if "ava" in name or "dsc" in name}
        blocks += [
            image(
                f"quality-{key}", quality_figure(runs, f"Quality over training, {what}"),
                f"Mean over seeds; {what}. Rows of which a run diverged are left out.",
            ),
            image(
                f"traces-{key}", traces_figure(moving, f"What moves, {what}"),
                f"K, τ, the gradient's norm and η_t over training; {what}. Runs that diverged are left out.",
            ),
        ]  # fmt: skip
    return blocks


def _method(folder: Path, experiment: Experiment) -> list[Block]:
    plan, run = experiment.plan, experiment.runs[0]
    setting = plan.setting
    versions = ", ".join(f"{name} {value}" for name, value in sorted(run.versions.items()))
    command = f"schedrl experiment ava-dsc --data {setting.data} --seeds {len(plan.seeds)} -f {folder}"
    command += "".join(f" {option}" for option in plan.options)
    return [
        Heading("Method"),
        Paragraph(
            f"Network, data and budget are those of `{setting.variant.id}` (fingerprint "
            f"`{setting.variant.fingerprint()}`). The fixed learning rate is {setting.fixed_rate:g}; tried were "
            f"{', '.join(f'{rate:g}' for rate in setting.rates)}, by the validation bound at the end, on seeds that no "
            f"row is judged by. Every run is a line of `{RUNS}`, every trial one of `{TRIALS}`."
        ),
        Paragraph(f"Hardware: {run.hardware}. Software: {versions}."),
        Code(command),
    ]
