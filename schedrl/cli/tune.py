"""``schedrl schedule tune``: the steps that are best for the network at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schedrl.cli.common import BarOption, console, note, say, ticker
from schedrl.errors import SchedrlError, unknown_name
from schedrl.files import ensure_file

if TYPE_CHECKING:
    from schedrl.design.tuning import Tuned


TUNE_EXAMPLES = """
**Examples**

`schedrl schedule tune --model my-pipeline/ --steps 10 -o schedule.json` : a folder of `pipe.save_pretrained`

`schedrl schedule tune --model my-pipeline/ --solver unipc --steps 5,10,20 --budget 3min -o schedule.json` : writes
schedule-5.json, schedule-10.json and schedule-20.json

`schedrl schedule tune --model runs/fit/fashion --steps 8 --solver heun` : a network of `schedrl fit`

A grid is judged by the distance of its samples to those of the network's own flow, followed in many small steps from
the same noise. Where nothing beats the default spacings of diffusers, the best of them is written.
"""


def tune(
    model: Annotated[
        str,
        typer.Option(
            help="Folder of a diffusers pipeline or of `schedrl fit`, or module:function that returns a NetworkOnTable."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The schedule file to write; one for each number of steps.")
    ] = Path("schedule.json"),
    steps: Annotated[str, typer.Option(help="Numbers of sampler steps, separated by commas.")] = "10",
    solver: Annotated[
        str, typer.Option(help="ddim, euler (the same map as ddim), heun, dpm++2m or unipc.")
    ] = "ddim",
    budget: Annotated[str, typer.Option(help="How long it may take, as 90s, 2min or 1h.")] = "2min",
    images: Annotated[
        int | None,
        typer.Option(
            help="Budget as images through the network instead, which finds the same on any machine.", min=1
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--class", help="Classes to sample, separated by commas, for a network that wants one."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes the noise that grids are tried on.")] = 0,
    progress: BarOption = False,
) -> None:
    """Find the steps that are best for your network, beside every default that diffusers has for the solver."""
    from schedrl.cli.learn import minutes_of
    from schedrl.design.tuned_file import images_per_second, tuned_file
    from schedrl.design.tuning import tune as search
    from schedrl.diffusion.network_on_table import load_network
    from schedrl.diffusion.solvers import SOLVERS

    if solver not in SOLVERS:
        raise unknown_name("--solver", solver, SOLVERS)
    numbers = _whole_numbers(steps, "--steps", 1)
    seconds = 60.0 * minutes_of(budget)
    targets = {n: out if len(numbers) == 1 else out.with_stem(f"{out.stem}-{n}") for n in numbers}
    for target in targets.values():
        ensure_file(target, "-o")
    network = load_network(model, _whole_numbers(labels, "--class", 0) if labels else ())
    if images is None:
        rate = images_per_second(network)
        images = int(rate * seconds)
        note(f"{rate:.0f} images a second: {images:,} images through the network in {budget}")
    with ticker(100, "tuning", every=2, force_bar=progress) as tick:
        found = search(
            network,
            solver,
            numbers,
            images=images,
            seed=seed,
            listen=lambda doing, share: tick(int(100.0 * share), doing),
        )
    for n, tuned in found.items():
        tuned_file(network, tuned).write(targets[n])
        _print(tuned, n)
        say(f"the schedule is in {targets[n]}\n")
    say(
        f"{network.images:,} images through the network. `schedrl schedule convert FILE --to ...` writes a file for "
        "another tool; in Python: ScheduleFile.read(FILE).to_diffusers()"
    )


def _print(tuned: Tuned, n: int) -> None:
    from rich.table import Table

    table = Table(f"{tuned.solver}, {n} steps", box=None, pad_edge=False)
    table.add_column("distance to the flow", justify="right")
    table.add_column("chosen over it [95 %]", justify="right")
    for row in tuned.rows:
        own = row.candidate == tuned.chosen
        table.add_row(
            row.candidate.name,
            f"{row.distance:.3g}",
            "" if own else f"{row.ratio:.3g}",
            style="bold" if own else None,
        )
    console().print(table)
    ratio = tuned.against_default
    if tuned.chosen.default:
        verdict = f"nothing beat the default spacing '{tuned.chosen.name}', which is written"
    elif ratio.high < 1.0:
        verdict = f"better than the best default, {tuned.default.name}: {ratio:.2f} of its squared distance"
    else:
        verdict = (
            f"not shown to be better than the best default, {tuned.default.name} (ratio {ratio:.2f}); it was on the "
            "noise that it was picked on"
        )
    say(f"{verdict}.")
    say(
        f"The flow was followed in {tuned.teacher_steps} steps, its own error about {tuned.teacher_error:.1e}. "
        f"{tuned.tried} grids and {tuned.calls} network calls of {tuned.batch} images to improve the best."
    )
    say("timesteps: " + ", ".join(f"{t:g}" for t in tuned.chosen.timesteps))


def _whole_numbers(text: str, option: str, least: int) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < least or max(numbers) > 100_000:
        raise SchedrlError(
            f"{option}: must be whole numbers from {least} on, separated by commas (got '{text}')"
        )
    return list(dict.fromkeys(numbers))
