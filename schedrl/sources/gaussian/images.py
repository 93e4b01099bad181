"""The spectrum of a set of images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count

__all__ = ["image_eigenvalues"]


def image_eigenvalues(images: npt.ArrayLike, floor: float, max_images: int | None = None) -> FloatArray:
    r"""Eigenvalues of the sample covariance of images.

    Eigenvalues below ``floor**2`` are left out: along these directions the data vary less than the noise of a model's
    last level, no sampler has to resolve them, and a single one near 0 would rule :math:`\gamma^*` and the forward
    divergence (THEORY 3.8). Fewer images than pixels are no problem: the Gram matrix has the same eigenvalues.

    Args:
        images: ``[n, ...]``, at least 2; pixels in [-1, 1], though any finite scale will do.
        floor: Least standard deviation kept, in [1e-6, 1e6].
        max_images: Use at most so many, equally spaced in the set; None uses all.

    Returns:
        ``[E]``, descending.

    Raises:
        SchedrlError: Too few images, a value that is not finite, or none varies by ``floor``.

    Examples:
        >>> image_eigenvalues(np.array([[1.0, 0.0], [-1.0, 0.0]]), floor=0.01)
        array([2.])
    """
    if not 1e-6 <= floor <= 1e6:
        raise SchedrlError(f"field 'floor': must be a standard deviation between 1e-6 and 1e6 (got {floor})")
    pixels = np.asarray(images)
    if pixels.ndim < 2 or len(pixels) < 2 or pixels[0].size == 0:
        raise SchedrlError(
            f"field 'images': must be at least two images, [n, ...] (got shape {list(pixels.shape)})"
        )
    if max_images is not None and len(pixels) > as_count("max_images", max_images, minimum=2):
        pixels = pixels[np.linspace(0, len(pixels) - 1, max_images).round().astype(np.int64)]
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    finite = np.isfinite(flat)
    if not finite.all():
        image, pixel = (int(place) for place in np.argwhere(~finite)[0])
        raise SchedrlError(
            f"field 'images': must be finite, but pixel {pixel} of image {image} is {flat[image, pixel]}"
        )
    flat -= flat.mean(axis=0)
    matrix = flat.T @ flat if len(flat) >= flat.shape[1] else flat @ flat.T
    eigenvalues = np.linalg.eigvalsh(matrix / (len(flat) - 1))[::-1]
    kept = eigenvalues[eigenvalues >= floor * floor]
    if len(kept) == 0:
        raise SchedrlError(
            f"field 'images': must vary by at least floor = {floor} in some direction "
            f"(the largest standard deviation is {np.sqrt(max(eigenvalues[0], 0.0)):.3g})"
        )
    return np.asarray(kept)
