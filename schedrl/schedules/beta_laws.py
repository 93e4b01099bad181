r"""Schedules whose source gives the betas of discrete steps.

Their continuous law interpolates :math:`\log\bar\alpha` linearly between the steps of their native ``T``:
``u = 0`` is step 1 and ``u = 1`` is step ``T``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from schedrl.schedules.conversions import (
    FloatArray,
    log_alpha_bar_from_logsnr,
    logsnr_from_log_alpha_bar,
)
from schedrl.schedules.schedule import LOGSNR_LIMIT, Schedule, inverse_of_falling, must_exceed

__all__ = ["AVA", "BetaSchedule", "Linear", "PrintedLinear", "ScaledLinear", "TrainTimesteps"]

Beta = Annotated[float, Field(gt=0.0, lt=1.0)]
TrainTimesteps = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(gt=0.0, le=1e6)]


class BetaSchedule(Schedule):
    """A schedule given by betas; subclasses say which, and how many steps are native to it."""

    @property
    @abstractmethod
    def native_steps(self) -> int:
        """Number of steps between which the continuous law interpolates."""

    def _line(self) -> tuple[FloatArray, FloatArray]:
        """The corners (u, log ᾱ) of the continuous law; a single step has one, and the law is constant."""
        return np.linspace(0.0, 1.0, self.native_steps), self.log_alphas_cumprod(self.native_steps)

    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        return logsnr_from_log_alpha_bar(np.interp(u, *self._line()))

    def fraction_above(self, logsnr: npt.ArrayLike) -> FloatArray:
        """The exact inverse of the broken line; see :meth:`Schedule.fraction_above`."""
        wanted = np.asarray(logsnr, dtype=np.float64)
        u, log_alpha_bar = self._line()
        fraction = inverse_of_falling(log_alpha_bar_from_logsnr(wanted), log_alpha_bar, u)
        # Draws are clipped: none lies above the limit, none below its negative.
        return np.where(wanted >= LOGSNR_LIMIT, 0.0, np.where(wanted < -LOGSNR_LIMIT, 1.0, fraction))


class _FormulaBetaSchedule(BetaSchedule):
    num_train_timesteps: TrainTimesteps = 1000

    @property
    def native_steps(self) -> int:
        """Number of steps between which the continuous law interpolates."""
        return self.num_train_timesteps


def _ramp(start: float, end: float, num_steps: int) -> FloatArray:
    """``num_steps`` equally spaced values; a single one is the end, so that one step still ends in noise."""
    return np.linspace(start, end, num_steps) if num_steps > 1 else np.array([end])


class Linear(_FormulaBetaSchedule):
    r"""DDPM's linear betas: :math:`\beta = \mathrm{linspace}(\beta_0, \beta_1, T) \cdot 1000 / T`.

    Source: Ho, Jain & Abbeel 2020 (arXiv 2006.11239), section 4; the factor for other ``T`` as in improved
    DDPM. A single step takes the last beta, so that it ends in noise.

    Attributes:
        beta_start: First beta at the native number of steps, in (0, 1).
        beta_end: Last beta there, in (0, 1), greater than ``beta_start``.
        num_train_timesteps: Native number of steps, at which the two hold.

    Examples:
        >>> Linear().logsnr_steps(1000)[[0, -1]].round(2)
        array([  9.21, -10.12])
        >>> Linear().betas(100)[[0, -1]]
        array([0.001, 0.2  ])
    """

    name: Literal["linear"] = "linear"
    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02

    @field_validator("beta_end")
    @classmethod
    def _above_start(cls, value: float, info: ValidationInfo) -> float:
        return must_exceed(value, info, "beta_start")

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        return _ramp(self.beta_start, self.beta_end, num_steps) * (self.num_train_timesteps / num_steps)


class ScaledLinear(_FormulaBetaSchedule):
    r"""Latent diffusion's betas, linear in the square root.

    :math:`\beta = \mathrm{linspace}(\sqrt{\beta_0}, \sqrt{\beta_1}, T)^2 \cdot 1000 / T`.
    Source: Rombach et al. 2022 (arXiv 2112.10752) and its code; the factor for other ``T`` is ours, as for
    :class:`Linear`, so that the law stays the same.

    Attributes:
        beta_start: First beta at the native number of steps, in (0, 1).
        beta_end: Last beta there, in (0, 1), greater than ``beta_start``.
        num_train_timesteps: Native number of steps, at which the two hold.

    Examples:
        >>> ScaledLinear().logsnr_steps(1000)[[0, -1]].round(2)
        array([ 7.07, -5.36])
    """

    name: Literal["scaled-linear"] = "scaled-linear"
    beta_start: Beta = 0.00085
    beta_end: Beta = 0.012

    @field_validator("beta_end")
    @classmethod
    def _above_start(cls, value: float, info: ValidationInfo) -> float:
        return must_exceed(value, info, "beta_start")

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        roots = _ramp(self.beta_start**0.5, self.beta_end**0.5, num_steps)
        return roots**2 * (self.num_train_timesteps / num_steps)


class PrintedLinear(_FormulaBetaSchedule):
    r"""The AVA-DSC paper's "linear" schedule taken literally: :math:`\beta_i = i / T`.

    Source: "Accelerated Noise Scheduling Optimization in Diffusion Models via Adaptive Variance Annealing and
    Dynamic Step Size Control", its linear baseline. Half of the signal's variance is gone after 37 of 1000
    steps. Unlike the other laws it is a different one for each ``T``: it does not rescale.

    Attributes:
        num_train_timesteps: Native number of steps, between which the continuous law interpolates.

    Examples:
        >>> PrintedLinear().betas(4)
        array([0.25 , 0.5  , 0.75 , 0.999])
        >>> PrintedLinear().log_alphas_cumprod(1000)[-1].round(2)
        np.float64(-1002.53)
    """

    name: Literal["printed-linear"] = "printed-linear"

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        return np.arange(1, num_steps + 1) / num_steps


class AVA(_FormulaBetaSchedule):
    r"""Adaptive variance annealing: :math:`\beta(t) = \beta_{init} + K (1 - e^{-\alpha t})`, t in [0, 1].

    Source: the AVA-DSC paper (see :class:`PrintedLinear`), section 3. It does not say in which unit; here
    :math:`\beta(t)` is a rate per unit of continuous time, as in the VP-SDE, so step ``i`` of ``T`` has
    :math:`\beta_i = \min(\beta(i/T) / T,\, 0.999)`. Another ``T`` then gives the same law up to O(1/T):
    :math:`\log\bar\alpha(1) \approx -\beta_{init} - K (1 - (1 - e^{-\alpha}) / \alpha)`. The defaults make
    that -11.5, a terminal :math:`\bar\alpha` of 1e-5.

    Attributes:
        beta_init: Rate at the data end, positive.
        K: Gain, at least 0; what the paper's rule moves during training.
        alpha: How fast the rate saturates, positive.
        num_train_timesteps: Native number of steps, between which the continuous law interpolates.

    Examples:
        >>> AVA().betas(1000)[[0, -1]].round(6)
        array([0.00014 , 0.017393])
        >>> bool(AVA().alphas_cumprod(1000)[-1] < 1e-4)
        True
    """

    name: Literal["ava"] = "ava"
    beta_init: Rate = 0.1
    K: Annotated[float, Field(ge=0.0, le=1e6)] = 20.0
    alpha: Rate = 2.0

    def rate(self, t: npt.ArrayLike) -> FloatArray:
        r"""The paper's :math:`\beta(t)`.

        Args:
            t: Continuous time in [0, 1], any shape.

        Returns:
            Rate per unit of time, same shape.
        """
        time = np.asarray(t, dtype=np.float64)
        return np.asarray(self.beta_init - self.K * np.expm1(-self.alpha * time), dtype=np.float64)

    def integral(self, t: npt.ArrayLike) -> FloatArray:
        r"""Integral of :meth:`rate` from 0 to ``t``, in closed form.

        :math:`B(t) = \beta_{init} t + K (t - (1 - e^{-\alpha t}) / \alpha)`, without cancellation at small
        :math:`\alpha t`.

        Args:
            t: Continuous time in [0, 1], any shape.

        Returns:
            The integral, same shape, without unit.

        Examples:
            >>> AVA().integral(1.0).round(4)
            np.float64(11.4534)
        """
        time = np.asarray(t, dtype=np.float64)
        return np.asarray(time * (self.beta_init + self.K * _saturation(self.alpha * time)), dtype=np.float64)

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        return self.rate(np.arange(1, num_steps + 1) / num_steps) / num_steps


def _saturation(x: FloatArray) -> FloatArray:
    """``1 - (1 - exp(-x)) / x`` for x >= 0."""
    small = np.minimum(x, 1.0)
    series = np.ones_like(small)
    for n in range(20, 2, -1):  # x/2 - x²/6 + x³/24 - ..., nested; 18 terms are exact to float64 up to x = 1
        series = 1.0 - small / n * series
    large = np.maximum(x, 1.0)
    return np.where(x < 1.0, 0.5 * small * series, 1.0 + np.expm1(-large) / large)
