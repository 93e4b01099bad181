"""The variational bound on a fixed grid of log-SNR, the measure of every training schedule.

Kingma et al. (VDM, 2021): the continuous-time bound depends on the schedule only through its end points. Between
pinned end points λ_max and λ_min it is, per dimension,

    prior + reconstruction + ½ ∫ E‖ε − ε̂(z_λ)‖² dλ / D,

where the network enters only the last term. Here that integral is the midpoint rule on a fixed λ grid, with fixed
images and fixed noise. No schedule, batch or action can change the measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.diffusion.process import alpha_sigma
from schedrl.metrics.metric_specs import BoundSpec

__all__ = ["Bound", "BoundValue", "EpsilonPredictor", "OwnLoss"]

EpsilonPredictor = Callable[[Tensor, Tensor], Tensor]
"""``predict(z, logsnr) -> epsilon`` for z ``[runs, batch, C, H, W]`` and logsnr ``[runs, batch]``."""

_NOISE_SEED = 20_210_701
"""Seed of the evaluation noise, the same in every measurement."""

_BUDGET = 64 * 2**20
"""Bytes of noised images, of all runs together, evaluated at once; engines limit their features themselves."""


@dataclass(frozen=True)
class BoundValue:
    """Measured bounds and their parts: ``bits_per_dim = prior + reconstruction + diffusion.sum(axis=1)``.

    Attributes:
        bits_per_dim: ``[runs]`` float64.
        mse: ``[runs, levels]`` float64, mean squared error of ε̂ at each λ of the grid.
        prior: KL divergence of the noised data at λ_min from N(0, I), bits/dim; the same for all runs.
        reconstruction: Code length of the grey levels given z at λ_max, bits/dim; the same for all runs.
        spec: End points and grid.
    """

    bits_per_dim: NDArray[np.float64]
    mse: NDArray[np.float64]
    prior: float
    reconstruction: float
    spec: BoundSpec

    @property
    def diffusion(self) -> NDArray[np.float64]:
        """Bits/dim of each cell of the λ grid, from λ_max down, ``[runs, levels]``; see :meth:`BoundSpec.cell_bits`."""
        return self.spec.cell_bits(self.mse)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the cells of :attr:`diffusion`, descending, ``[levels + 1]``."""
        return np.linspace(self.spec.logsnr_max, self.spec.logsnr_min, self.spec.levels + 1)


