r"""Interpolants between noise and data, and the grids of their times: uniform ones, and the dilations.

A dilation resolves both features of a two-mode source in any dimension, the balance of its modes and their width. The
balance is decided where :math:`\alpha/\beta` is of order :math:`\sqrt d`, the width where it is of order 1. Uniform
times of N steps resolve only one of the two, unless N grows like :math:`\sqrt d`; a dilation spends half of the steps
on each, and N need not grow. Source: Aranguri et al. 2025 (arXiv 2501.00988) and its public code.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from schedrl.errors import SchedrlError, Spec, parse
from schedrl.schedules import Grid
from schedrl.schedules.continuous_laws import tangent_sigmas
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count

Scaling: TypeAlias = Literal["vp", "ve"]
"""Scale of the noise: 1 (variance preserving) or sqrt(d) (variance exploding)."""

NoisePath: TypeAlias = Literal["linear", "sqrt"]
"""How the noise falls with time: 1 - τ or sqrt(1 - τ²)."""

Dimension: TypeAlias = Annotated[float, Field(ge=1.0, le=1e12)]
"""Number of coordinates d. It appears in formulas only, so it may be astronomical."""


class Interpolant(Spec):
    r"""A path from noise z at time 0 to data a at time 1: :math:`x_\tau = \alpha(\tau) z + \beta(\tau) a`.

    :math:`\alpha = c (1 - \tau)` or :math:`c \sqrt{1 - \tau^2}`, with c = 1 or :math:`\sqrt d`, and :math:`\beta =
    \tau`. DDIM is the same map for every interpolant; the choice of interpolant and times only changes at which
    noise-to-signal ratios :math:`\alpha / \beta` it steps: a :class:`~schedrl.schedules.Grid`.

    Attributes:
        scaling: ``"vp"`` for c = 1, ``"ve"`` for c = sqrt(d).
        path: ``"linear"`` or ``"sqrt"``.
        dimension: d, in [1, 1e12]; matters for ``"ve"`` only.

    Examples:
        >>> Interpolant(scaling="ve", dimension=100.0).grid([0.0, 0.5, 1.0]).sigmas
        (inf, 10.0, 0.0)
    """

    scaling: Scaling = "vp"
    path: NoisePath = "linear"
    dimension: Dimension = 1.0

    @property
    def noise_variance(self) -> float:
        """c², the variance of a coordinate at time 0."""
        return self.dimension if self.scaling == "ve" else 1.0

    def alpha(self, tau: npt.ArrayLike) -> FloatArray:
        """The factor α of the noise at times in [0, 1], same shape."""
        time = np.asarray(tau, dtype=np.float64)
        falling = 1.0 - time
        if self.path == "sqrt":
            falling = np.sqrt((1.0 - time) * (1.0 + time))
        return np.asarray(np.sqrt(self.noise_variance) * falling)

    def beta(self, tau: npt.ArrayLike) -> FloatArray:
        """The factor β of the data at times in [0, 1], same shape."""
        return np.array(tau, dtype=np.float64)

    def sigmas(self, times: npt.ArrayLike) -> FloatArray:
        r"""Noise-to-signal ratios :math:`\alpha / \beta` of a list of times.

        Args:
            times: [K] strictly increasing, in [0, 1].

        Returns:
            [K] strictly decreasing; infinite at time 0 and 0 at time 1.
        """
        listed = np.asarray(times, dtype=np.float64)
        rising = listed.ndim == 1 and listed.size > 0 and bool(np.all(np.diff(listed) > 0.0))
        if not (rising and listed[0] >= 0.0 and listed[-1] <= 1.0):
            text = " ".join(str(listed.tolist()).split())
            shown = text if len(text) <= 80 else f"{text[:77]}..."
            raise SchedrlError(f"field 'times': must strictly increase within [0, 1] (got {shown})")
        with np.errstate(divide="ignore"):
            return np.asarray(self.alpha(listed) / self.beta(listed))

    def grid(self, times: npt.ArrayLike) -> Grid:
        """The grid of N steps that DDIM takes when it stops at the given times.

        Args:
            times: [N+1] strictly increasing, in [0, 1]; from 0 to 1 for a grid from infinity to 0.
        """
        return parse(Grid, {"sigmas": self.sigmas(times).tolist()}, "grid of the times")

    def uniform_times(self, n: int) -> FloatArray:
        """Times k/N of N steps, [N+1] from 0 to 1."""
        steps = as_count("n", n)
        return np.arange(steps + 1) / steps


def dilated_times(
    n: int, dimension: float, kappa: float = 3.0, scaling: Scaling = "vp", path: NoisePath = "linear"
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
    n: int, dimension: float, kappa: float = 3.0, scaling: Scaling = "vp", path: NoisePath = "linear"
) -> Grid:
    """The grid of :func:`dilated_times`, N steps from infinity to 0; the same arguments.

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
    path: NoisePath = "linear",
) -> Grid:
    r"""The first phase of a dilation, then the tangent law, which is best for the width of a mode.

    From the end of the first phase the grid follows :math:`\sigma = s \tan(\cdot)` to 0, which maximises
    :math:`\prod \cos^2 \Delta\varphi` (elementary scheduling, arXiv 2601.13602, for one eigenvalue :math:`s^2`).

    Args:
        n: Number of steps N, even.
        dimension: d, in [1, 1e12].
        variance: Variance :math:`s^2` of the coordinates within a mode, positive.
        kappa: Where the phases meet, in (0, sqrt(d)).
        scaling: ``"vp"`` or ``"ve"``.
        path: ``"linear"`` or ``"sqrt"``.

    Examples:
        >>> [round(sigma, 4) for sigma in dilated_tangent_grid(4, 100.0, 0.25).sigmas]
        [inf, 5.6667, 2.3333, 0.4042, 0.0]
    """
    if not 0.0 < variance < math.inf:
        raise SchedrlError(f"field 'variance': must be positive and finite (got {variance})")
    sigmas = _dilated_sigmas(n, dimension, kappa, scaling, path)
    half = n // 2
    left = np.arange(half - 1, -1, -1) / half
    sigmas[half + 1 :] = tangent_sigmas(left, math.sqrt(variance), sigmas[half])
    return parse(Grid, {"sigmas": sigmas.tolist()}, "grid of a dilation with a tangent")


def uniform_grid(n: int, dimension: float, scaling: Scaling = "vp", path: NoisePath = "linear") -> Grid:
    """The grid of N uniform times of an interpolant, from infinity to 0.

    Examples:
        >>> uniform_grid(4, 100.0, scaling="ve").sigmas
        (inf, 30.0, 10.0, 3.3333333333333335, 0.0)
    """
    interpolant = _interpolant(dimension, scaling, path)
    return interpolant.grid(interpolant.uniform_times(n))


def _interpolant(dimension: float, scaling: Scaling, path: NoisePath) -> Interpolant:
    return parse(Interpolant, {"scaling": scaling, "path": path, "dimension": dimension}, "interpolant")


def _dilated_sigmas(n: int, dimension: float, kappa: float, scaling: Scaling, path: NoisePath) -> FloatArray:
    """[n + 1] levels of the dilated times."""
    times = dilated_times(n, dimension, kappa, scaling, path)
    sigmas = _interpolant(dimension, scaling, path).sigmas(times)
    if scaling == "ve":
        # The second phase is uniform in the noise, from kappa to 0, on either path; times so close to 1 have lost it.
        half = n // 2
        sigmas[half:] = kappa * (np.arange(half, -1, -1) / half) / times[half:]
    return sigmas
