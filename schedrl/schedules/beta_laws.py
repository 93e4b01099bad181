r"""Schedules given by the betas of discrete steps.

Their continuous form interpolates :math:`\log\bar\alpha` linearly between the steps of their native ``T``:
``u = 0`` is step 1 and ``u = 1`` is step ``T``.

A field called like the method ``betas`` keeps that name in the constructor, in JSON and in messages; as an attribute
it is ``beta_values``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from schedrl.schedules.conversions import (
    FloatArray,
    betas_from_log_alpha_bar,
    log_alpha_bar_from_betas,
    log_alpha_bar_from_logsnr,
    logsnr_from_log_alpha_bar,
)
from schedrl.schedules.schedule import LOGSNR_LIMIT, Schedule, above, inverse_of_falling

Beta = Annotated[float, Field(gt=0.0, lt=1.0)]
TrainTimesteps = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(gt=0.0, le=1e6)]


class BetaSchedule(Schedule):
    """A schedule given by betas; subclasses define them and their native number of steps."""

    @property
    @abstractmethod
    def native_steps(self) -> int:
        """Number of steps between which the continuous form interpolates."""

    def _line(self) -> tuple[FloatArray, FloatArray]:
        """The corners (u, log ᾱ) of the continuous form; a single step has one, and the form is constant."""
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
    beta_end: Annotated[Beta, above("beta_start")] = 0.02

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        return _ramp(self.beta_start, self.beta_end, num_steps) * (self.num_train_timesteps / num_steps)


class ScaledLinear(_FormulaBetaSchedule):
    r"""Latent diffusion's betas, linear in the square root.

    :math:`\beta = \mathrm{linspace}(\sqrt{\beta_0}, \sqrt{\beta_1}, T)^2 \cdot 1000 / T`.
    Source: Rombach et al. 2022 (arXiv 2112.10752) and its code; the factor for other ``T`` is ours, as for
    :class:`Linear`, so that the schedule stays the same.

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
    beta_end: Annotated[Beta, above("beta_start")] = 0.012

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        roots = _ramp(self.beta_start**0.5, self.beta_end**0.5, num_steps)
        return roots**2 * (self.num_train_timesteps / num_steps)


class PrintedLinear(_FormulaBetaSchedule):
    r"""The AVA-DSC paper's "linear" schedule taken literally: :math:`\beta_i = i / T`.

    Source: "Accelerated Noise Scheduling Optimization in Diffusion Models via Adaptive Variance Annealing and
    Dynamic Step Size Control", its linear baseline. Half of the signal's variance is gone after 37 of 1000
    steps. Unlike the others it does not rescale: it is another schedule for each ``T``.

    Attributes:
        num_train_timesteps: Native number of steps, between which the continuous form interpolates.

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

    Source: the AVA-DSC paper (see :class:`PrintedLinear`), section 3. It gives no unit; here
    :math:`\beta(t)` is a rate per unit of continuous time, as in the VP-SDE, so step ``i`` of ``T`` has
    :math:`\beta_i = \min(\beta(i/T) / T,\, 0.999)`. Another ``T`` then gives the same schedule up to O(1/T):
    :math:`\log\bar\alpha(1) \approx -\beta_{init} - K (1 - (1 - e^{-\alpha}) / \alpha)`. The defaults make
    that -11.5, a terminal :math:`\bar\alpha` of 1e-5.

    Attributes:
        beta_init: Rate at the data end, positive.
        K: Gain, at least 0; what the paper's rule changes during training.
        alpha: How fast the rate saturates, positive.
        num_train_timesteps: Native number of steps, between which the continuous form interpolates.

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
        r"""The paper's :math:`\beta(t)`, a rate per unit of time, for t in [0, 1] of any shape."""
        time = np.asarray(t, dtype=np.float64)
        return np.asarray(self.beta_init - self.K * np.expm1(-self.alpha * time), dtype=np.float64)

    def integral(self, t: npt.ArrayLike) -> FloatArray:
        r"""Integral of :meth:`rate` from 0 to ``t``, in closed form, without unit; of the shape of ``t``.

        :math:`B(t) = \beta_{init} t + K (t - (1 - e^{-\alpha t}) / \alpha)`, without cancellation at small
        :math:`\alpha t`.

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


class Betas(BetaSchedule):
    r"""Given betas, for example those a pretrained model was trained with.

    Another number of steps interpolates :math:`\log\bar\alpha` linearly in i/T, from 0 at 0.

    Attributes:
        beta_values: [T] betas in (0, 1), T ≥ 1. Written ``betas``.

    Examples:
        >>> Betas(betas=(0.19, 0.36)).alphas_cumprod(4).round(6)
        array([0.9   , 0.81  , 0.648 , 0.5184])
    """

    model_config = ConfigDict(serialize_by_alias=True)

    name: Literal["betas"] = "betas"
    beta_values: Annotated[tuple[Beta, ...], Field(min_length=1)] = Field(alias="betas")

    @property
    def native_steps(self) -> int:
        return len(self.beta_values)

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        if num_steps == self.native_steps:
            return np.array(self.beta_values)
        return _resampled_betas(self.log_alphas_cumprod(self.native_steps), num_steps)


class BetaKnots(BetaSchedule):
    r"""A few betas, each held for an equal share of the steps.

    Knot by knot :math:`\bar\alpha \leftarrow \bar\alpha (1 - \beta)^{T/K}`. This is what the kernel
    environment's agent emits, one knot at a time (AKOD's :math:`\beta_t = f(t, \sigma_{local})` on a grid of
    K knots). :math:`\log\bar\alpha(t)` is a broken line with its corners at t = k/K; another number of steps
    samples the same line.

    Attributes:
        beta_values: [K] betas in (0, 1), per step of the native schedule, from data to noise. Written ``betas``.
        num_train_timesteps: T, the native number of steps.

    Examples:
        >>> BetaKnots(betas=(0.1, 0.5), num_train_timesteps=4).betas(4).round(6)
        array([0.1, 0.1, 0.5, 0.5])
        >>> BetaKnots(betas=(0.1, 0.5), num_train_timesteps=4).betas(2).round(6)
        array([0.19, 0.75])
    """

    model_config = ConfigDict(serialize_by_alias=True)

    name: Literal["beta-knots"] = "beta-knots"
    beta_values: Annotated[tuple[Beta, ...], Field(min_length=1)] = Field(alias="betas")
    num_train_timesteps: TrainTimesteps = 1000

    @property
    def native_steps(self) -> int:
        return self.num_train_timesteps

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        per_knot = self.num_train_timesteps / len(self.beta_values)
        return _resampled_betas(per_knot * log_alpha_bar_from_betas(self.beta_values), num_steps)


def _resampled_betas(log_alpha_bar: FloatArray, num_steps: int) -> FloatArray:
    """Betas of ``num_steps`` equal steps along the broken line through (j/M, log ᾱ_j), j = 0 … M."""
    corners = np.linspace(0.0, 1.0, len(log_alpha_bar) + 1)
    steps = np.arange(1, num_steps + 1) / num_steps
    return betas_from_log_alpha_bar(np.interp(steps, corners, np.concatenate([[0.0], log_alpha_bar])))
