"""How far the features that a sampler has are from those that MSFI was trained on.

In training F(t−1) is the feature of the same image and noise with a little less noise; a sampler has that of its own
one-step prediction. The error is measured at a given distance in log-SNR, beside what using F(t) in its place would
miss: a surrogate that is no better than that adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from schedrl.diffusion.operations import GroupedOperations, from_channels, to_channels
from schedrl.diffusion.prediction import epsilon_of, moved
from schedrl.diffusion.process import alpha_sigma
from schedrl.diffusion.spec import LOGSNR_LIMIT, TrainingSpec
from schedrl.diffusion.unet import UNet

__all__ = ["SurrogateError", "surrogate_error"]


@dataclass(frozen=True)
class SurrogateError:
    """Relative errors ``[runs, levels]``: root mean square over images and features, over that of the true F(t−1).

    Attributes:
        surrogate: Of the feature of the predicted x_{t−1}.
        standing_still: Of F(t) in its place.
    """

    surrogate: Tensor
    standing_still: Tensor


@torch.no_grad()
def surrogate_error(
    network: UNet,
    spec: TrainingSpec,
    x0: Tensor,
    noise: Tensor,
    levels: Tensor,
    distance: float,
    log_beta: Callable[[Tensor], Tensor] | None = None,
) -> SurrogateError:
    """Compare the surrogate of t−1 with the truth.

    Args:
        network: Of any number of runs.
        spec: What it is.
        x0: Clean images ``[n, C, H, W]``, for all runs.
        noise: Standard normal numbers, same shape.
        levels: Log-SNR of t ``[levels]``.
        distance: From t to t−1 in log-SNR.
        log_beta: log β_t at log-SNR ``[runs, n]``, for β modulation.
    """
    ops, runs = GroupedOperations(network.num_runs), network.num_runs
    x0, noise = (part.expand(runs, *part.shape) for part in (x0, noise))

    def state(level: Tensor) -> Tensor:
        alpha, sigma = (part.to(x0.dtype) for part in alpha_sigma(level.double(), x0.ndim))
        return alpha * x0 + sigma * noise

    def feature(z: Tensor, level: Tensor) -> Tensor:
        return from_channels(network.encode(ops, to_channels(z), level).feature, runs).flatten(1)

    found: list[tuple[Tensor, Tensor]] = []
    for at in levels.tolist():
        level = x0.new_full(x0.shape[:2], at).clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        less, z = (level + distance).clamp(max=LOGSNR_LIMIT), state(level)
        told = None if log_beta is None else log_beta(level)
        alone = epsilon_of(spec, network(z, level, told), z, level)
        truth = feature(state(less), less)
        scale = truth.norm(dim=1)
        guess = feature(moved(z, alone, level, less), less)
        still = feature(z, level)
        found.append(((guess - truth).norm(dim=1) / scale, (still - truth).norm(dim=1) / scale))
    surrogate, standing_still = zip(*found, strict=True)
    return SurrogateError(torch.stack(surrogate, dim=1), torch.stack(standing_still, dim=1))
