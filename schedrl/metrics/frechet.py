r"""The Fréchet distance of two sets of features, as if both were Gaussian.

:math:`d^2 = |\mu_1 - \mu_2|^2 + \mathrm{tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2})`
(Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500, over Inception features, where it is called FID). Over
other features it is another number, and it is never called FID here. It is biased in the number of samples, so that
goes with every value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedrl.errors import SchedrlError

__all__ = ["FeatureStatistics", "frechet_distance"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean and covariance of a set of features.

    Attributes:
        mean: ``[d]``.
        covariance: ``[d, d]``, unbiased.
        count: How many there were.
    """

    mean: Array
    covariance: Array
    count: int

    @classmethod
    def of(cls, features: Array) -> FeatureStatistics:
        """Of features ``[n, d]``.

        Raises:
            SchedrlError: Fewer than d + 1 of them, or one that is not finite.
        """
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
    """The squared distance, which is what FID is; at least 0.

    Raises:
        SchedrlError: The dimensions differ.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> a, b = (FeatureStatistics.of(rng.normal(m, 1.0, (100_000, 2))) for m in (0.0, 3.0))
        >>> round(frechet_distance(a, b), 1)  # 2 dimensions, means 3 apart
        18.0
    """
    if first.mean.shape != second.mean.shape:
        raise SchedrlError(f"features: dimensions must agree (got {first.mean.size} and {second.mean.size})")
    # The trace of the root is the sum of the singular values of the product of the two roots: no complex parts can
    # arise, and no roots of eigenvalues that are zero up to rounding, which turn 1e-16 into 1e-8.
    product = _root(first.covariance) @ _root(second.covariance)
    cross = np.linalg.svd(product, compute_uv=False).sum()
    gap = first.mean - second.mean
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2.0 * cross
    return float(gap @ gap + max(spread, 0.0))


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    rooted: Array = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return rooted
