"""The report of a comparison: was learning worth it, what came out, and what the schedules look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from schedrl import data, schedules
from schedrl.benchmark.manifest import TrainingManifest, load_training
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import TrainingRow, TrainingSummary, summarise_training
from schedrl.errors import MissingDataError
from schedrl.files import ensure_folder
from schedrl.policies.progress import read_progress
from schedrl.report import comparison_figures, figures, show
from schedrl.report.claims import verdicts
from schedrl.report.courses import courses_of
from schedrl.report.document import Block, Bullets, Heading, Image, Paragraph, Table, write_document
from schedrl.report.method import method_blocks
from schedrl.report.paper_claims import READING, paper_claims
from schedrl.report.parts import bound_bins, quality_table
from schedrl.report.replay import replay
from schedrl.schedules import Schedule

__all__ = ["image", "learning_blocks", "report_blocks", "write_report"]

_NAMED = 4
"""Hand-made laws drawn with their names beside the learned ones; the others are faint."""

_SEARCHES = 2
"""Searched schedules likewise."""

_KNOWN = ("cosine", "linear")
"""Laws that people know, and look for."""

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
    return write_document(folder, report_blocks(folder, listen), load_training(folder)[0].variant.id)


def report_blocks(folder: Path, listen: Callable[[str], None] | None = None) -> list[Block]:
    """What :func:`write_report` writes."""
    manifest, results = load_training(folder)
    ensure_folder(folder / "figures", "report folder")
    summary = summarise_training(results, manifest.reference, manifest.notes)
    tell = listen or (lambda _: None)
    tell("figures")
    blocks = [*_opening(summary), *_bins(manifest, results, summary), *_schedules(manifest, results, summary)]
    blocks += _learning(folder, manifest, results, summary)
    tell("training networks for their samples")
    blocks += [*_samples(manifest, results, summary), *_claims(manifest, results, summary)]
    return [*blocks, *method_blocks(folder, manifest, results, summary)]


def _opening(summary: TrainingSummary) -> list[Block]:
    heads, rows = show.report_table(summary)
    best, last = summary.rows[0], summary.rows[-1]
    return [
        Heading(f"Noise schedules in {summary.env_id}", 1),
        Bullets(tuple(show.answers(summary))),
        Heading("Results"),
        Bullets(tuple(show.findings(summary))),
        Table(heads, rows, caption=show.title(summary) + "."),
        Paragraph(show.explanation(summary)),
        image(
            "bounds",
            figures.bounds_figure(summary),
            "Test bounds and paired differences, with 95 % intervals. Diamond: learned; triangle: searched; dot: "
            "hand-made, as written; square: hand-made, as the actions can express it.",
            f"Points with error bars for {len(summary.rows)} rows, the best on top: test bounds from {best.name}, "
            f"{best.test_bound.value:.4f} bits/dim, to {last.name}, {last.test_bound.value:.4f}; and each row's "
            f"difference to {summary.reference}.",
        ),
    ]


def _main_rows(summary: TrainingSummary, most: int = 6) -> list[TrainingRow]:
    """The rows that the question is about, and the laws that people know; none of which a run diverged."""
    wanted = [row for row in summary.rows if row.learned]
    wanted += [row for row in (summary.best("searched"), summary.best("hand-made")) if row is not None]
    wanted += [row for row in summary.rows if row.label in _KNOWN and row.form == "exact"]
    fine = [row for row in dict.fromkeys(wanted) if row.num_diverged == 0]
    return fine[:most]


def _bins(
    manifest: TrainingManifest, results: Sequence[TrainingResult], summary: TrainingSummary
) -> list[Block]:
    rows = [row for row in _main_rows(summary) if row.name != summary.reference]
    grid = manifest.variant.test_bound or manifest.variant.bound
    bins = bound_bins(results, [row.name for row in rows], summary.reference, grid.levels)
    if not bins:
        return []
    edges = np.linspace(grid.logsnr_max, grid.logsnr_min, grid.levels + 1)
    drawn = {row.name: (row.role, bins[row.name]) for row in rows if row.name in bins}
    figure = comparison_figures.bins_figure(edges, drawn, summary.reference)
    peaks = "; ".join(
        f"{name} differs most at λ = {0.5 * (edges[place] + edges[place + 1]):.1f}, by {cells[place].value:+.4f}"
        for name, (_, cells) in drawn.items()
        for place in [int(np.argmax([abs(cell.value) for cell in cells]))]
    )
    caption = (
        f"The diffusion part of the test bound by cell of log-SNR: each row minus {summary.reference}, paired by seed, "
        "with 95 % intervals of each cell alone. The cells of a row add up to its difference in the table, but for the "
        "two ends, which are the same for all."
    )
    alt = f"Lines with error bars over log-SNR: {peaks}."
    return [Heading("Where the bounds differ"), image("bins", figure, caption, alt)]


def _schedules(
    manifest: TrainingManifest, results: Sequence[TrainingResult], summary: TrainingSummary
) -> list[Block]:
    curves = _curves(results, summary)
    every = _every_curve(results, summary)
    limits = (manifest.variant.bound.logsnr_max, manifest.variant.bound.logsnr_min)
    named = ", ".join(curve.label for curve in curves if curve.label is not None)
    where = "as used in the first held-out run; of rows whose schedule moves (AVA's), in the last phase"
    return [
        Heading("Schedules"),
        image(
            "schedules",
            figures.schedules_figure(curves, limits),
            f"Learned, searched and hand-made schedules, {where}. Faint: the other rows.",
            f"Lines of log-SNR against the share of weaker noise for {named}.",
        ),
        image(
            "noise-levels",
            figures.noise_figure(curves, limits),
            "Which noise the networks trained on. Left: density over log-SNR, in cells; noise that falls outside the "
            "figure is not drawn. Right: share of training noise below each noise-to-signal ratio.",
            f"Left, densities of training noise over log-SNR, right, its cumulative shares, for {named}.",
        ),
        image(
            "densities",
            figures.densities_figure(every, limits),
            f"Training density over log-SNR of every row that has a schedule, {where}. The line is the learned one.",
            "Small panels, one per schedule, of the density of its training noise over log-SNR: "
            + ", ".join(curve.label for curve in every if curve.label is not None)
            + ".",
        ),
    ]


def _drawable(summary: TrainingSummary) -> list[TrainingRow]:
    """Rows with a schedule of their own, hand-made laws as written where they were measured so."""
    exact = {row.label for row in summary.rows if row.form == "exact"}
    return [
        row
        for row in summary.rows
        if row.role != "random" and (row.role != "hand-made" or row.form == "exact" or row.label not in exact)
    ]


def _curves(results: Sequence[TrainingResult], summary: TrainingSummary) -> list[figures.Curve]:
    """Schedules of the first seed: of learned rows every phase, of the others the last."""
    curves: list[figures.Curve] = []
    named = {"hand-made": 0, "searched": 0}
    for row in _drawable(summary):
        made = _program(results, row)
        if row.learned:
            several = len(made) > 1
            curves += [
                figures.Curve(f"{row.label}, phase {phase}" if several else row.label, schedule, "learned")
                for phase, schedule in enumerate(made, start=1)
            ]
            continue
        most = _SEARCHES if row.role == "searched" else _NAMED
        wanted = named[row.role] < most or row.label in _KNOWN
        named[row.role] += wanted
        curves.append(figures.Curve(_label(row, made) if wanted else None, made[-1], row.role))
    return curves


def _every_curve(results: Sequence[TrainingResult], summary: TrainingSummary) -> list[figures.Curve]:
    made = [(row, _program(results, row)) for row in _drawable(summary)]
    return [figures.Curve(_label(row, program), program[-1], row.role) for row, program in made]


def _label(row: TrainingRow, program: Sequence[Schedule]) -> str:
    return f"{row.label}, last phase" if program[0] != program[-1] else row.label


def _program(results: Sequence[TrainingResult], row: TrainingRow) -> list[Schedule]:
    """The schedules of a row's first seed, phase by phase."""
    runs = [result for result in results if (result.agent, result.form) == (row.label, row.form)]
    first = min(runs, key=lambda result: result.seed)
    return [schedules.from_dict(schedule) for schedule in first.schedule]


