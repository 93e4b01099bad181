"""Samples of a population's networks, and how far they are from the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl import data
from schedrl.data import AnyData
from schedrl.diffusion.population import Population
from schedrl.diffusion.prediction import network_denoiser
from schedrl.diffusion.samplers import ddim, ddpm
from schedrl.errors import SchedrlError
from schedrl.metrics.features import extractor
from schedrl.metrics.metric_specs import BoundSpec, SampleSpec
from schedrl.metrics.sample_quality import ReferenceFeatures, SampleQuality, sample_quality
from schedrl.schedules import grid

BATCH = 100
"""Images of a run that are sampled at once."""

_OWN_FEATURES = {"digits": "digits-cnn", "fashion-mnist": "fashion-cnn"}

_SUBSETS, _SUBSET_SIZE = 20, 250
"""Number and size of the subsets of the kernel distance."""


def own_features(spec: AnyData) -> str:
    """The feature network of an image set: its own classifier, else PCA of its images.

    Examples:
        >>> own_features(data.Digits())
        'digits-cnn'
    """
    return _OWN_FEATURES.get(spec.name, "pca")


def resolved(spec: SampleSpec, images: AnyData) -> SampleSpec:
    """A specification whose features are named, and checked before any work.

    Raises:
        SchedrlError: The feature network is unknown, has no weights or does not fit the images, or there are too few
            samples for it.
    """
    named = spec.model_copy(update={"features": spec.features or own_features(images)})
    assert named.features is not None
    reference = reference_features(images, named.features)
    if spec.count <= (dimension := reference.extractor.dimension):
        raise SchedrlError(
            f"quality.count: must be more than the {dimension} features of '{named.features}' (got {spec.count})"
        )
    return named


def population_quality(
    population: Population,
    images: AnyData,
    limits: BoundSpec,
    spec: SampleSpec,
    seeds: Sequence[int],
    rows: Sequence[int],
) -> dict[int, SampleQuality | None]:
    """Sample networks, and compare with the training images.

    Args:
        population: The networks.
        images: Image set that they were trained on.
        limits: Ends of the noise levels that samplers step through.
        spec: Number of samples, sampler and features; from :func:`resolved`.
        seeds: Seed of each run; its starting noise follows from it.
        rows: The runs that count.

    Returns:
        By run; None where a sample is not finite.
    """
    assert spec.features is not None
    reference = reference_features(images, spec.features)
    drawn = draw_samples(population, limits, spec.count, spec.steps, seeds, spec.sampler)
    found: dict[int, SampleQuality | None] = dict.fromkeys(rows)
    with _one_thread():
        for row in rows:
            if np.isfinite(drawn[row]).all():
                rng = np.random.default_rng([seeds[row], 2])
                found[row] = sample_quality(
                    drawn[row],
                    reference,
                    reference.extractor,
                    rng,
                    subsets=_SUBSETS,
                    subset_size=_SUBSET_SIZE,
                )
    return found


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
    for begin in range(0, count, BATCH):
        size = min(BATCH, count - begin)
        denoise = network_denoiser(population.predict_epsilon, population.spec, sigmas)
        if sampler == "ddim":
            made = ddim(denoise, noise(size), sigmas)
        else:
            made = ddpm(denoise, noise(size), sigmas, (noise(size) for _ in range(steps)))
        parts.append(made.cpu().numpy())
    return np.concatenate(parts, axis=1).clip(-1.0, 1.0)


@lru_cache(maxsize=4)
def reference_features(spec: AnyData, name: str) -> ReferenceFeatures:
    """The training images of an image set as a feature network sees them."""
    images = data.load(spec).train
    with _one_thread():
        return ReferenceFeatures.of(images, extractor(name, images))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, however many threads the process has: the last digit would depend on it."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
