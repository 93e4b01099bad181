"""Samples of trained networks, and how far they are from the data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from schedrl import data
from schedrl.benchmark.samples import BATCH, draw_samples
from schedrl.data import AnyData
from schedrl.diffusion.population import Population
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.experiments.watch import Trained
from schedrl.metrics.distances import FeatureStatistics, frechet_distance
from schedrl.metrics.features import FeatureExtractor, extractor

__all__ = ["check_quality", "sampled_quality"]


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
    return torch.zeros(runs, BATCH, *shape, device=population.device), torch.zeros(
        runs, BATCH, device=population.device
    )


@lru_cache(maxsize=4)
def _reference(spec: AnyData, name: str) -> tuple[FeatureExtractor, FeatureStatistics]:
    images = data.load(spec).train
    features = extractor(name, images)
    return features, FeatureStatistics.of(features.features(images))
