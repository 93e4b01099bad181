"""The training noise of a population's runs: one schedule per run, or one per training image."""

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
from schedrl.schedules import Schedule
from schedrl.schedules.conversions import betas_from_log_alpha_bar

__all__ = ["ImageScheduleNoise", "NoiseSampler", "ScheduleNoise", "logsnr_quantiles"]


_TABLE = np.linspace(0.0, 1.0, 1025)
"""Where a continuous law's quantile function is tabulated."""


def logsnr_quantiles(
    schedule: Schedule, u: NDArray[np.float64], timesteps: int | None
) -> NDArray[np.float64]:
    """Log-SNR of the training noise at the uniform numbers ``u`` in [0, 1).

    It is λ(u), or in discrete training that of step ⌊uT⌋ of T = ``timesteps``.
    """
    if timesteps is None:
        return schedule.logsnr(u)
    return schedule.logsnr_steps(timesteps)[(u * timesteps).astype(np.int64)]


class NoiseSampler(Protocol):
    """What decides the noise levels of every run; its tensors are on the device of those it is asked with."""

    @property
    def num_runs(self) -> int:
        """How many runs it serves."""

    def logsnr(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        """Levels of the next images, clipped to what a network distinguishes.

        Args:
            rows: Which runs.
            indices: Of the training images ``[runs, steps, batch]``.
            uniform: Uniform numbers in [0, 1), same shape.

        Returns:
            Log-SNR float32, same shape.
        """

    def betas(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        """β_t of the same draws at T = :data:`DSC_TIMESTEPS`, float64.

        Raises:
            SchedrlError: The law was made without them.
        """

    def log_beta_at(self, rows: slice, logsnr: Tensor) -> Tensor:
        """log β_t where the schedule has the given log-SNR ``[runs, ...]``, float32: what β modulation evaluates with.

        Raises:
            SchedrlError: The law was made without them.
        """


@dataclass(frozen=True)
class ScheduleNoise:
    """One law per run, as the quantile function of its log-SNR.

    Attributes:
        quantiles: ``[runs, points]`` float64, log-SNR at equally spaced u from 0 to 1.
        discrete: The points are the T steps of a discrete schedule, drawn with equal chance; otherwise the law is
            continuous and linear between the points.
        told: ``[runs, T]`` float64, β_t of the schedule at T = :data:`DSC_TIMESTEPS` equally spaced u, which DSC and
            β modulation read; absent where neither does.

    Examples:
        >>> law = ScheduleNoise(np.array([[6.0, -6.0]]))  # uniform in log-SNR
        >>> u = torch.tensor([[[0.0, 0.25, 0.5]]])
        >>> law.logsnr(slice(None), torch.zeros(1, 1, 3, dtype=torch.int64), u)
        tensor([[[6., 3., 0.]]])
    """

    quantiles: NDArray[np.float64]
    discrete: bool = False
    told: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls, schedules: Sequence[Schedule], timesteps: int | None = None, *, betas: bool = False
    ) -> ScheduleNoise:
        """The law of each run's schedule.

        Args:
            schedules: One per run.
            timesteps: T of discrete training; continuous when absent, and then linear between the points of a table.
            betas: Know the β_t, too.
        """
        told = np.stack([s.betas(DSC_TIMESTEPS) for s in schedules]) if betas else None
        u = (np.arange(timesteps) + 0.5) / timesteps if timesteps is not None else _TABLE
        table = np.stack([logsnr_quantiles(schedule, u, timesteps) for schedule in schedules])
        return cls(table, timesteps is not None, told)

    @property
    def num_runs(self) -> int:
        """Rows of the table."""
        return len(self.quantiles)

    def logsnr(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        """See :class:`NoiseSampler`; every image has the same law."""
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
        """See :class:`NoiseSampler`."""
        told = self._told[rows].to(uniform.device)
        steps = told.shape[1]
        places = (uniform * steps).long().clamp_(max=steps - 1)
        return told.gather(1, places.flatten(1)).view_as(uniform)

    def log_beta_at(self, rows: slice, logsnr: Tensor) -> Tensor:
        """See :class:`NoiseSampler`."""
        told, table = (part[rows].to(logsnr.device) for part in (self._told, self._table))
        # Log-SNR falls with u; what lies outside the schedule has the β_t of its nearer end.
        place, points = torch.searchsorted(-table, -logsnr.double().flatten(1).contiguous()), table.shape[1]
        # The middle of a step, or of the cell between two points.
        u = (place + 0.5) / points if self.discrete else (place - 0.5).clamp(min=0.0) / (points - 1)
        steps = told.shape[1]
        return told.gather(1, (u * steps).long().clamp_(max=steps - 1)).log().float().view(logsnr.shape)

    @cached_property
    def _table(self) -> Tensor:
        return torch.from_numpy(self.quantiles.clip(-LOGSNR_LIMIT, LOGSNR_LIMIT))

    @cached_property
    def _told(self) -> Tensor:
        if self.told is None:
            raise SchedrlError(
                "law: DSC and β modulation read the schedule's β_t; give ScheduleNoise(..., told=[runs, T])"
            )
        return torch.from_numpy(self.told)


@dataclass(frozen=True)
class ImageScheduleNoise:
    """T discrete steps per image, its β held between knots; log ᾱ is a broken line with corners there.

    Fulfils :class:`schedrl.diffusion.noise.NoiseSampler`.

    Attributes:
        log_alpha_bar: ``[runs, images, knots + 1]`` float64, from 0, falling, at equally spaced t from 0 to T.
        timesteps: T.

    Examples:
        >>> import math
        >>> law = ImageScheduleNoise(np.array([[[0.0, -math.log(2.0)], [0.0, -math.log(4.0)]]]), timesteps=1)
        >>> both = torch.tensor([[[0, 1]]])
        >>> law.logsnr(slice(None), both, torch.zeros(1, 1, 2)).round(decimals=4)  # ᾱ = 1/2 and 1/4
        tensor([[[ 0.0000, -1.0986]]])
    """

    log_alpha_bar: NDArray[np.float64]
    timesteps: int

    @property
    def num_runs(self) -> int:
        """Rows of the table."""
        return len(self.log_alpha_bar)

    def logsnr(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        """See :class:`schedrl.diffusion.noise.NoiseSampler`."""
        step = (uniform * self.timesteps).long().clamp_(max=self.timesteps - 1) + 1
        reached = self._reached(rows, indices, step.double() / self.timesteps)
        logsnr = reached - torch.log(-torch.expm1(reached))
        return logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT).float()

    def betas(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        """See :class:`schedrl.diffusion.noise.NoiseSampler`."""
        step = (uniform * DSC_TIMESTEPS).long().clamp_(max=DSC_TIMESTEPS - 1).double()
        before, after = (self._reached(rows, indices, at / DSC_TIMESTEPS) for at in (step, step + 1.0))
        return (-torch.expm1(after - before)).clamp(1e-12, 0.999)

    def log_beta_at(self, rows: slice, logsnr: Tensor) -> Tensor:
        """See :class:`schedrl.diffusion.noise.NoiseSampler`; by the law of mean log ᾱ over the images."""
        return self._mean.log_beta_at(rows, logsnr)

    def _reached(self, rows: slice, indices: Tensor, time: Tensor) -> Tensor:
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
        laws = [
            schedules.Betas(betas=tuple(betas_from_log_alpha_bar(row[1:]).clip(1e-12, 0.999).tolist()))
            for row in falling
        ]
        return ScheduleNoise.of(laws, self.timesteps, betas=True)
