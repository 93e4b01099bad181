"""Schedules of any shape: what agents and searches produce, and what pretrained models are stored with.

Two fields are called like the methods ``betas`` and ``logsnr``. In the constructor, in JSON and in messages
they keep that name; as attributes they are ``beta_values`` and ``logsnr_values``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from schedrl.errors import SchedrlError, parse
from schedrl.schedules.beta_laws import Beta, BetaSchedule, TrainTimesteps
from schedrl.schedules.continuous_laws import LogSNR
from schedrl.schedules.conversions import FloatArray, betas_from_log_alpha_bar, log_alpha_bar_from_betas
from schedrl.schedules.schedule import ContinuousSchedule, inverse_of_falling, require_monotone

__all__ = ["MIN_BIN_MASS", "BetaKnots", "Betas", "PiecewiseLogSNR"]

MIN_BIN_MASS = 1e-9
"""Smallest probability of a bin in :meth:`PiecewiseLogSNR.from_density`."""


class PiecewiseLogSNR(ContinuousSchedule):
    r"""A falling broken line :math:`\lambda(u)`: training noise of piecewise constant density in log-SNR.

    Attributes:
        u: Two or more fractions, strictly increasing from 0 to 1.
        logsnr_values: Log-SNR at each ``u``, strictly decreasing, in [-20, 20]. Written ``logsnr``.

    Examples:
        >>> law = PiecewiseLogSNR(u=(0.0, 0.25, 1.0), logsnr=(8.0, 0.0, -6.0))
        >>> law.logsnr([0.0, 0.125, 0.5])
        array([ 8.,  4., -2.])
        >>> law.model_dump_json()
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
        r"""The law under which a draw falls into each log-SNR bin with the given probability.

        Args:
            edges: [K+1] bin edges in log-SNR, strictly decreasing, in [-20, 20].
            mass: [K] weights, not negative and not all zero; they are normalised. A bin keeps at least
                ``MIN_BIN_MASS`` of the total, so that the law stays strictly monotone however extreme the
                weights.

        Returns:
            The schedule; within a bin the density is constant.

        Raises:
            SchedrlError: Lengths, signs or order are wrong.

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
        """Number of betas."""
        return len(self.beta_values)

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        given = np.array(self.beta_values)
        if num_steps == self.native_steps:
            return given
        return _resampled_betas(self.log_alphas_cumprod(self.native_steps), num_steps)


class BetaKnots(BetaSchedule):
    r"""A few betas, each held for an equal share of the steps.

    Knot by knot :math:`\bar\alpha \leftarrow \bar\alpha (1 - \beta)^{T/K}`. This is what the kernel
    environment's agent emits, one knot at a time (AKOD's :math:`\beta_t = f(t, \sigma_{local})` on a grid of
    K knots). :math:`\log\bar\alpha(t)` is a broken line with its corners at t = k/K; another number of steps
    samples the same line.

    Attributes:
        beta_values: [K] betas in (0, 1), per step of the native schedule, from data to noise. Written
            ``betas``.
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
        """Number of steps for which the betas are meant."""
        return self.num_train_timesteps

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        per_knot = self.num_train_timesteps / len(self.beta_values)
        return _resampled_betas(per_knot * log_alpha_bar_from_betas(self.beta_values), num_steps)


def _resampled_betas(log_alpha_bar: FloatArray, num_steps: int) -> FloatArray:
    """Betas of ``num_steps`` equal steps along the broken line through (j/M, log ᾱ_j), j = 0 … M."""
    corners = np.linspace(0.0, 1.0, len(log_alpha_bar) + 1)
    steps = np.arange(1, num_steps + 1) / num_steps
    return betas_from_log_alpha_bar(np.interp(steps, corners, np.concatenate([[0.0], log_alpha_bar])))
