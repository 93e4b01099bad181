"""Features of the images that samples are compared with, kept in the user's cache.

A file's name is a hash of the images and of the extractor, so a changed image or network never meets an old file. A
file that cannot be read is made again; a cache that cannot be written costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from schedrl.data.files import cache_dir
from schedrl.errors import SchedrlError
from schedrl.files import write_arrays
from schedrl.metrics.features import FeatureExtractor, Features, Images
from schedrl.metrics.frechet import FeatureStatistics

__all__ = ["Reference", "images_hash", "metric_name"]

_FORMAT = "1"
"""Of the files; part of their names."""

_log = logging.getLogger(__name__)


def images_hash(images: Images) -> str:
    """SHA-256 of images' numbers and shape.

    Examples:
        >>> zeros = np.zeros((2, 1, 4, 4), np.float32)
        >>> images_hash(zeros) == images_hash(zeros.copy()), images_hash(zeros) == images_hash(zeros[:1])
        (True, False)
    """
    digest = hashlib.sha256(repr((images.shape, images.dtype.str)).encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()


def metric_name(extractor: FeatureExtractor) -> str:
    """What the Fréchet distance over an extractor's features is called.

    ``fid`` over the standard Inception network alone; everything else is ``frechet_`` and its network's name.

    Examples:
        >>> from schedrl.metrics.features import extractor
        >>> metric_name(extractor("digits-cnn", np.zeros((1, 1, 8, 8), np.float32)))
        'frechet_digits'
    """
    if getattr(extractor, "standard", False):
        return "fid"
    return f"frechet_{extractor.name.removesuffix('-cnn')}"


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference images as an extractor sees them.

    Attributes:
        extractor: The extractor.
        statistics: Mean and covariance over all images.
        features: ``[kept, d]``, of images evenly spread over all: what kernel distance, precision and recall use.
    """

    extractor: FeatureExtractor
    statistics: FeatureStatistics
    features: Features

    @classmethod
    def of(
        cls, images: Images, extractor: FeatureExtractor, *, keep: int = 10_000, cache: bool = True
    ) -> Reference:
        """Of images, from the cache where they are there.

        Args:
            images: ``[n, C, H, W]`` in [−1, 1], more than the extractor has features.
            extractor: Whose features.
            keep: Of how many images to keep the features themselves, at most.
            cache: Whether to read and write the user's cache.

        Raises:
            SchedrlError: There are too few images, or they do not fit the extractor.
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
        """Number of images that the statistics are of."""
        return self.statistics.count

    @classmethod
    def _made(cls, images: Images, extractor: FeatureExtractor, keep: int) -> Reference:
        if len(images) <= extractor.dimension:  # before any work
            raise SchedrlError(
                f"reference: the {extractor.dimension} features of '{extractor.name}' need at least "
                f"{extractor.dimension + 1} images (got {len(images)})"
            )
        features = extractor.features(images)
        chosen = np.linspace(0, len(features) - 1, min(keep, len(features))).round().astype(np.int64)
        return cls(extractor, FeatureStatistics.of(features), features[chosen])

    @classmethod
    def _read(cls, path: Path, key: str, extractor: FeatureExtractor) -> Reference | None:
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != key:
                    return None
                mean, covariance, features = (
                    file.get_tensor(name) for name in ("mean", "covariance", "features")
                )
                count = int(file.get_tensor("count")[0])
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            _log.warning("%s is damaged and is made again: %s", path, error)
            return None
        return cls(extractor, FeatureStatistics(mean, covariance, count), features.astype(np.float64))

    def _write(self, path: Path, key: str) -> None:
        single = self.features.astype(np.float32)
        # Networks compute in float32; half the file holds the same numbers then.
        exact: NDArray[np.float32] | Features = single if (single == self.features).all() else self.features
        statistics = self.statistics
        arrays = {
            "mean": statistics.mean,
            "covariance": statistics.covariance,
            "features": exact,
            "count": np.array([self.count]),
        }
        try:
            write_arrays(path, arrays, {"key": key})
        except SchedrlError as error:
            _log.warning("reference features are not kept: %s", error)