def _learning(
    folder: Path, manifest: TrainingManifest, results: Sequence[TrainingResult], summary: TrainingSummary
) -> list[Block]:
    folders = {row.agent: folder / row.folder for row in manifest.rows if row.folder is not None}
    blocks = learning_blocks(folders)
    if not blocks and any(row.learned for row in summary.rows):
        text = "The folder of the training is not at hand, so there is no learning curve."
        blocks = [Heading("Learning"), Paragraph(text)]
    courses = courses_of(folder, manifest, results, summary)
    if courses is None:
        return blocks
    figure = comparison_figures.courses_figure(courses)
    reached = "; ".join(
        f"{point.name} {point.gain.value:+.4f} after {point.optimizer_steps} optimizer steps"
        for point in courses.reached
    )
    caption = (
        f"Gains in return over {courses.base}, the law of action 0, against the optimizer steps spent on finding an "
        "agent; a hand-made law costs none. Of a training: means over an update's episodes with exploration, thin, and "
        "smoothed, bold. Of a search: what its best candidate so far gained on the search's own seeds, which chance "
        "flatters. Points: what came of it on the held-out seeds, with 95 % intervals. "
        + " ".join(courses.notes)
    )
    made = image("compute", figure, caption.strip(), f"Gains against compute. On held-out seeds: {reached}.")
    return [Heading("Learning and searching against compute"), made, *blocks]


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
                f"Return of {name} over {progress[-1].timesteps} environment steps: from "
                f"{progress[0].return_mean:.3f} in the first update to {progress[-1].return_mean:.3f} in the last.",
            )
        )
    return [Heading("Learning"), *blocks] if blocks else []


