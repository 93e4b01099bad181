"""Noise estimates of networks with multi-scale feature integration (MSFI), in samplers and in measurements.

In training, the neighbours of an image are the same image and noise at other levels. Two of them determine the image,
so a sampler or a measurement must not have them. There:

- t+1 is the sampler's previous state; without one, a prediction, as t−1 is.
- t−1 does not exist yet: it is the one-step DDIM prediction made with the feature of t alone.

So a prediction depends on the sampler's states only, and in a measurement on ``z`` and its level only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from schedrl.diffusion.layers import GroupedOperations, from_channels, to_channels
from schedrl.diffusion.process import Inputs, View, alpha_sigma, to_epsilon, to_x0
from schedrl.diffusion.samplers import Denoiser
from schedrl.diffusion.training_spec import LOGSNR_LIMIT, TrainingSpec
from schedrl.diffusion.unet import UNet


class Predictor(Protocol):
    """Noise estimates that may depend on a sampler's previous state and next level."""

    def __call__(
        self, z: Tensor, logsnr: Tensor, earlier: View | None = None, following: Tensor | None = None
    ) -> Tensor:
        """ε̂ for z ``[runs, n, C, H, W]`` at logsnr ``[runs, n]``; see :func:`predict_epsilon`."""


def moved(z: Tensor, noise: Tensor, logsnr: Tensor, target: Tensor) -> Tensor:
    """The state at log-SNR ``target`` after one DDIM step: α'/α (z − σ ε̂) + σ' ε̂.

    Examples:
        >>> x = e = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
        >>> here, there = torch.zeros(1, 1), torch.full((1, 1), 3.0).log()  # ᾱ = 1/2, then 3/4
        >>> round(moved(0.5**0.5 * (x + e), e, here, there).item(), 6)  # 0.75**0.5 + 0.25**0.5
        1.366025
    """
    (alpha, sigma), (to_alpha, to_sigma) = (
        (part.to(z.dtype) for part in alpha_sigma(level.double(), z.ndim)) for level in (logsnr, target)
    )
    return to_alpha / alpha * (z - sigma * noise) + to_sigma * noise


def epsilon_of(spec: TrainingSpec, output: Tensor, z: Tensor, logsnr: Tensor) -> Tensor:
    """The noise estimate of a network's output at clipped log-SNR."""
    # In float64, or the last digit would depend on where in a vector register a number happens to lie.
    alpha, sigma = (part.to(z.dtype) for part in alpha_sigma(logsnr.double(), z.ndim))
    return to_epsilon(spec.prediction_type, output, z, alpha, sigma)


def predict_epsilon(
    output: Callable[[Inputs], Tensor],
    spec: TrainingSpec,
    z: Tensor,
    logsnr: Tensor,
    earlier: View | None = None,
    following: Tensor | None = None,
) -> Tensor:
    """A network's noise estimate.

    Args:
        output: The network: inputs with clipped levels to an output shaped as ``z``.
        spec: How it was trained.
        z: Noised images ``[runs, n, C, H, W]``.
        logsnr: Their log-SNR ``[runs, n]``.
        earlier: The sampler's previous state and its levels, of more noise; predicted when absent.
        following: The sampler's next level; the shortest distance of the specification when absent.

    Returns:
        ε̂, shaped as ``z``.
    """
    logsnr = logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
    alone = epsilon_of(spec, output(Inputs(z, logsnr)), z, logsnr)
    if spec.network.msfi is None:
        return alone
    neighbours = _neighbours(spec, z, alone, logsnr, earlier, following)
    return epsilon_of(spec, output(Inputs(z, logsnr, neighbours=neighbours)), z, logsnr)


def _neighbours(
    spec: TrainingSpec,
    z: Tensor,
    noise: Tensor,
    logsnr: Tensor,
    earlier: View | None,
    following: Tensor | None,
) -> tuple[View, View]:
    """Views of t−1 and of t+1 from the estimate with t alone."""
    assert spec.network.msfi is not None
    near, far = spec.network.msfi.gap
    # A sampler's next level counts as no farther than the longest distance in training.
    less = logsnr + near if following is None else torch.minimum(following, logsnr + far)
    less = less.clamp(max=LOGSNR_LIMIT)
    after = moved(z, noise, logsnr, less), less
    if earlier is not None:
        return after, (earlier[0], earlier[1].clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT))
    more = (logsnr - near).clamp(min=-LOGSNR_LIMIT)
    return after, (moved(z, noise, logsnr, more), more)


