"""Samplers as plain functions of a denoiser, an initial state and descending noise-to-signal ratios.

``sigmas`` are the ratios r = σ/α (the VE sigma). The last may be 0; the first must be finite or, for DDIM and DDPM,
infinite. A denoiser maps a state ``z = αx + σε`` and its log-SNR to an estimate of x.

Number of network evaluations for N steps: DDIM and DDPM N; Heun 2N − 1 when the last level is 0, else 2N.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Denoiser", "SamplerName", "ddim", "ddpm", "heun", "sample"]

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""``denoise(z, logsnr) -> x0``; ``logsnr`` is a scalar tensor."""

SamplerName = Literal["ddim", "ddpm", "heun"]
"""A sampler by name."""


def _amplitudes(sigmas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """α and σ at each ratio in float64; exact at r = 0 and r = inf."""
    r = torch.tensor(list(sigmas), dtype=torch.float64)
    alpha = torch.where(r.isinf(), torch.zeros_like(r), 1.0 / (1.0 + r.square()).sqrt())
    sigma = torch.where(r.isinf(), torch.ones_like(r), r / (1.0 + r.square()).sqrt())
    return alpha, sigma


def _logsnr(r: float, like: Tensor) -> Tensor:
    return torch.tensor(-2.0 * math.log(r), dtype=like.dtype, device=like.device)


def ddim(denoise: Denoiser, z: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, η = 0).

    Args:
        denoise: The clean-image estimate.
        z: Initial state at ``sigmas[0]``, standard normal if that is infinite or large.
        sigmas: N + 1 descending noise-to-signal ratios.

    Returns:
        The state at ``sigmas[-1]``; the clean image when that is 0.

    Examples:
        >>> def exact(z, logsnr):  # for data N(0, 1): x0 = alpha * z
        ...     return logsnr.sigmoid().sqrt() * z
        >>> ddim(exact, torch.ones(1, dtype=torch.float64), [torch.inf, 1.0, 0.0])
        tensor([0.5000], dtype=torch.float64)
    """
    alpha, sigma = _amplitudes(sigmas)
    for k in range(len(sigmas) - 1):
        x0 = denoise(z, _logsnr(sigmas[k], z))
        noise = (z - float(alpha[k]) * x0) / float(sigma[k])
        z = float(alpha[k + 1]) * x0 + float(sigma[k + 1]) * noise
    return z


def ddpm(
    denoise: Denoiser,
    z: Tensor,
    sigmas: Sequence[float],
    noise: Iterable[Tensor],
    variance: Literal["small", "large"] = "small",
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020).

    Args:
        denoise: The clean-image estimate.
        z: Initial state at ``sigmas[0]``.
        sigmas: N + 1 descending noise-to-signal ratios.
        noise: N standard normal tensors shaped as ``z``; the last is not used if ``sigmas[-1]`` is 0.
        variance: ``"small"`` is the posterior variance β̃ given x0, ``"large"`` is β. A last step to 0 adds no noise,
            which would be visible.
    """
    alpha, sigma = _amplitudes(sigmas)
    draws = iter(noise)
    for k in range(len(sigmas) - 1):
        x0 = denoise(z, _logsnr(sigmas[k], z))
        here, there = sigmas[k], sigmas[k + 1]
        # beta / sigma^2; as 1 - alpha^2 / alpha'^2 it would lose its digits at low noise.
        shrink = 1.0 - (there / here) ** 2
        mean_z = alpha[k] / alpha[k + 1] * (sigma[k + 1] / sigma[k]).square()
        z = float(alpha[k + 1] * shrink) * x0 + float(mean_z) * z
        if there > 0.0:
            deviation = sigma[k] if variance == "large" else sigma[k + 1]
            z = z + shrink**0.5 * float(deviation) * next(draws)
    return z


def heun(denoise: Denoiser, z: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Heun's second-order method on the probability-flow ODE in y = z/α (Karras et al. 2022, algorithm 1).

    Between calls of the denoiser it computes in float64: a long step from a large y cancels digits.

    Args:
        denoise: The clean-image estimate.
        z: Initial state at ``sigmas[0]``, which must be finite.
        sigmas: N + 1 descending noise-to-signal ratios; a step to 0 is one Euler step.
    """
    alpha, _ = _amplitudes(sigmas)
    wide = torch.float32 if z.device.type == "mps" else torch.float64  # MPS has no float64

    def clean(y: Tensor, k: int) -> Tensor:
        return denoise((float(alpha[k]) * y).to(z.dtype), _logsnr(float(sigmas[k]), z)).to(wide)

    y = z.to(wide) / float(alpha[0])
    for k in range(len(sigmas) - 1):
        here, there = float(sigmas[k]), float(sigmas[k + 1])
        slope = (y - clean(y, k)) / here
        ahead = y + (there - here) * slope
        if there > 0.0:
            slope_ahead = (ahead - clean(ahead, k + 1)) / there
            ahead = y + (there - here) * 0.5 * (slope + slope_ahead)
        y = ahead
    return (float(alpha[-1]) * y).to(z.dtype)


def sample(
    name: SamplerName,
    denoise: Denoiser,
    shape: Sequence[int],
    sigmas: Sequence[float],
    generator: torch.Generator,
) -> Tensor:
    """Images of the given shape by the named sampler; ``generator`` draws the initial state and DDPM's noise."""
    device = generator.device
    z = torch.randn(tuple(shape), generator=generator, device=device)
    if name == "ddim":
        return ddim(denoise, z, sigmas)
    if name == "heun":
        return heun(denoise, z, sigmas)
    noise = (torch.randn(z.shape, generator=generator, device=device) for _ in range(len(sigmas) - 1))
    return ddpm(denoise, z, sigmas, noise)
