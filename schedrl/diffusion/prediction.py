"""What a network with multi-scale feature integration knows of its neighbours where there is no clean image.

In training the neighbours are the same image and noise at other levels. Two of them determine the image, so nothing of
the kind may enter a measurement or a sampler. There:

- t+1 is the state that the sampler comes from; where it comes from nowhere, a prediction, as t−1 is.
- t−1 does not exist yet: it is the one-step DDIM prediction made with the feature of t alone.

So a prediction is a function of what a sampler has seen, and of ``z`` and its level alone in a measurement.
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

__all__ = [
    "NetworkPredictor",
    "Predictor",
    "SurrogateError",
    "epsilon_of",
    "moved",
    "network_denoiser",
    "predict_epsilon",
    "surrogate_error",
]


Output = Callable[[Inputs], Tensor]
"""A network's output, shaped as ``inputs.z``; levels are clipped."""


class Predictor(Protocol):
    """Noise estimates that may use where a sampler comes from and goes to."""

    def __call__(
        self, z: Tensor, logsnr: Tensor, earlier: View | None = None, following: Tensor | None = None
    ) -> Tensor:
        """ε̂ for z ``[runs, n, C, H, W]`` at logsnr ``[runs, n]``; see :func:`predict_epsilon`."""


def moved(z: Tensor, noise: Tensor, logsnr: Tensor, target: Tensor) -> Tensor:
    """The state at another level by one DDIM step: α'/α (z − σ ε̂) + σ' ε̂.

    Examples:
        >>> x = e = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
        >>> here, there = torch.zeros(1, 1), torch.full((1, 1), 3.0).log()  # halves, then three quarters signal
        >>> round(moved(0.5**0.5 * (x + e), e, here, there).item(), 6)  # 0.75**0.5 + 0.25**0.5
        1.366025
    """
    (alpha, sigma), (to_alpha, to_sigma) = (
        (part.to(z.dtype) for part in alpha_sigma(level.double(), z.ndim)) for level in (logsnr, target)
    )
    return to_alpha / alpha * (z - sigma * noise) + to_sigma * noise


def predict_epsilon(
    output: Output,
    spec: TrainingSpec,
    z: Tensor,
    logsnr: Tensor,
    earlier: View | None = None,
    following: Tensor | None = None,
) -> Tensor:
    """A network's noise estimate.

    Args:
        output: The network.
        spec: What it is.
        z: Noised images ``[runs, n, C, H, W]``.
        logsnr: Their levels ``[runs, n]``.
        earlier: State and levels that a sampler comes from, of more noise.
        following: Levels that it goes to; the shortest distance of the specification when absent.

    Returns:
        ε̂, shaped as ``z``.
    """
    msfi, logsnr = spec.network.msfi, logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
    alone = epsilon_of(spec, output(Inputs(z, logsnr)), z, logsnr)
    if msfi is None:
        return alone
    less, more = neighbour_levels(spec, logsnr, following)
    after = (moved(z, alone, logsnr, less), less)
    before = (moved(z, alone, logsnr, more), more)
    if earlier is not None:
        before = (earlier[0], earlier[1].clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT))
    return epsilon_of(spec, output(Inputs(z, logsnr, neighbours=(after, before))), z, logsnr)


def neighbour_levels(spec: TrainingSpec, logsnr: Tensor, following: Tensor | None) -> tuple[Tensor, Tensor]:
    """Levels of t−1 and of a predicted t+1. A sampler's next level is no farther than training's farthest."""
    assert spec.network.msfi is not None
    near, far = spec.network.msfi.gap
    less = logsnr + near if following is None else torch.minimum(following, logsnr + far)
    return less.clamp(max=LOGSNR_LIMIT), (logsnr - near).clamp(min=-LOGSNR_LIMIT)


def epsilon_of(spec: TrainingSpec, output: Tensor, z: Tensor, logsnr: Tensor) -> Tensor:
    """The noise estimate that a network's output at clipped log-SNR amounts to."""
    # In float64, or the last digit would depend on where in a vector register a number happens to lie.
    alpha, sigma = (part.to(z.dtype) for part in alpha_sigma(logsnr.double(), z.ndim))
    return to_epsilon(spec.prediction_type, output, z, alpha, sigma)


@dataclass
class _Kept:
    z: Tensor
    logsnr: Tensor
    feature: Tensor


class NetworkPredictor:
    """Predictions of networks in PyTorch, which keep the features they have computed.

    The way down of t serves the prediction with t alone and the one with its neighbours, and is t+1's feature when the
    sampler calls next: two passes down instead of four.

    Args:
        network: Of any number of runs, with the weights that predict.
        spec: What it is.
        log_beta: log β_t at log-SNR ``[runs, n]``, for β modulation.
        keep: Use the kept feature of t+1; computed again when False.
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
        self._kept: _Kept | None = None

    @torch.no_grad()
    def __call__(
        self, z: Tensor, logsnr: Tensor, earlier: View | None = None, following: Tensor | None = None
    ) -> Tensor:
        """See :class:`Predictor`."""
        logsnr = logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        log_beta = None if self._log_beta is None else self._log_beta(logsnr)
        encoded = self.network.encode(self._ops, to_channels(z), logsnr)

        def finish(around: Sequence[Tensor]) -> Tensor:
            out = self.network.decode(self._ops, encoded, around, log_beta)
            return epsilon_of(self.spec, from_channels(out, self.network.num_runs), z, logsnr)

        alone = finish(())
        if self.spec.network.msfi is None:
            return alone
        less, more = neighbour_levels(self.spec, logsnr, following)
        after = self._feature(moved(z, alone, logsnr, less), less)
        before = (
            self._feature(moved(z, alone, logsnr, more), more) if earlier is None else self._earlier(earlier)
        )
        self._kept = _Kept(z, logsnr, encoded.feature)
        return finish((after, before))

    def _feature(self, z: Tensor, logsnr: Tensor) -> Tensor:
        return self.network.encode(self._ops, to_channels(z), logsnr).feature

    def _earlier(self, earlier: View) -> Tensor:
        kept, (z, logsnr) = self._kept, (earlier[0], earlier[1].clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT))
        if self._keep and kept is not None and kept.z is z:
            return kept.feature
        return self._feature(z, logsnr)


def network_denoiser(
    predict: Predictor, spec: TrainingSpec, sigmas: Sequence[float], *, clip: bool = True
) -> Denoiser:
    """The clean images that networks estimate on a sampler's way down ``sigmas``.

    Without MSFI every call stands for itself. With it a call is told the state of the last one that had more noise, and
    the level that comes next.

    Args:
        predict: As :meth:`schedrl.diffusion.population.Population.predict_epsilon`.
        spec: What the networks are.
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
            goal = torch.full_like(level, float(ahead[0]) if len(ahead) else LOGSNR_LIMIT)
            before = [view for view in last if float(view[1].flatten()[0]) < here]
            noise = predict(z, level, before[-1] if before else None, goal)
            last[:] = [*before[-1:], (z, level)]
        x0 = to_x0("epsilon", noise, z, alpha, sigma)
        return x0.clamp(-1.0, 1.0) if clip else x0

    return denoise


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
