"""The variance-preserving process in log-SNR, the three prediction types, and the inputs of a network.

With λ = log(ᾱ/(1−ᾱ)): α = √sigmoid(λ), σ = √sigmoid(−λ), z = αx + σε. A prediction is of ε, of x ("x0") or of
v = αε − σx (Salimans & Ho 2022, appendix D); each determines the other two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from schedrl.diffusion.training_spec import LOGSNR_LIMIT, MSFISpec, PredictionType, TrainingSpec

View = tuple[Tensor, Tensor]
"""Noised images ``[runs, batch, C, H, W]`` and their log-SNR ``[runs, batch]``."""

_GAP_CELLS = 2048
"""The uniform number's place inside its cell of 1/2048 draws the distance to the neighbours. There are far more cells
than strata in a batch, so it is independent of the level; and few enough that float32 has digits left inside of one."""


def alpha_sigma(logsnr: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitudes at ``logsnr``, with trailing axes added up to ``ndim`` dimensions.

    Examples:
        >>> alpha, sigma = alpha_sigma(torch.tensor([-torch.inf, 0.0, torch.inf]), 3)
        >>> alpha.shape, sigma.flatten()
        (torch.Size([3, 1, 1]), tensor([1.0000, 0.7071, 0.0000]))
    """
    logsnr = logsnr.reshape(logsnr.shape + (1,) * (ndim - logsnr.ndim))
    return torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()


def training_target(
    prediction_type: PredictionType, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """The output that a network should have at ``z = alpha * x0 + sigma * noise``."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "x0":
        return x0
    return alpha * noise - sigma * x0


def to_epsilon(
    prediction_type: PredictionType, output: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """The noise estimate of a network's ``output`` at ``z``."""
    if prediction_type == "epsilon":
        return output
    if prediction_type == "x0":
        return (z - alpha * output) / sigma
    return sigma * z + alpha * output


def to_x0(prediction_type: PredictionType, output: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The clean-image estimate of a network's ``output`` at ``z``."""
    if prediction_type == "epsilon":
        return (z - sigma * output) / alpha
    if prediction_type == "x0":
        return output
    return alpha * z - sigma * output


@dataclass(frozen=True)
class Inputs:
    """Inputs of one forward pass.

    Attributes:
        z: Noised images ``[runs, batch, C, H, W]``.
        logsnr: Their log-SNR ``[runs, batch]``.
        log_beta: log β_t ``[runs, batch]``, for networks with β modulation.
        neighbours: The views of t−1, with less noise, and of t+1, for networks with MSFI; the images themselves stand
            in for absent neighbours.
    """

    z: Tensor
    logsnr: Tensor
    log_beta: Tensor | None = None
    neighbours: tuple[View, View] | None = None

    @property
    def views(self) -> tuple[View, ...]:
        """The images, and their neighbours if there are any."""
        return (self.z, self.logsnr), *(self.neighbours or ())

    def images(self, part: slice) -> Inputs:
        """Some of the images of every run."""
        around = tuple((z[:, part], logsnr[:, part]) for z, logsnr in self.neighbours or ())
        log_beta = None if self.log_beta is None else self.log_beta[:, part]
        return Inputs(
            self.z[:, part], self.logsnr[:, part], log_beta, (around[0], around[1]) if around else None
        )


def with_neighbours(spec: MSFISpec | None, logsnr: Tensor, uniform: Tensor) -> Tensor:
    """Log-SNR of the views that a network trains on.

    Args:
        spec: Multi-scale feature integration, if any.
        logsnr: Clipped log-SNR, any shape.
        uniform: The uniform numbers that it was drawn with, same shape; their last digits draw the distance.

    Returns:
        ``[..., views]``: of t and, with MSFI, of t−1 and t+1.

    Examples:
        >>> msfi = MSFISpec(gap=(0.5, 0.5), alone=0.0)
        >>> with_neighbours(msfi, torch.tensor([1.0]), torch.tensor([0.25]))
        tensor([[1.0000, 1.5000, 0.5000]])
    """
    if spec is None:
        return logsnr[..., None]
    place = uniform.double() * _GAP_CELLS
    place = place - place.floor()
    # Of those that have neighbours; with alone = 1 there are none.
    share = ((place - spec.alone) / max(1.0 - spec.alone, 1e-9)).clamp(0.0, 1.0)
    low, high = spec.gap
    gap = torch.where(place < spec.alone, 0.0, low * (high / low) ** share).float()
    return torch.stack([logsnr, logsnr + gap, logsnr - gap], dim=-1).clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)


def training_inputs(
    spec: TrainingSpec, x0: Tensor, noise: Tensor, levels: Tensor, log_beta: Tensor | None = None
) -> tuple[Inputs, Tensor]:
    """The inputs that a network trains on, and its target.

    Args:
        spec: How it is trained.
        x0: Clean images ``[runs, batch, C, H, W]``.
        noise: Standard normal numbers of the same shape; neighbours share them.
        levels: ``[runs, batch, views]`` of :func:`with_neighbours`.
        log_beta: ``[runs, batch]``, with β modulation.

    Returns:
        The inputs, and the target shaped as ``x0``.
    """
    views: list[View] = []
    for logsnr in levels.unbind(dim=-1):
        alpha, sigma = alpha_sigma(logsnr, x0.ndim)
        views.append((alpha * x0 + sigma * noise, logsnr))
    alpha, sigma = alpha_sigma(levels[..., 0], x0.ndim)
    neighbours = (views[1], views[2]) if len(views) > 1 else None
    target = training_target(spec.prediction_type, x0, noise, alpha, sigma)
    return Inputs(*views[0], log_beta, neighbours), target
