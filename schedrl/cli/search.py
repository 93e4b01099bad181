"""``schedrl search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schedrl.cli.common import (
    BarOption,
    DeviceOption,
    DownloadOption,
    EnvOption,
    SetOption,
    checked_device,
    note,
    parse_settings,
    say,
    ticker,
)
from schedrl.environments.registration import ready_variant
from schedrl.errors import SchedrlError

SEARCH_EXAMPLES = """
**Examples**

`schedrl search --env schedrl/DigitsKnots-v0 --algo cma-es` : as many optimizer steps as PPO's training took, into
runs/search/cma-es-DigitsKnots-v0-0

`schedrl search --env schedrl/DigitsKnots-v0 --algo tpe --budget 40000 --seed 1 --hp startup=16`

After Ctrl-C, the same command continues and ends with the same result.
"""


def search(
    env: EnvOption,
    algo: Annotated[str, typer.Option(help="random, tpe, cma-es, halving or best-static.")] = "cma-es",
    budget: Annotated[
        str,
        typer.Option(
            metavar="STEPS",
            help="Optimizer steps over all training runs. `ppo` or a trained agent's folder: as many as its training "
            "took.",
        ),
    ] = "ppo",
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything random.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option("-f", "--folder", help="State, course and result. [runs/search/ALGO-ENV-SEED]"),
    ] = None,
    progress: BarOption = False,
    settings: SetOption = None,
    hyperparameters: Annotated[
        list[str] | None,
        typer.Option("--hp", metavar="KEY=VALUE", help="Change a setting of the search. Repeatable."),
    ] = None,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Search a training environment for the best fixed sequence of actions, within a budget of optimizer steps."""
    from schedrl.environments.training.variant import TrainingVariant
    from schedrl.policies.agents import SearchProgress, slug
    from schedrl.policies.sequence_search import ppo_budget, search_spec
    from schedrl.policies.sequence_search import search as find_sequence

    spec = search_spec(algo, **parse_settings(hyperparameters, "--hp"))
    variant = ready_variant(env, parse_settings(settings, "--set"), download=download)
    if not isinstance(variant, TrainingVariant):
        raise SchedrlError(
            f"--env {variant.id}: is a sampling environment; searches over grids are agents: `schedrl benchmark "
            "--agents search-cma-es`"
        )
    if budget.isdecimal():
        steps = int(budget)
        note(f"budget: {steps} optimizer steps")
    else:
        steps = ppo_budget(variant, budget)
        note(f"budget: {steps} optimizer steps, as many as the training of {budget} took")
    checked_device(device)
    target = folder or Path("runs", "search", f"{algo}-{slug(variant.id)}-{seed}")
    note(f"searching into {target}")
    try:
        with ticker(steps, "search", every=1, force_bar=progress) as tick:

            def listen(now: SearchProgress) -> None:
                tick(now.optimizer_steps, f"best so far: return {now.best:+.4f} against the reference")

            agent = find_sequence(variant, spec, steps, seed, target, listen, device=device)
    except KeyboardInterrupt:
        note(f"interrupted; the same command continues in {target}")
        raise typer.Exit(130) from None
    say(f"searched for {agent.search_steps} optimizer steps; the agent is in {target}")
    say(f"measure it: schedrl benchmark --env {env} --agents {algo}={target},ppo  (with the same --set)")
