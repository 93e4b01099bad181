r"""One DDIM step of many two-mode Gaussian mixtures at once.

Source: the one-dimensional reduction of the mixture of Aranguri, Biroli, Mézard & Vanden-Eijnden (arXiv
2501.00988). Under DDIM the projection :math:`M = \mu \cdot x / d` moves by itself, and the coordinates orthogonal
to :math:`\mu` are scaled. So d appears as a number only. States are variance preserving
(:mod:`schedrl.sources.scaling`), and all arrays broadcast: B mixtures, Q values of M each.
"""

from __future__ import annotations

import numpy as np

from schedrl.schedules.conversions import FloatArray
from schedrl.sources.scaling import (
    Broadcast,
    gaussian_midpoints,
    half_log_odds,
    positive_fraction,
    signal_and_noise,
)

__all__ = ["majority_fraction", "majority_of_grids", "mixture_step", "perpendicular_gain", "quantile_start"]

_ITERATIONS = 100
_PRECISION = 1e-14
_NOTHING = 1e-200


def quantile_start(num_quantiles: int, dimension: Broadcast) -> FloatArray:
    r"""Projections of pure noise, :math:`M \sim N(0, 1/d)`, on its quantile mid-points.

    Args:
        num_quantiles: Q, at least 2.
        dimension: d, broadcasts with [Q]; [B, 1] for a batch.

    Returns:
        [B, Q], ascending along the last axis.

    Raises:
        SchedrlError: ``num_quantiles`` is not a whole number of at least 2.

    Examples:
        >>> quantile_start(2, np.array([[1.0], [100.0]])).round(4)
        array([[-0.6745,  0.6745],
               [-0.0674,  0.0674]])
    """
    return np.asarray(gaussian_midpoints(num_quantiles) / np.sqrt(dimension))


def mixture_step(
    m: FloatArray,
    sigma: Broadcast,
    sigma_next: Broadcast,
    dimension: Broadcast,
    majority: Broadcast,
    variance: Broadcast,
) -> FloatArray:
    r"""One DDIM step of the projection :math:`M = \mu \cdot x / d`.

    With :math:`(\cos, \sin)` of :math:`\arctan\sigma`, :math:`D = \sin^2 + s^2 \cos^2` and half log-odds
    :math:`h = \frac12 \log\frac{p}{1-p}`: the posterior mean of the sign is :math:`\tanh(h + \cos d M / D)`, the
    rest :math:`M - \cos \tanh(\cdot)` is split between noise and data as for one Gaussian. The map is increasing
    in M, so samples never overtake each other.

    Args:
        m: [B, Q] projections at ``sigma``.
        sigma: Level now, in (0, inf]; [B, 1].
        sigma_next: Level after the step, in [0, sigma); [B, 1].
        dimension: d; [B, 1].
        majority: Weight p of the mode at :math:`+\mu`, in (0, 1); [B, 1].
        variance: :math:`s^2 > 0` of the coordinates within a mode; [B, 1].

    Returns:
        [B, Q] projections at ``sigma_next``.

    Examples:
        >>> mixture_step(np.array([[-0.1, 0.1]]), np.inf, 0.75, 100.0, 0.8, 0.25)  # 0.6 M + 0.8 (2p - 1)
        array([[0.42, 0.54]])
    """
    cos, sin = signal_and_noise(sigma)
    cos_next, sin_next = signal_and_noise(sigma_next)
    spread = sin**2 + variance * cos**2
    sign = np.tanh(half_log_odds(majority) + (cos * dimension / spread) * m)
    kept = (sin * sin_next + variance * cos * cos_next) / spread
    return np.asarray(kept * (m - cos * sign) + cos_next * sign)


