"""``schedrl schedule``: design, show, compare and convert schedule files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from schedrl.cli.common import DownloadOption, Group, console, note, say
from schedrl.cli.tune import TUNE_EXAMPLES, tune
from schedrl.errors import SchedrlError
from schedrl.files import ensure_file

if TYPE_CHECKING:
    from schedrl.data.image_streams import ImageStream
    from schedrl.design.design import Design
    from schedrl.export import ScheduleFile, TrainingSchedule


app = typer.Typer(
    name="schedule",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Tune a sampler's grid for your network, or design one for your data; show, compare and convert files.",
)

DESIGN_EXAMPLES = """
**Examples**

`schedrl schedule design --data pictures/ --steps 10 --sampler ddim -o schedule.json --plot`

`schedrl schedule design --data mine.npz --steps 20 --sampler heun --schedule scaled-linear -o schedule.json`

`schedrl schedule design --data pictures/ --steps 10 --prediction v_prediction --network-error 1e-3`

`schedrl schedule design --data digits --steps 8 --method agent:ppo -o schedule.json` : placed by a policy trained in
AnyGaussianSampling-v0
"""

CONVERT_EXAMPLES = """
**Examples**

`schedrl schedule convert schedule.json --to comfyui -o sigmas.txt`

`schedrl schedule convert schedule.json --to diffusers -o scheduler/`
"""


@app.command(epilog=DESIGN_EXAMPLES)
def design(
    data: Annotated[
        str, typer.Option(help="A folder of pictures, an .npz file, or an image set (digits, cifar10, …).")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The schedule file to write.")] = Path(
        "schedule.json"
    ),
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Sampler steps N.")] = 10,
    sampler: Annotated[
        Literal["ddim", "ddpm", "heun"], typer.Option(help="The sampler; ddim is also Euler in sigma.")
    ] = "ddim",
    method: Annotated[
        str | None,
        typer.Option(
            help="flow (closest to the exact flow), optimal (least KL), tangent, geodesic, or agent:NAME. "
            "[flow; optimal for ddpm]"
        ),
    ] = None,
    prediction: Annotated[
        Literal["epsilon", "v_prediction", "sample"], typer.Option(help="What the network predicts.")
    ] = "epsilon",
    network_error: Annotated[
        str | None,
        typer.Option(
            help="Variance of a pixel's error in what the network predicts, for method flow: a number, or a .csv or "
            ".json file with logsnr and variance. [a cautious guess]"
        ),
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            help="Schedule that the network trained on: a name, NAME:NUMBER, JSON, or a .json file."
        ),
    ] = "linear",
    train_steps: Annotated[
        int,
        typer.Option("-T", "--train-steps", min=2, max=100_000, help="Training steps T of that schedule."),
    ] = 1000,
    floor: Annotated[
        float, typer.Option(help="Smallest standard deviation that counts; pixels are in [-1, 1].")
    ] = 0.01,
    size: Annotated[
        int | None, typer.Option(help="Side of a folder's images in pixels. [as in the files, at most 128]")
    ] = None,
    channels: Annotated[int | None, typer.Option(help="1 or 3, for a folder. [as in the files]")] = None,
    images: Annotated[int | None, typer.Option(help="Largest number of images to measure. [all]")] = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Also draw the grids as a .png beside the file.")
    ] = False,
    download: DownloadOption = False,
) -> None:
    """Measure images, place a sampler's steps for them, and compare with the grids that tools use by default."""
    from schedrl.design.design import design as make
    from schedrl.design.design import measure
    from schedrl.design.methods import METHODS, read_network_error
    from schedrl.design.trust import trust
    from schedrl.errors import unknown_name

    method = method or ("optimal" if sampler == "ddpm" else "flow")
    if method not in METHODS and not method.startswith("agent:"):
        raise unknown_name("method", method, (*METHODS, "agent:NAME"))
    if not 1e-6 <= floor <= 1e6:
        raise SchedrlError(f"--floor: must be a standard deviation between 1e-6 and 1e6 (got {floor})")
    if network_error is not None and method != "flow":
        raise SchedrlError(f"--network-error: is for --method flow, which places steps by it (got {method})")
    error = None if network_error is None else read_network_error(network_error, prediction)
    training = _training_schedule(schedule, train_steps)
    if steps > train_steps:
        raise SchedrlError(f"--steps: must be at most the training steps T = {train_steps} (got {steps})")
    for path in (out, *([out.with_suffix(".png")] if plot else [])):
        ensure_file(path, "-o")
    stream = _stream(data, size, channels, images, download)
    channel_count, height, width = stream.shape
    note(f"measuring {stream.name} at {channel_count} x {height} x {width}")
    measurement = measure(stream, floor)
    for line in stream.report.sentences():
        note(line)
    made = make(stream, measurement, method, sampler, steps, training, prediction, error)
    made.file.write(out)
    _print_design(made, steps)
    for line in [*made.notes, *trust(measurement, looked_at=error is not None)]:
        say(line)
    if plot:
        from schedrl.files import write_bytes
        from schedrl.report.figures import png

        picture = out.with_suffix(".png")
        write_bytes(picture, png(made.figure()))
        say(f"the figure is in {picture}")
    say(f"the schedule is in {out}; `schedrl schedule convert {out} --to …` converts it for another tool")


