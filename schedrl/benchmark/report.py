"""The report of a comparison: what was measured, what came out, and what the schedules look like."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from schedrl import data, schedules
from schedrl.benchmark import figures, show
from schedrl.benchmark.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Image,
    Paragraph,
    Table,
    write_document,
)
from schedrl.benchmark.manifest import Manifest, load_comparison
from schedrl.benchmark.replay import replay
from schedrl.benchmark.store import Result
from schedrl.benchmark.table import Row, Summary, summarise
from schedrl.errors import MissingDataError
from schedrl.files import ensure_folder
from schedrl.policies.progress import read_progress
from schedrl.schedules import Schedule

__all__ = ["image", "learning_blocks", "report_blocks", "write_report"]

_NAMED = 4
"""Hand-made laws drawn with their names; the others are faint."""

_SAMPLES = 16
"""Images per network."""


def write_report(folder: Path, listen: Callable[[str], None] | None = None) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures/*.png`` into a comparison's folder.

    Args:
        folder: With ``benchmark.json`` and its results, as ``schedrl benchmark -f FOLDER`` leaves them.
        listen: Told what is being done.

    Returns:
        The HTML file.

    Raises:
        SchedrlError: The comparison is missing or damaged, or the folder cannot be written.
    """
    return write_document(folder, report_blocks(folder, listen), load_comparison(folder)[0].variant.id)


def report_blocks(folder: Path, listen: Callable[[str], None] | None = None) -> list[Block]:
    """What :func:`write_report` writes."""
    manifest, results = load_comparison(folder)
    ensure_folder(folder / "figures", "report folder")
    summary = summarise(results, manifest.reference, manifest.notes)
    tell = listen or (lambda _: None)
    tell("figures")
    blocks = _opening(summary)
    blocks += _pictures(folder, manifest, results, summary, tell)
    return [*blocks, *_method(manifest, results, summary)]


def _opening(summary: Summary) -> list[Block]:
    heads, rows = show.report_table(summary)
    return [
        Heading(f"Noise schedules in {summary.env_id}", 1),
        Bullets(tuple(show.findings(summary))),
        Heading("Results"),
        Paragraph(show.title(summary) + "."),
        Table(heads, rows),
        Paragraph(show.explanation(summary)),
    ]


def _pictures(
    folder: Path, manifest: Manifest, results: Sequence[Result], summary: Summary, tell: Callable[[str], None]
) -> list[Block]:
    curves = _curves(results, summary)
    limits = (manifest.variant.bound.logsnr_max, manifest.variant.bound.logsnr_min)
    make = image
    blocks: list[Block] = [
        make(
            "bounds",
            figures.bounds_figure(summary),
            "Test bounds and paired differences, with 95 % intervals.",
        ),
        Heading("Schedules"),
        make(
            "schedules",
            figures.schedules_figure(curves, limits),
            "The learned schedule beside the hand-made ones, as used in the first held-out run. Faint: the other "
            "hand-made laws. Laws that move with the gradient norm (AVA's) are not drawn.",
        ),
        make(
            "noise-levels",
            figures.noise_figure(curves, limits),
            "Which noise the networks trained on. Left: density over log-SNR, in cells; noise that falls outside the "
            "figure is not drawn. Right: share of training noise below each noise-to-signal ratio.",
        ),
    ]
    blocks += _learning(folder, manifest, summary)
    tell("training two networks for their samples")
    return [*blocks, *_samples(manifest, results, summary)]


def _curves(results: Sequence[Result], summary: Summary) -> list[figures.Curve]:
    """Schedules of the first seed: of learned rows every phase, of hand-made ones the law."""
    curves: list[figures.Curve] = []
    named = 0
    for row in summary.rows:
        if row.kind not in ("trained", "schedule"):
            continue
        made = _program(results, row)
        if row.learned:
            several = len(made) > 1
            curves += [
                figures.Curve(f"{row.label}, phase {phase}" if several else row.label, schedule, learned=True)
                for phase, schedule in enumerate(made, start=1)
            ]
        elif row.form == "exact" or not any(
            other.label == row.label for other in summary.rows if other is not row
        ):
            wanted = named < _NAMED or row.label in ("cosine", "linear")
            curves.append(figures.Curve(row.label if wanted else None, made[0]))
            named += wanted
    return curves


def _program(results: Sequence[Result], row: Row) -> list[Schedule]:
    """The schedules of a row's first seed, phase by phase."""
    runs = [result for result in results if (result.agent, result.form) == (row.label, row.form)]
    first = min(runs, key=lambda result: result.seed)
    return [schedules.from_dict(schedule) for schedule in first.schedule]


