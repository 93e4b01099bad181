r"""Schedules and levels given by a formula in the log-SNR or in the noise-to-signal ratio.

Discrete steps lie at :math:`u = i/T`. Several laws reach infinite noise at ``u = 1``: their continuous form is then
clipped at ±``LOGSNR_LIMIT`` and the last beta is capped at 0.999.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from schedrl.errors import SchedrlError, parse
from schedrl.schedules.conversions import (
    Broadcast,
    FloatArray,
    logsnr_from_log_alpha_bar,
    logsnr_from_sigma,
)
from schedrl.schedules.schedule import (
    ContinuousSchedule,
    LogSNR,
    Rho,
    Sigma,
    above,
    inverse_of_falling,
    require_monotone,
)

MIN_BIN_MASS = 1e-9
"""Smallest probability of a bin in :meth:`PiecewiseLogSNR.from_density`."""

_HALF_PI = np.pi / 2
_FAR = 1e5  # a tangent as large as this has lost five digits


def even_fractions(n: int) -> FloatArray:
    """[n+1] equally spaced fractions for n steps, from 1 (noise) down to 0 (data)."""
    return np.arange(n, -1, -1) / n


def karras_sigmas(
    u: FloatArray, rho: Broadcast, sigma_max: Broadcast, sigma_min: Broadcast = 0.0
) -> FloatArray:
    r"""Karras' law :math:`(\sigma_{min}^{1/\rho} + u (\sigma_{max}^{1/\rho} - \sigma_{min}^{1/\rho}))^\rho`.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.

    Args:
        u: Fractions in [0, 1]; 0 gives ``sigma_min``. The other arguments broadcast against them.
        rho: Warping, positive; 1 is uniform in sigma.
        sigma_max: Level at u = 1, finite.
        sigma_min: Level at u = 0, at least 0.

    Returns:
        Levels, at the ends up to a rounding error.

    Examples:
        >>> karras_sigmas(even_fractions(2), 2.0, 80.0)
        array([80., 20.,  0.])
    """
    low, high = sigma_min ** (1.0 / rho), sigma_max ** (1.0 / rho)
    return np.asarray(((1.0 - u) * low + u * high) ** rho, dtype=np.float64)


def tangent_sigmas(
    u: FloatArray, gamma: Broadcast, sigma_max: Broadcast = np.inf, sigma_min: Broadcast = 0.0
) -> FloatArray:
    r"""The tangent law :math:`\gamma \tan\psi`, with :math:`\psi = \arctan(\sigma / \gamma)` linear in ``u``.

    From infinity to 0 these are the best levels of many DDIM steps for one eigenvalue :math:`\gamma^2`. Source: Sun,
    Poor & Zhang (elementary scheduling, arXiv 2601.13602); THEORY 3.2, 3.3.

    Args:
        u: Fractions in [0, 1]. The other arguments broadcast against them.
        gamma: Scale, positive.
        sigma_max: Level at u = 1; may be infinite.
        sigma_min: Level at u = 0, at least 0.

    Returns:
        Levels, exact at the ends.

    Examples:
        >>> tangent_sigmas(even_fractions(2), 2.0)
        array([inf,  2.,  0.])
        >>> tangent_sigmas(even_fractions(2), np.array([[0.5], [2.0]]), 4.0).round(4)
        array([[4.    , 0.4414, 0.    ],
               [4.    , 1.2361, 0.    ]])
    """
    first, last = np.arctan(np.divide(sigma_max, gamma)), np.arctan(np.divide(sigma_min, gamma))
    angle = u * first + (1.0 - u) * last
    # The angle that is left to the quarter turn: its cotangent has the digits that the tangent loses near infinity.
    left = np.arctan(np.divide(gamma, sigma_max)) + (1.0 - u) * (first - last)
    far = (np.divide(sigma_max, gamma) > _FAR) & (angle >= left)
    with np.errstate(divide="ignore"):
        tangent = np.where(far, 1.0 / np.tan(left), np.tan(angle))
    return np.where(u == 1.0, sigma_max, np.where(u == 0.0, sigma_min, gamma * tangent))


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
    end: Annotated[float, Field(ge=-100.0, le=100.0), above("start")] = 3.0
    tau: Annotated[float, Field(ge=0.01, le=100.0)] = 1.0

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
    beta_max: Annotated[float, Field(gt=0.0, le=1000.0), above("beta_min")] = 20.0
    epsilon: Annotated[float, Field(ge=0.0, lt=1.0)] = 1e-5

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        t = self.epsilon + u * (1.0 - self.epsilon)
        return logsnr_from_log_alpha_bar(-t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t))


class VE(ContinuousSchedule):
    r"""The variance-exploding law: :math:`\sigma = \sigma_{min} (\sigma_{max} / \sigma_{min})^u`.

    Source: Song et al. 2021 (arXiv 2011.13456), training with log-uniform sigma; the range as in EDM's table 1.

    Attributes:
        sigma_min: Noise at u = 0, positive.
        sigma_max: Noise at u = 1, greater than ``sigma_min``.

    Examples:
        >>> VE().logsnr([0.0, 1.0]).round(1)
        array([ 7.8, -9.2])
    """

    name: Literal["ve"] = "ve"
    sigma_min: Sigma = 0.02
    sigma_max: Annotated[Sigma, above("sigma_min")] = 100.0

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        return (1.0 - u) * logsnr_from_sigma(self.sigma_min) + u * logsnr_from_sigma(self.sigma_max)


class Karras(ContinuousSchedule):
    r"""EDM's sampling law, used as training noise: ``u`` is linear in :math:`\sigma^{1/\rho}`.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 5.

    Attributes:
        sigma_min: Noise at u = 0, positive.
        sigma_max: Noise at u = 1, greater than ``sigma_min``.
        rho: Warping, in [0.1, 100]; 1 is uniform in sigma, large values approach log-uniform.

    Examples:
        >>> Karras().logsnr([0.0, 1.0]).round(1)
        array([12.4, -8.8])
    """

    name: Literal["karras"] = "karras"
    sigma_min: Sigma = 0.002
    sigma_max: Annotated[Sigma, above("sigma_min")] = 80.0
    rho: Rho = 7.0

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        return logsnr_from_sigma(karras_sigmas(u, self.rho, self.sigma_max, self.sigma_min))


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
    r"""The tangent law as training noise: :math:`\sigma = \gamma \tan(\pi u / 2)`.

    It is the cosine law shifted by :math:`-2\log\gamma` in log-SNR; as a grid, see :func:`tangent_sigmas`. Source:
    Hoogeboom et al. 2023 (arXiv 2301.11093), where gamma is the ratio of image to noise resolution.

    Attributes:
        gamma: Noise at u = 1/2, positive.

    Examples:
        >>> Tangent(gamma=0.5).logsnr([0.5]).round(6)
        array([1.386294])
    """

    name: Literal["tangent"] = "tangent"
    gamma: Sigma = 1.0

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        # In logarithms, which are finite further out than the levels of tangent_sigmas.
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
    logsnr_max: Annotated[LogSNR, above("logsnr_min")] = 13.3

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        return (1.0 - u) * self.logsnr_max + u * self.logsnr_min


class PiecewiseLogSNR(ContinuousSchedule):
    r"""A falling broken line :math:`\lambda(u)`: training noise of piecewise constant density in log-SNR.

    Attributes:
        u: Two or more fractions, strictly increasing from 0 to 1.
        logsnr_values: Log-SNR at each ``u``, strictly decreasing, in [-20, 20]. In the constructor, in JSON and in
            messages it is called ``logsnr``, like the method.

    Examples:
        >>> line = PiecewiseLogSNR(u=(0.0, 0.25, 1.0), logsnr=(8.0, 0.0, -6.0))
        >>> line.logsnr([0.0, 0.125, 0.5])
        array([ 8.,  4., -2.])
        >>> line.model_dump_json()
        '{"name":"piecewise","u":[0.0,0.25,1.0],"logsnr":[8.0,0.0,-6.0]}'
    """

    model_config = ConfigDict(serialize_by_alias=True)

    name: Literal["piecewise"] = "piecewise"
    u: Annotated[tuple[float, ...], Field(min_length=2)]
    logsnr_values: tuple[LogSNR, ...] = Field(alias="logsnr")

    @field_validator("u")
    @classmethod
    def _from_zero_to_one(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value[0] != 0.0 or value[-1] != 1.0:
            raise ValueError("must begin with 0 and end with 1")
        require_monotone("u", value, increasing=True)
        return value

    @field_validator("logsnr_values")
    @classmethod
    def _falling(cls, value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        u = info.data.get("u")
        if u is not None and len(value) != len(u):
            raise ValueError(f"must have as many values as u, {len(u)}")
        require_monotone("logsnr", value, increasing=False)
        return value

    @classmethod
    def from_density(cls, edges: npt.ArrayLike, mass: npt.ArrayLike) -> PiecewiseLogSNR:
        r"""The schedule under which a draw falls into each log-SNR bin with the given probability.

        Args:
            edges: [K+1] bin edges in log-SNR, strictly decreasing, in [-20, 20].
            mass: [K] weights, not negative and not all zero; they are normalised. A bin keeps at least
                ``MIN_BIN_MASS`` of the total, so that the schedule stays strictly monotone for any weights.

        Returns:
            The schedule; within a bin the density is constant.

        Examples:
            >>> PiecewiseLogSNR.from_density([8.0, 0.0, -6.0], [1.0, 3.0]).u
            (0.0, 0.25, 1.0)
        """
        bin_edges = np.asarray(edges, dtype=np.float64)
        weights = np.asarray(mass, dtype=np.float64)
        if weights.ndim != 1 or weights.size == 0 or bin_edges.shape != (weights.size + 1,):
            raise SchedrlError(
                "field 'edges': must hold one more value than 'mass' "
                f"(got shapes {bin_edges.shape} and {weights.shape})"
            )
        if not (np.isfinite(weights).all() and (weights >= 0.0).all() and weights.any()):
            raise SchedrlError(
                f"field 'mass': must be finite, not negative, not all zero (got {weights.tolist()})"
            )
        scaled = weights / weights.max()
        probability = np.maximum(scaled / scaled.sum(), MIN_BIN_MASS)
        u = np.concatenate([[0.0], np.cumsum(probability)])
        return parse(cls, {"u": (u / u[-1]).tolist(), "logsnr": bin_edges.tolist()}, "schedule 'piecewise'")

    def fraction_above(self, logsnr: npt.ArrayLike) -> FloatArray:
        """The exact inverse of the broken line; see :meth:`Schedule.fraction_above`."""
        return inverse_of_falling(logsnr, self.logsnr_values, self.u)

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        return np.interp(u, self.u, self.logsnr_values)
