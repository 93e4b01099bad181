"""``schedrl train``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedrl.cli.common import (
    BarOption,
    DeviceOption,
    DownloadOption,
    SetOption,
    Ticker,
    checked_device,
    note,
    parse_settings,
    say,
    ticker,
)
from schedrl.environments.registration import ready_variant
from schedrl.errors import SchedrlError, unknown_name

if TYPE_CHECKING:
    from schedrl.policies.ppo_training import Listener
    from schedrl.policies.progress import TrainingProgress


TRAIN_EXAMPLES = """
**Examples**

`schedrl train --env schedrl/DigitsKnots-v0` : hyperparameters of agents/ppo.toml, into runs/ppo/DigitsKnots-v0_1

`schedrl train --env schedrl/DigitsKernel-v0 -n 6400 --seed 1 --hp learning_rate=5e-4 --set episode.steps_per_phase=100`

`schedrl train --resume runs/ppo/DigitsKnots-v0_1` : continue after Ctrl-C; with `-n 2000`, train longer

`tensorboard --logdir runs` : learning curves, and the schedule that the policy chooses

`schedrl benchmark --env schedrl/DigitsKnots-v0 --agents runs/ppo/DigitsKnots-v0_1,cosine` : was it worth it?
"""


def train(
    env: Annotated[
        str | None, typer.Option("--env", help="Environment: an id of `schedrl envs`, or a .toml file.")
    ] = None,
    algo: Annotated[str, typer.Option(help="Algorithm; ppo is the only one.")] = "ppo",
    timesteps: Annotated[
        int | None,
        typer.Option("-n", "--timesteps", min=1, help="Environment steps; rounded up to whole updates."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything random.")] = 0,
    folder: Annotated[
        Path, typer.Option("-f", "--folder", help="Runs go to FOLDER/ALGO/ENV_1, _2, ...")
    ] = Path("runs"),
    progress: BarOption = False,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Continue the training in this folder exactly where it stopped."),
    ] = None,
    settings: SetOption = None,
    num_envs: Annotated[int | None, typer.Option(min=1, help="Runs trained side by side.")] = None,
    hyperparameters: Annotated[
        list[str] | None,
        typer.Option(
            "--hp", metavar="KEY=VALUE", help="Change a hyperparameter of agents/ppo.toml. Repeatable."
        ),
    ] = None,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Train an agent. After Ctrl-C the folder holds a loadable agent, and the training can be continued."""
    if algo != "ppo":
        raise unknown_name("algorithm", algo, ["ppo"])
    if resume is not None:
        given = [settings, num_envs, hyperparameters, seed or None]
        if any(value is not None for value in given):
            raise SchedrlError("--resume: a training continues as it began; only -n can be given with it")
        if env is not None and (env.endswith(".toml") or ":" in env):  # registers it
            ready_variant(env, {})
        _resume(resume, timesteps, progress)
        return
    if env is None:
        raise SchedrlError("--env: is needed; `schedrl envs` lists the environments")
    overrides = parse_settings(settings, "--set")
    variant = ready_variant(env, overrides, download=download)
    changed: dict[str, Any] = parse_settings(hyperparameters, "--hp")
    changed |= {"total_timesteps": timesteps} if timesteps is not None else {}
    changed |= {"num_envs": num_envs} if num_envs is not None else {}

    from schedrl.policies import ppo_training

    if device != "cpu":
        overrides["device"] = checked_device(device)
    request = ppo_training.request_for(variant.id, seed, overrides, **changed)
    target = ppo_training.new_folder(folder, algo, request)
    note(f"training into {target}")
    total = request.spec.total_timesteps
    _run(target, total, progress, lambda listen: ppo_training.train(request, target, listen))


def _resume(folder: Path, timesteps: int | None, progress: bool) -> None:
    from schedrl.policies import ppo_training

    request = ppo_training.read_request(folder, timesteps)
    overrides = {key: value for key, value in request.overrides.items() if key != "device"}
    ready_variant(request.env_id, overrides)
    total = request.spec.total_timesteps
    _run(folder, total, progress, lambda listen: ppo_training.resume(folder, timesteps, listen))


def _run(folder: Path, total: int, force_bar: bool, work: Callable[[Listener], object]) -> None:
    from schedrl.policies.agent_files import DESCRIPTION, read_description

    try:
        with ticker(total, "training", force_bar=force_bar) as tick:
            work(progress_listener(tick))
    except KeyboardInterrupt:
        steps = read_description(folder).timesteps if (folder / DESCRIPTION).is_file() else 0
        note(f"interrupted; {folder} holds the agent after {steps} steps")
        note(f"continue with: schedrl train --resume {folder}")
        raise typer.Exit(130) from None
    description = read_description(folder)
    say(
        f"trained for {description.timesteps} steps in {description.seconds / 60.0:.1f} min; the agent is in {folder}"
    )


def progress_listener(tick: Ticker) -> Listener:
    """Turn a training's progress into ticks."""

    def listen(progress: TrainingProgress) -> None:
        tick(progress.timesteps, f"mean return {progress.return_mean:.4f}")

    return listen
