"""The spectrum of any number of images of any size, measured in blocks, and how Gaussian the images are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray

__all__ = ["Measurement", "SpectrumMeter"]

_FULL = 3072
"""Directions whose whole covariance is kept: 32 x 32 in colour. 75 MB, and seconds to diagonalise."""

_FIRST = 512
"""Images that decide which cosine coefficients those are, where an image has more numbers."""

_KEPT = 2048
"""Images that are kept in these coordinates for higher moments."""

_PROBED = 64
"""Principal directions whose kurtosis is measured; as many other coefficients are tested for correlation."""


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        eigenvalues: [E] of the covariance that reach the floor squared, descending.
        count: Number of images.
        dimension: Numbers in an image.
        floor: Least standard deviation kept.
        below_floor: Share of the variance in the directions left out.
        approximate: Share of the variance in cosine coefficients that are taken to be uncorrelated; 0 where the whole
            covariance was diagonalised.
        residual_correlation: Root mean square of the correlations of some of these with the others, beyond what as
            few images show of none.
        kurtosis: [P] of the images along principal directions spread over the spectrum, first to last; 3 for a
            Gaussian.
    """

    eigenvalues: FloatArray
    count: int
    dimension: int
    floor: float
    below_floor: float
    approximate: float
    residual_correlation: float
    kurtosis: FloatArray


class SpectrumMeter:
    """Covariance of a stream of images, in float64.

    An image of more than ``full`` numbers is turned into its cosine coefficients (orthonormal over channels, rows and
    columns, so that nothing is lost). The ``full`` strongest keep their whole covariance; the others, mostly high
    frequencies, count with their variance alone. The eigenvalues then have the right sum, and the measurement says
    what share that concerns and how correlated these coefficients are.

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
        """Take a block.

        Args:
            images: ``[b, C, H, W]``, in [−1, 1].

        Raises:
            SchedrlError: The shape differs, or a value is not finite.
        """
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

    def measure(self, floor: float) -> Measurement:
        """The spectrum of what was taken; more may follow.

        Args:
            floor: Least standard deviation kept, in [1e-6, 1e6].

        Raises:
            SchedrlError: Fewer than two images, or none varies by ``floor``.
        """
        if not 1e-6 <= floor <= 1e6:
            raise SchedrlError(
                f"field 'floor': must be a standard deviation between 1e-6 and 1e6 (got {floor})"
            )
        if self._order is None and self._waiting:
            self._begin()
        if self.count < 2:
            raise SchedrlError(f"field 'images': must be at least two (got {self.count})")
        mean = self._sum / self.count
        head = self._products - self.count * np.outer(mean[: self._full], mean[: self._full])
        values, vectors = np.linalg.eigh(head / (self.count - 1))
        tail = (self._squares - self.count * mean[self._full :] ** 2) / (self.count - 1)
        total = max(float(values.sum() + tail.sum()), np.finfo(np.float64).tiny)
        everything = np.sort(np.concatenate([values, tail]))[::-1]
        kept = everything[everything >= floor * floor]
        if len(kept) == 0:
            raise SchedrlError(
                f"field 'images': must vary by at least floor = {floor} in some direction "
                f"(the largest standard deviation is {np.sqrt(max(everything[0], 0.0)):.3g}); are they all the same?"
            )
        rows = np.concatenate(self._rows)[:: self._stride_left()]
        along = rows[:, : self._full].astype(np.float64) - mean[: self._full]
        return Measurement(
            eigenvalues=kept,
            count=self.count,
            dimension=self.dimension,
            floor=floor,
            below_floor=max(0.0, 1.0 - float(kept.sum()) / total),
            approximate=float(tail.sum()) / total,
            residual_correlation=self._residual(rows),
            kurtosis=_kurtosis(along, values, vectors, floor),
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
        # Every stride-th image of all, the stride doubled whenever they become too many.
        wanted = np.arange(self.count, self.count + len(block)) % self._stride == 0
        self._rows.append(np.hstack([head[wanted], tail[wanted][:, self._probes]]).astype(np.float32))
        self.count += len(block)
        if sum(map(len, self._rows)) > 2 * _KEPT:
            self._rows = [np.concatenate(self._rows)[::2]]
            self._stride *= 2

    def _stride_left(self) -> int:
        return 2 if sum(map(len, self._rows)) > _KEPT else 1

    def _residual(self, rows: npt.NDArray[np.float32]) -> float:
        """Correlation of the probed coefficients with those whose covariance is kept, noise taken off."""
        if self.dimension == self._full or len(rows) < 3:
            return 0.0
        scaled = rows - rows.mean(axis=0)
        scaled /= np.maximum(np.sqrt(np.square(scaled).sum(axis=0)), np.finfo(np.float32).tiny)
        correlations = scaled[:, self._full :].T @ scaled[:, : self._full]
        return float(np.sqrt(max(0.0, float(np.square(correlations).mean()) - 1.0 / (len(rows) - 1))))


def _kurtosis(rows: FloatArray, values: FloatArray, vectors: FloatArray, floor: float) -> FloatArray:
    """Fourth moment over squared second, along principal directions from the largest to the smallest that count."""
    order = np.argsort(-values)
    order = order[values[order] >= floor * floor]
    if len(order) == 0:
        return np.zeros(0)
    ranks = np.unique(np.geomspace(1, len(order), min(len(order), _PROBED)).round().astype(np.int64)) - 1
    along = rows @ vectors[:, order[ranks]]
    along -= along.mean(axis=0)
    second = np.square(along).mean(axis=0)
    return np.asarray((along**4).mean(axis=0) / np.maximum(second, np.finfo(np.float64).tiny) ** 2)
