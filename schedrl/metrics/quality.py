"""How good samples are: distances to reference images over one named extractor, with all that they depend on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schedrl.errors import SchedrlError
from schedrl.metrics.features import FeatureExtractor, Features, Images, extractor
from schedrl.metrics.frechet import FeatureStatistics, frechet_distance
from schedrl.metrics.kernel_distance import KID
from schedrl.metrics.manifolds import PrecisionRecall, precision_recall
from schedrl.metrics.reference import Reference, metric_name

__all__ = ["FrechetDistance", "SampleQuality", "sample_quality"]


@dataclass(frozen=True)
class FrechetDistance:
    """A Fréchet distance, which is biased in the number of samples: compare only equal numbers.

    Attributes:
        name: ``fid`` over the standard Inception network, ``frechet_digits`` and the like over any other.
        value: Squared distance, at least 0.
        samples: How many were compared.
        reference_samples: With how many.
    """

    name: str
    value: float
    samples: int
    reference_samples: int

    @classmethod
    def between(cls, features: Features, reference: Reference) -> FrechetDistance:
        """Of features ``[n, d]`` to a reference.

        Raises:
            SchedrlError: Fewer than d + 1 samples, one that is not finite, or other dimensions.
        """
        own = FeatureStatistics.of(features)
        value = frechet_distance(own, reference.statistics)
        return cls(metric_name(reference.extractor), value, own.count, reference.count)


@dataclass(frozen=True)
class SampleQuality:
    """All measures of one set of samples.

    Attributes:
        extractor: Name of the features.
        samples: Number of images measured.
        reference_samples: Number of images that the Fréchet distance is to; the other measures say their own.
        frechet: Fréchet distance, named for what it is.
        kid: Kernel distance over the same features. KID proper only where ``frechet.name`` is ``fid``.
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
    reference: Images | Reference,
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
        reference: Images of the same kind, or a :class:`Reference` already made with the same extractor.
        features: Name of an extractor, or one.
        rng: Draws the subsets of the kernel distance.
        weights: File of ``inception``'s weights; looked for in the user's cache when absent, never fetched.
        subsets: Of the kernel distance.
        subset_size: Of the kernel distance.
        neighbours: Of precision and recall.
        cache: Whether the reference's features are kept in the user's cache.

    Raises:
        SchedrlError: Too few images, images that do not fit, unknown extractor, or missing weights.

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
    if isinstance(reference, Reference):
        network = reference.extractor
        given = features if isinstance(features, str) else features.identity
        if given not in (network.name, network.identity):
            raise SchedrlError(f"reference: made with extractor '{network.name}' (got '{_name(features)}')")
        known = reference
    else:
        network = extractor(features, reference, weights) if isinstance(features, str) else features
        known = Reference.of(reference, network, cache=cache)
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


def _name(features: str | FeatureExtractor) -> str:
    return features if isinstance(features, str) else features.name
