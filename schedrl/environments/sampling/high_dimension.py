"""Mixtures and Curie-Weiss magnets as sampling problems: the error is in the balance of the modes and their width."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from schedrl.environments.sampling.batches import State
from schedrl.environments.sampling.references import Scales
from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.curie_weiss import CurieWeiss, strata_outcome, strata_start, strata_step
from schedrl.sources.mixture import (
    majority_fraction,
    majority_of_grids,
    mixture_step,
    perpendicular_gain,
    quantile_start,
)

__all__ = ["CurieWeissBatch", "MixtureBatch"]

_LARGEST_ANGLE = 0.5 * np.pi

_SMALLEST = 1e-300
"""Below it a variance counts as this, so that its logarithm is a number."""


class MixtureBatch:
    """Two-mode Gaussian mixtures in any dimension; the state is (the projection's quantiles, the width across).

    Args:
        dimension: d, ``[B]``.
        majority: Weight p of the larger mode, ``[B]``, in (½, 1).
        variance: σ² within a mode, ``[B]``.
        quantiles: Starting points of the projection on the modes' axis.
    """

    def __init__(
        self, dimension: FloatArray, majority: FloatArray, variance: FloatArray, quantiles: int
    ) -> None:
        self.dimension, self.majority, self.variance = (np.array(x) for x in (dimension, majority, variance))
        self.quantiles = quantiles

    @property
    def scales(self) -> Scales:
        """σ and √d."""
        return Scales(np.sqrt(self.variance), np.sqrt(self.dimension))

    def assign_values(
        self, rows: NDArray[np.int64], dimension: FloatArray, majority: FloatArray, variance: FloatArray
    ) -> None:
        """Put new mixtures into some rows."""
        self.dimension[rows], self.majority[rows], self.variance[rows] = dimension, majority, variance

    def take(self, rows: NDArray[np.int64]) -> MixtureBatch:
        """The sources of some rows."""
        return MixtureBatch(self.dimension[rows], self.majority[rows], self.variance[rows], self.quantiles)

    def geodesic_angles(self) -> FloatArray:
        """There is none.

        Raises:
            SchedrlError: Always.
        """
        raise SchedrlError("action.reference: 'geodesic' is for Gaussian sources")

    def start(self, rows: NDArray[np.int64]) -> State:
        """Pure noise: quantiles of N(0, 1/d) on the axis, variance 1 across."""
        return _rows_last(quantile_start(self.quantiles, self.dimension[rows, None])), np.ones(len(rows))

    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """One exact DDIM step (THEORY 5)."""
        projection = mixture_step(
            state[0].T,
            sigma[:, None],
            sigma_next[:, None],
            self.dimension[:, None],
            self.majority[:, None],
            self.variance[:, None],
        )
        return _rows_last(projection), state[1] * perpendicular_gain(sigma, sigma_next, self.variance)

    def deviation(self, state: State, other: State) -> FloatArray:
        """Root mean square distance of the projections, on the scale of their spread, and log ratio of the widths."""
        spread = np.sqrt(np.square(other[0]).mean(axis=0))
        apart = np.sqrt(np.square(state[0] - other[0]).mean(axis=0)) / spread
        width, wanted = (np.log(np.maximum(part, _SMALLEST)) for part in (state[1], other[1]))
        return np.asarray(apart + np.abs(width - wanted))

    def error(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> FloatArray:
        """|p̂ − p| / min(p, 1 − p) + |v/σ² − 1|: both relative, so that either feature lost costs about 1."""
        found = self.parts(state, sigma, grids)
        return _combined(found["majority"], self.majority, found["within_variance"], self.variance)

    def parts(
        self, state: State, sigma: FloatArray, grids: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """p̂ and the variance within a mode, across the axis; p̂ to 1/quantiles where the grids are not given."""
        if grids is None:
            majority = majority_fraction(state[0].T)
        else:
            majority = majority_of_grids(grids, self.dimension, self.majority, self.variance)
        return {"majority": majority, "within_variance": state[1]}

    def write_features(self, state: State, sigma: FloatArray, out: NDArray[np.float32]) -> None:
        """Write everything that can be seen into ``out``, ``[entries, B]``.

        ``log_dimension`` ln d / 10; ``majority`` p; ``log_variance`` ln σ² / 5; ``log_sigma`` ln r / 5; the angles
        atan(r/σ) and atan(r/√d) in units of π/2; ``width`` log of the variance across over that of the exact marginal;
        ``balance`` logit of the share of trajectories that lean to the majority, less that of p.
        """
        cosine2 = 1.0 / (1.0 + sigma**2)
        marginal = cosine2 * self.variance + (1.0 - cosine2)
        out[:] = (
            0.1 * np.log(self.dimension),
            self.majority,
            0.2 * np.log(self.variance),
            *_places(sigma, self.scales),
            np.log(state[1] / marginal),
            _balance(majority_fraction(state[0].T), self.majority),
        )

    def targets(self) -> dict[str, FloatArray]:
        """What the parts of the error should be, each ``[B]``."""
        return {"majority": self.majority, "within_variance": self.variance}

    def parameters(self) -> dict[str, FloatArray]:
        """d, p and σ²."""
        return {"dimension": self.dimension, "majority": self.majority, "variance": self.variance}


class CurieWeissBatch:
    """Curie-Weiss magnets; the state is strata of spins' values in a few stratified samples.

    Args:
        dimension: d, ``[B]``.
        inverse_temperature: β, ``[B]``, above 1.
        majority: p, by which the field is set, ``[B]``.
        samples: Stratified samples.
        strata: Points that the spins of a sample are stood for by.
    """

    def __init__(
        self,
        dimension: FloatArray,
        inverse_temperature: FloatArray,
        majority: FloatArray,
        samples: int,
        strata: int,
    ) -> None:
        self.dimension, self.beta, self.majority = (
            np.array(x) for x in (dimension, inverse_temperature, majority)
        )
        self.samples, self.strata = samples, strata
        rows = len(self.dimension)
        self._share, self._variance = np.ones(rows), np.ones(rows)
        self._prepare(np.arange(rows))

    @property
    def scales(self) -> Scales:
        """Standard deviation of a spin within a mode, and √d."""
        return Scales(np.sqrt(self._variance), np.sqrt(self.dimension))

    def assign_values(
        self, rows: NDArray[np.int64], dimension: FloatArray, beta: FloatArray, majority: FloatArray
    ) -> None:
        """Put new magnets into some rows."""
        self.dimension[rows], self.beta[rows], self.majority[rows] = dimension, beta, majority
        self._prepare(rows)

    def take(self, rows: NDArray[np.int64]) -> CurieWeissBatch:
        """The sources of some rows."""
        return CurieWeissBatch(
            self.dimension[rows], self.beta[rows], self.majority[rows], self.samples, self.strata
        )

    def geodesic_angles(self) -> FloatArray:
        """There is none.

        Raises:
            SchedrlError: Always.
        """
        raise SchedrlError("action.reference: 'geodesic' is for Gaussian sources")

    def start(self, rows: NDArray[np.int64]) -> State:
        """Pure noise."""
        return (_rows_last(strata_start(self.samples, self.strata, self.dimension[rows, None, None])),)

    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """One DDIM step with the two-saddle denoiser (THEORY 6)."""
        wide: list[Any] = [
            x[:, None, None] for x in (sigma, sigma_next, self.dimension, self.beta, self.majority)
        ]
        return (_rows_last(strata_step(_rows_first(state[0]), *wide)),)

    def deviation(self, state: State, other: State) -> FloatArray:
        """Root mean square distance of the spins, on the scale of their spread."""
        apart = np.square(state[0] - other[0]).mean(axis=(0, 1))
        return np.asarray(np.sqrt(apart / np.square(other[0]).mean(axis=(0, 1))))

    def error(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> FloatArray:
        """As for a mixture, against P(M > 0) and the variance 1 − m*² of a spin within a mode."""
        share, variance = strata_outcome(_rows_first(state[0]))
        return _combined(share, self._share, variance, self._variance)

    def parts(
        self, state: State, sigma: FloatArray, grids: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """p̂ and the variance of coordinates within a sample."""
        share, variance = strata_outcome(_rows_first(state[0]))
        return {"majority": share, "within_variance": variance}

    def write_features(self, state: State, sigma: FloatArray, out: NDArray[np.float32]) -> None:
        """As for a mixture, with β/2 among the parameters."""
        share, variance = strata_outcome(_rows_first(state[0]))
        cosine2 = 1.0 / (1.0 + sigma**2)
        marginal = cosine2 * self._variance + (1.0 - cosine2)
        out[:] = (
            0.1 * np.log(self.dimension),
            0.5 * self.beta,
            self._share,
            *_places(sigma, self.scales),
            np.log(np.maximum(variance, 1e-12) / marginal),
            _balance(share, self._share),
        )

    def targets(self) -> dict[str, FloatArray]:
        """What the parts of the error should be, each ``[B]``."""
        return {"majority": self._share, "within_variance": self._variance}

    def parameters(self) -> dict[str, FloatArray]:
        """d, β and p."""
        return {"dimension": self.dimension, "inverse_temperature": self.beta, "majority": self.majority}

    def _prepare(self, rows: NDArray[np.int64]) -> None:
        for row in rows.tolist():
            source = CurieWeiss(
                dimension=round(float(self.dimension[row])),
                beta=float(self.beta[row]),
                majority=float(self.majority[row]),
            )
            self._variance[row] = 1.0 - source.magnetisation**2
            self._share[row] = source.positive_probability


def _combined(share: FloatArray, wanted: FloatArray, variance: FloatArray, target: FloatArray) -> FloatArray:
    balance = np.abs(share - wanted) / np.minimum(wanted, 1.0 - wanted)
    return np.asarray(balance + np.abs(variance / target - 1.0))


def _places(sigma: FloatArray, scales: Scales) -> tuple[FloatArray, FloatArray, FloatArray]:
    with np.errstate(divide="ignore"):
        log_sigma = 0.2 * np.log(sigma)
    near, far = (np.arctan(sigma / scale) / _LARGEST_ANGLE for scale in (scales.near, scales.far))
    return log_sigma, near, far


def _balance(share: FloatArray, wanted: FloatArray) -> FloatArray:
    """Difference of the two on the scale of a standard normal quantile, finite at shares of 0 and 1."""
    return np.asarray(ndtri(np.clip(share, 1e-6, 1.0 - 1e-6)) - ndtri(wanted))


def _rows_last(values: FloatArray) -> FloatArray:
    # Contiguous, whatever made it: sums over another layout round differently.
    return np.ascontiguousarray(np.moveaxis(values, 0, -1))


def _rows_first(strata: FloatArray) -> FloatArray:
    return np.moveaxis(strata, -1, 0)
