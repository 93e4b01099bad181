"""The spectrum of images: of an array at once, or of a stream of any length in blocks.

These are two estimators of the same covariance. :func:`image_eigenvalues` diagonalises the Gram matrix of an array that
fits into memory; recorded results of the environments depend on its last bits. :class:`SpectrumMeter` sums in blocks,
knows only some of the covariance of large images, and also measures how Gaussian the images are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count

_FULL = 3072
"""Directions with a full covariance: 32 x 32 in colour. 75 MB, and seconds to diagonalise."""

_FIRST = 512
"""Number of images that decide which cosine coefficients those are, where an image has more numbers."""

_KEPT = 2048
"""Images that are kept in these coordinates for higher moments."""

_PROBED = 64
"""Principal directions whose kurtosis is measured; as many other coefficients are tested for correlation."""


def image_eigenvalues(images: npt.ArrayLike, floor: float, max_images: int | None = None) -> FloatArray:
    r"""Eigenvalues of the sample covariance of images.

    Eigenvalues below ``floor**2`` are left out. Along these directions the data vary less than the noise of a model's
    last level, so no sampler has to resolve them, and a single one near 0 would dominate :math:`\gamma^*` and the
    forward divergence (THEORY 3.8). Fewer images than pixels are no problem: the Gram matrix has the same eigenvalues.

    Args:
        images: ``[n, ...]``, at least 2; pixels in [-1, 1], though any finite scale will do.
        floor: Smallest standard deviation kept, in [1e-6, 1e6].
        max_images: Use at most this many, equally spaced in the set; None uses all.

    Returns:
        ``[E]``, descending.

    Examples:
        >>> image_eigenvalues(np.array([[1.0, 0.0], [-1.0, 0.0]]), floor=0.01)
        array([2.])
    """
    _check_floor(floor)
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
    return _above_floor(
        np.asarray(np.linalg.eigvalsh(matrix / (len(flat) - 1))[::-1], dtype=np.float64), floor
    )


@dataclass(frozen=True)
class SpectrumMeasurement:
    """The spectrum of images, and how well a Gaussian describes them.

    Attributes:
        eigenvalues: [E] of the covariance that reach the floor squared, descending.
        count: Number of images.
        dimension: Numbers in an image.
        floor: Smallest standard deviation kept.
        below_floor: Share of the variance in the directions left out.
        approximate: Share of the variance in cosine coefficients that are taken to be uncorrelated; 0 where the whole
            covariance was diagonalised.
        residual_correlation: Root mean square correlation of some of these coefficients with the others, beyond what
            this number of images shows by chance.
        kurtosis: [P] of the images along principal directions spread over the spectrum, first to last; 3 for a
            Gaussian.
        mean_squares: [E] squared mean along the direction of each eigenvalue; empty where it was not measured.
    """

    eigenvalues: FloatArray
    count: int
    dimension: int
    floor: float
    below_floor: float
    approximate: float
    residual_correlation: float
    kurtosis: FloatArray
    mean_squares: FloatArray = field(default_factory=lambda: np.zeros(0))


class SpectrumMeter:
    """Covariance of a stream of images, in float64.

    An image of more than ``full`` numbers is turned into its cosine coefficients (orthonormal over channels, rows and
    columns, so that nothing is lost). The ``full`` strongest keep their whole covariance; the others, mostly high
    frequencies, count with their variance alone. The eigenvalues then have the right sum, and the measurement gives
    the share of the variance in these coefficients and how correlated they are.

    Args:
        shape: Channels, height and width.
        full: Directions with a whole covariance.

    Examples:
        >>> meter = SpectrumMeter((1, 1, 2))
        >>> meter.update(np.array([[[[1.0, 0.0]]], [[[-1.0, 0.0]]]]))
        >>> meter.measure(floor=0.01).eigenvalues
        array([2.])
    """

    def __init__(self, shape: tuple[int, int, int], full: int = _FULL) -> None:
        self.shape, self.dimension = shape, int(np.prod(shape))
        self._full = min(full, self.dimension)
        self._waiting: list[FloatArray] = []
        self.count = 0
        self._order: npt.NDArray[np.int64] | None = None
        self._rows: list[npt.NDArray[np.float32]] = []
        self._stride = 1

    def update(self, images: npt.ArrayLike) -> None:
        """Add a block of images, ``[b, C, H, W]`` in [−1, 1]."""
        block = np.asarray(images, dtype=np.float64)
        if block.shape[1:] != self.shape:
            raise SchedrlError(
                f"field 'images': must have the shape {list(self.shape)} (got {list(block.shape[1:])})"
            )
        if not np.isfinite(block).all():
            raise SchedrlError("field 'images': must be finite")
        if self.dimension > self._full:
            from scipy.fft import dctn

            block = dctn(block, axes=(1, 2, 3), norm="ortho")
        block = block.reshape(len(block), -1)
        if self._order is None:
            self._waiting.append(block)
            if sum(map(len, self._waiting)) >= _FIRST:
                self._begin()
        else:
            self._add(block)

    def measure(self, floor: float) -> SpectrumMeasurement:
        """The spectrum of the images so far; more may follow.

        Args:
            floor: Smallest standard deviation kept, in [1e-6, 1e6].
        """
        _check_floor(floor)
        if self._order is None and self._waiting:
            self._begin()
        if self.count < 2:
            raise SchedrlError(f"field 'images': must be at least two (got {self.count})")
        mean = self._sum / self.count
        head = self._products - self.count * np.outer(mean[: self._full], mean[: self._full])
        values, vectors = np.linalg.eigh(head / (self.count - 1))
        tail = (self._squares - self.count * mean[self._full :] ** 2) / (self.count - 1)
        total = max(float(values.sum() + tail.sum()), np.finfo(np.float64).tiny)
        all_values, true_mean = np.concatenate([values, tail]), mean + self._shift
        order = np.argsort(all_values)[::-1]
        kept = _above_floor(all_values[order], floor)
        along_all = np.concatenate([vectors.T @ true_mean[: self._full], true_mean[self._full :]])
        stride = 2 if sum(map(len, self._rows)) > _KEPT else 1
        rows = np.concatenate(self._rows)[::stride]
        along = rows[:, : self._full].astype(np.float64) - mean[: self._full]
        return SpectrumMeasurement(
            eigenvalues=kept,
            count=self.count,
            dimension=self.dimension,
            floor=floor,
            below_floor=max(0.0, 1.0 - float(kept.sum()) / total),
            approximate=float(tail.sum()) / total,
            residual_correlation=self._residual(rows),
            kurtosis=_kurtosis(along, values, vectors, floor),
            mean_squares=np.square(along_all[order[: len(kept)]]),
        )

    def _begin(self) -> None:
        """Choose the coordinates, by the variance of the first images."""
        first = np.concatenate(self._waiting)
        self._waiting = []
        strongest = np.argsort(-first.var(axis=0), kind="stable")
        self._order = np.concatenate([np.sort(strongest[: self._full]), np.sort(strongest[self._full :])])
        others = self.dimension - self._full
        self._probes = np.unique(
            np.linspace(0, max(others - 1, 0), min(others, _PROBED)).round().astype(np.int64)
        )
        # About the first images' mean, so that nothing large cancels in the end.
        self._shift = first.mean(axis=0)[self._order]
        self._sum = np.zeros(self.dimension)
        self._squares = np.zeros(others)
        self._products = np.zeros((self._full, self._full))
        for begin in range(0, len(first), 256):
            self._add(first[begin : begin + 256])

    def _add(self, block: FloatArray) -> None:
        centred = block[:, self._order] - self._shift
        head, tail = np.ascontiguousarray(centred[:, : self._full]), centred[:, self._full :]
        self._sum += centred.sum(axis=0)
        self._squares += np.square(tail).sum(axis=0)
        self._products += head.T @ head
        # Every stride-th image of all; the stride doubles whenever they become too many.
        wanted = np.arange(self.count, self.count + len(block)) % self._stride == 0
        self._rows.append(np.hstack([head[wanted], tail[wanted][:, self._probes]]).astype(np.float32))
        self.count += len(block)
        if sum(map(len, self._rows)) > 2 * _KEPT:
            self._rows = [np.concatenate(self._rows)[::2]]
            self._stride *= 2

    def _residual(self, rows: npt.NDArray[np.float32]) -> float:
        """Correlation of the probed coefficients with those whose covariance is kept, less that of pure chance."""
        if self.dimension == self._full or len(rows) < 3:
            return 0.0
        scaled = rows - rows.mean(axis=0)
        scaled /= np.maximum(np.sqrt(np.square(scaled).sum(axis=0)), np.finfo(np.float32).tiny)
        correlations = scaled[:, self._full :].T @ scaled[:, : self._full]
        return float(np.sqrt(max(0.0, float(np.square(correlations).mean()) - 1.0 / (len(rows) - 1))))


def _check_floor(floor: float) -> None:
    if not 1e-6 <= floor <= 1e6:
        raise SchedrlError(f"field 'floor': must be a standard deviation between 1e-6 and 1e6 (got {floor})")


def _above_floor(eigenvalues: FloatArray, floor: float) -> FloatArray:
    """Those of the descending eigenvalues that reach the floor squared; none is an error."""
    kept = eigenvalues[eigenvalues >= floor * floor]
    if len(kept) == 0:
        raise SchedrlError(
            f"field 'images': must vary by at least floor = {floor} in some direction "
            f"(the largest standard deviation is {np.sqrt(max(eigenvalues[0], 0.0)):.3g}); are they all the same?"
        )
    return np.asarray(kept)


def _kurtosis(rows: FloatArray, values: FloatArray, vectors: FloatArray, floor: float) -> FloatArray:
    """Fourth moment over squared second, along principal directions from the largest to the smallest that counts."""
    order = np.argsort(-values)
    order = order[values[order] >= floor * floor]
    if len(order) == 0:
        return np.zeros(0)
    ranks = np.unique(np.geomspace(1, len(order), min(len(order), _PROBED)).round().astype(np.int64)) - 1
    along = rows @ vectors[:, order[ranks]]
    along -= along.mean(axis=0)
    second = np.square(along).mean(axis=0)
    return np.asarray((along**4).mean(axis=0) / np.maximum(second, np.finfo(np.float64).tiny) ** 2)
