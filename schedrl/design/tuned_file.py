"""A tuned grid as a schedule file."""

from __future__ import annotations

import time

import numpy as np

from schedrl.design.tuning import Tuned
from schedrl.diffusion.network_on_table import NetworkOnTable
from schedrl.export.schedule_file import Provenance, ScheduleFile
from schedrl.provenance import revision, software
from schedrl.schedules import MAX_BETA, Betas, Grid


def images_per_second(network: NetworkOnTable) -> float:
    """How fast a network is on batches of 16 images, the first of which warms up."""
    noise = network.noise(16, 0)
    step = 0.5 * (network.num_train_timesteps - 1)
    network.clean(noise, step)
    begun, rounds = time.perf_counter(), 0
    while time.perf_counter() - begun < 0.5:
        network.clean(noise, step)
        rounds += 1
    return rounds * len(noise) / (time.perf_counter() - begun)


def tuned_file(network: NetworkOnTable, tuned: Tuned) -> ScheduleFile:
    """The file of a chosen grid, with the network's betas as its training schedule.

    Rectified flow has no betas, so its file has the grid alone. Betas of 1, at zero terminal SNR, become the largest
    that a schedule may have.
    """
    points = network.points(tuned.chosen.timesteps)
    with np.errstate(divide="ignore"):
        sigmas = [float(np.divide(sigma, alpha)) for alpha, sigma in points]
    provenance = Provenance(
        method=f"tune: {tuned.chosen.name}",
        data=network.name,
        image_shape=network.shape,
        measured={
            "distance to the flow": tuned.rows[0].distance,
            "over the best default": tuned.against_default.value,
            "error of the flow": tuned.teacher_error,
        },
        versions={**software(), "numpy": np.__version__},
        revision=revision(),
    )
    if network.prediction_type == "flow":
        return ScheduleFile.of(Grid(sigmas=tuple(sigmas)), tuned.solver, provenance)
    abar = np.square(network.alphas)
    betas = np.minimum(1.0 - abar / np.concatenate([[1.0], abar[:-1]]), MAX_BETA)
    schedule = Betas(betas=tuple(betas.tolist()))
    return ScheduleFile.of(
        Grid(sigmas=tuple(sigmas)), tuned.solver, provenance, schedule, network.num_train_timesteps
    )
