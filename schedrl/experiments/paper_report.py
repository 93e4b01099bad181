"""The report of an experiment: verdicts on the paper's claims, tables, figures, and what the paper prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schedrl.experiments.experiment import Experiment
from schedrl.experiments.row_runs import RowRuns, find_row, shown
from schedrl.experiments.runner import RUNS, TRIALS, ExperimentResults
from schedrl.files import ensure_folder
from schedrl.report.claims import verdicts
from schedrl.report.document import Block, Bullets, Code, Heading, Paragraph, Table, write_document

__all__ = ["COLUMNS", "Column", "result_tables", "write_experiment_report"]


@dataclass(frozen=True)
class Column:
    """A column of an experiment's tables.

    Attributes:
        cell: Text of the cell for a row and its baseline; a row without a baseline is given itself.
        meaning: What the numbers are.
        versus: Whether rows are compared with the baseline, which itself has an empty cell.
    """

    cell: Callable[[RowRuns, RowRuns], str]
    meaning: str = ""
    versus: bool = False


COLUMNS = {
    "row": Column(lambda row, _: row.row),
    "rate": Column(lambda row, _: shown(row.rate, "g"), "learning rate"),
    "test bound": Column(
        lambda row, _: shown(row.test_bound, ".3f"),
        "bits/dim on test images, lower is better, mean and 95 % interval (Student's t); a diverged run counts with "
        "the bound at which a run is taken to have diverged",
    ),
    "minus": Column(
        lambda row, base: shown(row.minus(base), "+.3f"), "difference, paired by seed", versus=True
    ),
    "steps": Column(
        lambda row, base: str(row.reach(base)),
        "how many times fewer optimizer steps a row takes to reach the validation bound that the baseline has at the "
        "end; or how many of its runs reach it at all",
        versus=True,
    ),
    "time": Column(
        lambda row, base: str(row.reach(base, seconds=True)),
        "the same in seconds instead of steps",
        versus=True,
    ),
    "Fréchet": Column(
        lambda row, _: shown(row.frechet(), ".2f"), "Fréchet distance of samples, lower is better"
    ),
    "img/s": Column(
        lambda row, _: shown(row.sampled_images_per_second, ".0f"),
        "images generated per second, all runs side by side, one timing of the same work for every row",
    ),
    "ms/step": Column(
        lambda row, _: f"{1e3 * row.step_seconds:.2f}",
        "a run's share of the time of an optimizer step of all seeds together, all rows timed in turns, the median",
    ),
    "MFLOP": Column(
        lambda row, _: f"{row.step_flops / 1e6:.0f}", "operations of the matrix products in a step"
    ),
    "weights": Column(lambda row, _: str(row.runs[0].parameters), "parameters of the network"),
    "div.": Column(lambda row, _: str(row.diverged), "diverged runs"),
    "cost": Column(
        lambda row, _: f"{row.runs[0].search_steps / row.runs[0].steps[-1]:.0f}",
        "training runs spent on finding the learning rate, and the constants or policy of an agent",
    ),
}


def result_tables(results: ExperimentResults) -> list[Table]:
    """The results at each learning rate; and Fréchet distances apart, where there are several ways of sampling."""
    experiment, table, setting = results.experiment, results.table(), results.experiment.setting
    columns = [COLUMNS[_key(name)] for name in experiment.columns]
    tables = []
    for tuned in sorted({row.tuned for row in table}):
        lines = []
        for row in (row for row in table if row.tuned == tuned):
            base = find_row(table, experiment.baseline(row.row), tuned)
            alone = base is None or base is row
            lines.append(["" if alone and each.versus else each.cell(row, base or row) for each in columns])
        rate = f"{setting.variant.training.optimizer.learning_rate:g} for every row"
        caption = f"Learning rate {'tuned for every row' if tuned else rate}"
        tables.append(Table(experiment.columns, lines, left=1, caption=caption))
    if len(setting.ways) > 1:
        ways = [way.label for way in setting.ways]
        lines = [[row.row, *(shown(row.frechet(way), ".2f") for way in ways)] for row in table]
        caption = f"Fréchet distance over {setting.extractor}, {setting.samples} samples"
        tables.append(Table(("row", *ways), lines, left=1, caption=caption))
    return tables


def _key(column: str) -> str:
    """The column without the name of the baseline."""
    return "minus" if column.startswith("minus ") else column


def write_experiment_report(folder: Path, results: ExperimentResults) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures/*.png`` into an experiment's folder.

    Returns:
        The HTML file.

    Raises:
        SchedrlError: Runs are missing, or the folder cannot be written.
    """
    experiment, table = results.experiment, results.table()
    ensure_folder(folder / "figures", "report folder")
    title = f"{experiment.title} on {experiment.setting.data}"
    summary = experiment.summary(table)
    blocks: list[Block] = [
        Heading(title, 1),
        *([Paragraph(summary)] if summary else []),
        *verdicts(experiment.claims(table), experiment.reading),
        Heading("Results"),
        *map(Paragraph, _explanation(experiment)),
        *result_tables(results),
        Heading("Rows", 3),
        Bullets(tuple(f"`{row.name}`: {row.what}" for row in experiment.rows)),
        *experiment.pictures(table),
        Heading("What the paper prints"),
        Bullets(experiment.inconsistencies),
        *_method(folder, results),
    ]
    return write_document(folder, blocks, title)


def _explanation(experiment: Experiment) -> list[str]:
    """How to read the tables."""
    setting = experiment.setting
    meanings = {name: COLUMNS[_key(name)].meaning for name in experiment.columns}
    ways = ", ".join(way.label for way in setting.ways)
    return [
        f"{len(experiment.seeds)} held-out seeds a row, {setting.steps} optimizer steps a run, batch "
        f"{setting.variant.training.batch_size}. "
        + " ".join(f"`{name}`: {meaning}." for name, meaning in meanings.items() if meaning),
        (
            f"Samples: {setting.samples} of every network ({ways}), with steps even in log-SNR. Their Fréchet "
            f"distance to the training images is taken over the features `{setting.extractor}`. It is not FID, and it "
            f"is biased in the number of samples, which is the same for all rows. {experiment.remark}"
        ),
    ]


def _method(folder: Path, results: ExperimentResults) -> list[Block]:
    experiment, run, setting = results.experiment, results.runs[0], results.experiment.setting
    variant, optimizer = setting.variant, setting.variant.training.optimizer
    tried, versions = ", ".join(f"{rate:g}" for rate in setting.rates), sorted(run.versions.items())
    command = f"schedrl experiment {experiment.name} --data {setting.data} --seeds {len(experiment.seeds)} -f {folder}"
    text = (
        f"Network, data and budget are those of `{variant.id}` (fingerprint `{variant.fingerprint()}`). Learning rate "
        f"{optimizer.learning_rate:g}, which DSC scales, and weight decay {optimizer.weight_decay:g}. Every run is a "
        f"line of `{RUNS}`."
    )
    if tried:
        text += (
            f" For the tuned learning rate {tried} were tried, and judged by the validation bound at the end, on seeds "
            f"that are not held out; every trial is a line of `{TRIALS}`."
        )
    return [
        Heading("Method"),
        Paragraph(text),
        Paragraph(
            f"Hardware: {run.hardware}. Software: {', '.join(f'{name} {version}' for name, version in versions)}."
        ),
        Code(" ".join([command, *experiment.options])),
    ]
