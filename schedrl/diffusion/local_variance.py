"""Local variance of noised images: the σ_local that paper B's kernel looks at.

σ_local(x) = √(G∗x² − (G∗x)²) with a 7×7 Gaussian filter G and reflected edges, averaged over pixels and images. For
x_t = αx + σε the local second moments are quadratic in α and σ, so three filtered maps give it at every noise level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LocalDeviation", "gaussian_blur"]

KERNEL_SIZE = 7
"""Width of the filter; cut to the image when that is smaller. Its standard deviation is a quarter of the width."""


def gaussian_blur(images: NDArray[np.float64], kernel_size: int = KERNEL_SIZE) -> NDArray[np.float64]:
    """Filter the last two axes with a normalised Gaussian of ``kernel_size`` taps, edges reflected."""
    from scipy.ndimage import correlate1d

    for axis in (-2, -1):
        size = min(kernel_size, images.shape[axis] - (images.shape[axis] + 1) % 2)
        taps = np.exp(-0.5 * np.square((np.arange(size) - size // 2) / (size / 4.0)))
        images = correlate1d(images, taps / taps.sum(), axis=axis, mode="mirror")
    return images


class LocalDeviation:
    """Mean local standard deviation of a fixed batch at any noise level.

    Args:
        images: ``[n, C, H, W]``.
        noise: Standard normal numbers of the same shape.
    """

    def __init__(self, images: NDArray[np.float32], noise: NDArray[np.float32]) -> None:
        x, e = images.astype(np.float64), noise.astype(np.float64)
        blur_x, blur_e = gaussian_blur(x), gaussian_blur(e)
        self._signal = (gaussian_blur(x * x) - blur_x * blur_x).ravel()
        self._noise = (gaussian_blur(e * e) - blur_e * blur_e).ravel()
        self._cross = (gaussian_blur(x * e) - blur_x * blur_e).ravel()

    def at(self, log_alpha_bar: NDArray[np.float64]) -> NDArray[np.float64]:
        """σ_local of x_t at each log ᾱ, same shape as the argument."""
        alpha2 = np.exp(log_alpha_bar)[..., None]
        sigma2 = -np.expm1(log_alpha_bar)[..., None]
        variance = alpha2 * self._signal + sigma2 * self._noise + 2.0 * np.sqrt(alpha2 * sigma2) * self._cross
        deviation: NDArray[np.float64] = np.sqrt(np.maximum(variance, 0.0)).mean(axis=-1)
        return deviation
