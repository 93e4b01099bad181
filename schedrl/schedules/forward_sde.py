r"""The forward SDE of a schedule, in continuous time t from 0 (data) to 1 (noise).

With :math:`B(t) = \int_0^t \beta(s)\,ds` both drifts below have exact Gaussian transitions in closed form.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from schedrl.errors import Spec
from schedrl.schedules.beta_laws import AVA
from schedrl.schedules.continuous_laws import VPSDE
from schedrl.schedules.conversions import FloatArray, log_alpha_bar_from_logsnr, logsnr_from_log_alpha_bar
from schedrl.schedules.registry import AnySchedule
from schedrl.schedules.schedule import Schedule, above, require_within_unit

Drift = Literal["vp", "printed"]

_LOG_2 = 0.6931471805599453
_WIDTH = 1e-6
"""Half-width, in time, of the difference quotient that stands for a schedule's rate."""


class BetaRate(Protocol):
    r"""A noise rate :math:`\beta(t) \ge 0` per unit of time and its integral, for t in [0, 1]."""

    def rate(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`\beta(t)`, of the shape of ``t``."""
        ...

    def integral(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`B(t)`, non-decreasing; above 0 at ``t = 0`` where the schedule begins with noise."""
        ...


class LinearRate(Spec):
    r"""The VP-SDE's rate, linear in time: :math:`\beta(t) = \beta_{min} + t (\beta_{max} - \beta_{min})`.

    Source: Song et al. 2021 (arXiv 2011.13456), appendix C.

    Attributes:
        beta_min: Rate at t = 0, in (0, 1000].
        beta_max: Rate at t = 1, in (0, 1000], greater than ``beta_min``.

    Examples:
        >>> LinearRate().integral([0.0, 1.0])
        array([ 0.  , 10.05])
    """

    name: Literal["linear-rate"] = "linear-rate"
    beta_min: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.1
    beta_max: Annotated[float, Field(gt=0.0, le=1000.0), above("beta_min")] = 20.0

    def rate(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`\beta(t)` per unit of time, of the shape of ``t``."""
        time = np.asarray(t, dtype=np.float64)
        return np.asarray(self.beta_min + time * (self.beta_max - self.beta_min), dtype=np.float64)

    def integral(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`B(t) = t (\beta_{min} + \frac12 t (\beta_{max} - \beta_{min}))`, of the shape of ``t``."""
        time = np.asarray(t, dtype=np.float64)
        return np.asarray(
            time * (self.beta_min + 0.5 * time * (self.beta_max - self.beta_min)), dtype=np.float64
        )


class ScheduleRate(Spec):
    r"""The rate with which a VP-SDE follows any schedule: :math:`B(t) = -\log\bar\alpha(t)`.

    :math:`\bar\alpha(t)` is the schedule's continuous form at u = t, clipped as that is. A schedule that begins with
    noise has :math:`B(0) > 0`.

    Attributes:
        schedule: The schedule, or its name.

    Examples:
        >>> cosine = ScheduleRate(schedule="cosine")
        >>> np.exp(-cosine.integral(0.5)).round(4)
        np.float64(0.4938)
        >>> cosine.rate(0.5).round(2)
        np.float64(3.16)
    """

    name: Literal["schedule"] = "schedule"
    schedule: AnySchedule

    def rate(self, t: npt.ArrayLike) -> FloatArray:
        """Difference quotient of :meth:`integral` over 2e-6 of time, of the shape of ``t``; one-sided at the ends."""
        time = np.asarray(t, dtype=np.float64)
        left, right = np.maximum(time - _WIDTH, 0.0), np.minimum(time + _WIDTH, 1.0)
        return np.asarray((self.integral(right) - self.integral(left)) / (right - left), dtype=np.float64)

    def integral(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`-\log\bar\alpha(t)`, of the shape of ``t``."""
        return -log_alpha_bar_from_logsnr(self.schedule.logsnr(t))


AnyBetaRate: TypeAlias = Annotated[AVA | LinearRate | ScheduleRate, Field(discriminator="name")]
"""A rate as a field of a pydantic model, told apart by ``name``."""


class ForwardSDE(Spec):
    r"""The forward SDE that a rate :math:`\beta(t)` drives, with its exact transitions.

    ======== ================================== ================== ============================ ==================
    drift    equation                           mean of x(t) / x_0 variance                     as B grows
    ======== ================================== ================== ============================ ==================
    vp       dx = -β x dt / 2 + √β dw           exp(-B/2)          1 - exp(-B)                  1
    printed  dx = -β x dt + √β dw               exp(-B)            (1 - exp(-2B)) / 2           1/2
    ======== ================================== ================== ============================ ==================

    Source: Song et al. 2021 (arXiv 2011.13456), section 3.4, for ``"vp"``; the AVA-DSC paper, section 2, for
    ``"printed"``. The latter does not preserve variance: data of variance 1 end in noise of variance 1/2.

    Attributes:
        rate: :class:`~schedrl.schedules.AVA`, whose integral is closed form, :class:`LinearRate` or
            :class:`ScheduleRate`; anything with ``rate`` and ``integral`` is a :class:`BetaRate`.
        drift: ``"vp"`` or ``"printed"``.

    Examples:
        >>> ForwardSDE(rate=AVA()).variance([0.0, 0.1, 1.0]).round(4)
        array([0.    , 0.1791, 1.    ])
        >>> ForwardSDE(rate=AVA(), drift="printed").variance([0.0, 0.1, 1.0]).round(4)
        array([0.   , 0.163, 0.5  ])
        >>> ForwardSDE.of("vp").logsnr(1.0).round(2)
        np.float64(-10.05)
    """

    rate: AnyBetaRate = AVA()
    drift: Drift = "vp"

    @classmethod
    def of(cls, schedule: Schedule | str, drift: Drift = "vp") -> ForwardSDE:
        """The SDE of a schedule or of the name of one.

        AVA keeps its closed form, and so does the VP-SDE without its cut-off at small times; every other schedule is
        read through its own log ᾱ.
        """
        # Through validation, so that a name may stand for a schedule.
        read = ScheduleRate(schedule=schedule)  # type: ignore[arg-type]
        match read.schedule:
            case AVA() as ava:
                return cls(rate=ava, drift=drift)
            case VPSDE() as vp if vp.epsilon == 0.0:
                return cls(rate=LinearRate(beta_min=vp.beta_min, beta_max=vp.beta_max), drift=drift)
        return cls(rate=read, drift=drift)

    @property
    def stationary_variance(self) -> float:
        """The limit of the variance as B grows: 1, or 1/2 as printed."""
        return 1.0 if self.drift == "vp" else 0.5

    def log_alpha_bar(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`\log\bar\alpha(t)`, the log of the factor on the data's variance: -B, or -2B as printed."""
        time = require_within_unit("t", t)
        return -self.rate.integral(time) if self.drift == "vp" else -2.0 * self.rate.integral(time)

    def alpha_bar(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`\bar\alpha(t)`, the square of :meth:`mean_factor`, in [0, 1]."""
        return np.asarray(np.exp(self.log_alpha_bar(t)))

    def mean_factor(self, t: npt.ArrayLike) -> FloatArray:
        """The mean of x(t) given x_0, as a factor on x_0, in [0, 1]."""
        return np.asarray(np.exp(0.5 * self.log_alpha_bar(t)))

    def variance(self, t: npt.ArrayLike) -> FloatArray:
        """The variance of x(t) given x_0, below :attr:`stationary_variance`."""
        return np.asarray(-self.stationary_variance * np.expm1(self.log_alpha_bar(t)))

    def logsnr(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`\log(\bar\alpha / \sigma^2)` for data of variance 1, not clipped; ``inf`` where there is no noise."""
        preserving = logsnr_from_log_alpha_bar(self.log_alpha_bar(t))
        return preserving if self.drift == "vp" else np.asarray(preserving + _LOG_2)