class NetworkPredictor:
    """The :class:`Predictor` of networks in PyTorch, which reuses encodings.

    The encoding of t serves both predictions, with t alone and with its neighbours, and its feature is that of t+1 in
    the sampler's next call: two encodings instead of four.

    Args:
        network: Of any number of runs, with the weights that predict.
        spec: How it was trained.
        log_beta: log β_t at log-SNR ``[runs, n]``, for β modulation.
        keep: Reuse the feature of t+1; computed again when False.
    """

    def __init__(
        self,
        network: UNet,
        spec: TrainingSpec,
        log_beta: Callable[[Tensor], Tensor] | None = None,
        *,
        keep: bool = True,
    ) -> None:
        self.network, self.spec, self._log_beta, self._keep = network, spec, log_beta, keep
        self._ops = GroupedOperations(network.num_runs)
        self._last: tuple[Tensor, Tensor] | None = None  # state and feature of the last call

    @torch.no_grad()
    def __call__(
        self, z: Tensor, logsnr: Tensor, earlier: View | None = None, following: Tensor | None = None
    ) -> Tensor:
        logsnr = logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        log_beta = None if self._log_beta is None else self._log_beta(logsnr)
        encoded = self.network.encode(self._ops, to_channels(z), logsnr)

        def decode(around: Sequence[Tensor]) -> Tensor:
            out = self.network.decode(self._ops, encoded, around, log_beta)
            return epsilon_of(self.spec, from_channels(out, self.network.num_runs), z, logsnr)

        alone = decode(())
        if self.spec.network.msfi is None:
            return alone
        neighbours = _neighbours(self.spec, z, alone, logsnr, earlier, following)
        around = [self._feature(*view) for view in neighbours]
        self._last = z, encoded.feature
        return decode(around)

    def _feature(self, z: Tensor, logsnr: Tensor) -> Tensor:
        if self._keep and self._last is not None and self._last[0] is z:
            return self._last[1]
        return self.network.encode(self._ops, to_channels(z), logsnr).feature


def network_denoiser(
    predict: Predictor, spec: TrainingSpec, sigmas: Sequence[float], *, clip: bool = True
) -> Denoiser:
    """The clean images that networks estimate on a sampler's way down ``sigmas``.

    Without MSFI the calls are independent. With MSFI each call uses the last state that had more noise, and the next
    level.

    Args:
        predict: For example :meth:`schedrl.diffusion.population.Population.predict_epsilon`.
        spec: How the networks were trained.
        sigmas: The sampler's descending noise-to-signal ratios.
        clip: Clip the estimates to [−1, 1].
    """
    limits = torch.tensor(list(sigmas), dtype=torch.float64)
    levels = (-2.0 * limits.log()).clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
    last: list[View] = []

    def denoise(z: Tensor, logsnr: Tensor) -> Tensor:
        logsnr = logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        alpha, sigma = (part.to(z.dtype) for part in alpha_sigma(logsnr.double(), 0))
        level = logsnr.to(z.dtype).expand(z.shape[:2])
        if spec.network.msfi is None:
            noise = predict(z, level)
        else:
            here = float(logsnr)
            ahead = levels[levels > here + 1e-6]
            following = torch.full_like(level, float(ahead[0]) if len(ahead) else LOGSNR_LIMIT)
            before = [view for view in last if float(view[1].flatten()[0]) < here]
            noise = predict(z, level, before[-1] if before else None, following)
            last[:] = [*before[-1:], (z, level)]
        x0 = to_x0("epsilon", noise, z, alpha, sigma)
        return x0.clamp(-1.0, 1.0) if clip else x0

    return denoise


@dataclass(frozen=True)
class SurrogateError:
    """Error of a sampler's feature F(t−1) against the true one: root mean square over images, relative to the truth.

    Both are ``[runs, levels]``. A surrogate that is no better than F(t) adds nothing.

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
    """Compare the predicted neighbour t−1 with the true one of training.

    Args:
        network: Of any number of runs.
        spec: How it was trained.
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
        alone = epsilon_of(spec, network(z, level, None if log_beta is None else log_beta(level)), z, level)
        truth = feature(state(less), less)
        scale = truth.norm(dim=1)
        guess, still = feature(moved(z, alone, level, less), less), feature(z, level)
        found.append(((guess - truth).norm(dim=1) / scale, (still - truth).norm(dim=1) / scale))
    surrogate, standing_still = zip(*found, strict=True)
    return SurrogateError(torch.stack(surrogate, dim=1), torch.stack(standing_still, dim=1))
