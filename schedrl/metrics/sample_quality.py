"""Quality of samples: distances to reference images over one named feature extractor.

Features of the reference images are kept in the user's cache. A file's name is a hash of the images and the extractor,
so a changed image or network never meets an old file. A damaged file is made again; if the cache cannot be written, the
features are computed anew each time.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schedrl.errors import SchedrlError
from schedrl.files import cache_dir, read_arrays, write_arrays
from schedrl.metrics.distances import (
    KID,
    FeatureStatistics,
    PrecisionRecall,
    frechet_distance,
    precision_recall,
)
from schedrl.metrics.features import FeatureExtractor, Features, Images, extractor

__all__ = [
    "FrechetDistance",
    "ReferenceFeatures",
    "SampleQuality",
    "images_hash",
    "metric_name",
    "sample_quality",
]

_FORMAT = "1"
"""Of the files; part of their names."""

_log = logging.getLogger(__name__)


def images_hash(images: Images) -> str:
    """SHA-256 of images' values and shape.

    Examples:
        >>> zeros = np.zeros((2, 1, 4, 4), np.float32)
        >>> images_hash(zeros) == images_hash(zeros.copy()), images_hash(zeros) == images_hash(zeros[:1])
        (True, False)
    """
    digest = hashlib.sha256(repr((images.shape, images.dtype.str)).encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()


def metric_name(extractor: FeatureExtractor) -> str:
    """Name of the Fréchet distance: ``fid`` over the standard Inception network, else ``frechet_`` and the extractor's.

    Examples:
        >>> from schedrl.metrics.features import extractor
        >>> metric_name(extractor("digits-cnn", np.zeros((1, 1, 8, 8), np.float32)))
        'frechet_digits'
    """
    if getattr(extractor, "standard", False):
        return "fid"
    return f"frechet_{extractor.name.removesuffix('-cnn')}"


@dataclass(frozen=True, eq=False)
class ReferenceFeatures:
    """Features of reference images.

    Attributes:
        extractor: The extractor.
        statistics: Mean and covariance over all images.
        features: ``[kept, d]`` of evenly spaced images, for kernel distance, precision and recall.
    """

    extractor: FeatureExtractor
    statistics: FeatureStatistics
    features: Features

    @classmethod
    def of(
        cls, images: Images, extractor: FeatureExtractor, *, keep: int = 10_000, cache: bool = True
    ) -> ReferenceFeatures:
        """From images, or from the cache.

        Args:
            images: ``[n, C, H, W]`` in [−1, 1], more than the extractor has features.
            extractor: The extractor.
            keep: Most images whose features are kept.
            cache: Whether to read and write the user's cache.
        """
        if keep < 2:
            raise SchedrlError(f"keep: must be at least 2 (got {keep})")
        if not cache:
            return cls._made(images, extractor, keep)
        key = "/".join((_FORMAT, extractor.identity, images_hash(images), str(keep)))
        name = f"{extractor.name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
        path = cache_dir() / "references" / name
        found = cls._read(path, key, extractor)
        if found is None:
            found = cls._made(images, extractor, keep)
            found._write(path, key)
        return found

    @property
    def count(self) -> int:
        """Number of images in the statistics."""
        return self.statistics.count

    @classmethod
    def _made(cls, images: Images, extractor: FeatureExtractor, keep: int) -> ReferenceFeatures:
        if len(images) <= extractor.dimension:  # before any work
            raise SchedrlError(
                f"reference: the {extractor.dimension} features of '{extractor.name}' need at least "
                f"{extractor.dimension + 1} images (got {len(images)})"
            )
        features = extractor.features(images)
        chosen = np.linspace(0, len(features) - 1, min(keep, len(features))).round().astype(np.int64)
        return cls(extractor, FeatureStatistics.of(features), features[chosen])

    @classmethod
    def _read(cls, path: Path, key: str, extractor: FeatureExtractor) -> ReferenceFeatures | None:
        try:
            arrays, metadata = read_arrays(path)
            if metadata.get("key") != key:
                return None
            statistics = FeatureStatistics(arrays["mean"], arrays["covariance"], int(arrays["count"][0]))
            return cls(extractor, statistics, arrays["features"].astype(np.float64))
        except FileNotFoundError:
            return None
        except (OSError, KeyError, ValueError) as error:
            _log.warning("%s is damaged and is made again: %s", path, error)
            return None

    def _write(self, path: Path, key: str) -> None:
        single = self.features.astype(np.float32)
        # Networks compute in float32, which half the file can hold exactly.
        exact: NDArray[np.float32] | Features = single if (single == self.features).all() else self.features
        mean, covariance = self.statistics.mean, self.statistics.covariance
        arrays = {"mean": mean, "covariance": covariance, "features": exact, "count": np.array([self.count])}
        try:
            write_arrays(path, arrays, {"key": key})
        except SchedrlError as error:
            _log.warning("reference features are not kept: %s", error)


@dataclass(frozen=True)
class FrechetDistance:
    """A Fréchet distance, which is biased in the number of samples: compare only equal numbers.

    Attributes:
        name: See :func:`metric_name`.
        value: Squared distance, at least 0.
        samples: Number of samples.
        reference_samples: Number of reference images.
    """

    name: str
    value: float
    samples: int
    reference_samples: int

    @classmethod
    def between(cls, features: Features, reference: ReferenceFeatures) -> FrechetDistance:
        """From features ``[n, d]`` to a reference."""
        own = FeatureStatistics.of(features)
        value = frechet_distance(own, reference.statistics)
        return cls(metric_name(reference.extractor), value, own.count, reference.count)


@dataclass(frozen=True)
class SampleQuality:
    """All measures of one set of samples.

    Attributes:
        extractor: Name of the feature extractor.
        samples: Number of samples.
        reference_samples: Number of reference images in the Fréchet distance; the other measures have their own.
        frechet: Fréchet distance.
        kid: Kernel distance over the same features; it is KID proper only if ``frechet.name`` is ``fid``.
        precision_recall: Precision and recall over the same features.
    """

    extractor: str
    samples: int
    reference_samples: int
    frechet: FrechetDistance
    kid: KID
    precision_recall: PrecisionRecall


def sample_quality(
    images: Images,
    reference: Images | ReferenceFeatures,
    features: str | FeatureExtractor,
    rng: np.random.Generator,
    *,
    weights: str | Path | None = None,
    subsets: int = 100,
    subset_size: int = 1000,
    neighbours: int = 3,
    cache: bool = True,
) -> SampleQuality:
    """Measure samples against reference images.

    Args:
        images: Samples ``[n, C, H, W]`` in [−1, 1], more than the extractor has features.
        reference: Images of the same shape, or :class:`ReferenceFeatures` of the same extractor.
        features: An extractor or its name.
        rng: Draws the subsets of the kernel distance.
        weights: File of ``inception``'s weights; looked for in the user's cache when absent, never downloaded.
        subsets: Number of subsets of the kernel distance.
        subset_size: Samples of each side in a subset.
        neighbours: k of precision and recall.
        cache: Whether to keep the reference's features in the user's cache.

    Examples:
        >>> from schedrl import data
        >>> digits = data.load(data.Digits())
        >>> rng = np.random.default_rng(0)
        >>> found = sample_quality(digits.test, digits.train, "digits-cnn", rng, cache=False)
        >>> found.frechet.name, found.samples, found.reference_samples
        ('frechet_digits', 250, 1297)
        >>> found.precision_recall.precision > 0.8
        True
    """
    if isinstance(reference, ReferenceFeatures):
        network = reference.extractor
        given = features if isinstance(features, str) else features.identity
        if given not in (network.name, network.identity):
            asked = features if isinstance(features, str) else features.name
            raise SchedrlError(f"reference: made with extractor '{network.name}' (got '{asked}')")
        known = reference
    else:
        network = extractor(features, reference, weights) if isinstance(features, str) else features
        known = ReferenceFeatures.of(reference, network, cache=cache)
    if len(images) <= network.dimension:  # before any work
        raise SchedrlError(
            f"images: the {network.dimension} features of '{network.name}' need at least "
            f"{network.dimension + 1} samples (got {len(images)})"
        )
    found = network.features(images)
    return SampleQuality(
        network.name,
        len(images),
        known.count,
        FrechetDistance.between(found, known),
        KID.between(found, known.features, rng, subsets=subsets, subset_size=subset_size),
        precision_recall(found, known.features, neighbours),
    )
