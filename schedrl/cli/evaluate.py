"""``schedrl evaluate``: one agent, looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from schedrl.cli.common import (
    DeviceOption,
    DownloadOption,
    EnvOption,
    SetOption,
    checked_device,
    note,
    parse_settings,
    say,
)
from schedrl.environments.registration import ready_variant
from schedrl.errors import SchedrlError
from schedrl.files import ensure_file

EVALUATE_EXAMPLES = """
**Examples**

`schedrl evaluate --env schedrl/DigitsKnots-v0 --agent cosine`

`schedrl evaluate --env schedrl/DigitsKnots-v0 --agent runs/ppo/DigitsKnots-v0_1 -n 20 --render run.png`

`schedrl evaluate --env schedrl/DigitsGain-v0 --agent cosine --form exact` : what actions cannot represent

`schedrl evaluate --env schedrl/GaussianSampling-v0 --agent grid-geodesic -n 100` : a sampler's steps
"""


def evaluate(
    env: EnvOption,
    agent: Annotated[
        str, typer.Option(help="A name of `schedrl agents`, a trained agent's folder, or a .toml file.")
    ],
    episodes: Annotated[
        int, typer.Option("-n", "--episodes", min=1, max=100_000, help="Episodes, each on its own seed.")
    ] = 10,
    seed: Annotated[
        int, typer.Option(min=0, help="First seed; the default is held out from training.")
    ] = 1_000_000,
    form: Annotated[
        Literal["action", "exact"],
        typer.Option(help="Act through the environment's actions, or follow a hand-made schedule exactly."),
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
    from schedrl.benchmark.families import FAMILIES
    from schedrl.benchmark.tasks import Part
    from schedrl.files import dump_json, write_bytes, write_text
    from schedrl.policies.agents import find
    from schedrl.report.pages import picture, statistics

    variant = ready_variant(env, parse_settings(settings, "--set"), download=download)
    if render is not None and render.suffix.lower() != ".png":
        raise SchedrlError(f"--render: must be a .png file (got '{render}')")
    for path, option in ((json_file, "--json"), (render, "--render")):
        if path is not None:
            ensure_file(path, option)
    family = FAMILIES[variant.family]
    found = find(agent, variant.id)
    part = Part(variant, {}, (), device=checked_device(device))
    task = family.task(part, found.name, found, form).on(range(seed, seed + episodes))
    note(f"{task.doing} in {variant.id}: {family.amount(variant, episodes)}")
    results = task.run()
    for name, text in statistics(variant.family, results):
        say(f"{name:35} {text}")
    if json_file is not None:
        write_text(json_file, dump_json([result.model_dump(mode="json") for result in results]))
        note(f"wrote {json_file}")
    if render is not None:
        write_bytes(render, picture(task.on([seed])))
        note(f"wrote {render}")
