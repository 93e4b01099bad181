"""Training noise where every image has its own law: the kernel's trajectories over single images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl import schedules
from schedrl.diffusion.noise_law import NoiseLaw
from schedrl.diffusion.spec import DSC_TIMESTEPS, LOGSNR_LIMIT
from schedrl.schedules.conversions import betas_from_log_alpha_bar

__all__ = ["ImageNoiseLaw"]


@dataclass(frozen=True)
class ImageNoiseLaw:
    """T discrete steps per image, its β held between knots; log ᾱ is a broken line with corners there.

    Fulfils :class:`schedrl.diffusion.noise_law.TrainingNoise`.

    Attributes:
        log_alpha_bar: ``[runs, images, knots + 1]`` float64, from 0, falling, at equally spaced t from 0 to T.
        timesteps: T.

    Examples:
        >>> import math
        >>> law = ImageNoiseLaw(np.array([[[0.0, -math.log(2.0)], [0.0, -math.log(4.0)]]]), timesteps=1)
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
        """See :class:`schedrl.diffusion.noise_law.TrainingNoise`."""
        step = (uniform * self.timesteps).long().clamp_(max=self.timesteps - 1) + 1
        reached = self._reached(rows, indices, step.double() / self.timesteps)
        logsnr = reached - torch.log(-torch.expm1(reached))
        return logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT).float()

    def betas(self, rows: slice, indices: Tensor, uniform: Tensor) -> Tensor:
        """See :class:`schedrl.diffusion.noise_law.TrainingNoise`."""
        step = (uniform * DSC_TIMESTEPS).long().clamp_(max=DSC_TIMESTEPS - 1).double()
        before, after = (self._reached(rows, indices, at / DSC_TIMESTEPS) for at in (step, step + 1.0))
        return (-torch.expm1(after - before)).clamp(1e-12, 0.999)

    def log_beta_at(self, rows: slice, logsnr: Tensor) -> Tensor:
        """See :class:`schedrl.diffusion.noise_law.TrainingNoise`; by the law of mean log ᾱ over the images."""
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
    def _mean(self) -> NoiseLaw:
        falling = self.log_alpha_bar.mean(axis=1)
        laws = [
            schedules.Betas(betas=tuple(betas_from_log_alpha_bar(row[1:]).clip(1e-12, 0.999).tolist()))
            for row in falling
        ]
        return NoiseLaw.of(laws, self.timesteps, betas=True)
