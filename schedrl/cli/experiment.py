"""``schedrl experiment``: a paper's experiment, with every reading of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

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
from schedrl.errors import unknown_name

__all__ = ["EXPERIMENT_EXAMPLES", "experiment"]

EXPERIMENT_EXAMPLES = """
**Examples**

`schedrl experiment ava-dsc` : digits, ten seeds a row; interrupted, the same command goes on

`schedrl experiment ava-dsc --data fashion-mnist --seeds 3 --rows cosine,ava-prose,ava-prose-dsc` : a part of it

`schedrl experiment ava-dsc --data cifar10 --device cuda --download`
"""


def experiment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The experiment; ava-dsc is the only one.")],
    data: Annotated[
        Literal["digits", "fashion-mnist", "cifar10"], typer.Option(help="Image set.")
    ] = "digits",
    seeds: Annotated[int, typer.Option(min=2, help="Held-out seeds of every row.")] = 10,
    rows: Annotated[str | None, typer.Option(help="Rows, separated by commas; all when absent.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("-f", "--folder", help="Where results and report go. [runs/experiment/NAME-DATA]"),
    ] = None,
    rates: Annotated[
        str | None, typer.Option(help="Learning rates tried for every row, separated by commas.")
    ] = None,
    settings: SetOption = None,
    progress: BarOption = False,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Run a paper's experiment: every reading, fixed and tuned learning rates, intervals, and its claims' verdicts."""
    if name != "ava-dsc":
        raise unknown_name("experiment", name, ["ava-dsc"])

    from schedrl.benchmark.ava_dsc.rows import DATA, rows_named, setting_for

    overrides = parse_settings(settings, "--set")
    fields = {} if rates is None else {"rates": _numbers(rates)}
    setting = setting_for(data, overrides, **fields)
    chosen = rows_named([word.strip() for word in rows.split(",")] if rows else None)
    target = folder or Path("runs", "experiment", f"{name}-{data}")
    checked_device(device)

    from schedrl.benchmark.ava_dsc.report import COLUMNS, cells, write_experiment_report
    from schedrl.benchmark.ava_dsc.runner import available, make_plan, run_experiment
    from schedrl.benchmark.ava_dsc.table import BASELINE, entries, find

    if rows is None:
        chosen, left_out = available(chosen, setting)
        for text in left_out:
            note(text)
    ready_variant(DATA[data], overrides, download=download)
    options = [] if rows is None else [f"--rows {rows}"]
    options += [] if rates is None else [f"--rates {rates}"]
    options += [f"--set {shlex.quote(text)}" for text in settings or ()]
    options += [] if device == "cpu" else [f"--device {device}"]
    plan = make_plan(setting, chosen, seeds, device, options)
    with ticker(plan.optimizer_steps, "experiment", every=8, force_bar=progress) as tick:
        done, notes = run_experiment(plan, target, lambda p: tick(p.done, p.doing))
    for text in notes:
        note(text)

    from rich import box
    from rich.table import Table

    table = entries(done)
    for tuned in (False, True):
        title = "learning rate tuned for every row" if tuned else f"learning rate {setting.fixed_rate:g}"
        shown = Table(
            title=f"AVA-DSC on {data}, {title}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0),
            pad_edge=False, collapse_padding=True, show_edge=False,
        )  # fmt: skip
        for place, head in enumerate(COLUMNS):
            shown.add_column(head, justify="right" if place else "left", no_wrap=True)
        for entry in table:
            if entry.tuned == tuned:
                shown.add_row(*cells(entry, find(table, BASELINE, tuned), setting.steps))
        console().print(shown)
    typer.echo(f"report: {write_experiment_report(target)}")


def _numbers(text: str) -> tuple[float, ...]:
    from schedrl.errors import SchedrlError

    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise SchedrlError(f"--rates: must be numbers separated by commas (got {text!r})") from None
