"""Local variance of noised images: the σ_local that AKOD's kernel reads.

σ_local(x) = √(G∗x² − (G∗x)²) with a 7×7 Gaussian filter G and reflected edges, averaged over pixels, and for a batch
over images. For x_t = αx + σε the local second moments are quadratic in α and σ, so three filtered maps give it at
every noise level.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

KERNEL_SIZE = 7
"""Width of the filter, at most that of the image. Its standard deviation is a quarter of the width."""

_NOISE_SEED = 7
"""Seed of the fixed noise of :meth:`LocalDeviation.of`."""

_AT_ONCE = 2**22
"""Numbers of a map in memory at once."""


def _width(kernel_size: int, side: int) -> int:
    """The largest odd width up to ``kernel_size`` that fits the image."""
    return min(kernel_size, side - (side + 1) % 2)


def gaussian_blur(images: NDArray[np.float64], kernel_size: int = KERNEL_SIZE) -> NDArray[np.float64]:
    """Filter the last two axes with a normalised Gaussian of ``kernel_size`` taps, edges reflected."""
    from scipy.ndimage import gaussian_filter1d

    for axis in (-2, -1):
        size = _width(kernel_size, images.shape[axis])
        images = gaussian_filter1d(images, size / 4.0, axis=axis, mode="mirror", radius=size // 2)
    return images


def local_deviation(images: Tensor, kernel_size: int = KERNEL_SIZE) -> Tensor:
    """σ_local ``[n]`` of images ``[n, C, H, W]`` on any device, for example a sampler's state.

    Examples:
        >>> local_deviation(torch.ones(2, 1, 8, 8)).tolist()
        [0.0, 0.0]
    """
    maps = images.flatten(0, 1)[:, None]
    moments = torch.cat([maps, maps.square()])
    for axis in (2, 3):
        size = _width(kernel_size, moments.shape[axis])
        radius = size // 2
        offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
        taps = torch.exp(-0.5 * (offsets / (size / 4.0)).square())
        taps = taps / taps.sum()
        pad = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        shape = (1, 1, size, 1) if axis == 2 else (1, 1, 1, size)
        moments = functional.conv2d(functional.pad(moments, pad, mode="reflect"), taps.view(shape))
    mean, square = moments.chunk(2)
    deviation = (square - mean.square()).clamp(min=0.0).sqrt()
    return deviation.view(len(images), -1).mean(dim=1)


class LocalDeviation:
    """Mean local standard deviation of fixed images with fixed noise, at any noise level.

    Args:
        images: ``[n, C, H, W]``.
        noise: Standard normal numbers of the same shape.
    """

    def __init__(self, images: NDArray[np.float32], noise: NDArray[np.float32]) -> None:
        x, e = images.astype(np.float64), noise.astype(np.float64)
        blur_x, blur_e = gaussian_blur(x), gaussian_blur(e)
        rows = len(images), -1
        self._signal = (gaussian_blur(x * x) - blur_x * blur_x).reshape(rows)
        self._noise = (gaussian_blur(e * e) - blur_e * blur_e).reshape(rows)
        self._cross = (gaussian_blur(x * e) - blur_x * blur_e).reshape(rows)

    @classmethod
    def of(cls, images: NDArray[np.float32]) -> Self:
        """Of images with the noise that training environments show them with."""
        noise = np.random.default_rng(_NOISE_SEED).standard_normal(images.shape, dtype=np.float32)
        return cls(images, noise)

    def __len__(self) -> int:
        return len(self._signal)

    @property
    def size(self) -> int:
        """Number of pixels of all images."""
        return self._signal.size

    def at(self, log_alpha_bar: NDArray[np.float64]) -> NDArray[np.float64]:
        """σ_local of x_t, the mean over all images, at each log ᾱ of an array of any shape."""
        levels = np.asarray(log_alpha_bar, dtype=np.float64)
        same = levels.reshape(-1, 1)
        part = max(1, _AT_ONCE // self.size)
        found = [
            self._deviation(same[begin : begin + part], slice(None)).mean(axis=1)
            for begin in range(0, len(same), part)
        ]
        return np.concatenate(found).reshape(levels.shape)

    def at_images(self, log_alpha_bar: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each image's σ_local at its own log ᾱ ``[..., images]``."""
        levels = np.asarray(log_alpha_bar, dtype=np.float64)
        rows = levels.reshape(-1, len(self))
        part = max(1, _AT_ONCE // (max(1, len(rows)) * self._signal.shape[1]))
        found = [
            self._deviation(rows[:, begin : begin + part], slice(begin, begin + part))
            for begin in range(0, len(self), part)
        ]
        return np.concatenate(found, axis=1).reshape(levels.shape)

    def _deviation(self, log_alpha_bar: NDArray[np.float64], images: slice) -> NDArray[np.float64]:
        """``[rows, images]`` at levels ``[rows, images or 1]``."""
        alpha2 = np.exp(log_alpha_bar)[..., None]
        sigma2 = -np.expm1(log_alpha_bar)[..., None]
        variance = alpha2 * self._signal[images] + sigma2 * self._noise[images]
        variance += 2.0 * np.sqrt(alpha2 * sigma2) * self._cross[images]
        deviation: NDArray[np.float64] = np.sqrt(np.maximum(variance, 0.0)).mean(axis=-1)
        return deviation
