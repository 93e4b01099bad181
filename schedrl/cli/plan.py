"""``schedrl plan``: what a training will take."""

from __future__ import annotations

from typing import Annotated

import typer

from schedrl.cli.common import (
    DeviceOption,
    DownloadOption,
    EnvOption,
    SetOption,
    checked_device,
    parse_settings,
    ready_variant,
)

__all__ = ["PLAN_EXAMPLES", "plan"]

PLAN_EXAMPLES = """
**Examples**

`schedrl plan --env schedrl/DigitsKnots-v0 --num-envs 64`

`schedrl plan --env schedrl/Cifar10Kernel-v0 --num-envs 16 --set training.batch_size=32 --download`
"""


def plan(
    env: EnvOption,
    num_envs: Annotated[
        int, typer.Option("-n", "--num-envs", min=1, help="Training runs side by side.")
    ] = 16,
    settings: SetOption = None,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Count the parameters, arithmetic and memory of training many runs at once, and predict its time."""
    variant = ready_variant(env, parse_settings(settings, "--set"), download=download)
    checked_device(device)

    from schedrl.benchmark.plan import training_cost
    from schedrl.environments.training.variant import TrainingVariant
    from schedrl.environments.variants import of_family

    variant = of_family(variant, TrainingVariant)
    cost = training_cost(variant, num_envs, device)
    rate = num_envs / cost.step_seconds
    rows = {
        "runs": f"{num_envs}, {cost.runs_at_once} at a time",
        "engine": f"{cost.engine} on {device}",
        "parameters of a run": f"{cost.parameters:,}",
        "FLOPs of a step": f"{cost.step_flops:.3g} ({cost.step_flops / num_envs:.3g} a run)",
        "memory held": f"{cost.held_bytes / 2**20:.1f} MiB (weights, optimizer, images)",
        "working memory": f"{cost.working_bytes / 2**20:.1f} MiB (features, gradients, random numbers)",
        "predicted step": f"{1e3 * cost.step_seconds:.3g} ms ({rate:.3g} model-steps a second, "
        f"{cost.step_flops / cost.step_seconds / 1e9:.3g} GFLOP/s)",
        "predicted measurement": f"{1e3 * cost.measure_seconds:.3g} ms",
        "predicted episode": f"{cost.episode_seconds:.3g} s ({variant.episode.phases} x "
        f"{variant.episode.steps_per_phase} steps; calibrated on {cost.calibrated_runs} runs)",
    }
    for name, value in rows.items():
        typer.echo(f"{name:22} {value}")
