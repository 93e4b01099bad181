"""The cost of a training, estimated in advance: parameters, arithmetic, memory and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from schedrl.diffusion.training_spec import TrainingSpec
    from schedrl.environments.training.variant import TrainingVariant


@dataclass(frozen=True)
class TrainingCost:
    """Cost of training ``num_envs`` environments side by side.

    Attributes:
        engine: The engine that trains, ``"native"`` or ``"torch"``.
        parameters: Parameters of one network.
        step_flops: Floating-point operations in the matrix products of one optimizer step, all runs together.
        held_bytes: Memory of weights, optimizer state and images.
        working_bytes: Memory of features, gradients and random numbers.
        runs_at_once: Runs that are trained together within the memory budget.
        step_seconds: Predicted time of one optimizer step of all runs.
        measure_seconds: Predicted time of one measurement of the validation bound of all runs.
        episode_seconds: Predicted time of one episode of all runs, without the test bound.
        calibrated_runs: Runs that were timed.
    """

    engine: str
    parameters: int
    step_flops: int
    held_bytes: int
    working_bytes: int
    runs_at_once: int
    step_seconds: float
    measure_seconds: float
    episode_seconds: float
    calibrated_runs: int


@dataclass(frozen=True)
class NetworkCost:
    """Cost of one network.

    Attributes:
        parameters: Its parameters.
        forward_flops: Floating-point operations in the matrix products of one image's prediction.
        step_flops: The same in training, forward and backward.
        held_bytes: Memory of weights, their average, gradients and two moments.
        feature_bytes: Memory of an image's features in training, in float32.
    """

    parameters: int
    forward_flops: int
    step_flops: int
    held_bytes: int
    feature_bytes: int


def network_cost(training: TrainingSpec, image_shape: tuple[int, int, int]) -> NetworkCost:
    """The cost of a network for images ``(C, H, W)``; nothing is trained."""
    import torch

    from schedrl.diffusion.engines.engine import record
    from schedrl.diffusion.engines.torch_engine import bytes_per_image
    from schedrl.diffusion.unet import UNet

    with torch.device("meta"):  # which counts, and allocates nothing
        network = UNet(training.network, image_shape)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    forward, step = record(network, image_shape, 1).flops
    return NetworkCost(parameters, forward, step, 5 * 4 * parameters, bytes_per_image(network, image_shape))


def training_cost(variant: TrainingVariant, num_envs: int, device: str = "cpu") -> TrainingCost:
    """The cost of training in an environment, from counts and the times of a few steps of a few runs.

    Args:
        variant: The environment, whose data is present.
        num_envs: Environments side by side.
        device: Torch device.
    """
    import torch

    from schedrl import data, schedules
    from schedrl.diffusion.noise import ScheduleNoise
    from schedrl.diffusion.population import Population
    from schedrl.metrics.variational_bound import Bound

    images = data.load(variant.data)
    planned = Population(variant.training, images.train, num_envs, device)
    # A few rounds of all threads, or one part of the runs, stand for the rest: time grows with the rounds.
    native = planned.engine.name == "native"
    together = min(torch.get_num_threads(), num_envs) if native else planned.runs_at_once
    timed = Population(variant.training, images.train, together, device)
    for run in range(together):
        timed.start(run, run)
    limits = {"logsnr_max": variant.bound.logsnr_max, "logsnr_min": variant.bound.logsnr_min}
    noise = ScheduleNoise.of(
        [schedules.get("uniform", **limits)] * together, betas=variant.training.reads_betas
    )
    rounds = -(-num_envs // together)
    bound = Bound(variant.bound, images.validation, images.levels, device)
    timed.train(noise, 2)  # warms up caches; a GPU captures its graph
    step = _median_seconds(lambda: timed.train(noise, 5)) / 5 * rounds
    measure = _median_seconds(lambda: bound.evaluate(timed.predict_epsilon, together)) * rounds
    episode = variant.episode
    return TrainingCost(
        engine=planned.engine.name,
        parameters=planned.num_parameters,
        step_flops=planned.flops() * num_envs,
        held_bytes=planned.held_bytes(),
        working_bytes=planned.working_bytes(),
        runs_at_once=planned.runs_at_once,
        step_seconds=step,
        measure_seconds=measure,
        episode_seconds=episode.phases * (episode.steps_per_phase * step + measure),
        calibrated_runs=together,
    )


def _median_seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return float(np.median(times))