def _learning(folder: Path, manifest: Manifest, summary: Summary) -> list[Block]:
    folders = {row.agent: folder / row.folder for row in manifest.rows if row.folder is not None}
    blocks = learning_blocks(folders)
    if blocks or not any(row.learned for row in summary.rows):
        return blocks
    text = "The folder of the training is not at hand, so there is no learning curve."
    return [Heading("Learning"), Paragraph(text)]


def learning_blocks(folders: Mapping[str, Path]) -> list[Block]:
    """Learning curves of trained agents, by the agents' names; empty when no folder has one."""
    blocks: list[Block] = []
    for name, folder in folders.items():
        if not (progress := read_progress(folder)):
            continue
        blocks.append(
            image(
                f"learning-{name}".replace(" ", "-").replace("(", "").replace(")", ""),
                figures.learning_figure(progress, name),
                f"Return of {name} while it learned, over {progress[-1].seconds / 60.0:.1f} minutes. Episodes differ "
                "between updates, so means jump with their luck: the trend over many updates is what counts.",
            )
        )
    return [Heading("Learning"), *blocks] if blocks else []


def _samples(manifest: Manifest, results: Sequence[Result], summary: Summary) -> list[Block]:
    learned = next((row for row in summary.rows if row.learned), None)
    chosen = [row for row in (learned, summary.best_hand_made) if row is not None]
    seed = summary.seeds[0]
    try:
        images = data.load(manifest.variant.data).test[:_SAMPLES]
        made = replay(manifest.variant, [_program(results, row) for row in chosen], seed, _SAMPLES)
    except MissingDataError as error:
        return [Heading("Samples"), Paragraph(f"No samples: {error}.")]
    panels = [
        (f"{row.name}\nvalidation bound {bound:.4f}", samples)
        for row, samples, bound in zip(chosen, made.samples, made.bounds.tolist(), strict=True)
    ]
    figure = figures.samples_figure([*panels, ("test images", np.asarray(images))])
    caption = (
        f"Samples (DDIM, 20 steps, same initial noise) of networks trained from seed {seed} under these schedules, "
        "and images of the test set. The networks are small and the runs short: the bound is the measure, not the look."
    )
    return [Heading("Samples"), image("samples", figure, caption)]


def _method(manifest: Manifest, results: Sequence[Result], summary: Summary) -> list[Block]:
    variant, last = manifest.variant, results[-1]
    grid = variant.test_bound or variant.bound
    software = ", ".join(f"{name} {number}" for name, number in sorted(last.versions.items()))
    seeds = f"{summary.seeds[0]} to {summary.seeds[-1]}" if len(summary.seeds) > 1 else str(summary.seeds[0])
    training = variant.training
    trained = (
        f"Every run trains a U-Net with channels {list(training.network.channels)} from scratch on "
        f"`{variant.data.name}`: {variant.optimizer_steps} steps of {training.optimizer.name}, learning rate "
        f"{training.optimizer.learning_rate:g}, batches of {training.batch_size}."
    )
    measured = (
        f"The bound is measured on test images at {grid.levels} fixed noise levels between λ = {grid.logsnr_max:g} "
        f"and {grid.logsnr_min:g}, with fixed noise; no agent is rewarded for test images. Protocol fingerprint "
        f"`{last.protocol}`, equal for all rows."
    )
    held_out = (
        f"Held-out seeds {seeds}: other initial weights, batches and noise than in any training of an agent. All "
        "agents run on the same seeds, which pairs them."
    )
    items = (
        f"Environment `{variant.id}`, fingerprint `{variant.fingerprint()}`: {variant.description}.",
        trained,
        measured,
        held_out,
        f"Hardware: {', '.join(sorted({result.hardware for result in results}))}. Software: {software}.",
    )
    return [
        Heading("How it was measured"),
        Bullets(items),
        Heading("Again"),
        Code(_command(manifest, summary)),
    ]


def _command(manifest: Manifest, summary: Summary) -> str:
    agents = dict.fromkeys(
        row.agent if row.folder is None else f"{row.agent}={row.folder}" for row in manifest.rows
    )
    words = ["schedrl", "benchmark", "--env", summary.env_id, "--seeds", str(len(summary.seeds))]
    words += ["--first-seed", str(summary.seeds[0]), "--agents", ",".join(agents), "-f", "FOLDER"]
    for key, value in manifest.overrides.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return f"{shlex.join(words)}\nschedrl report FOLDER"


def image(name: str, figure: Figure, caption: str) -> Image:
    """A figure as a block of a report."""
    return Image(f"figures/{name}.png", figures.png(figure), name.replace("-", " "), caption)
