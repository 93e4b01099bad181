"""The training noise of a population's runs, as quantile tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.diffusion.spec import DSC_TIMESTEPS, LOGSNR_LIMIT
from schedrl.schedules import Schedule

__all__ = ["NoiseLaw", "betas_at", "logsnr_at"]

_TABLE = np.linspace(0.0, 1.0, 1025)
"""Where a continuous law's quantile function is tabulated."""


@dataclass(frozen=True)
class NoiseLaw:
    """The training noise of every run, as the quantile function of its log-SNR.

    Attributes:
        quantiles: ``[runs, points]`` float64, log-SNR at equally spaced u from 0 to 1.
        discrete: The points are the T steps of a discrete schedule, drawn with equal chance; otherwise the law is
            continuous and linear between the points.
        betas: ``[runs, T]`` float64, β_t of the schedule at equally spaced u, which DSC reads; absent where it does
            not.
    """

    quantiles: NDArray[np.float64]
    discrete: bool = False
    betas: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls, schedules: Sequence[Schedule], timesteps: int | None = None, *, betas: bool = False
    ) -> NoiseLaw:
        """The law of each run's schedule.

        Args:
            schedules: One per run.
            timesteps: T of discrete training; continuous when absent, and then linear between the points of a table.
            betas: Tell DSC the β_t, too.
        """
        told = np.stack([s.betas(DSC_TIMESTEPS) for s in schedules]) if betas else None
        if timesteps is not None:
            return cls(np.stack([s.logsnr_steps(timesteps) for s in schedules]), discrete=True, betas=told)
        return cls(np.stack([s.logsnr(_TABLE) for s in schedules]), betas=told)

    def tensor(self, device: torch.device) -> Tensor:
        """The table on a device, in float32, clipped to what the network distinguishes."""
        return torch.from_numpy(self.quantiles.clip(-LOGSNR_LIMIT, LOGSNR_LIMIT).astype(np.float32)).to(
            device
        )

    def at(self, table: Tensor, u: Tensor) -> Tensor:
        """Log-SNR ``[runs, batch]`` at the uniform numbers ``u`` ``[runs, batch]``."""
        return logsnr_at(table, u, self.discrete)


def betas_at(betas: Tensor, u: Tensor) -> Tensor:
    """β_t at the uniform numbers ``u`` ``[runs, ...]``, from a table ``[runs, T]`` of :attr:`NoiseLaw.betas`."""
    steps = betas.shape[1]
    places = (u * steps).long().clamp_(max=steps - 1)
    return betas.gather(1, places.flatten(1)).view_as(u)


def logsnr_at(table: Tensor, u: Tensor, discrete: bool) -> Tensor:
    """Log-SNR ``[runs, batch]`` at the uniform numbers ``u``, from a table of :meth:`NoiseLaw.tensor`."""
    points = table.shape[1]
    if discrete:
        return table.gather(1, (u * points).long().clamp_(max=points - 1))
    place = u * (points - 1)
    left = place.long().clamp_(max=points - 2)
    low, high = table.gather(1, left), table.gather(1, left + 1)
    return torch.lerp(low, high, place - left)