def perpendicular_gain(sigma: Broadcast, sigma_next: Broadcast, variance: Broadcast) -> FloatArray:
    r"""Factor of one DDIM step on the variance of a coordinate orthogonal to :math:`\mu`.

    It is :math:`\cos^2(\varphi - \varphi') D'/D` with :math:`\varphi = \arctan(\sigma / s)` and the marginal
    variance :math:`D = (s^2 + \sigma^2) / (1 + \sigma^2)`: over a grid from infinity to 0 the factors D telescope
    to :math:`s^2`, and the variance is :math:`s^2 \prod \cos^2`. Start from 1, the variance of the noise.

    Args:
        sigma: Level now, in (0, inf]; any shape.
        sigma_next: Level after the step, in [0, sigma); broadcasts.
        variance: :math:`s^2 > 0` of the coordinates within a mode; broadcasts.

    Returns:
        The factor, of the broadcast shape.

    Examples:
        >>> float(perpendicular_gain(np.inf, 0.5, 0.25) * perpendicular_gain(0.5, 0.0, 0.25))  # s^2 cos^4(45°)
        0.0625
    """
    cos, sin = signal_and_noise(sigma)
    cos_next, sin_next = signal_and_noise(sigma_next)
    spread = sin**2 + variance * cos**2
    return np.asarray(np.square((sin * sin_next + variance * cos * cos_next) / spread))


def majority_fraction(m: FloatArray) -> FloatArray:
    r"""The weight :math:`\hat p` of the mode at :math:`+\mu` in a sample that began at :func:`quantile_start`.

    Args:
        m: [B, Q] projections, in the order of :func:`quantile_start`.

    Returns:
        [B] probability of M > 0, by interpolation as in :func:`~schedrl.sources.scaling.positive_fraction`:
        within 1/Q of the count and continuous in ``m``. Once the modes have separated, M jumps between two
        neighbours and the fraction moves in rounded steps of 1/Q; :func:`majority_of_grids` has none.

    Examples:
        >>> majority_fraction(quantile_start(50, np.array([[4.0]])))
        array([0.5])
    """
    return positive_fraction(m)


def majority_of_grids(
    sigmas: FloatArray, dimension: Broadcast, majority: Broadcast, variance: Broadcast
) -> FloatArray:
    r"""The weight :math:`\hat p` of the mode at :math:`+\mu` after a whole grid, exactly and smoothly.

    Every step is increasing in M, so one starting point divides the modes. It is found backwards: from M = 0 at the
    end, every step is inverted by Newton's method, kept between bounds. Then :math:`\hat p = 1 - \Phi(\sqrt d M_0)`,
    without any quantiles.

    Args:
        sigmas: [B, N+1] grids, strictly descending along the last axis, from infinity to 0.
        dimension: d; [B].
        majority: Weight p of the mode at :math:`+\mu`, in (0, 1); [B].
        variance: :math:`s^2 > 0` of the coordinates within a mode; [B].

    Returns:
        [B] in [0, 1].

    Examples:
        >>> grid = np.array([[np.inf, 10.0, 1.0, 0.0]])
        >>> majority_of_grids(grid, 100.0, 0.5, 0.25), majority_of_grids(grid, 100.0, 0.8, 0.25).round(4)
        (array([0.5]), array([0.8911]))
    """
    from scipy.special import ndtr

    cos, sin = signal_and_noise(sigmas)
    field = half_log_odds(majority)
    divide = np.zeros(
        np.broadcast_shapes(sigmas.shape[:-1], np.shape(dimension), field.shape, np.shape(variance))
    )
    for k in range(sigmas.shape[-1] - 2, -1, -1):
        spread = sin[..., k] ** 2 + variance * cos[..., k] ** 2
        kept = (sin[..., k] * sin[..., k + 1] + variance * cos[..., k] * cos[..., k + 1]) / spread
        pull = cos[..., k + 1] - kept * cos[..., k]
        gain = cos[..., k] * dimension / spread
        # kept M + pull tanh(h + gain M) = divide; a single step from pure noise to data keeps nothing of M.
        kept = np.maximum(kept, _NOTHING)
        low, high = (divide - pull) / kept, (divide + pull) / kept
        point = np.clip(divide, low, high)
        for _ in range(_ITERATIONS):
            sign = np.tanh(field + gain * point)
            excess = kept * point + pull * sign - divide
            low, high = np.where(excess > 0.0, low, point), np.where(excess > 0.0, point, high)
            newton = point - excess / (kept + pull * gain * (1.0 - sign * sign))
            inside = (newton >= low) & (newton <= high)
            last, point = point, np.where(inside, newton, 0.5 * (low + high))
            if np.all(np.abs(point - last) <= _PRECISION * np.abs(point)):
                break
        divide = point
    return np.asarray(ndtr(-np.sqrt(dimension) * divide))
