r"""What grids make of a two-mode mixture in the limit of infinite dimension.

Source: the limits :math:`d \to \infty` of the one-dimensional reduction (:mod:`schedrl.sources.mixture.batched`) for
the dilations of Aranguri, Biroli, Mézard & Vanden-Eijnden (arXiv 2501.00988). N-step formulas are exact at every N.
"""

from __future__ import annotations

import math

import numpy as np

from schedrl.errors import SchedrlError
from schedrl.schedules.schedule import as_count
from schedrl.sources.interpolants import Scaling
from schedrl.sources.mixture.batched import perpendicular_gain
from schedrl.sources.scaling import gaussian_midpoints, half_log_odds, positive_fraction

__all__ = [
    "dilated_majority",
    "dilated_within_variance",
    "phase_one_majority",
    "tangent_within_variance",
    "uniform_ve_within_variance",
]

_QUANTILES = 20_001


def phase_one_majority(majority: float, kappa: float = 3.0) -> float:
    r"""Weight of the larger mode after the variance-preserving first phase, with infinitely many steps.

    :math:`\hat p = p\,\Phi(\kappa + h/\kappa) + (1 - p)\,\Phi(-\kappa + h/\kappa)`: the bias that stays because the
    first phase ends at a finite :math:`\kappa`. It falls quickly: 2e-3 at 2, 7e-5 at 3 for p = 0.8.

    Args:
        majority: Weight p of the larger mode, in [0.5, 1).
        kappa: Where the phases meet, positive.

    Returns:
        The weight in (0, 1).

    Raises:
        SchedrlError: A value is out of range.

    Examples:
        >>> [round(phase_one_majority(0.8, kappa), 8) for kappa in (1.0, 2.0, 3.0, 5.0)]
        [0.83972456, 0.80224564, 0.80006902, 0.80000001]
    """
    from scipy.special import ndtr

    _require_weight(majority)
    _require_positive("kappa", kappa)
    shift = float(half_log_odds(majority)) / kappa
    return float(majority * ndtr(kappa + shift) + (1.0 - majority) * ndtr(-kappa + shift))


def dilated_majority(majority: float, num_steps: int, kappa: float = 3.0, scaling: Scaling = "vp") -> float:
    r"""Weight of the larger mode after N steps of the first phase of a dilation, linear path.

    Preserving: Euler for :math:`\nu' = \kappa \tanh(h + \kappa s \nu)` with :math:`\nu = \sqrt d M`, then the sign
    of :math:`h + \kappa \nu`. Exploding: Euler for :math:`M' = (\tanh(h + \tau M / (1 - \tau)^2) - M) / (1 -
    \tau)`, then the sign of M; kappa plays no part.

    Args:
        majority: Weight p of the larger mode, in [0.5, 1).
        num_steps: Steps of the first phase, half of the grid's.
        kappa: Where the phases meet, positive.
        scaling: ``"vp"`` or ``"ve"``.

    Returns:
        The weight, to about 1e-5 (it is interpolated between 20 001 quantiles).

    Raises:
        SchedrlError: A value is out of range.

    Examples:
        >>> round(dilated_majority(0.8, 10), 5), round(dilated_majority(0.8, 10, scaling="ve"), 5)
        (0.81718, 0.81495)
    """
    _require_weight(majority)
    _require_positive("kappa", kappa)
    steps = as_count("num_steps", num_steps)
    field = float(half_log_odds(majority))
    m = gaussian_midpoints(_QUANTILES)
    for k in range(steps):
        s = k / steps
        if scaling == "vp":
            m = m + (kappa / steps) * np.tanh(field + kappa * s * m)
        else:
            m = m + (np.tanh(field + (s / (1.0 - s) ** 2) * m) - m) / (steps * (1.0 - s))
    return float(positive_fraction(field + kappa * m if scaling == "vp" else m))


