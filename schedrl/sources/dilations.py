r"""Times that resolve both features of a two-mode source in any dimension: its modes' balance and their width.

Source: the public code of Aranguri, Biroli, Mézard & Vanden-Eijnden (arXiv 2501.00988). The balance is decided where
:math:`\alpha/\beta` is of order :math:`\sqrt d`, the width where it is of order 1. Uniform times of N steps see one
of the two only, unless N grows like :math:`\sqrt d`; a dilation spends half of the steps on each, and N need not grow.
"""

from __future__ import annotations

import math

import numpy as np

from schedrl.errors import SchedrlError, parse
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.interpolants import Interpolant, Path, Scaling

__all__ = ["dilated_grid", "dilated_tangent_grid", "dilated_times", "uniform_grid"]


def dilated_times(
    n: int, dimension: float, kappa: float = 3.0, scaling: Scaling = "vp", path: Path = "linear"
) -> FloatArray:
    r"""The dilated times of N steps, half of them in each phase.

    With t = k/N: the variance-preserving first phase ends at :math:`\tau = \kappa/\sqrt d`, on either path; the
    exploding one at :math:`1 - \kappa/\sqrt d` (linear) or :math:`\sqrt{1 - \kappa^2/d}` (sqrt). All phases are
    uniform in :math:`\tau`, but for the second one on the exploding sqrt path, :math:`\tau = \sqrt{1 - \kappa^2 (2 -
    2t)^2 / d}`.

    Args:
        n: Number of steps N, even.
        dimension: d, in [1, 1e12].
        kappa: Where the phases meet, in (0, sqrt(d)); 3 in most of the source's experiments, 5 in one.
        scaling: ``"vp"`` or ``"ve"``.
        path: ``"linear"`` or ``"sqrt"``.

    Returns:
        [N+1] increasing from 0 to 1.

    Raises:
        SchedrlError: ``n`` is odd or not a positive whole number, or another value is out of range.

    Examples:
        >>> dilated_times(4, 100.0).round(12)
        array([0.  , 0.15, 0.3 , 0.65, 1.  ])
        >>> dilated_times(4, 100.0, scaling="ve").round(12)
        array([0.  , 0.35, 0.7 , 0.85, 1.  ])
    """
    steps = as_count("n", n, 2)
    if steps % 2:
        raise SchedrlError(f"field 'n': must be even, half the steps are for each phase (got {steps})")
    size = _interpolant(dimension, scaling, path).dimension
    if not 0.0 < kappa < math.sqrt(size):
        raise SchedrlError(
            f"field 'kappa': must be positive and less than sqrt(dimension) = {math.sqrt(size):g} (got {kappa})"
        )
    window = kappa / math.sqrt(size)
    done = np.arange(steps // 2 + 1) / (steps // 2)
    left = done[-2::-1]
    if scaling == "vp":
        return np.concatenate([window * done, 1.0 - (1.0 - window) * left])
    if path == "linear":
        return np.concatenate([(1.0 - window) * done, 1.0 - window * left])
    end = math.sqrt((1.0 - window) * (1.0 + window))
    return np.concatenate([end * done, np.sqrt((1.0 - window * left) * (1.0 + window * left))])


def dilated_grid(
    n: int, dimension: float, kappa: float = 3.0, scaling: Scaling = "vp", path: Path = "linear"
) -> Grid:
    """The grid of :func:`dilated_times`, from infinity to 0.

    Args:
        n: Number of steps N, even.
        dimension: d, in [1, 1e12].
        kappa: Where the phases meet, in (0, sqrt(d)).
        scaling: ``"vp"`` or ``"ve"``.
        path: ``"linear"`` or ``"sqrt"``.

    Returns:
        A grid of N steps.

    Raises:
        SchedrlError: As for :func:`dilated_times`.

    Examples:
        >>> [round(sigma, 4) for sigma in dilated_grid(4, 100.0).sigmas]
        [inf, 5.6667, 2.3333, 0.5385, 0.0]
    """
    sigmas = _dilated_sigmas(n, dimension, kappa, scaling, path)
    return parse(Grid, {"sigmas": sigmas.tolist()}, "grid of a dilation")


def dilated_tangent_grid(
    n: int,
    dimension: float,
    variance: float,
    kappa: float = 3.0,
    scaling: Scaling = "vp",
    path: Path = "linear",
) -> Grid:
    r"""The first phase of a dilation, then the tangent law, the best there is for the width of a mode.

    From its level r at the end of the first phase the grid follows :math:`\sigma = s \tan(\cdot)` to 0 with equal
    steps of the angle :math:`\arctan(\sigma/s)`, which maximises :math:`\prod \cos^2 \Delta\varphi` (Sun, Poor &
    Zhang, arXiv 2601.13602, for one eigenvalue :math:`s^2`).

    Args:
        n: Number of steps N, even.
        dimension: d, in [1, 1e12].
        variance: Variance :math:`s^2` of the coordinates within a mode, positive.
        kappa: Where the phases meet, in (0, sqrt(d)).
        scaling: ``"vp"`` or ``"ve"``.
        path: ``"linear"`` or ``"sqrt"``.

    Returns:
        A grid of N steps.

    Raises:
        SchedrlError: As for :func:`dilated_times`, or ``variance`` is not positive and finite.

    Examples:
        >>> [round(sigma, 4) for sigma in dilated_tangent_grid(4, 100.0, 0.25).sigmas]
        [inf, 5.6667, 2.3333, 0.4042, 0.0]
    """
    if not 0.0 < variance < math.inf:
        raise SchedrlError(f"field 'variance': must be positive and finite (got {variance})")
    sigmas = _dilated_sigmas(n, dimension, kappa, scaling, path)
    half, scale = n // 2, math.sqrt(variance)
    angles = math.atan(sigmas[half] / scale) * (np.arange(half - 1, -1, -1) / half)
    sigmas[half + 1 :] = scale * np.tan(angles)
    return parse(Grid, {"sigmas": sigmas.tolist()}, "grid of a dilation with a tangent")


def uniform_grid(n: int, dimension: float, scaling: Scaling = "vp", path: Path = "linear") -> Grid:
    """The grid of uniform times of an interpolant, from infinity to 0.

    Args:
        n: Number of steps N, at least 1.
        dimension: d, in [1, 1e12].
        scaling: ``"vp"`` or ``"ve"``.
        path: ``"linear"`` or ``"sqrt"``.

    Returns:
        A grid of N steps.

    Raises:
        SchedrlError: A value is out of range.

    Examples:
        >>> uniform_grid(4, 100.0, scaling="ve").sigmas
        (inf, 30.0, 10.0, 3.3333333333333335, 0.0)
    """
    interpolant = _interpolant(dimension, scaling, path)
    return interpolant.grid(interpolant.uniform_times(n))


def _interpolant(dimension: float, scaling: Scaling, path: Path) -> Interpolant:
    return parse(Interpolant, {"scaling": scaling, "path": path, "dimension": dimension}, "interpolant")


def _dilated_sigmas(n: int, dimension: float, kappa: float, scaling: Scaling, path: Path) -> FloatArray:
    """[n + 1] levels of the dilated times."""
    times = dilated_times(n, dimension, kappa, scaling, path)
    sigmas = _interpolant(dimension, scaling, path).sigmas(times)
    if scaling == "ve":
        # The second phase is uniform in the noise, from kappa to 0, on either path; times so close to 1 have lost it.
        half = n // 2
        sigmas[half:] = kappa * (np.arange(half, -1, -1) / half) / times[half:]
    return sigmas
