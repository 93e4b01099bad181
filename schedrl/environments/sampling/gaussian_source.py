"""Gaussian sources: with a spectrum drawn anew each episode, or with that of an image set.

The error is the exact Kullback-Leibler divergence in nats.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl import data
from schedrl.data import AnyData
from schedrl.environments.sampling.source_kind import Features, Parts, Rows, SourceBatch, SourceKind, State
from schedrl.schedules.conversions import FloatArray
from schedrl.sources import Gaussian
from schedrl.sources.gaussian.divergences import kl
from schedrl.sources.gaussian.laws import gamma_star, geodesic_sigmas
from schedrl.sources.gaussian.recursions import SamplerName, cosine_sine, transition
from schedrl.sources.gaussian.spectrum_families import AnySpectrumFamily


class _SpectralSource(SourceKind):
    """Common part of the Gaussian sources.

    Attributes:
        quantiles: Points of the spectrum that the agent sees.
    """

    spectral: ClassVar[bool] = True
    has_spectrum: ClassVar[bool] = True

    quantiles: Annotated[int, Field(ge=1, le=64)] = 8

    @property
    def feature_widths(self) -> Features:
        k = self.quantiles
        return ("spectrum", k), ("angle", k), ("deficit", k), ("speed", 1), ("ahead", 1)


class GaussianSource(_SpectralSource):
    """A Gaussian with a spectrum drawn anew each episode.

    Attributes:
        spectrum: The family it is drawn from.
    """

    kind: Literal["gaussian"] = "gaussian"
    spectrum: AnySpectrumFamily

    @property
    def num_uniforms(self) -> int:
        return self.spectrum.num_uniforms

    def batch(self, count: int, sampler: SamplerName) -> GaussianBatch:
        shown = self.spectrum.draw(np.full((1, self.num_uniforms), 0.5))
        eigenvalues, weights = (np.repeat(part, count, axis=0) for part in shown)
        # A family without random numbers has one spectrum.
        return GaussianBatch(eigenvalues, weights, sampler, self.quantiles, shared=self.num_uniforms == 0)

    def assign(self, batch: Any, rows: Rows, uniforms: FloatArray) -> None:
        batch.assign(rows, *self.spectrum.draw(uniforms))


class ImageSource(_SpectralSource):
    """The Gaussian with the spectrum of an image set's training images, the same in every episode.

    Attributes:
        data: The image set.
        floor: Smallest standard deviation kept: smaller ones are noise to a model whose last level is this.
    """

    kind: Literal["images"] = "images"
    data: AnyData
    floor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02

    @property
    def title(self) -> str:
        return self.data.name

    @property
    def image_sets(self) -> tuple[AnyData, ...]:
        return (self.data,)

    @property
    def num_uniforms(self) -> int:
        return 0

    def batch(self, count: int, sampler: SamplerName) -> GaussianBatch:
        eigenvalues = np.tile(image_spectrum(self.data, self.floor), (count, 1))
        return GaussianBatch(eigenvalues, np.ones_like(eigenvalues), sampler, self.quantiles, shared=True)

    def assign(self, batch: Any, rows: Rows, uniforms: FloatArray) -> None:
        """Keep the spectrum: it is the same in every episode."""


@cache
def image_spectrum(images: AnyData, floor: float) -> FloatArray:
    """Eigenvalues of the training images' covariance, floored, descending. Computed once in a process.

    Raises:
        SchedrlError: The images are missing.
    """
    return np.array(Gaussian.from_images(data.load(images).train, floor=floor).eigenvalues)


_SMALLEST, _SMALLEST_SEEN = 1e-300, 1e-30
"""Smaller variances count as this, so that their logarithms are finite: exactly, and in observations."""


class GaussianBatch(SourceBatch):
    """Spectra of covariances, one per row; the state is the variance along every eigenvector in VP x-space.

    Inside, rows are the last axis, so that inner loops are long; that is three times as fast.

    Args:
        eigenvalues: ``[B, E]``, positive, descending.
        weights: ``[B, E]``, multiplicity of each; 0 pads rows with fewer eigenvalues, at the end.
        sampler: The sampler.
        quantiles: Points of the spectrum that the agent sees.
        shared: All sources have one spectrum; the geodesic is then that of all eigenvalues, not of the quantiles.
    """

    knows_optimum: ClassVar[bool] = True
    parameter_names: ClassVar[tuple[str, ...]] = ("eigenvalues", "weights")
    by_row: ClassVar[tuple[str, ...]] = (
        "_spectra", "_weights", "_seen", "_root", "_shown_spectrum", "_low", "_share",
    )  # fmt: skip

    def __init__(
        self,
        eigenvalues: FloatArray,
        weights: FloatArray,
        sampler: SamplerName,
        quantiles: int = 8,
        *,
        shared: bool = False,
    ) -> None:
        self.sampler, self.quantiles, self._shared = sampler, quantiles, shared
        rows = len(eigenvalues)
        self._spectra = np.ascontiguousarray(eigenvalues.T)
        self._weights = np.ascontiguousarray(weights.T)
        self.near, self.far = np.ones(rows), np.ones(rows)
        self._seen = np.ones((quantiles, rows))
        self._root = np.ones((quantiles, rows), dtype=np.float32)
        self._shown_spectrum = np.zeros((quantiles, rows), dtype=np.float32)
        self._low = np.zeros((quantiles, rows), dtype=np.int64)
        self._share = np.zeros((quantiles, rows))
        # If every row has as many eigenvalues as the agent sees, the quantiles are the eigenvalues.
        self._complete = len(self._spectra) == quantiles and bool(weights.all())
        self._geodesic: FloatArray | None = None
        self._prepare(np.arange(rows))

    @property
    def eigenvalues(self) -> FloatArray:
        """``[B, E]``."""
        return self._spectra.T

    @property
    def weights(self) -> FloatArray:
        """``[B, E]``."""
        return self._weights.T

    def assign(self, rows: Rows, eigenvalues: FloatArray, weights: FloatArray) -> None:
        self._spectra[:, rows], self._weights[:, rows] = eigenvalues.T, weights.T
        if self._complete and not weights.all():
            self._complete = False
            rows = np.arange(self._spectra.shape[1])
        self._prepare(rows)

    @property
    def gaussian(self) -> GaussianBatch:
        return self

    def take(self, rows: Rows) -> Self:
        taken = super().take(rows)
        taken._geodesic = None if self._geodesic is None else self._geodesic[:, rows]
        return taken

    def geodesic_angles(self) -> FloatArray:
        """Angles along the geodesic of the quantiles; tabulated at the first call, then with every new spectrum."""
        if self._geodesic is None:
            self._geodesic = np.zeros((_PLACES + 1, self._spectra.shape[1]))
            self._tabulate(np.arange(self._spectra.shape[1]))
        return self._geodesic

    def start(self, rows: Rows) -> State:
        """Variance 1: samplers start from N(0, I) at any first level."""
        return (np.ones((len(self._spectra), len(rows))),)

    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """The exact variance recursion (THEORY 2.1, 2.3, 2.5)."""
        gain, noise = transition(self._spectra, sigma, sigma_next, self.sampler)
        gain *= state[0]
        if noise is not None:
            gain += noise
        return (gain,)

    def deviation(self, state: State, other: State) -> FloatArray:
        """Sum over the spectrum of the absolute difference in log variance."""
        apart = np.log(np.maximum(state[0], _SMALLEST)) - np.log(np.maximum(other[0], _SMALLEST))
        return np.asarray((self._weights * np.abs(apart)).sum(axis=0))

    def error(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> FloatArray:
        """Divergence of the sampler's output from the source, in nats; exact from the state alone."""
        return kl(_ratio(state[0], self._spectra, sigma).T, weights=self.weights)

    def parts(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> Parts:
        """Divergence of the output from the source, ``kl``, and of the source from the output."""
        ratio = _ratio(state[0], self._spectra, sigma).T
        return {
            "kl": kl(ratio, weights=self.weights),
            "reverse_kl": kl(ratio, direction="reverse", weights=self.weights),
        }

    def write_features(self, state: State, sigma: FloatArray, out: NDArray[np.float32]) -> None:
        """Write the features ``[entries, B]``.

        ``spectrum`` log(λ/γ*²)/4; ``angle`` φ = atan(σ/√λ) in units of π/2; ``deficit`` log of the variance over that
        of the exact marginal; ``speed`` log of the metric dφ/dθ here, with θ = atan(σ/γ*), and ``ahead`` the log of its
        root mean square over the remaining path. Both are averaged over the spectrum with the expected final errors as
        weights (THEORY 3.4; the closed form of the path is that of 3.3).
        """
        seen = self._seen_variance(state[0])
        # In blocks whose temporaries stay in the cache.
        for begin in range(0, len(sigma), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            self._write_block(out[:, part], part, seen[:, part], sigma[part])

    def _write_block(
        self, shown: NDArray[np.float32], part: slice, variance: FloatArray, sigma: FloatArray
    ) -> None:
        near, root = self.near[part], self._root[:, part]
        ratio = sigma / near
        theta = np.arctan(ratio)
        cosine, sine = (part.astype(np.float32) for part in cosine_sine(ratio))
        # Single precision from here: it is what an observation has, and half the time.
        kept = _ratio(variance, self._seen[:, part], sigma)
        deficit = np.log(np.maximum(kept, _SMALLEST_SEEN, dtype=np.float32))
        scaled = root / near.astype(np.float32)
        angle = fast_angle(np.multiply(cosine, scaled, dtype=np.float32), sine)
        marginal = np.square(scaled * cosine)
        marginal += sine * sine
        speed = scaled / marginal
        weight = np.square(angle)
        weight -= deficit  # the error so far, where variance was lost, and the error still to come
        np.maximum(weight, np.float32(1e-6), out=weight)
        total = weight.sum(axis=0)
        # sin 2φ / 4 = √λ σ / 2(λ + σ²), which is (√λ/γ) sin θ cos θ / 2 over the marginal.
        twice = speed * (0.5 * sine * cosine)
        half = 0.5 * angle
        path = (half + twice) / scaled
        path += (half - twice) * scaled
        path *= weight
        weight *= np.square(speed)
        shown[: self.quantiles] = self._shown_spectrum[:, part]
        np.multiply(angle, np.float32(2.0 / np.pi), out=shown[self.quantiles : 2 * self.quantiles])
        shown[2 * self.quantiles : -2] = deficit
        shown[-2] = 0.5 * np.log(weight.sum(axis=0) / total)
        # At data the path ends, and the metric ahead is the metric there.
        moving = theta > 0.0
        mean_path = path.sum(axis=0) / (total * np.where(moving, theta, 1.0))
        shown[-1] = np.where(moving, 0.5 * np.log(np.where(moving, mean_path, 1.0)), shown[-2])

    def targets(self) -> Parts:
        none = np.zeros(self._spectra.shape[1])
        return {"kl": none, "reverse_kl": none}

    def _prepare(self, rows: Rows) -> None:
        spectra, weights = self._spectra[:, rows], self._weights[:, rows]
        near = gamma_star(spectra.T, weights.T)
        self.near[rows] = near
        self.far[rows] = np.sqrt(spectra[0])
        if self._complete:
            self._show(rows, spectra, near)
            return
        # Quantiles of the spectrum, at equally spaced places among the eigenvalues with a weight.
        count = (weights > 0.0).sum(axis=0)
        at = (np.arange(self.quantiles)[:, None] + 0.5) / self.quantiles * count - 0.5
        at = np.clip(at, 0.0, count - 1.0)
        low = np.floor(at).astype(np.int64)
        share = at - low
        logs = np.log(spectra)
        lower = np.take_along_axis(logs, low, axis=0)
        upper = np.take_along_axis(logs, np.minimum(low + 1, count - 1), axis=0)
        seen = lower + share * (upper - lower)
        self._low[:, rows], self._share[:, rows] = low, share
        self._show(rows, np.exp(seen), near)

    def _show(self, rows: Rows, seen: FloatArray, near: FloatArray) -> None:
        self._seen[:, rows], self._root[:, rows] = seen, np.sqrt(seen)
        self._shown_spectrum[:, rows] = 0.25 * np.log(seen / (near * near))
        if self._geodesic is not None:
            self._tabulate(rows)

    def _tabulate(self, rows: Rows) -> None:
        assert self._geodesic is not None
        # Runs that are seeded alike share a source.
        shown, places = np.unique(self._seen[:, rows], axis=1, return_inverse=True)
        # It must not matter whether the rows happen to be alike: a grid does not depend on the other rows.
        if self._shared:
            sigmas = geodesic_sigmas(self.eigenvalues[rows[:1]], _PLACES, weights=self.weights[rows[:1]])
        else:
            sigmas = geodesic_sigmas(shown.T, _PLACES)
        self._geodesic[:, rows] = np.arctan(sigmas[places.ravel(), ::-1].T / self.near[rows])

    def _seen_variance(self, variance: FloatArray) -> FloatArray:
        if self._complete:
            return variance
        high = np.minimum(self._low + 1, len(variance) - 1)
        low = np.take_along_axis(variance, self._low, axis=0)
        return low + self._share * (np.take_along_axis(variance, high, axis=0) - low)


_BLOCK = 1024
"""Environments whose features are computed together."""

_PLACES = 256
"""Intervals of a tabulated geodesic."""

_ARCTAN = (0.0028662257, -0.0161657367, 0.0429096138, -0.0752896400, 0.1065626393, -0.1420889944, 0.1999355085,
           -0.3333314528)  # fmt: skip
"""Abramowitz & Stegun 4.4.49: arctan t = t (1 + t² (…)) to 2e-8 on [−1, 1], highest power first."""


def fast_angle(cosine: NDArray[np.float32], sine: NDArray[np.float32]) -> NDArray[np.float32]:
    """atan(sine / cosine) of non-negative numbers not both 0, to single precision; NumPy's takes six times as long."""
    ratio = (sine - cosine) / (sine + cosine)
    square = np.square(ratio)
    series = np.full_like(square, _ARCTAN[0])
    for coefficient in _ARCTAN[1:]:
        series *= square
        series += np.float32(coefficient)
    series *= square
    series += np.float32(1.0)
    series *= ratio
    series += np.float32(0.25 * np.pi)
    return series


def _ratio(variance: FloatArray, eigenvalues: FloatArray, sigma: FloatArray) -> FloatArray:
    """Variance over that of the exact marginal at level ``sigma``."""
    if not sigma.any():
        return variance / eigenvalues
    cosine2 = 1.0 / (1.0 + np.square(sigma))
    marginal = cosine2 * eigenvalues
    marginal += 1.0 - cosine2
    return variance / marginal
