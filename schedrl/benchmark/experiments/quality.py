"""Samples of trained networks, and how far they are from the data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl import data
from schedrl.benchmark.experiments.watch import Trained
from schedrl.data import AnyData
from schedrl.diffusion.population import Population
from schedrl.diffusion.prediction import network_denoiser
from schedrl.diffusion.samplers import ddim, ddpm
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.metrics.features import FeatureExtractor, extractor
from schedrl.metrics.frechet import FeatureStatistics, frechet_distance
from schedrl.metrics.spec import BoundSpec
from schedrl.schedules import grid

__all__ = ["check_quality", "draw_samples", "sampled_quality"]

_BATCH = 100
"""Images of a run that are sampled at once."""


def sampled_quality(
    trained: Trained,
    variant: TrainingVariant,
    features_of: str,
    count: int,
    steps: int,
    seeds: Sequence[int],
    sampler: str = "ddim",
) -> tuple[list[float | None], float | None]:
    """Sample every network that did not diverge, and measure.

    Args:
        trained: The runs.
        variant: Their data, and the ends of the bound, between which samplers step.
        features_of: Name of the network over whose features distances are taken.
        count: Images drawn from each.
        steps: Steps of the sampler.
        seeds: Of each run; its starting noise follows from its own.
        sampler: ``"ddim"`` or ``"ddpm"``.

    Returns:
        The Fréchet distance to the training images, run by run, and images generated per second, all runs together.
    """
    trained.population.predict_epsilon(*_probe(trained.population))  # warms caches up, and a GPU
    began = time.perf_counter()
    images = draw_samples(trained.population, variant.bound, count, steps, seeds, sampler)
    seconds = time.perf_counter() - began
    features, reference = _reference(variant.data, features_of)
    distances: list[float | None] = []
    for run, lost in enumerate(trained.diverged_at >= 0):
        usable = not lost and np.isfinite(images[run]).all()
        own = FeatureStatistics.of(features.features(images[run])) if usable else None
        distances.append(None if own is None else frechet_distance(own, reference))
    kept = any(distance is not None for distance in distances)
    return distances, images.shape[0] * images.shape[1] / seconds if kept else None


def check_quality(variant: TrainingVariant, features_of: str, count: int) -> None:
    """Make sure that distances can be measured.

    Raises:
        SchedrlError: The feature network does not fit the images, its weights are missing, or images are too few.
    """
    features, _ = _reference(variant.data, features_of)
    shape = data.load(variant.data).image_shape
    dimension = features.features(np.zeros((1, *shape), np.float32)).shape[1]
    if count <= dimension:
        raise SchedrlError(
            f"experiment: samples must be more than the {dimension} features of '{features.name}' (got {count})"
        )


def _probe(population: Population) -> tuple[Tensor, Tensor]:
    runs, shape = population.num_runs, population.image_shape
    return torch.zeros(runs, _BATCH, *shape, device=population.device), torch.zeros(
        runs, _BATCH, device=population.device
    )


def draw_samples(
    population: Population,
    limits: BoundSpec,
    count: int,
    steps: int,
    seeds: Sequence[int],
    sampler: str = "ddim",
) -> NDArray[np.float32]:
    """Images ``[runs, count, C, H, W]`` from the averaged networks, clipped to [−1, 1].

    Steps lie evenly in log-SNR between the ends of the bound, and a last one goes to the clean image.
    """
    ends = {"logsnr_max": limits.logsnr_max, "logsnr_min": limits.logsnr_min}
    sigmas = grid("uniform-logsnr", steps, **ends).sigma_array.tolist()
    shape, streams = population.image_shape, [np.random.default_rng([seed, 1]) for seed in seeds]

    def noise(images: int) -> Tensor:
        drawn = np.stack([rng.standard_normal((images, *shape), dtype=np.float32) for rng in streams])
        return torch.from_numpy(drawn).to(population.device)

    parts = []
    for begin in range(0, count, _BATCH):
        size = min(_BATCH, count - begin)
        denoise = network_denoiser(population.predict_epsilon, population.spec, sigmas)
        if sampler == "ddim":
            made = ddim(denoise, noise(size), sigmas)
        else:
            made = ddpm(denoise, noise(size), sigmas, (noise(size) for _ in range(steps)))
        parts.append(made.cpu().numpy())
    return np.concatenate(parts, axis=1).clip(-1.0, 1.0)


@lru_cache(maxsize=4)
def _reference(spec: AnyData, name: str) -> tuple[FeatureExtractor, FeatureStatistics]:
    images = data.load(spec).train
    features = extractor(name, images)
    return features, FeatureStatistics.of(features.features(images))
