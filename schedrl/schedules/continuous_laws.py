r"""Schedules given by a formula for the log-SNR or for the noise level.

Steps of a discrete use lie at :math:`u = i/T`. Several laws reach infinite noise at ``u = 1``: the continuous
law is then clipped at ±``LOGSNR_LIMIT`` and the last beta is capped at 0.999.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from schedrl.schedules.conversions import FloatArray, logsnr_from_log_alpha_bar, logsnr_from_sigma
from schedrl.schedules.schedule import LOGSNR_LIMIT, ContinuousSchedule, Sigma, must_exceed

__all__ = [
    "EDM",
    "VE",
    "VPSDE",
    "Cosine",
    "Karras",
    "Laplace",
    "LogSNR",
    "Rho",
    "Sigmoid",
    "Tangent",
    "UniformLogSNR",
    "karras_sigmas",
]

LogSNR = Annotated[float, Field(ge=-LOGSNR_LIMIT, le=LOGSNR_LIMIT)]
Rho = Annotated[float, Field(ge=0.1, le=100.0)]
_HALF_PI = np.pi / 2


class Cosine(ContinuousSchedule):
    r"""Improved DDPM's cosine: :math:`\bar\alpha = f(u) / f(0)`.

    With :math:`f(u) = \cos^2(\frac{u + s}{1 + s} \frac{\pi}{2})`.

    Source: Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 17.

    Attributes:
        s: Offset at the data end, in [0, 1]; 0 makes it the tangent law with ``gamma=1``.

    Examples:
        >>> Cosine().logsnr_steps(1000)[[0, -1]].round(2)
        array([ 10.09, -19.84])
        >>> Cosine(s=0.0).logsnr([0.25, 0.5]).round(6)
        array([1.762747, 0.      ])
    """

    name: Literal["cosine"] = "cosine"
    s: Annotated[float, Field(ge=0.0, le=1.0)] = 0.008

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        # cos²a - cos²b = sin(b - a) sin(b + a), and cos b is the sine of what is left to the quarter turn: no
        # cancellation at either end.
        left = _HALF_PI * (1.0 - u) / (1.0 + self.s)
        passed = _HALF_PI * u / (1.0 + self.s)
        offset = _HALF_PI * self.s / (1.0 + self.s)
        return 2.0 * np.log(np.sin(left)) - np.log(np.sin(passed)) - np.log(np.sin(passed + 2.0 * offset))


class Sigmoid(ContinuousSchedule):
    r"""Jabri's sigmoid: :math:`\bar\alpha(u) = (v(1) - v(u)) / (v(1) - v(0))`.

    With :math:`v(u) = \mathrm{sigmoid}((u (e - s) + s) / \tau)`. Source: Jabri, Fleet & Chen 2022 (arXiv
    2212.11972), as in Chen 2023 (arXiv 2301.10972); their floor of 1e-9 on :math:`\bar\alpha` is replaced by
    the cap on beta. (In other libraries "sigmoid" may mean a law of beta.)

    Attributes:
        start: s, in [-100, 100].
        end: e, in [-100, 100], greater than ``start``.
        tau: Temperature, in [0.01, 100].

    Examples:
        >>> Sigmoid().logsnr_steps(1000)[[0, -1]].round(2)
        array([  8.11, -15.02])
    """

    name: Literal["sigmoid"] = "sigmoid"
    start: Annotated[float, Field(ge=-100.0, le=100.0)] = -3.0
    end: Annotated[float, Field(ge=-100.0, le=100.0)] = 3.0
    tau: Annotated[float, Field(ge=0.01, le=100.0)] = 1.0

    @field_validator("end")
    @classmethod
    def _above_start(cls, value: float, info: ValidationInfo) -> float:
        return must_exceed(value, info, "start")

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        # sigmoid(a) - sigmoid(b) = sinh((a - b)/2) / (2 cosh(a/2) cosh(b/2)); the cosh of z(u)/2 cancels.
        start, end = 0.5 * self.start / self.tau, 0.5 * self.end / self.tau
        span = end - start
        shift = np.logaddexp(start, -start) - np.logaddexp(end, -end)
        return np.asarray(_log_sinh(span * (1.0 - u)) - _log_sinh(span * u) + shift, dtype=np.float64)


def _log_sinh(x: FloatArray) -> FloatArray:
    """log(2 sinh x) for x >= 0 without overflow."""
    return x + np.log(-np.expm1(-2.0 * x))


class VPSDE(ContinuousSchedule):
    r"""The variance-preserving SDE, whose rate rises linearly in time.

    :math:`\log\bar\alpha = -\frac12 (\beta_{max} - \beta_{min}) t^2 - \beta_{min} t`. Time runs linearly too,
    :math:`t = \epsilon + u (1 - \epsilon)`. Source: Song et al. 2021 (arXiv 2011.13456), appendix C; the
    training cut-off 1e-5 as in EDM (arXiv 2206.00364, table 1).

    Attributes:
        beta_min: Rate at t = 0, in (0, 1000].
        beta_max: Rate at t = 1, in (0, 1000], greater than ``beta_min``.
        epsilon: Smallest time, in [0, 1).

    Examples:
        >>> VPSDE().logsnr([0.0, 1.0]).round(2)
        array([ 13.81, -10.05])
    """

    name: Literal["vp"] = "vp"
    beta_min: Annotated[float, Field(gt=0.0, le=1000.0)] = 0.1
    beta_max: Annotated[float, Field(gt=0.0, le=1000.0)] = 20.0
    epsilon: Annotated[float, Field(ge=0.0, lt=1.0)] = 1e-5

    @field_validator("beta_max")
    @classmethod
    def _above_min(cls, value: float, info: ValidationInfo) -> float:
        return must_exceed(value, info, "beta_min")

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        t = self.epsilon + u * (1.0 - self.epsilon)
        return logsnr_from_log_alpha_bar(-t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t))


class _SigmaRange(ContinuousSchedule):
    sigma_min: Sigma
    sigma_max: Sigma

    @field_validator("sigma_max")
    @classmethod
    def _above_min(cls, value: float, info: ValidationInfo) -> float:
        return must_exceed(value, info, "sigma_min")


class VE(_SigmaRange):
    r"""The variance-exploding law: :math:`\sigma = \sigma_{min} (\sigma_{max} / \sigma_{min})^u`.

    Source: Song et al. 2021 (arXiv 2011.13456), training with log-uniform sigma; the range as in EDM's table
        1.

    Attributes:
        sigma_min: Noise at u = 0, positive.
        sigma_max: Noise at u = 1, greater than ``sigma_min``.

    Examples:
        >>> VE().logsnr([0.0, 1.0]).round(1)
        array([ 7.8, -9.2])
    """

    name: Literal["ve"] = "ve"
    sigma_min: Sigma = 0.02
    sigma_max: Sigma = 100.0

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        return (1.0 - u) * logsnr_from_sigma(self.sigma_min) + u * logsnr_from_sigma(self.sigma_max)


def karras_sigmas(u: FloatArray, rho: float, sigma_min: float, sigma_max: float) -> FloatArray:
    r"""Karras' law :math:`(\sigma_{min}^{1/\rho} + u (\sigma_{max}^{1/\rho} - \sigma_{min}^{1/\rho}))^\rho`.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.

    Args:
        u: Fractions in [0, 1], any shape; 0 gives ``sigma_min``.
        rho: Warping, positive; 1 is uniform in sigma.
        sigma_min: Smallest noise level, positive.
        sigma_max: Largest noise level.

    Returns:
        Noise levels, same shape as ``u``.
    """
    low, high = sigma_min ** (1.0 / rho), sigma_max ** (1.0 / rho)
    return np.asarray(((1.0 - u) * low + u * high) ** rho, dtype=np.float64)


class Karras(_SigmaRange):
    r"""EDM's sampling law, used as a law of training noise: ``u`` is linear in :math:`\sigma^{1/\rho}`.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.

    Attributes:
        rho: Warping, in [0.1, 100]; 1 is uniform in sigma, large values approach log-uniform.
        sigma_min: Noise at u = 0, positive.
        sigma_max: Noise at u = 1, greater than ``sigma_min``.

    Examples:
        >>> Karras().logsnr([0.0, 1.0]).round(1)
        array([12.4, -8.8])
    """

    name: Literal["karras"] = "karras"
    rho: Rho = 7.0
    sigma_min: Sigma = 0.002
    sigma_max: Sigma = 80.0

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        return logsnr_from_sigma(karras_sigmas(u, self.rho, self.sigma_min, self.sigma_max))


class EDM(ContinuousSchedule):
    r"""EDM's training noise: :math:`\ln\sigma = -\lambda / 2 \sim \mathcal N(P_{mean}, P_{std}^2)`.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1.

    Attributes:
        mean: Mean of the natural logarithm of sigma, in [-10, 10].
        std: Its standard deviation, in (0, 10].

    Examples:
        >>> EDM().logsnr([0.5, 0.841344746]).round(6)
        array([2.4, 0. ])
    """

    name: Literal["edm"] = "edm"
    mean: Annotated[float, Field(ge=-10.0, le=10.0)] = -1.2
    std: Annotated[float, Field(gt=0.0, le=10.0)] = 1.2

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        # Here, because importing SciPy costs more than the rest of the package.
        from scipy.special import ndtri  # type: ignore[import-untyped,unused-ignore]

        return np.asarray(-2.0 * (self.mean + self.std * ndtri(u)), dtype=np.float64)


class Laplace(ContinuousSchedule):
    r"""Laplace-distributed log-SNR.

    :math:`\lambda = \mu - b\,\mathrm{sgn}(\frac12 - u) \log(1 - 2|\frac12 - u|)`.

    Source: Hang et al. 2024 (arXiv 2407.03297), table 1.

    Attributes:
        mean: Centre of the log-SNR, in [-20, 20].
        scale: b, in (0, 10].

    Examples:
        >>> Laplace().logsnr([0.25, 0.5, 0.75]).round(6)
        array([ 0.346574,  0.      , -0.346574])
    """

    name: Literal["laplace"] = "laplace"
    mean: LogSNR = 0.0
    scale: Annotated[float, Field(gt=0.0, le=10.0)] = 0.5

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        nearest_end = np.minimum(u, 1.0 - u)
        return self.mean - self.scale * np.where(u < 0.5, 1.0, -1.0) * np.log(2.0 * nearest_end)


class Tangent(ContinuousSchedule):
    r"""The tangent law: :math:`\sigma = \gamma \tan(\pi u / 2)`.

    It is the cosine law shifted by :math:`-2\log\gamma` in log-SNR, and the optimal law of a DDIM sampler for
    a source whose covariance has the single eigenvalue :math:`\gamma^2`. Source: Hoogeboom et al. 2023 (arXiv
    2301.11093), where gamma is the ratio of image to noise resolution; Sun, Poor & Zhang (arXiv
    2601.13602).

    Attributes:
        gamma: Noise at u = 1/2, positive.

    Examples:
        >>> Tangent(gamma=0.5).logsnr([0.5]).round(6)
        array([1.386294])
    """

    name: Literal["tangent"] = "tangent"
    gamma: Sigma = 1.0

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        tangent = np.log(np.sin(_HALF_PI * u)) - np.log(np.sin(_HALF_PI * (1.0 - u)))
        return logsnr_from_sigma(self.gamma) - 2.0 * tangent


class UniformLogSNR(ContinuousSchedule):
    r"""Uniform log-SNR: :math:`\lambda = \lambda_{max} + u (\lambda_{min} - \lambda_{max})`.

    Source: Kingma et al. 2021 (VDM, arXiv 2107.00630), the initial end points of its learned schedule.

    Attributes:
        logsnr_min: At u = 1, in [-20, 20].
        logsnr_max: At u = 0, in [-20, 20], greater than ``logsnr_min``.

    Examples:
        >>> UniformLogSNR().logsnr([0.0, 0.5, 1.0])
        array([13.3 ,  4.15, -5.  ])
    """

    name: Literal["uniform"] = "uniform"
    logsnr_min: LogSNR = -5.0
    logsnr_max: LogSNR = 13.3

    @field_validator("logsnr_max")
    @classmethod
    def _above_min(cls, value: float, info: ValidationInfo) -> float:
        return must_exceed(value, info, "logsnr_min")

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        return (1.0 - u) * self.logsnr_max + u * self.logsnr_min
