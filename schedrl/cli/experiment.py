"""``schedrl experiment``: a paper's experiment, with every reading of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from schedrl.cli.common import (
    BarOption,
    DeviceOption,
    DownloadOption,
    SetOption,
    checked_device,
    console,
    note,
    parse_settings,
    say,
    ticker,
)
from schedrl.environments.registration import ready_variant
from schedrl.errors import SchedrlError, unknown_name

if TYPE_CHECKING:
    from schedrl.experiments.experiment import Experiment


EXPERIMENT_EXAMPLES = """
**Examples**

`schedrl experiment ava-dsc` : digits, ten seeds a row; run again, it resumes where it stopped

`schedrl experiment ava-dsc --data fashion-mnist --seeds 3 --rows cosine,ava-prose,ava-prose-dsc` : a part of it

`schedrl experiment akod` : digits; the kernel, MSFI and β modulation, alone and together

`schedrl experiment akod --data fashion-mnist --seeds 3 --rows plain,tangent,msfi --samples 300`

`schedrl experiment ava-dsc --data cifar10 --device cuda --download`
"""


def experiment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The paper: ava-dsc or akod.")],
    data: Annotated[
        Literal["digits", "fashion-mnist", "cifar10"], typer.Option(help="Image set.")
    ] = "digits",
    seeds: Annotated[
        int | None,
        typer.Option(min=2, max=100_000, help="Held-out seeds for every row. [ava-dsc 10, akod 5]"),
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="Rows, separated by commas; all of them by default.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("-f", "--folder", help="Folder for results and report. [runs/experiment/NAME-DATA]"),
    ] = None,
    rates: Annotated[
        str | None, typer.Option(help="ava-dsc: learning rates tried for every row, separated by commas.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=2, help="Images drawn from every network in each way of sampling.")
    ] = None,
    settings: SetOption = None,
    progress: BarOption = False,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Run a paper's experiment: every reading of it, with intervals and verdicts on the paper's claims."""
    paper = _paper(name)
    if rates is not None and "rates" not in paper.defaults:
        raise SchedrlError(
            f"--rates: {name} has one learning rate; --set training.optimizer.learning_rate=..."
        )
    overrides = parse_settings(settings, "--set")
    checked_device(device)
    fields: dict[str, Any] = {} if samples is None else {"samples": samples}
    fields |= {} if rates is None else {"rates": _numbers(rates)}
    setting = paper.make_setting(data, overrides, **fields)
    chosen = paper.rows_named([word.strip() for word in rows.split(",")] if rows else None)
    ready_variant(setting.variant.id, overrides, download=download)

    from schedrl.experiments.paper_report import result_tables, write_experiment_report
    from schedrl.experiments.runner import lay_out, run_experiment
    from schedrl.report.pages import print_table

    if rows is None:
        chosen, left_out = paper.available_rows(setting)
        for text in left_out:
            note(text)
    options = _options(rows, rates, samples, settings, device)
    laid_out = lay_out(paper, setting, chosen, seeds or paper.num_seeds, device, options)
    folder = folder or Path("runs", "experiment", f"{name}-{data}")
    with ticker(laid_out.optimizer_steps, "experiment", every=8, force_bar=progress) as tick:
        results, notes = run_experiment(laid_out, folder, tick)
    for text in notes:
        note(text)
    for table in result_tables(results):
        caption = f"{paper.title} on {data}: {table.caption}"
        print_table(replace(table, caption=caption), console())
    say(f"report: {write_experiment_report(folder, results)}")


def _paper(name: str) -> type[Experiment]:
    from schedrl.experiments.akod import AKODExperiment
    from schedrl.experiments.ava_dsc import AVADSCExperiment

    papers: dict[str, type[Experiment]] = {
        each.title.lower(): each for each in (AKODExperiment, AVADSCExperiment)
    }
    if name not in papers:
        raise unknown_name("experiment", name, papers)
    return papers[name]


def _options(
    rows: str | None, rates: str | None, samples: int | None, settings: Sequence[str] | None, device: str
) -> list[str]:
    """The command line without data, seeds and folder, as the report prints it."""
    options = [] if rows is None else [f"--rows {rows}"]
    options += [] if rates is None else [f"--rates {rates}"]
    options += [] if samples is None else [f"--samples {samples}"]
    options += [f"--set {shlex.quote(text)}" for text in settings or ()]
    return options + ([] if device == "cpu" else [f"--device {device}"])


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise SchedrlError(f"--rates: must be numbers separated by commas (got {text!r})") from None
