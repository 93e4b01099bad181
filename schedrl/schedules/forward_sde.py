r"""The forward SDE of a schedule, in continuous time t from 0 (data) to 1 (noise).

With :math:`B(t) = \int_0^t \beta(s)\,ds` both drifts below have exact Gaussian transitions, so every law here is closed
form; :meth:`ForwardSDE.euler_maruyama` is only there to check them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from schedrl.errors import SchedrlError, Spec
from schedrl.schedules.beta_laws import AVA
from schedrl.schedules.continuous_laws import VPSDE
from schedrl.schedules.conversions import FloatArray, log_alpha_bar_from_logsnr, logsnr_from_log_alpha_bar
from schedrl.schedules.registry import AnySchedule
from schedrl.schedules.schedule import Schedule, as_count, must_exceed

__all__ = ["AnyBetaRate", "BetaRate", "Drift", "ForwardSDE", "LinearRate", "ScheduleRate"]

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
        r""":math:`B(t)`, non-decreasing; above 0 at ``t = 0`` where the law begins with some noise."""
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
    beta_max: Annotated[float, Field(gt=0.0, le=1000.0)] = 20.0

    @field_validator("beta_max")
    @classmethod
    def _above_min(cls, value: float, info: ValidationInfo) -> float:
        return must_exceed(value, info, "beta_min")

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

    :math:`\bar\alpha(t)` is the schedule's continuous law at u = t, clipped as that is. A law that begins with noise
    has :math:`B(0) > 0`.

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
    r"""The forward SDE that a rate :math:`\beta(t)` drives, with its exact law.

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
        """The SDE of a schedule.

        Args:
            schedule: A schedule or the name of one. AVA keeps its closed form, and so does the VP-SDE without its
                cut-off at small times; every other law is read through its own log ᾱ.
            drift: Which drift.
        """
        # Through validation, so that a name may stand for a schedule.
        read = ScheduleRate(schedule=schedule)  # type: ignore[arg-type]
        match read.schedule:
            case AVA() as law:
                return cls(rate=law, drift=drift)
            case VPSDE() as law if law.epsilon == 0.0:
                return cls(rate=LinearRate(beta_min=law.beta_min, beta_max=law.beta_max), drift=drift)
        return cls(rate=read, drift=drift)

    @property
    def stationary_variance(self) -> float:
        """What the variance tends to under endless noise: 1, or 1/2 as printed."""
        return 1.0 if self.drift == "vp" else 0.5

    def log_alpha_bar(self, t: npt.ArrayLike) -> FloatArray:
        r""":math:`\log\bar\alpha(t)`, the log of the factor on the data's variance: -B, or -2B as printed.

        Args:
            t: Times in [0, 1], any shape.

        Raises:
            SchedrlError: Some time lies outside [0, 1].
        """
        time = _checked_time(t)
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

    def euler_maruyama(
        self, x0: npt.ArrayLike, num_steps: int, rng: np.random.Generator | int, until: float = 1.0
    ) -> FloatArray:
        """Simulate the SDE; weakly first order in the number of steps.

        Args:
            x0: Data, any shape; every entry is a path of its own.
            num_steps: Equal steps in time, at least 1.
            rng: Generator to draw from, or an integer seed.
            until: Last time, in [0, 1].

        Returns:
            x at that time, of the shape of ``x0``. A law with noise at t = 0 begins there exactly.

        Raises:
            SchedrlError: ``num_steps`` or ``until`` is not allowed.
        """
        generator = np.random.default_rng(rng)
        steps, end = as_count("num_steps", num_steps), float(_checked_time(until, "until"))
        x = np.asarray(x0, dtype=np.float64) * self.mean_factor(0.0)
        if self.variance(0.0) > 0.0:
            x = x + np.sqrt(self.variance(0.0)) * generator.standard_normal(x.shape)
        pull = 0.5 if self.drift == "vp" else 1.0
        passed = self.rate.rate(end * np.arange(steps) / steps) * (end / steps)
        for amount in passed:
            x = x - pull * amount * x + np.sqrt(amount) * generator.standard_normal(x.shape)
        return np.asarray(x, dtype=np.float64)


def _checked_time(t: npt.ArrayLike, field: str = "t") -> FloatArray:
    time = np.asarray(t, dtype=np.float64)
    inside = (time >= 0.0) & (time <= 1.0)
    if not inside.all():
        raise SchedrlError(f"field '{field}': must lie in [0, 1] (got {float(time[~inside].flat[0])})")
    return time
