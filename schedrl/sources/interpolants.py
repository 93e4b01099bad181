"""Interpolants between noise and data, and the grids that their times stand for."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from schedrl.errors import SchedrlError, Spec, parse
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count

__all__ = ["Dimension", "Interpolant", "Path", "Scaling"]

Scaling: TypeAlias = Literal["vp", "ve"]
"""Scale of the noise: 1 (variance preserving) or sqrt(d) (variance exploding)."""

Path: TypeAlias = Literal["linear", "sqrt"]
"""How the noise falls with time: 1 - τ or sqrt(1 - τ²)."""

Dimension: TypeAlias = Annotated[float, Field(ge=1.0, le=1e12)]
"""Number of coordinates d. It appears in formulas only, so it may be astronomical."""


class Interpolant(Spec):
    r"""A path from noise z at time 0 to data a at time 1: :math:`x_\tau = \alpha(\tau) z + \beta(\tau) a`.

    :math:`\alpha = c (1 - \tau)` or :math:`c \sqrt{1 - \tau^2}`, with c = 1 or :math:`\sqrt d`, and :math:`\beta =
    \tau`. Source: Aranguri, Biroli, Mézard & Vanden-Eijnden (arXiv 2501.00988). DDIM is the same map for every
    interpolant; what a choice of interpolant and times changes is at which noise-to-signal ratios :math:`\alpha /
    \beta` it steps: a :class:`~schedrl.schedules.Grid`.

    Attributes:
        scaling: ``"vp"`` for c = 1, ``"ve"`` for c = sqrt(d).
        path: ``"linear"`` or ``"sqrt"``.
        dimension: d, in [1, 1e12]; matters for ``"ve"`` only.

    Examples:
        >>> Interpolant(scaling="ve", dimension=100.0).grid([0.0, 0.5, 1.0]).sigmas
        (inf, 10.0, 0.0)
    """

    scaling: Scaling = "vp"
    path: Path = "linear"
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

    def alpha_dot_alpha(self, tau: npt.ArrayLike) -> FloatArray:
        r"""The product :math:`\alpha \alpha'`, finite at time 1 even where :math:`\alpha'` is not; same shape."""
        time = np.asarray(tau, dtype=np.float64)
        return np.asarray(-self.noise_variance * (time if self.path == "sqrt" else 1.0 - time))

    def sigmas(self, times: npt.ArrayLike) -> FloatArray:
        r"""Noise-to-signal ratios :math:`\alpha / \beta` of a list of times.

        Args:
            times: [K] strictly increasing, in [0, 1].

        Returns:
            [K] strictly decreasing; infinite at time 0 and 0 at time 1.

        Raises:
            SchedrlError: The times are not such a list.
        """
        listed = np.asarray(times, dtype=np.float64)
        rising = listed.ndim == 1 and listed.size > 0 and bool(np.all(np.diff(listed) > 0.0))
        if not (rising and listed[0] >= 0.0 and listed[-1] <= 1.0):
            raise SchedrlError(f"field 'times': must strictly increase within [0, 1] (got {_short(listed)})")
        with np.errstate(divide="ignore"):
            return np.asarray(self.alpha(listed) / self.beta(listed))

    def grid(self, times: npt.ArrayLike) -> Grid:
        """The grid that DDIM steps on when it stops at the given times.

        Args:
            times: [N+1] strictly increasing, in [0, 1]; from 0 to 1 for a grid from infinity to 0.

        Returns:
            A grid of N steps.

        Raises:
            SchedrlError: The times are not such a list, or are fewer than two.
        """
        return parse(Grid, {"sigmas": self.sigmas(times).tolist()}, "grid of the times")

    def uniform_times(self, n: int) -> FloatArray:
        """Times k/N of N steps, [N+1] from 0 to 1.

        Raises:
            SchedrlError: ``n`` is not a positive whole number.
        """
        steps = as_count("n", n)
        return np.arange(steps + 1) / steps


def _short(values: FloatArray) -> str:
    text = " ".join(str(values.tolist()).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
