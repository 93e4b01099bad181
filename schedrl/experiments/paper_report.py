"""The report of an experiment: verdicts on the paper's claims, tables, figures, and what the paper prints."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from schedrl.experiments.row_runs import RowRuns, find_row, shown
from schedrl.experiments.runner import ExperimentResults
from schedrl.files import ensure_folder
from schedrl.report.claims import verdicts
from schedrl.report.document import Block, Bullets, Code, Heading, Paragraph, Sentences, Table, write_document

_WORDS = Sentences("experiments.txt.j2")

_CELLS: dict[str, Callable[[RowRuns], str]] = {
    "row": lambda row: row.row,
    "rate": lambda row: shown(row.rate, "g"),
    "test bound": lambda row: shown(row.test_bound, ".3f"),
    "Fréchet": lambda row: shown(row.frechet(), ".2f"),
    "img/s": lambda row: shown(row.sampled_images_per_second, ".0f"),
    "ms/step": lambda row: f"{1e3 * row.step_seconds:.2f}",
    "MFLOP": lambda row: f"{row.step_flops / 1e6:.0f}",
    "weights": lambda row: str(row.runs[0].parameters),
    "div.": lambda row: str(row.diverged),
    "cost": lambda row: f"{row.runs[0].search_steps / row.runs[0].steps[-1]:.0f}",
}
"""Cells of a row by column."""

_COMPARISONS: dict[str, Callable[[RowRuns, RowRuns], str]] = {
    "minus": lambda row, baseline: shown(row.minus(baseline), "+.3f"),
    "steps": lambda row, baseline: str(row.reach(baseline)),
    "time": lambda row, baseline: str(row.reach(baseline, seconds=True)),
}
"""Cells of a row beside its baseline; a heading may go on with the baseline's name."""


def result_tables(results: ExperimentResults) -> list[Table]:
    """The results at each learning rate; Fréchet distances apart, where there are several ways of sampling."""
    experiment, table, setting = results.experiment, results.table(), results.experiment.setting
    tables = []
    for tuned in sorted({row.tuned for row in table}):
        rate = "tuned for every row" if tuned else f"{setting.learning_rate:g} for every row"
        pairs = [
            (row, find_row(table, experiment.baseline(row.row), tuned)) for row in table if row.tuned == tuned
        ]
        lines = [[_cell(column, *pair) for column in experiment.columns] for pair in pairs]
        tables.append(Table(experiment.columns, lines, left=1, caption=f"learning rate {rate}"))
    if len(setting.ways) > 1:
        ways = [way.label for way in setting.ways]
        lines = [[row.row, *(shown(row.frechet(way), ".2f") for way in ways)] for row in table]
        caption = f"Fréchet distance over {setting.extractor}, {setting.samples} samples"
        tables.append(Table(("row", *ways), lines, left=1, caption=caption))
    return tables


def _cell(column: str, row: RowRuns, baseline: RowRuns | None) -> str:
    if column in _CELLS:
        return _CELLS[column](row)
    return "" if baseline is None or baseline is row else _COMPARISONS[column.split()[0]](row, baseline)


def write_experiment_report(folder: Path, results: ExperimentResults) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures/*.png`` into a folder, and return the HTML file's path."""
    experiment, table = results.experiment, results.table()
    ensure_folder(folder / "figures", "report folder")
    title = f"{experiment.title} on {experiment.setting.data}"
    summary, run = experiment.summary(table), table[0].runs[0]
    software = ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))
    command = ["schedrl", "experiment", experiment.title.lower(), "--data", experiment.setting.data]
    command += ["--seeds", str(len(experiment.seeds)), "-f", str(folder)]
    blocks: list[Block] = [
        Heading(title, 1),
        *([Paragraph(summary)] if summary else []),
        *verdicts(experiment.claims(table), experiment.reading),
        Heading("Results"),
        Paragraph(_WORDS.columns(experiment)),
        Paragraph(f"{_WORDS.samples(experiment.setting)} {experiment.remark}"),
        *result_tables(results),
        Heading("Rows", 3),
        Bullets(tuple(f"`{row.name}`: {row.what}" for row in experiment.rows)),
        *experiment.pictures(table),
        Heading("What the paper prints"),
        Bullets(experiment.inconsistencies),
        Heading("Method"),
        Paragraph(_WORDS.method(experiment.setting)),
        Paragraph(f"Hardware: {run.hardware}. Software: {software}."),
        Code(" ".join([shlex.join(command), *experiment.options])),
    ]
    return write_document(folder, blocks, title)
