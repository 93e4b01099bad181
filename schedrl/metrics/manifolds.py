"""Improved precision and recall: are samples like the data, and are the data like samples?

Kynkäänniemi et al. 2019 (arXiv 1904.06991): a set of features stands for the union of balls around them, each as large
as the distance to its k-th neighbour in the set. Precision is the share of samples in the data's balls, recall the
share of data in the samples' balls. Both depend on k and on how many there are of each, so those go with every value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.errors import SchedrlError

__all__ = ["PrecisionRecall", "precision_recall"]

Array = NDArray[np.float64]

_ROWS = 1024
"""Rows of a matrix of distances that are held at once."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Both shares, and what they depend on.

    Attributes:
        precision: Share of samples within the reference, in [0, 1].
        recall: Share of the reference within the samples, in [0, 1].
        neighbours: The k of the balls' radius.
        samples: How many were compared.
        reference_samples: With how many.
    """

    precision: float
    recall: float
    neighbours: int
    samples: int
    reference_samples: int


def precision_recall(features: Array, reference: Array, neighbours: int = 3) -> PrecisionRecall:
    """Precision and recall of features ``[n, d]`` against reference features ``[m, d]``.

    Args:
        features: Of the samples.
        reference: Of the data.
        neighbours: The k of the balls' radius, 3 in the paper; fewer than there are samples on either side.

    Raises:
        SchedrlError: The dimensions differ, or a side has too few samples.

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
