"""Noise levels for training, drawn from one schedule per run or from one per training image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl import schedules
from schedrl.diffusion.training_spec import DSC_TIMESTEPS, LOGSNR_LIMIT
from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import betas_from_log_alpha_bar

_TABLE = np.linspace(0.0, 1.0, 1025)
"""Points at which the quantile function of a continuous schedule is tabulated."""


def logsnr_quantiles(
    schedule: schedules.Schedule, u: NDArray[np.float64], timesteps: int | None
) -> NDArray[np.float64]:
    """Log-SNR of the training noise at the uniform numbers ``u`` in [0, 1).

    It is λ(u), or in discrete training that of step ⌊uT⌋ of T = ``timesteps``.
    """
    if timesteps is None:
        return schedule.logsnr(u)
    return schedule.logsnr_steps(timesteps)[(u * timesteps).astype(np.int64)]


class NoiseSampler(Protocol):
    """Turns uniform numbers into noise levels of every run; results are on the device of the arguments."""

    @property
    def num_runs(self) -> int: ...

    def logsnr(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        """Log-SNR of the next images, float32, clipped to ± :data:`LOGSNR_LIMIT`.

        Args:
            rows: Which runs.
            indices: Of the training images, ``[runs, steps, batch]``.
            uniform: Uniform numbers in [0, 1) of the same shape, as the result.
        """

    def betas(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        """β_t of the same draws at T = :data:`DSC_TIMESTEPS`, float64."""

    def log_beta_at(self, rows: slice, logsnr: Tensor) -> Tensor:
        """log β_t at log-SNR ``[runs, ...]`` of the schedule, float32; β modulation reads it in evaluation."""


@dataclass(frozen=True)
class ScheduleNoise:
    """One schedule per run, as the quantile function of its log-SNR: a :class:`NoiseSampler`.

    Attributes:
        quantiles: ``[runs, points]`` float64, log-SNR at equally spaced u from 0 to 1.
        discrete: The points are the T steps of a discrete schedule, drawn with equal probability; otherwise the
            schedule is continuous, and linear between the points.
        step_betas: ``[runs, T]`` float64, β_t of the schedule at T = :data:`DSC_TIMESTEPS` equally spaced u, which DSC
            and β modulation read; absent where neither does.

    Examples:
        >>> noise = ScheduleNoise(np.array([[6.0, -6.0]]))  # uniform in log-SNR
        >>> u = torch.tensor([[[0.0, 0.25, 0.5]]])
        >>> noise.logsnr(slice(None), torch.zeros(1, 1, 3, dtype=torch.int64), u)
        tensor([[[6., 3., 0.]]])
    """

    quantiles: NDArray[np.float64]
    discrete: bool = False
    step_betas: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls, schedules: Sequence[schedules.Schedule], timesteps: int | None = None, *, betas: bool = False
    ) -> ScheduleNoise:
        """From schedules.

        Args:
            schedules: One per run.
            timesteps: T of discrete training; continuous when absent.
            betas: Tabulate β_t as well.
        """
        step_betas = np.stack([s.betas(DSC_TIMESTEPS) for s in schedules]) if betas else None
        u = (np.arange(timesteps) + 0.5) / timesteps if timesteps is not None else _TABLE
        quantiles = np.stack([logsnr_quantiles(schedule, u, timesteps) for schedule in schedules])
        return cls(quantiles, timesteps is not None, step_betas)

    @property
    def num_runs(self) -> int:
        return len(self.quantiles)

    def logsnr(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        table, points = self._table[rows].to(uniform.device), self.quantiles.shape[1]
        u = uniform.flatten(1)
        if self.discrete:
            drawn = table.gather(1, (u * points).long().clamp_(max=points - 1))
        else:
            place = u.double() * (points - 1)
            left = place.long().clamp_(max=points - 2)
            share = place - left
            drawn = table.gather(1, left) * (1.0 - share) + table.gather(1, left + 1) * share
        return drawn.float().view_as(uniform)

    def betas(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        betas = self._step_betas[rows].to(uniform.device)
        steps = betas.shape[1]
        places = (uniform * steps).long().clamp_(max=steps - 1)
        return betas.gather(1, places.flatten(1)).view_as(uniform)

    def log_beta_at(self, rows: slice, logsnr: Tensor) -> Tensor:
        betas, table = (part[rows].to(logsnr.device) for part in (self._step_betas, self._table))
        # Log-SNR falls with u; levels outside the schedule have the β_t of its nearer end.
        place, points = torch.searchsorted(-table, -logsnr.double().flatten(1).contiguous()), table.shape[1]
        # The middle of a step, or of the cell between two points.
        u = (place + 0.5) / points if self.discrete else (place - 0.5).clamp(min=0.0) / (points - 1)
        steps = betas.shape[1]
        return betas.gather(1, (u * steps).long().clamp_(max=steps - 1)).log().float().view(logsnr.shape)

    @cached_property
    def _table(self) -> Tensor:
        return torch.from_numpy(self.quantiles.clip(-LOGSNR_LIMIT, LOGSNR_LIMIT))

    @cached_property
    def _step_betas(self) -> Tensor:
        if self.step_betas is None:
            raise SchedrlError(
                "noise: DSC and β modulation read the schedule's β_t; give ScheduleNoise(..., step_betas=[runs, T])"
            )
        return torch.from_numpy(self.step_betas)


@dataclass(frozen=True)
class ImageScheduleNoise:
    """One discrete schedule per training image, with β constant between knots: a :class:`NoiseSampler`.

    Attributes:
        log_alpha_bar: ``[runs, images, knots + 1]`` float64, log ᾱ at equally spaced t from 0 to T; it starts at 0,
            falls, and is linear between the knots.
        timesteps: T.

    Examples:
        >>> import math
        >>> noise = ImageScheduleNoise(np.array([[[0.0, -math.log(2.0)], [0.0, -math.log(4.0)]]]), timesteps=1)
        >>> both = torch.tensor([[[0, 1]]])
        >>> noise.logsnr(slice(None), both, torch.zeros(1, 1, 2)).round(decimals=4)  # ᾱ = 1/2 and 1/4
        tensor([[[ 0.0000, -1.0986]]])
    """

    log_alpha_bar: NDArray[np.float64]
    timesteps: int

    @property
    def num_runs(self) -> int:
        return len(self.log_alpha_bar)

    def logsnr(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        step = (uniform * self.timesteps).long().clamp_(max=self.timesteps - 1) + 1
        reached = self._log_alpha_bar_at(rows, indices, step.double() / self.timesteps)
        logsnr = reached - torch.log(-torch.expm1(reached))
        return logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT).float()

    def betas(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        step = (uniform * DSC_TIMESTEPS).long().clamp_(max=DSC_TIMESTEPS - 1).double()
        before, after = (
            self._log_alpha_bar_at(rows, indices, at / DSC_TIMESTEPS) for at in (step, step + 1.0)
        )
        return (-torch.expm1(after - before)).clamp(1e-12, 0.999)

    def log_beta_at(self, rows: slice, logsnr: Tensor) -> Tensor:
        """As :meth:`NoiseSampler.log_beta_at`, of the schedule with the images' mean log ᾱ."""
        return self._mean.log_beta_at(rows, logsnr)

    def _log_alpha_bar_at(self, rows: slice, indices: Tensor, time: Tensor) -> Tensor:
        """log ᾱ of images at t/T in [0, 1]."""
        table = self._table[rows].to(time.device)
        knots = table.shape[2] - 1
        place = time * knots
        left = place.long().clamp_(max=knots - 1)
        at = (indices * (knots + 1) + left).flatten(1)
        lines = table.flatten(1)
        low, high = (lines.gather(1, where).view_as(time) for where in (at, at + 1))
        share = place - left
        return low * (1.0 - share) + high * share

    @cached_property
    def _table(self) -> Tensor:
        return torch.from_numpy(self.log_alpha_bar)

    @cached_property
    def _mean(self) -> ScheduleNoise:
        falling = self.log_alpha_bar.mean(axis=1)
        mean_schedules = [
            schedules.Betas(betas=tuple(betas_from_log_alpha_bar(row[1:]).clip(1e-12, 0.999).tolist()))
            for row in falling
        ]
        return ScheduleNoise.of(mean_schedules, self.timesteps, betas=True)
