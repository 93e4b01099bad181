"""The variance-preserving process in log-SNR, and the three ways a network may state its prediction.

With λ = log(ᾱ/(1−ᾱ)): α = √sigmoid(λ), σ = √sigmoid(−λ), z = αx + σε. A prediction is of ε, of x ("x0") or of
v = αε − σx (Salimans & Ho 2022, appendix D); each determines the other two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from schedrl.diffusion.spec import PredictionType

__all__ = ["alpha_sigma", "to_epsilon", "to_x0", "training_target"]


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
    """What the network should say about ``z = alpha * x0 + sigma * noise``."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "x0":
        return x0
    return alpha * noise - sigma * x0


def to_epsilon(
    prediction_type: PredictionType, output: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """The noise estimate that a network's ``output`` at ``z`` amounts to."""
    if prediction_type == "epsilon":
        return output
    if prediction_type == "x0":
        return (z - alpha * output) / sigma
    return sigma * z + alpha * output


def to_x0(prediction_type: PredictionType, output: Tensor, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The clean-image estimate that a network's ``output`` at ``z`` amounts to."""
    if prediction_type == "epsilon":
        return (z - sigma * output) / alpha
    if prediction_type == "x0":
        return output
    return alpha * z - sigma * output
