"""``schedrl plan``: the cost of a training, estimated in advance."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from schedrl.cli.common import (
    DeviceOption,
    DownloadOption,
    SetOption,
    checked_device,
    parse_settings,
    say,
)
from schedrl.environments.registration import ready_variant
from schedrl.errors import SchedrlError

PLAN_EXAMPLES = """
**Examples**

`schedrl plan --env schedrl/DigitsKnots-v0 --num-envs 64`

`schedrl plan --env schedrl/Cifar10Kernel-v0 --num-envs 16 --set training.batch_size=32 --download`

`schedrl plan --network unet-akod-cifar10` : the cost of one step of `schedrl fit`; needs no data

`schedrl plan --network unet-cifar10 --images 3,64,64 --set training.batch_size=128` : for images of your own
"""


def plan(
    env: Annotated[
        str | None,
        typer.Option("--env", help="Environment: an id of `schedrl envs`, or a variant's own .toml file."),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="A network of `schedrl fit` instead, trained alone. Its cost is counted, not timed."
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="With --network: an image set's name, or C,H,W. [the images that the network is made for]"
        ),
    ] = None,
    num_envs: Annotated[
        int, typer.Option("-n", "--num-envs", min=1, max=1_000_000, help="Training runs side by side.")
    ] = 16,
    settings: SetOption = None,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Estimate the cost of a training before it starts: parameters, arithmetic, memory and time."""
    if (env is None) == (network is None):
        raise SchedrlError("plan: give one of --env and --network")
    if network is not None:
        _plan_network(network, images, parse_settings(settings, "--set"))
        return
    if images is not None:
        raise SchedrlError("--images: goes with --network; an environment names its own")
    assert env is not None
    variant = ready_variant(env, parse_settings(settings, "--set"), download=download)
    checked_device(device)

    from schedrl.environments.training.variant import TrainingVariant
    from schedrl.environments.variants import of_family
    from schedrl.jobs.cost import training_cost

    variant = of_family(variant, TrainingVariant)
    cost = training_cost(variant, num_envs, device)
    rate = num_envs / cost.step_seconds
    _show({
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
    })  # fmt: skip


def _shape(text: str) -> tuple[int, ...]:
    """``(C, H, W)`` of an image set by name, or as it is written."""
    from schedrl.data import SHAPES
    from schedrl.errors import unknown_name

    if text in SHAPES:
        return SHAPES[text]
    words = text.split(",")
    if len(words) == 1:
        raise unknown_name("image set", text, [*SHAPES, "C,H,W"])
    if len(words) != 3 or not all(word.strip().isdigit() and int(word) for word in words):
        raise SchedrlError(f"--images: must be three positive numbers C,H,W, as in 3,32,32 (got '{text}')")
    return tuple(int(word) for word in words)


def _plan_network(name: str, images: str | None, overrides: dict[str, Any]) -> None:
    from schedrl.diffusion.training_spec import named_network

    if images is not None:
        overrides = {"image_shape": list(_shape(images)), **overrides}
    named = named_network(name).changed(overrides, "network")

    from schedrl.jobs.cost import network_cost

    cost = network_cost(named.training, named.image_shape)
    network = named.training.network
    parts = [*(["MSFI"] if network.msfi else []), *(["β modulation"] if network.modulation else [])]
    _show({
        "network": f"{named.name}, {named.what}",
        "images": "x".join(str(side) for side in named.image_shape),
        "channels": f"{', '.join(str(width) for width in network.channels)} ({', '.join(parts) or 'plain'})",
        "parameters": f"{cost.parameters:,}",
        "FLOPs of an image": f"{cost.forward_flops:.3g} forward, {cost.step_flops:.3g} trained",
        "FLOPs of a step": f"{cost.step_flops * named.training.batch_size:.3g} (batch {named.training.batch_size})",
        "memory held": f"{cost.held_bytes / 2**20:.1f} MiB (weights, average, gradients, two moments)",
        "features of a step": f"{cost.feature_bytes * named.training.batch_size / 2**20:.1f} MiB in float32, "
        "about half in bfloat16",
    })  # fmt: skip


def _show(rows: dict[str, str]) -> None:
    for name, value in rows.items():
        say(f"{name:22} {value}")
