"""``schedrl demo``: the main job in ten minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from schedrl.cli.benchmark import forms_of, measure_and_show
from schedrl.cli.common import BarOption, DownloadOption, SetOption, note, parse_settings, say, ticker

DEMO_EXAMPLES = """
**Examples**

`schedrl demo` : about ten minutes on two cores; after Ctrl-C, the same command continues

`schedrl demo --minutes 2 --seeds 5` : a quick look, not conclusive
"""

FormOption = Annotated[
    Literal["exact", "action", "both"],
    typer.Option(help="Hand-made schedules as written (exact), as the actions can represent them, or both."),
]
SeedsOption = Annotated[int, typer.Option(min=1, max=100_000, help="Number of held-out seeds.")]


def demo(
    folder: Annotated[
        Path, typer.Option("-f", "--folder", help="Where agent, results and report go.")
    ] = Path("runs", "demo"),
    env: Annotated[str | None, typer.Option("--env", help="Another environment than the demo's own.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Stop the training after this many minutes. [6.5]")
    ] = None,
    timesteps: Annotated[
        int | None, typer.Option("-n", "--timesteps", min=1, help="Environment steps of the training.")
    ] = None,
    seeds: SeedsOption = 20,
    form: FormOption = "exact",
    settings: SetOption = None,
    progress: BarOption = False,
    download: DownloadOption = False,
) -> None:
    """Learn a noise schedule with PPO, compare it with every hand-made one on held-out seeds, and write a report."""
    from schedrl.environments.registration import ready_variant
    from schedrl.environments.training.variant import TrainingVariant
    from schedrl.environments.variants import of_family
    from schedrl.files import ensure_folder
    from schedrl.jobs import demo as job
    from schedrl.report.pages import write_report

    overrides = parse_settings(settings, "--set")
    variant = of_family(ready_variant(env or job.ENVIRONMENT, overrides, download=download), TrainingVariant)
    limit, target = job.MINUTES if minutes is None else minutes, folder / job.AGENT
    request = job.request_in(target, variant, overrides, timesteps)
    # Everything that can fail does so before minutes are spent.
    job.benchmark(variant, overrides, seeds, forms_of(form))
    ensure_folder(folder, "--folder")
    note(f"1/3 learning: PPO in {variant.id}, at most {limit:g} minutes")
    try:
        with ticker(request.spec.total_timesteps, "training", every=2, force_bar=progress) as tick:
            from schedrl.cli.train import progress_listener

            agent = job.train_for(request, target, limit, progress_listener(tick))
    except KeyboardInterrupt:
        note(f"interrupted; the same command continues. {target} holds the agent so far")
        raise typer.Exit(130) from None
    note(f"2/3 comparing on {seeds} held-out seeds")
    part = job.benchmark(variant, overrides, seeds, forms_of(form), agent)
    measure_and_show([part], folder, force_bar=progress)
    note("3/3 reporting")
    say(f"report: {write_report(folder, note)}")
    say(f"agent:  {target}")