def _samples(
    manifest: TrainingManifest, results: Sequence[TrainingResult], summary: TrainingSummary
) -> list[Block]:
    learned = next((row for row in summary.rows if row.learned), None)
    chosen = [
        row for row in (learned, summary.best("searched"), summary.best("hand-made")) if row is not None
    ]
    seed = summary.seeds[0]
    blocks: list[Block] = [Heading("Samples")]
    if (table := quality_table(results, summary)) is not None:
        blocks += table
    try:
        images = data.load(manifest.variant.data).test[:_SAMPLES]
        made = replay(manifest.variant, [_program(results, row) for row in chosen], seed, _SAMPLES)
    except MissingDataError as error:
        return [*blocks, Paragraph(f"No samples: {error}.")]
    panels = [
        (f"{row.name}\nvalidation bound {bound:.4f}", samples)
        for row, samples, bound in zip(chosen, made.samples, made.bounds.tolist(), strict=True)
    ]
    figure = figures.samples_figure([*panels, ("test images", np.asarray(images))])
    caption = (
        f"Samples (DDIM, 20 steps, same initial noise) of networks trained from seed {seed} under these schedules, "
        "and images of the test set. The networks are small and the runs short: the bound is the measure, not the look."
    )
    names = ", ".join(row.name for row in chosen)
    alt = f"Sheets of {_SAMPLES} images each, drawn by networks trained under {names}, and {_SAMPLES} test images."
    return [*blocks, image("samples", figure, caption, alt)]


def _claims(
    manifest: TrainingManifest, results: Sequence[TrainingResult], summary: TrainingSummary
) -> list[Block]:
    made = paper_claims(manifest.variant, results, summary)
    return [Heading("What the papers claim"), *verdicts(made, READING, "the papers claim")]


def image(name: str, figure: Figure, caption: str, alt: str = "") -> Image:
    """A figure as a block of a report; without words of its own its caption's first sentence stands for it."""
    words = alt or f"Figure: {caption.split('. ')[0].rstrip('.')}."
    width = round(96.0 * figure.get_figwidth())
    return Image(f"figures/{name}.png", figures.png(figure), words, caption, width)
