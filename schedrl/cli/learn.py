"""``schedrl schedule learn``: a training schedule for one's own images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from schedrl.cli.common import BarOption, DownloadOption, note, say, ticker
from schedrl.errors import SchedrlError
from schedrl.files import ensure_file

LEARN_EXAMPLES = """
**Examples**

`schedrl schedule learn --data pictures/ --size 64 --budget 10min` : learns on small copies of the images, writes
schedule.json

`schedrl schedule learn --data mine.npz -n 320 --seed 1` : learns from 320 training runs, whatever time they take

`schedrl schedule convert runs/learn/pictures/schedule.json --to diffusers -o config.json` : for other tools

After Ctrl-C, the same command continues.
"""


def learn(
    data: Annotated[
        str,
        typer.Option(help="A folder of pictures, an .npz file, or an image set's name."),
    ],
    budget: Annotated[
        str, typer.Option(help="Time for learning and comparing: 10min, 90s, 1h, or minutes.")
    ] = "10min",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The schedule file. [FOLDER/schedule.json]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=4, help="Side of a folder's images, as they will be trained on.")
    ] = None,
    proxy: Annotated[int, typer.Option(min=4, max=64, help="Largest side of the small copies.")] = 16,
    shift: Annotated[
        bool,
        typer.Option(
            "--shift/--no-shift", help="Shift the schedule from the copies' size to the images' size."
        ),
    ] = True,
    runs: Annotated[
        int | None,
        typer.Option("-n", "--runs", min=16, help="Training runs to learn from. [what the budget allows]"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of a training run.")] = 200,
    seeds: Annotated[int, typer.Option(min=2, help="Number of held-out seeds.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything random in the learning.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("-f", "--folder", help="Where everything goes. [runs/learn/NAME]")
    ] = None,
    progress: BarOption = False,
    download: DownloadOption = False,
) -> None:
    """Learn a noise schedule for training on your images, and compare it on held-out images."""
    from schedrl import data as image_sets
    from schedrl.benchmark.training_summary import summarise_training
    from schedrl.cli.common import console
    from schedrl.cli.fit import data_named
    from schedrl.cli.train import progress_listener
    from schedrl.errors import parse
    from schedrl.jobs import learning
    from schedrl.report.pages import print_summary, write_report

    images = data_named(data, size)
    fields = {
        "data": images.model_dump(mode="json"), "minutes": minutes_of(budget), "runs": runs, "steps": steps,
        "proxy": proxy, "seeds": seeds, "seed": seed,
    }  # fmt: skip
    request = parse(learning.LearningRequest, fields, "options")
    image_sets.ensure(images, download=download)
    if out is not None:
        ensure_file(out, "-o")
    target = folder or Path("runs", "learn", Path(data).stem or images.name)
    note(f"1/3 small copies of the images, into {target}")
    job = learning.prepare(request, target)
    learning.benchmark_of(job)  # fails before minutes are spent
    note(
        f"    {job.proxy.count} images of {job.proxy.size} x {job.proxy.size}, each pixel the mean of "
        f"{job.proxy.factor} x {job.proxy.factor}; {job.training.spec.total_timesteps} runs to learn from"
    )
    note(f"2/3 learning: PPO, {job.variant.optimizer_steps} optimizer steps a run")
    try:
        with ticker(job.training.spec.total_timesteps, "learning", every=2, force_bar=progress) as tick:
            learned = learning.train_job(job, progress_listener(tick))
        note(f"3/3 comparing on {request.seeds} seeds and held-out images")
        total = request.seeds * len(learning.benchmark_of(job, learned).tasks)
        with ticker(total, "measuring", every=1, force_bar=progress) as tick:
            results = learning.measure_job(job, learned, lambda step: tick(step.done, step.doing))
    except KeyboardInterrupt:
        note("interrupted; the same command continues")
        raise typer.Exit(130) from None
    print_summary("training", summarise_training(results, "learned"), console())
    path = learning.write_schedule(job, results, out or target / "schedule.json", shift=shift)
    say(f"\nschedule: {path}")
    say(f"report:   {write_report(target, note)}")


_UNITS = {"s": 1.0 / 60.0, "sec": 1.0 / 60.0, "": 1.0, "m": 1.0, "min": 1.0, "h": 60.0}


def minutes_of(text: str) -> float:
    """A budget of time in minutes.

    Examples:
        >>> minutes_of("10min"), minutes_of("90s"), minutes_of("1.5h"), minutes_of("3")
        (10.0, 1.5, 90.0, 3.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if found is None or found[2] not in _UNITS or float(found[1]) == 0.0:
        raise SchedrlError(f"--budget: must be a time, as 10min, 90s or 1h (got '{text}')")
    return float(found[1]) * _UNITS[found[2]]