app.command(epilog=TUNE_EXAMPLES)(tune)


@app.command()
def show(file: Annotated[Path, typer.Argument(help="A schedule file.")]) -> None:
    """Print a schedule file: its noise levels and where it comes from."""
    from rich.table import Table

    read = _read(file)
    say(f"{read.sampler}, {read.num_steps} steps, {read.evaluations} network evaluations")
    for line in _origin(read):
        say(line)
    table = Table("step", "σ", "log-SNR", "ᾱ", "timestep", box=None)
    for k, sigma in enumerate(read.sigmas):
        step = "" if read.timesteps is None else f"{read.timesteps[k]:.2f}"
        table.add_row(str(k), f"{sigma:.6g}", f"{read.logsnr[k]:.4f}", f"{read.alphas_cumprod[k]:.6g}", step)
    console().print(table)


@app.command()
def compare(
    files: Annotated[
        list[Path], typer.Argument(help="Schedule files; the data of the first that has any decide.")
    ],
) -> None:
    """Compare schedule files by their exact errors on the data of the first file that has any."""
    import numpy as np
    from rich.table import Table

    from schedrl.design.design import flow_error, kl_by_sampler

    if len(files) < 2:
        raise SchedrlError(f"compare: needs at least two schedule files (got {len(files)})")
    read = [_read(path) for path in files]
    judge = next((one for one in read if one.eigenvalues), None)
    if judge is None:
        say("no file has a spectrum, so there are no errors to compare")
    else:
        where = judge.provenance.data or "its data"
        say(f"exact KL in nats, for a Gaussian with the spectrum of {where}, with each file's own sampler")
    table = Table(
        "file", "method", "sampler", "N", "calls", "first σ", "last σ > 0", "KL", "flow error", box=None
    )
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        names = [str(path) for path in files]
    for name, one in zip(names, read, strict=True):
        positive = [sigma for sigma in one.sigmas if sigma > 0.0]
        error = off = ""
        if judge is not None:
            spectrum = np.array(judge.eigenvalues)
            error = _number(kl_by_sampler(spectrum, one.grid, (one.sampler,))[one.sampler])
            off = _percent(flow_error(spectrum, one.grid, one.sampler))
        ends = f"{positive[0]:.4g}", f"{positive[-1]:.4g}"
        counts = str(one.num_steps), str(one.evaluations)
        table.add_row(name, one.provenance.method, one.sampler, *counts, *ends, error, off)
    console().print(table)


