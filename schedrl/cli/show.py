"""``schedrl evaluate``: one agent, looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from schedrl.cli.common import (
    DeviceOption,
    DownloadOption,
    EnvOption,
    SetOption,
    checked_device,
    note,
    parse_settings,
    ready_variant,
    writable_file,
)
from schedrl.errors import SchedrlError

if TYPE_CHECKING:
    from schedrl.environments.sampling.variant import SamplingVariant
    from schedrl.policies.agents import Agent

__all__ = ["EVALUATE_EXAMPLES", "evaluate"]

EVALUATE_EXAMPLES = """
**Examples**

`schedrl evaluate --env schedrl/DigitsKnots-v0 --agent cosine`

`schedrl evaluate --env schedrl/DigitsKnots-v0 --agent runs/ppo/DigitsKnots-v0_1 -n 20 --render run.png`

`schedrl evaluate --env schedrl/DigitsGain-v0 --agent cosine --form exact` : a law that the actions cannot express

`schedrl evaluate --env schedrl/GaussianSampling-v0 --agent grid-geodesic -n 100` : a sampler's steps
"""


def evaluate(
    env: EnvOption,
    agent: Annotated[
        str, typer.Option(help="A name of `schedrl agents`, a trained agent's folder, or a .toml file.")
    ],
    episodes: Annotated[
        int, typer.Option("-n", "--episodes", min=1, help="Episodes, each on its own seed.")
    ] = 10,
    seed: Annotated[
        int, typer.Option(min=0, help="First seed; the default is held out from training.")
    ] = 1_000_000,
    form: Annotated[
        Literal["action", "exact"],
        typer.Option(help="Act through the environment's actions, or follow a hand-made law exactly."),
    ] = "action",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every run as JSON.")
    ] = None,
    render: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the first run: schedule, errors, loss, samples."),
    ] = None,
    settings: SetOption = None,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Run one agent and print what it reaches."""
    variant = ready_variant(env, parse_settings(settings, "--set"), download=download)

    from schedrl.environments.sampling.variant import SamplingVariant
    from schedrl.policies import find

    found = find(agent, variant.id)
    if render is not None and render.suffix.lower() != ".png":
        raise SchedrlError(f"--render: must be a .png file (got '{render}')")
    for path, option in ((json_file, "--json"), (render, "--render")):
        if path is not None:
            writable_file(path, option)
    if isinstance(variant, SamplingVariant):
        _evaluate_sampling(variant, found, range(seed, seed + episodes), json_file, render)
        return
    checked_device(device)

    from schedrl.benchmark.evaluation import picture
    from schedrl.benchmark.training_tasks import Entry, measure, measurement
    from schedrl.files import dump_json, write_text
    from schedrl.stats.intervals import mean

    row = measurement(Entry(found.name, found), form, variant)
    note(
        f"{found.name} ({form}) in {variant.id}: {episodes} runs of {variant.optimizer_steps} optimizer steps"
    )
    results = measure(row, variant, range(seed, seed + episodes), device=device)
    for name, values in (
        ("return", [result.episode_return for result in results]),
        ("validation bound, bits/dim", [result.bound for result in results]),
        ("test bound, bits/dim", [result.test_bound for result in results]),
    ):
        interval = mean(values)
        shown = f"{interval.plus_minus('.4f')} (95 %)" if len(values) > 1 else f"{interval.value:.4f}"
        typer.echo(f"{name:27} {shown}")
    typer.echo(f"{'diverged':27} {sum(result.diverged for result in results)} of {len(results)}")
    if json_file is not None:
        write_text(json_file, dump_json([result.model_dump(mode="json") for result in results]))
        note(f"wrote {json_file}")
    if render is not None:
        from matplotlib.image import imsave

        policy = found.policy(row.variant, seed)
        imsave(render, picture(policy, row.variant, seed, device=device))
        note(f"wrote {render}")


def _evaluate_sampling(
    variant: SamplingVariant, agent: Agent, seeds: range, json_file: Path | None, render: Path | None
) -> None:
    """The same for an agent that places a sampler's steps."""
    from schedrl.benchmark.sampling_summary import summarise_sampling
    from schedrl.benchmark.sampling_tasks import make_sampling_plan, measure
    from schedrl.benchmark.training_tasks import Entry
    from schedrl.files import dump_json, write_bytes, write_text

    plan = make_sampling_plan(variant, [Entry(agent.name, agent)], list(seeds))
    note(f"{agent.name} in {variant.id}: {len(seeds)} sources")
    results = measure(plan.rows[0], variant, list(seeds))
    (row,) = summarise_sampling(results).rows
    yardstick = "optimum" if results[0].optimum is not None else "reference grid"
    several = len(results) > 1
    for name, interval in (
        ("error, geometric mean", row.error),
        (f"error over that of the {yardstick}", row.ratio),
    ):
        typer.echo(f"{name:35} {interval:.4g}" if several else f"{name:35} {interval.value:.4g}")
    typer.echo(f"{'worst ratio':35} {row.worst:.4g}")
    for part, value in row.parts.items():
        typer.echo(f"{'mean ' + part.replace('_', ' '):35} {value:.4g}")
    if json_file is not None:
        write_text(json_file, dump_json([result.model_dump(mode="json") for result in results]))
        note(f"wrote {json_file}")
    if render is not None:
        from schedrl.environments.sampling.problems import SamplingProblems
        from schedrl.report.figures import png
        from schedrl.report.sampling_figures import grids_figure

        problems = SamplingProblems.drawn(variant, [seeds[0]])
        grids = {
            "reference": problems.reference()[0],
            agent.name: agent.solve(problems, [seeds[0]]).sigmas[0],
        }
        write_bytes(render, png(grids_figure(grids, agent.name)))
        note(f"wrote {render}")