class Bound:
    """The bound on given images, with fixed noise.

    Args:
        spec: End points and grid.
        images: ``[n, C, H, W]`` in [−1, 1], at the centres of ``levels`` grey levels.
        levels: Number of grey levels of the data.
        device: Where it is evaluated.
    """

    def __init__(
        self, spec: BoundSpec, images: NDArray[np.float32], levels: int, device: str | torch.device = "cpu"
    ) -> None:
        self.spec = spec
        chosen = images[: spec.images]
        rng = np.random.default_rng(_NOISE_SEED)
        noise = rng.standard_normal((spec.levels, *chosen.shape), dtype=np.float32)
        logsnr = torch.from_numpy(spec.grid.astype(np.float32))
        alpha, sigma = alpha_sigma(logsnr, 5)
        self._noise = torch.from_numpy(noise).to(device)
        self._z = (alpha * torch.from_numpy(np.array(chosen)) + sigma * torch.from_numpy(noise)).to(device)
        self._logsnr = logsnr.to(device)
        self.prior = prior_bits(chosen, spec.logsnr_min)
        self.reconstruction = reconstruction_bits(chosen, levels, spec.logsnr_max, rng)
        self.constant = self.prior + self.reconstruction
        """Prior and reconstruction terms in bits/dim, which depend on the data and the end points alone."""

    def bits_per_dim(self, mse: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound from the error at each λ of the grid, ``[..., levels]`` to ``[...]``."""
        span = self.spec.logsnr_max - self.spec.logsnr_min
        bits: NDArray[np.float64] = self.constant + 0.5 * span * mse.mean(axis=-1) / math.log(2.0)
        return bits

    def evaluate(self, predict: EpsilonPredictor, num_runs: int) -> BoundValue:
        """Measure the bound of every run of a population."""
        levels, count = self._z.shape[:2]
        z, noise = self._z.flatten(0, 1), self._noise.flatten(0, 1)
        logsnr = self._logsnr.repeat_interleave(count).expand(num_runs, -1)
        sums = []
        for part in _parts(num_runs, z):
            error = predict(z[part].expand(num_runs, *z[part].shape), logsnr[:, part]) - noise[part]
            # Sums within an image in float32, over images in float64, so that the cut into parts changes nothing.
            sums.append(error.square().flatten(2).sum(dim=2).double())
        images = torch.cat(sums, dim=1)
        mse = images.view(num_runs, levels, count).sum(dim=2) / self._noise[0].numel()
        values = mse.cpu().numpy()
        return BoundValue(self.bits_per_dim(values), values, self.prior, self.reconstruction, self.spec)


class OwnLoss:
    """Mean squared ε error of each run under its own training schedule: AKOD's literal reward, negated.

    Image j has fixed noise, at the midpoint of an equal share of the schedule. Values cannot be compared between
    schedules (more noise gives a lower loss); the reward exists to show that.

    Args:
        images: ``[n, C, H, W]`` in [−1, 1].
        levels: Number of shares of the schedule; images take turns.
        device: Where it is evaluated.
    """

    def __init__(self, images: NDArray[np.float32], levels: int, device: str | torch.device = "cpu") -> None:
        self._x0 = torch.from_numpy(np.array(images)).to(device)
        noise = np.random.default_rng(_NOISE_SEED).standard_normal(images.shape, dtype=np.float32)
        self._noise = torch.from_numpy(noise).to(device)
        self.places = (np.arange(len(images)) % levels + 0.5) / levels
        """u of each image's noise level, ``[n]``."""

    def evaluate(self, predict: EpsilonPredictor, logsnr: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean squared error ``[runs]`` with image ``j`` of run ``i`` noised to ``logsnr[i, j]``."""
        levels = torch.from_numpy(logsnr.astype(np.float32)).to(self._x0.device)
        total = torch.zeros(len(levels), dtype=torch.float64, device=self._x0.device)
        for part in _parts(len(levels), self._x0):
            # In float64, or the last digit would depend on a number's place in a vector register.
            alpha, sigma = (side.float() for side in alpha_sigma(levels[:, part].double(), 5))
            z = alpha * self._x0[part] + sigma * self._noise[part]
            error = predict(z, levels[:, part]) - self._noise[part]
            total += error.square().flatten(2).sum(dim=2).double().sum(dim=1)
        return (total / self._noise.numel()).cpu().numpy()


def _parts(num_runs: int, images: Tensor) -> list[slice]:
    """Parts of images ``[n, C, H, W]`` such that all runs' copies of a part fit into the budget."""
    size = max(1, _BUDGET // (num_runs * 4 * images[0].numel()))
    return [slice(begin, begin + size) for begin in range(0, len(images), size)]


def prior_bits(images: NDArray[np.float32], logsnr_min: float) -> float:
    """KL divergence of the noised data at λ_min from N(0, I), bits/dim: the mean of ½(σ² + α²x² − 1 − log σ²).

    Examples:
        >>> bool(prior_bits(np.ones((1, 1, 2, 2), np.float32), -20.0) < 1e-8)
        True
    """
    alpha2 = 1.0 / (1.0 + math.exp(-logsnr_min))
    sigma2 = 1.0 - alpha2
    mean_square = float(np.square(images.astype(np.float64)).mean())
    return 0.5 * (sigma2 + alpha2 * mean_square - 1.0 - math.log(sigma2)) / math.log(2.0)


def reconstruction_bits(
    images: NDArray[np.float32], levels: int, logsnr_max: float, rng: np.random.Generator
) -> float:
    """−log₂ p(x | z) at λ_max per dimension, with p proportional to the Gaussian likelihood over the grey levels.

    The decoder of VDM (Kingma et al. 2021, eq. 8), which has no parameters. ``rng`` draws one z per pixel.
    """
    ratio = math.exp(-0.5 * logsnr_max)  # noise-to-signal: z / alpha = x + ratio * noise
    centres = np.linspace(-1.0, 1.0, levels)
    x = images.astype(np.float64).ravel()
    y = x + ratio * rng.standard_normal(x.size)
    total = 0.0
    for begin in range(0, x.size, 65_536):
        part = slice(begin, begin + 65_536)
        logits = -0.5 * np.square((y[part, None] - centres) / ratio)
        own = -0.5 * np.square((y[part] - x[part]) / ratio)
        top = logits.max(axis=1)
        total += float((top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - own).sum())
    return total / x.size / math.log(2.0)