def dilated_within_variance(
    variance: float, num_steps: int, kappa: float = 3.0, scaling: Scaling = "vp"
) -> float:
    r"""Variance across the modes' axis after N steps of the second phase of a dilation, linear path.

    Preserving: the N steps are those of a uniform grid on their own, :math:`\sigma = (1 - s)/s`. Exploding: Euler in
    the noise level from :math:`\kappa` to 0, from a variance :math:`\kappa^2`; the first phase has lost :math:`s^2`
    of it in one last step that comes down from :math:`\sqrt d`.

    Args:
        variance: :math:`s^2` of the coordinates within a mode, positive.
        num_steps: Steps of the second phase, half of the grid's.
        kappa: Where the phases meet, positive.
        scaling: ``"vp"`` or ``"ve"``.

    Returns:
        The variance. Preserving: :math:`s^2` less an error of order 1/N. Exploding: :math:`s^2 \kappa^2 / (\kappa^2 +
        s^2)` less an error of order 1/N, a bias of 2.7 % at 3 and 1 % at 5 for :math:`s^2 = 1/4` that no number of
        steps removes (d goes to infinity first).

    Raises:
        SchedrlError: A value is out of range.

    Examples:
        >>> round(dilated_within_variance(0.25, 10), 4), round(dilated_within_variance(0.25, 10, scaling="ve"), 4)
        (0.1856, 0.1503)
    """
    _require_positive("variance", variance)
    _require_positive("kappa", kappa)
    steps = as_count("num_steps", num_steps)
    left = np.arange(steps, -1, -1) / steps
    if scaling == "vp":
        with np.errstate(divide="ignore"):
            sigmas = left / (1.0 - left)
        start = 1.0
    else:
        sigmas = kappa * left
        start = kappa**2 / (1.0 + kappa**2)  # of the noise alone, in the preserving scale
    return float(start * perpendicular_gain(sigmas[:-1], sigmas[1:], variance).prod())


def tangent_within_variance(variance: float, num_steps: int) -> float:
    r"""The largest variance across the modes' axis that N steps of DDIM from pure noise can keep.

    :math:`s^2 \cos^{2N}(\pi / 2N)`, that of the tangent grid (Sun, Poor & Zhang, arXiv 2601.13602).

    Args:
        variance: :math:`s^2` of the coordinates within a mode, positive.
        num_steps: N.

    Returns:
        The variance, at most :math:`s^2`.

    Raises:
        SchedrlError: A value is out of range.

    Examples:
        >>> round(tangent_within_variance(0.25, 10), 5)
        0.19514
    """
    _require_positive("variance", variance)
    steps = as_count("num_steps", num_steps)
    return float(variance * math.cos(math.pi / (2 * steps)) ** (2 * steps))


def uniform_ve_within_variance(variance: float, num_steps: int, dimension: float) -> float:
    r"""Variance across the modes' axis after N uniform steps of the exploding interpolant, to leading order in 1/d.

    :math:`s^4 (N - 1)^2 / d`: the last step starts at :math:`\sigma = \sqrt d / (N - 1)`, far above s, and the modes
    collapse to points.

    Args:
        variance: :math:`s^2` of the coordinates within a mode, positive.
        num_steps: N, at least 2.
        dimension: d, much larger than :math:`N^2`.

    Returns:
        The variance.

    Raises:
        SchedrlError: A value is out of range.

    Examples:
        >>> f"{uniform_ve_within_variance(0.25, 20, 1e6):.3g}"
        '2.26e-05'
    """
    _require_positive("variance", variance)
    _require_positive("dimension", dimension)
    return variance**2 * (as_count("num_steps", num_steps, 2) - 1) ** 2 / dimension


def _require_weight(majority: float) -> None:
    if not 0.5 <= majority < 1.0:
        raise SchedrlError(f"field 'majority': must lie in [0.5, 1) (got {majority})")


def _require_positive(field: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise SchedrlError(f"field '{field}': must be positive and finite (got {value})")