@app.command(epilog=CONVERT_EXAMPLES)
def convert(
    file: Annotated[Path, typer.Argument(help="A schedule file.")],
    to: Annotated[
        str,
        typer.Option(help="diffusers (a folder), edm, k-diffusion (.npy), comfyui, a1111 (text), csv, npz."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to write it.")],
    scheduler: Annotated[
        str | None, typer.Option(help="Scheduler class of diffusers. [the one for the file's sampler]")
    ] = None,
    prediction_type: Annotated[
        Literal["epsilon", "sample", "v_prediction"],
        typer.Option(help="What the network predicts (diffusers)."),
    ] = "epsilon",
) -> None:
    """Convert a schedule file into another tool's format."""
    from schedrl.export import convert as write

    for line in write(_read(file), to, out, scheduler, prediction_type):
        say(line)
    say(f"written to {out}")


def _read(path: Path) -> ScheduleFile:
    from schedrl.export import ScheduleFile

    return ScheduleFile.read(path)


def _training_schedule(text: str, train_steps: int) -> TrainingSchedule:
    from schedrl.cli.fit import schedule_named
    from schedrl.export import TrainingSchedule
    from schedrl.schedules import from_dict

    return TrainingSchedule.of(from_dict(schedule_named(text)), train_steps)


def _stream(
    text: str, size: int | None, channels: int | None, images: int | None, download: bool
) -> ImageStream:
    """The images that a user names; of a split set, its training images."""
    from schedrl import data
    from schedrl.cli.fit import data_named
    from schedrl.data.image_streams import ArrayStream, FolderStream
    from schedrl.data.own import Npz

    if os.path.isdir(Path(text)):
        return FolderStream(text, size, channels, images)
    if channels is not None:
        raise SchedrlError(f"--channels: is for folders of pictures only (got '{text}')")
    if ("/" in text or "\\" in text) and not text.lower().endswith(".npz"):
        raise SchedrlError(f"--data: there is no folder {text}")
    spec = data_named(text, size)
    if isinstance(spec, Npz):
        pixels = spec.read(spec.locate())
        return ArrayStream(text, pixels.images, pixels.levels, images)
    data.ensure(spec, download=download)
    return ArrayStream(text, data.load(spec).train, limit=images)


def _print_design(made: Design, steps: int) -> None:
    from rich.table import Table

    sampler, by_flow = made.file.sampler, made.file.provenance.method == "flow"
    show, other = (_percent, _number) if by_flow else (_number, _percent)
    main, beside = ("off the flow", "KL, nats") if by_flow else ("KL, nats", "off the flow")
    counts = sorted({count for row in made.rows for count in row.by_steps} - {steps})
    table = Table(box=None)
    table.add_column(f"\n{sampler}", no_wrap=True)
    for count in (steps, *counts):
        table.add_column(f"{main}\nN={count}", justify="right")
    if made.rows[0].other is not None:
        table.add_column(f"{beside}\nN={steps}", justify="right")
    for place, row in enumerate(made.rows):
        cells = [show(row.by_steps.get(count)) for count in (steps, *counts)]
        cells += [other(row.other)] if made.rows[0].other is not None else []
        table.add_row(row.name, *cells, style="bold" if place == 0 else None)
    console().print(table)
    if by_flow:
        say(
            f"off the flow: distance between {sampler}'s images and those of the exact flow from the same noise, "
            "relative to the spread of the images, with the network's error; --method flow minimises it. KL is that of "
            "the exact denoiser, and weights all directions alike; --method optimal minimises it. For a row that "
            "starts later, what the network's own flow does above its start is not counted; for epsilon it was much."
        )


def _origin(file: ScheduleFile) -> list[str]:
    origin, training = file.provenance, file.training
    lines = [f"method {origin.method}"]
    if origin.data:
        shape = " x ".join(map(str, origin.image_shape or ()))
        lines.append(f"for {origin.data}: {origin.count} images of {shape}, floor {origin.floor:g}")
    if origin.measured:
        lines.append(", ".join(f"{name} {value:.4g}" for name, value in sorted(origin.measured.items())))
    if training is not None:
        schedule = training.schedule.model_dump_json()
        lines.append(f"training schedule {schedule}, T = {training.num_train_timesteps}")
    made = [f"{name} {version}" for name, version in sorted(origin.versions.items())]
    if made or origin.revision:
        lines.append(
            "made with " + ", ".join([*made, *([f"revision {origin.revision}"] if origin.revision else [])])
        )
    return lines


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100.0 * share:.3g} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
