r"""The scaling in which the high-dimensional sources are sampled, and their common starting points.

A state is variance preserving, :math:`x = \cos\psi\,a + \sin\psi\,z` with data a, noise z and
:math:`\tan\psi = \sigma` the level of a :class:`~schedrl.schedules.Grid`: every formula stays finite from
:math:`\sigma = \infty` to 0, in any dimension. DDIM is one map in every scaling, so nothing is lost.
"""

from __future__ import annotations

import numpy as np

from schedrl.schedules.conversions import Broadcast, FloatArray
from schedrl.schedules.schedule import as_count


def signal_and_noise(sigma: Broadcast) -> tuple[FloatArray, FloatArray]:
    r"""Cosine and sine of :math:`\psi = \arctan\sigma`, without cancellation at either end.

    Args:
        sigma: Noise-to-signal ratio, any shape, in [0, inf].

    Returns:
        The factors of data and noise, each of the same shape.

    Examples:
        >>> signal_and_noise(np.array([np.inf, 0.75, 0.0]))
        (array([0. , 0.8, 1. ]), array([1. , 0.6, 0. ]))
    """
    level = np.asarray(sigma, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / np.hypot(1.0, level)), np.asarray(1.0 / np.hypot(1.0, 1.0 / level))


def half_log_odds(majority: Broadcast) -> FloatArray:
    r"""The field :math:`h = \frac12 \log\frac{p}{1-p}` of a weight p in (0, 1), same shape."""
    weight = np.asarray(majority, dtype=np.float64)
    return np.asarray(0.5 * (np.log(weight) - np.log1p(-weight)))


def gaussian_midpoints(count: int) -> FloatArray:
    r"""Standard normal quantiles at the mid-points of equal shares, :math:`\Phi^{-1}((i + 1/2)/n)`.

    Args:
        count: Number of points n, at least 2.

    Returns:
        [n], ascending and symmetric about 0.

    Examples:
        >>> gaussian_midpoints(3).round(4) + 0.0
        array([-0.9674,  0.    ,  0.9674])
    """
    from scipy.special import ndtri

    number = as_count("count", count, minimum=2)
    return np.asarray(ndtri((np.arange(number) + 0.5) / number), dtype=np.float64)


def positive_fraction(values: FloatArray) -> FloatArray:
    r"""Probability that an increasing function of a standard normal variable is positive, without steps of 1/n.

    The function is known at :func:`gaussian_midpoints`. Its zero z* is interpolated linearly between the two
    points that enclose it (beyond the outermost points: extrapolated along the nearest two), and the answer is
    :math:`1 - \Phi(z^*)`. It is continuous in the values and differs from their count by less than 1/n. Where
    the function jumps between two points, its zero is taken to lie half-way.

    Args:
        values: [..., n] non-decreasing along the last axis, n of at least 2.

    Returns:
        [...] in [0, 1].

    Examples:
        >>> round(float(positive_fraction(gaussian_midpoints(10) + 0.5)), 6)  # Φ(0.5)
        0.691462
        >>> positive_fraction(np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]))
        array([1., 0.])
    """
    from scipy.special import ndtr

    points = gaussian_midpoints(values.shape[-1])
    below = np.clip((values <= 0.0).sum(axis=-1) - 1, 0, len(points) - 2)
    left = np.take_along_axis(values, below[..., None], axis=-1)[..., 0]
    right = np.take_along_axis(values, below[..., None] + 1, axis=-1)[..., 0]
    # Equal values (both in one mode, up to rounding) put the zero at infinity on their far side.
    rise = np.maximum(right - left, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        zero = points[below] - (left / rise) * (points[below + 1] - points[below])
    return np.asarray(ndtr(-zero), dtype=np.float64)
