"""``schedrl experiment``: a paper's experiment, with every reading of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

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
    ready_variant,
    ticker,
)
from schedrl.errors import SchedrlError, unknown_name

__all__ = ["EXPERIMENT_EXAMPLES", "experiment"]

EXPERIMENT_EXAMPLES = """
**Examples**

`schedrl experiment ava-dsc` : digits, ten seeds a row; interrupted, the same command goes on

`schedrl experiment ava-dsc --data fashion-mnist --seeds 3 --rows cosine,ava-prose,ava-prose-dsc` : a part of it

`schedrl experiment akod` : digits; the kernel, MSFI and β modulation, alone and together

`schedrl experiment akod --data fashion-mnist --seeds 3 --rows plain,tangent,msfi --samples 300`

`schedrl experiment ava-dsc --data cifar10 --device cuda --download`
"""


def experiment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="ava-dsc (paper A) or akod (paper B).")],
    data: Annotated[
        Literal["digits", "fashion-mnist", "cifar10"], typer.Option(help="Image set.")
    ] = "digits",
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Held-out seeds of every row. [ava-dsc 10, akod 5]")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Rows, separated by commas; all when absent.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("-f", "--folder", help="Where results and report go. [runs/experiment/NAME-DATA]"),
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
    """Run a paper's experiment: every reading of it, intervals, and the verdicts on its claims."""
    if name not in _EXPERIMENTS:
        raise unknown_name("experiment", name, _EXPERIMENTS)
    if rates is not None and name != "ava-dsc":
        raise SchedrlError(
            f"--rates: {name} has one learning rate; --set training.optimizer.learning_rate=..."
        )
    overrides = parse_settings(settings, "--set")
    checked_device(device)
    fields: dict[str, Any] = {} if samples is None else {"samples": samples}
    fields |= {} if rates is None else {"rates": _numbers(rates)}
    job = _Job(
        data, overrides, fields, [word.strip() for word in rows.split(",")] if rows else None, seeds,
        folder or Path("runs", "experiment", f"{name}-{data}"), device, download, progress,
        _options(rows, rates, samples, settings, device),
    )  # fmt: skip
    typer.echo(f"report: {_EXPERIMENTS[name](job)}")


@dataclass(frozen=True)
class _Job:
    """What was asked for."""

    data: Literal["digits", "fashion-mnist", "cifar10"]
    overrides: dict[str, Any]
    fields: dict[str, Any]
    rows: list[str] | None
    seeds: int | None
    folder: Path
    device: str
    download: bool
    progress: bool
    options: list[str]

    def follow(self, plan: Any, run: Callable[..., tuple[Any, list[str]]]) -> Any:
        """Run with a progress bar; say what there is to say."""
        with ticker(plan.optimizer_steps, "experiment", every=8, force_bar=self.progress) as tick:
            done, notes = run(plan, self.folder, lambda p: tick(p.done, p.doing))
        for text in notes:
            note(text)
        return done


def _ava_dsc(job: _Job) -> Path:
    from schedrl.experiments.ava_dsc.rows import DATA, rows_named, setting_for

    setting, chosen = setting_for(job.data, job.overrides, **job.fields), rows_named(job.rows)

    from schedrl.experiments.ava_dsc.report import COLUMNS, cells, write_experiment_report
    from schedrl.experiments.ava_dsc.runner import available, make_plan, run_experiment
    from schedrl.experiments.ava_dsc.table import BASELINE, entries, find

    ready_variant(DATA[job.data], job.overrides, download=job.download)
    if job.rows is None:
        chosen, left_out = available(chosen, setting)
        for text in left_out:
            note(text)
    plan = make_plan(setting, chosen, job.seeds or 10, job.device, job.options)
    table = entries(job.follow(plan, run_experiment))
    for tuned in (False, True):
        title = "learning rate tuned for every row" if tuned else f"learning rate {setting.fixed_rate:g}"
        lines = [cells(e, find(table, BASELINE, tuned), setting.steps) for e in table if e.tuned == tuned]
        _print_table(f"AVA-DSC on {job.data}, {title}", COLUMNS, lines)
    return write_experiment_report(job.folder)


def _akod(job: _Job) -> Path:
    from schedrl.experiments.akod.rows import DATA, ROWS, setting_for
    from schedrl.experiments.plan import rows_by_name

    setting, chosen = setting_for(job.data, job.overrides, **job.fields), rows_by_name(ROWS, job.rows)

    from schedrl.experiments.akod.report import COLUMNS, baseline_of, cells, sample_cells, write_akod_report
    from schedrl.experiments.akod.runner import available, make_plan, run_experiment
    from schedrl.experiments.akod.table import entries

    ready_variant(DATA[job.data][0], job.overrides, download=job.download)
    if job.rows is None:
        chosen, left_out = available(chosen, setting)
        for text in left_out:
            note(text)
    plan = make_plan(setting, chosen, job.seeds or 5, job.device, job.options)
    table = entries(job.follow(plan, run_experiment))
    lines = [cells(entry, baseline_of(entry, table), setting.steps) for entry in table]
    _print_table(f"AKOD on {job.data}", COLUMNS, lines)
    ways = [way.label for way in setting.samplings]
    title = f"Fréchet distance over {setting.extractor}, {setting.samples} samples"
    _print_table(title, ["row", *ways], [sample_cells(entry, ways) for entry in table])
    return write_akod_report(job.folder)


_EXPERIMENTS: dict[str, Callable[[_Job], Path]] = {"ava-dsc": _ava_dsc, "akod": _akod}


def _options(
    rows: str | None, rates: str | None, samples: int | None, settings: Sequence[str] | None, device: str
) -> list[str]:
    """The command line beyond data, seeds and folder, as a report prints it."""
    options = [] if rows is None else [f"--rows {rows}"]
    options += [] if rates is None else [f"--rates {rates}"]
    options += [] if samples is None else [f"--samples {samples}"]
    options += [f"--set {shlex.quote(text)}" for text in settings or ()]
    return options + ([] if device == "cpu" else [f"--device {device}"])


def _print_table(title: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table

    shown = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False,
        collapse_padding=True, show_edge=False,
    )  # fmt: skip
    for place, head in enumerate(heads):
        shown.add_column(head, justify="right" if place else "left", no_wrap=True)
    for line in lines:
        shown.add_row(*line)
    console().print(shown)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise SchedrlError(f"--rates: must be numbers separated by commas (got {text!r})") from None
