"""Small images that stand for a data set in the many training runs that PPO learns from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schedrl import data
from schedrl.data import DataSpec
from schedrl.data.own import ImageFolder, Npz
from schedrl.errors import SchedrlError, Spec
from schedrl.files import write_bytes

PROXY = "proxy.npz"

_LEAST = 60
"""Least number of given images."""

_KEPT = 6000
"""Largest number of images of the proxy."""

_HELD_OUT = 250
"""Largest number of images for validation, and for testing; a sixth of a small set each."""


class Proxy(Spec):
    """Small images.

    Attributes:
        data: The images, cut into training, validation and test.
        size: Side in pixels.
        factor: Each pixel is the mean of ``factor`` x ``factor`` pixels of the given images.
        count: Number of images.
    """

    data: Npz
    size: int
    factor: int
    count: int

    @property
    def logsnr_shift(self) -> float:
        """Log-SNR of the given images minus that of these at the same content: −2 log(factor).

        The mean of factor² pixels keeps large structures and divides the standard deviation of the noise by ``factor``,
        so the same content is at a higher log-SNR here (Hoogeboom et al. 2023, simple diffusion, section 3.1).
        """
        return -2.0 * float(np.log(self.factor))


def make_proxy(source: DataSpec, folder: Path, size: int = 16) -> Proxy:
    """Average images to a smaller size, and write at most 6000 of them into a file.

    Args:
        source: The images; the test part of a set that has one is not used.
        folder: Where ``proxy.npz`` goes.
        size: Largest side in pixels. The given images are cropped to a multiple of the proxy's side.

    Raises:
        SchedrlError: There are too few images, or they do not vary.
    """
    images = _images(source)
    if len(images) < _LEAST:
        raise SchedrlError(
            f"--data: at least {_LEAST} images are needed to learn and to test (got {len(images)})"
        )
    if float(images.std()) == 0.0:
        raise SchedrlError("--data: every pixel of every image is the same; there is nothing to learn")
    side = min(images.shape[2:])
    factor = -(-side // size)
    kept = side // factor
    small = _averaged(images, factor, kept)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=small)
    write_bytes(folder / PROXY, buffer.getvalue())
    held = min(_HELD_OUT, len(small) // 6)
    spec = Npz(path=str((folder / PROXY).resolve()), layout="NCHW", validation=held, test=held)
    return Proxy(data=spec, size=kept, factor=factor, count=len(small))


def _images(source: DataSpec) -> NDArray[np.uint8]:
    """Images ``[n, C, H, W]`` with 8 bits; an even selection of at most ``_KEPT``."""
    if isinstance(source, ImageFolder | Npz):
        pixels = source.read(source.locate())
        found, levels = pixels.images, pixels.levels
    else:
        cut = data.load(source)
        found = np.rint((np.concatenate([cut.train, cut.validation]) + 1.0) * 127.5).astype(np.uint8)
        levels = 256
    chosen = np.linspace(0, len(found) - 1, min(_KEPT, len(found))).round().astype(np.int64)
    taken: NDArray[np.uint8] = found[chosen]
    return (
        taken
        if levels == 256
        else (taken.astype(np.float64) * (255.0 / (levels - 1))).round().astype(np.uint8)
    )


def _averaged(images: NDArray[np.uint8], factor: int, size: int) -> NDArray[np.uint8]:
    """Means of ``factor`` x ``factor`` pixels of the centre, rounded to 8 bits."""
    height, width = images.shape[2:]
    top, left = (height - size * factor) // 2, (width - size * factor) // 2
    centre = images[:, :, top : top + size * factor, left : left + size * factor]
    cells = centre.reshape(*centre.shape[:2], size, factor, size, factor)
    means: NDArray[np.uint8] = cells.mean(axis=(3, 5), dtype=np.float64).round().astype(np.uint8)
    return means
