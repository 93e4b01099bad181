"""``schedrl fit``: train one network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from schedrl.cli.common import BarOption, DownloadOption, note, parse_settings, say, ticker
from schedrl.errors import SchedrlError

if TYPE_CHECKING:
    from schedrl.data import DataSpec
    from schedrl.diffusion.distributed import Processes
    from schedrl.fit.fit_spec import Cadence, FitSpec
    from schedrl.fit.fitting import FitProgress


FIT_EXAMPLES = """
**Examples**

`schedrl fit --data digits -n 2000` : a small network under the cosine schedule, in runs/fit/digits

`schedrl fit --data fashion-mnist --schedule tangent:0.3 --network unet-akod-fashion -n 20000`

`schedrl fit --data pictures/ --size 64 --network unet-cifar10 --schedule schedule.json --device cuda`

`schedrl fit --data mine.npz --network unet-cifar10 --set warmup_steps=500 --set training.optimizer.learning_rate=2e-4`

`torchrun --nproc-per-node 2 -m schedrl fit --data cifar10 --network unet-akod-cifar10 --device cuda` : on two GPUs

Run again, the same command resumes where it stopped (on a CPU to the same bits); a larger `-n` trains on.
"""


def fit(
    data: Annotated[
        str,
        typer.Option(
            help="Image set (digits, mnist, fashion-mnist, cifar10), a folder of pictures, or an .npz file."
        ),
    ],
    schedule: Annotated[
        str,
        typer.Option(help="Schedule: a name, tangent:GAMMA (tangent:0.3), JSON, or a .json file."),
    ] = "cosine",
    network: Annotated[
        str | None,
        typer.Option(
            help="Network by name; `schedrl plan --network NAME` counts its parameters. [the image set's]"
        ),
    ] = None,
    steps: Annotated[int, typer.Option("-n", "--steps", min=1, help="Optimizer steps.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Fixes weights, batches and noise.")] = 0,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per step, over all processes.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("-f", "--folder", help="Output folder. [runs/fit/DATA]")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of a folder's images in pixels.")] = None,
    precision: Annotated[
        Literal["fp32", "bf16"] | None, typer.Option(help="Arithmetic. [bf16 on a GPU, else fp32]")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile the network. [on a GPU]")
    ] = None,
    eval_every: Annotated[
        int,
        typer.Option(min=0, help="Steps between measurements of the validation bound; 0: only at the end."),
    ] = 1000,
    sample_every: Annotated[
        int, typer.Option(min=0, help="Steps between sheets of samples; 0: only at the end.")
    ] = 2000,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between lines of the log.")] = 50,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a field, e.g. training.optimizer.learning_rate=1e-3."
        ),
    ] = None,
    progress: BarOption = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda: under torchrun each process's own GPU.")] = "cpu",
    download: DownloadOption = False,
) -> None:
    """Train one network: mixed precision, averaged weights, exact resume, data parallelism under torchrun."""
    from schedrl.diffusion.distributed import joined, leads
    from schedrl.errors import parse
    from schedrl.fit.fit_spec import Cadence, fit_spec

    with _one_voice(leads()):
        fields: dict[str, Any] = {"steps": steps, "seed": seed, "schedule": schedule_named(schedule)}
        fields["precision"] = precision or ("bf16" if device.startswith("cuda") else "fp32")
        batch = {} if batch_size is None else {"training.batch_size": batch_size}
        spec = fit_spec(
            data_named(data, size), network, {**batch, **parse_settings(settings, "--set")}, **fields
        )
        given = {
            "log_every": log_every, "eval_every": eval_every, "sample_every": sample_every,
            "checkpoint_every": checkpoint_every,
        }  # fmt: skip
        cadence = parse(Cadence, given, "options")

    target = folder or Path("runs", "fit", spec.data.name)
    with joined(device) as processes, _one_voice(processes.leads):
        _fit(spec, target, cadence, processes, compiled, progress, download)


@contextmanager
def _one_voice(leading: bool) -> Iterator[None]:
    """Let only the first of several processes print an error; the others exit with the same code."""
    try:
        yield
    except SchedrlError:
        if leading:
            raise
        raise typer.Exit(2) from None


def _fit(
    spec: FitSpec,
    target: Path,
    cadence: Cadence,
    processes: Processes,
    compiled: bool | None,
    force_bar: bool,
    download: bool,
) -> None:
    from schedrl import data
    from schedrl.files import ensure_folder, locked_folder
    from schedrl.fit.fitting import claim

    with processes.together():  # alone, if it has to be downloaded
        if processes.leads:
            data.ensure(spec.data, download=download)
    with ExitStack() as stack:
        with processes.together():
            data.ensure(spec.data, download=download)
            if processes.leads:
                ensure_folder(target, "fit folder")
                stack.enter_context(locked_folder(target))
                claim(target, spec)
        _train(spec, target, cadence, processes, compiled, force_bar)


def _train(
    spec: FitSpec,
    target: Path,
    cadence: Cadence,
    processes: Processes,
    compiled: bool | None,
    force_bar: bool,
) -> None:
    from schedrl.diffusion.single import Tuning
    from schedrl.fit.fitting import run_fit

    on_gpu = processes.device.type == "cuda"
    tuning = Tuning(
        precision=spec.precision, compile=on_gpu if compiled is None else compiled, channels_last=on_gpu
    )
    if not processes.leads:
        run_fit(spec, target, processes, tuning, cadence)
        return
    note(f"training into {target}")
    try:
        with ticker(spec.steps, "training", every=4, force_bar=force_bar) as tick:
            run_fit(spec, target, processes, tuning, cadence, lambda p: tick(p.step, _said(p)))
    except KeyboardInterrupt:
        note(f"interrupted; the same command resumes from the last checkpoint in {target}")
        raise typer.Exit(130) from None
    say(f"the network is in {target} (model.safetensors, model.json); tensorboard --logdir {target}")


def _said(progress: FitProgress) -> str:
    return f"loss {progress.loss:.4f}, {progress.images_per_second:.0f} images/s"


def data_named(text: str, size: int | None = None) -> DataSpec:
    """The image set that a user names: by its name, a folder of pictures, or an .npz file.

    Args:
        text: What the user wrote.
        size: Side of a folder's images, in pixels.
    """
    from schedrl import data
    from schedrl.data.own import ImageFolder, Npz
    from schedrl.errors import parse

    path = Path(text)
    if os.path.isdir(path):
        if size is None:
            raise SchedrlError(f"--size: is needed for a folder of pictures ('{text}'), as in --size 32")
        return parse(ImageFolder, {"path": text, "size": size}, f"folder '{text}'")
    if size is not None:
        raise SchedrlError(f"--size: is for folders of pictures only (got '{text}')")
    if path.suffix.lower() == ".npz":
        return parse(Npz, {"path": text}, f"file '{text}'")
    if text in ("folder", "npz"):
        raise SchedrlError(f"--data: give the path of the {text} itself")
    return data.get(text)


def schedule_named(text: str) -> dict[str, Any]:
    """The schedule that a user names, as plain data.

    Examples:
        >>> schedule_named("tangent:0.3")
        {'gamma': 0.3, 'name': 'tangent'}
    """
    from schedrl import schedules
    from schedrl.files import read_object

    if text.lstrip().startswith("{"):
        return schedules.from_json(text).model_dump(mode="json")
    if text.endswith(".json"):
        content = read_object(Path(text), "--schedule")
        if "format" in content:  # written by `schedrl schedule`
            from schedrl.export import ScheduleFile

            training = ScheduleFile.read(text).training
            if training is None:
                raise SchedrlError(f"--schedule {text}: has a sampler's grid but no training schedule")
            return training.schedule.model_dump(mode="json")
        return schedules.from_dict(content).model_dump(mode="json")
    name, colon, number = text.partition(":")
    if not colon:
        return schedules.get(name).model_dump(mode="json")
    try:
        value = float(number)
    except ValueError:
        raise SchedrlError(f"--schedule: a number must follow the colon (got '{text}')") from None
    if name != "tangent":
        raise SchedrlError(f"--schedule: only tangent takes a number, its gamma (got '{text}')")
    made = schedules.get(name, gamma=value).model_dump(mode="json")
    return dict(sorted(made.items()))
