r"""Distances between two sets of features: Fréchet distance, kernel distance, precision and recall.

The Fréchet distance treats both sets as Gaussian:
:math:`d^2 = |\mu_1 - \mu_2|^2 + \mathrm{tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2})`
(Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500, over Inception features, where it is called FID). Over
other features it is another number, which is never called FID here. It is biased in the number of samples, so every
value is reported with that number.

The kernel distance is the squared maximum mean discrepancy with the kernel (a·b / d + 1)³ (Bińkowski et al. 2018,
arXiv 1801.01401, over Inception features, where it is called KID). The estimate is unbiased; it is negative half of the
time if both sets have the same distribution.

Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991): a set of features stands for the union of
balls around them, each with the distance to its k-th neighbour in the set as its radius. Precision is the share of
samples in the data's balls, recall the share of data in the samples' balls. Both depend on k and on the two numbers of
samples, so every value is reported with those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.errors import SchedrlError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean and covariance of a set of features.

    Attributes:
        mean: ``[d]``.
        covariance: ``[d, d]``, unbiased.
        count: Number of features.
    """

    mean: Array
    covariance: Array
    count: int

    @classmethod
    def of(cls, features: Array) -> FeatureStatistics:
        """From features ``[n, d]``, n > d."""
        count, dimension = features.shape
        if count <= dimension:
            raise SchedrlError(
                f"features: {dimension} dimensions need at least {dimension + 1} samples (got {count})"
            )
        if not np.isfinite(features).all():
            raise SchedrlError("features: every number must be finite (the images may not be)")
        rows = features.astype(np.float64)
        return cls(rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)), count)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """The squared distance, as FID is; at least 0.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> a, b = (FeatureStatistics.of(rng.normal(m, 1.0, (100_000, 2))) for m in (0.0, 3.0))
        >>> round(frechet_distance(a, b), 1)  # 2 dimensions, means 3 apart
        18.0
    """
    if first.mean.shape != second.mean.shape:
        raise SchedrlError(f"features: dimensions must agree (got {first.mean.size} and {second.mean.size})")
    # The trace of the root is the sum of the singular values of the product of the two roots. This way no complex parts
    # arise, and no roots of eigenvalues that are zero up to rounding, which would turn 1e-16 into 1e-8.
    product = _root(first.covariance) @ _root(second.covariance)
    cross = np.linalg.svd(product, compute_uv=False).sum()
    gap = first.mean - second.mean
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2.0 * cross
    return float(gap @ gap + max(spread, 0.0))


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    rooted: Array = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return rooted


def polynomial_mmd2(first: Array, second: Array) -> float:
    """Unbiased squared kernel distance of features ``[n, d]`` and ``[m, d]``, n and m at least 2.

    Examples:
        >>> polynomial_mmd2(np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]]))  # 1 + 2^3 - 2 * 1
        7.0
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise SchedrlError(f"features: dimensions must agree (got shapes {first.shape} and {second.shape})")
    n, m = len(first), len(second)
    if min(n, m) < 2:
        raise SchedrlError(f"features: each side needs at least 2 samples (got {n} and {m})")
    one, two, across = (_kernel(*sides) for sides in ((first, first), (second, second), (first, second)))
    within = (one.sum() - one.trace()) / (n * (n - 1)) + (two.sum() - two.trace()) / (m * (m - 1))
    return float(within - 2.0 * across.mean())


def _kernel(first: Array, second: Array) -> Array:
    values: Array = (first.astype(np.float64) @ second.astype(np.float64).T / first.shape[1] + 1.0) ** 3
    return values


@dataclass(frozen=True)
class KID:
    """A kernel distance as torch-fidelity and torchmetrics report it: the mean over random subsets.

    Attributes:
        value: Mean over the subsets, unbiased.
        deviation: Standard deviation over the subsets. They overlap, so it is not the error of the mean.
        subsets: Number of subsets.
        subset_size: Samples of each side in a subset.
        samples: Number of samples.
        reference_samples: Number of reference images.
    """

    value: float
    deviation: float
    subsets: int
    subset_size: int
    samples: int
    reference_samples: int

    @classmethod
    def between(
        cls,
        features: Array,
        reference: Array,
        rng: np.random.Generator,
        *,
        subsets: int = 100,
        subset_size: int = 1000,
    ) -> KID:
        """From features ``[n, d]`` to reference features ``[m, d]``; ``rng`` draws subsets without replacement."""
        if subsets < 1 or subset_size < 2:
            raise SchedrlError(
                f"kid: needs at least 1 subset of at least 2 (got {subsets} subsets of {subset_size})"
            )
        size = min(subset_size, len(features), len(reference))
        if size == len(features) == len(reference):
            subsets = 1  # every subset is the whole
        values = [
            polynomial_mmd2(*(rng.choice(side, size, replace=False) for side in (features, reference)))
            for _ in range(subsets)
        ]
        return cls(
            float(np.mean(values)), float(np.std(values)), subsets, size, len(features), len(reference)
        )


_ROWS = 1024
"""Rows of a matrix of distances that are held at once."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall.

    Attributes:
        precision: Share of samples within the reference, in [0, 1].
        recall: Share of the reference within the samples, in [0, 1].
        neighbours: The k of the balls' radius.
        samples: Number of samples.
        reference_samples: Number of reference images.
    """

    precision: float
    recall: float
    neighbours: int
    samples: int
    reference_samples: int


def precision_recall(features: Array, reference: Array, neighbours: int = 3) -> PrecisionRecall:
    """Precision and recall of features ``[n, d]`` against reference features ``[m, d]``.

    ``neighbours`` is the k of the balls' radius, 3 in the paper and less than n and m.

    Examples:
        >>> data = np.arange(8.0)[:, None]
        >>> result = precision_recall(np.array([[1.1], [1.2], [1.3], [99.0]]), data, neighbours=1)
        >>> result.precision, result.recall
        (0.75, 0.75)
    """
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1]:
        raise SchedrlError(
            f"features: dimensions must agree (got shapes {features.shape} and {reference.shape})"
        )
    if not 1 <= neighbours < min(len(features), len(reference)):
        raise SchedrlError(
            f"neighbours: must be at least 1 and fewer than the samples on either side, {len(features)} and "
            f"{len(reference)} (got {neighbours})"
        )
    own, real = (torch.from_numpy(np.array(side, dtype=np.float64)) for side in (features, reference))
    return PrecisionRecall(
        _share_within(own, real, _radii(real, neighbours)),
        _share_within(real, own, _radii(own, neighbours)),
        neighbours,
        len(own),
        len(real),
    )


def _radii(points: Tensor, neighbours: int) -> Tensor:
    """Distance to the k-th neighbour that is not the point itself, ``[n]``."""
    return torch.cat([
        _distances(rows, points).kthvalue(neighbours + 1, dim=1).values for rows in points.split(_ROWS)
    ])  # fmt: skip


def _share_within(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    inside = [(_distances(rows, centres) <= radii).any(dim=1) for rows in points.split(_ROWS)]
    return float(torch.cat(inside).double().mean())


def _distances(first: Tensor, second: Tensor) -> Tensor:
    # Not by a product of matrices: copies of one image must be at distance 0.
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
