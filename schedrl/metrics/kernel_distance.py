"""The kernel distance of two sets of features: an unbiased estimate, which the Fréchet distance has none of.

The squared maximum mean discrepancy with the kernel (a·b / d + 1)³ (Bińkowski et al. 2018, arXiv 1801.01401, over
Inception features, where it is called KID). Where the two laws are the same it is negative half of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedrl.errors import SchedrlError

__all__ = ["KID", "polynomial_mmd2"]

Array = NDArray[np.float64]


def polynomial_mmd2(first: Array, second: Array) -> float:
    """Unbiased squared discrepancy of features ``[n, d]`` and ``[m, d]``, n and m at least 2.

    Raises:
        SchedrlError: The dimensions differ, or a side has fewer than 2 samples.

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
        deviation: Standard deviation over the subsets, which overlap: not the error of the mean.
        subsets: How many.
        subset_size: Samples of each side in each.
        samples: Samples that they were drawn from.
        reference_samples: The same, of the reference.
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
        """Of features ``[n, d]`` to reference features ``[m, d]``.

        Args:
            features: Of the samples.
            reference: Of the images they should be like.
            rng: Draws the subsets, without replacement.
            subsets: How many.
            subset_size: Samples of each side in each; no more than either side has.

        Raises:
            SchedrlError: The dimensions differ, there are fewer than 2 samples, or no subsets.
        """
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
