"""Sources with two modes, Gaussian mixtures and Curie-Weiss magnets, in a dimension drawn anew each episode.

The error is that of the balance of the modes plus that of the variance within a mode.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import ndtri

from schedrl.environments.sampling.rewards import SamplingReward
from schedrl.environments.sampling.source_kind import Features, Parts, Rows, SourceBatch, SourceKind, State
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.curie_weiss import CurieWeiss
from schedrl.sources.curie_weiss_strata import strata_outcome, strata_start, strata_step
from schedrl.sources.gaussian.recursions import SamplerName
from schedrl.sources.mixture import (
    majority_of_grids,
    mixture_step,
    perpendicular_gain,
    quantile_start,
)
from schedrl.sources.scaling import positive_fraction

Span = tuple[float, float]
"""Smallest and largest value; equal for a constant."""

Temperature = Annotated[float, Field(gt=1.0, le=10.0)]
Majority = Annotated[float, Field(gt=0.5, lt=1.0)]
Dimension = Annotated[float, Field(ge=2.0, le=1e12)]

_LEAST_BARRIER = 10.0
"""Smallest height in nats of the barrier between the modes of a magnet, for the saddle points to be accurate."""

_SMALLEST = 1e-300
"""Smaller variances count as this, so that their logarithms are finite."""


class _TwoModeSource(SourceKind):
    """Common part: parameters that are drawn between two ends.

    Attributes:
        spans: Fields with the two ends, and whether they are drawn evenly in the logarithm.
        parameter_features: Names of the parameters in observations.
    """

    spans: ClassVar[dict[str, bool]]
    parameter_features: ClassVar[tuple[str, ...]]

    dimension: tuple[Dimension, Dimension]

    @property
    def dimensions(self) -> Span:
        return self.dimension

    @model_validator(mode="after")
    def _ordered(self) -> _TwoModeSource:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name}: the least value comes first (got {list(value)})")
        return self

    @property
    def num_uniforms(self) -> int:
        return len(self.spans)

    @property
    def feature_widths(self) -> Features:
        state = ("log_sigma", "near_angle", "far_angle", "width", "balance")
        return tuple((name, 1) for name in (*self.parameter_features, *state))

    def check(self, sampler: SamplerName, reward: SamplingReward, first_sigma: float) -> None:
        if sampler != "ddim":
            raise ValueError(f"sampler: a source of kind '{self.kind}' needs 'ddim' (got '{sampler}')")
        if np.isfinite(first_sigma):
            raise ValueError(f"action.reference: must start at infinity for a source of kind '{self.kind}'")

    def assign(self, batch: Any, rows: Rows, uniforms: FloatArray) -> None:
        drawn = []
        for (name, log), u in zip(self.spans.items(), uniforms.T, strict=True):
            low, high = getattr(self, name)
            if low == high:
                drawn.append(np.full(u.shape, low))
            elif log:
                drawn.append(np.exp(np.log(low) + u * np.log(high / low)))
            else:
                drawn.append(low + u * (high - low))
        batch.assign(rows, *drawn)

    def _lowest(self, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Parameters of a batch that is not filled yet."""
        first, second, third = (np.full(count, getattr(self, name)[0]) for name in self.spans)
        return first, second, third


class MixtureSource(_TwoModeSource):
    """A two-mode Gaussian mixture in a dimension drawn log-uniformly.

    Attributes:
        dimension: d, smallest and largest.
        majority: Weight p of the larger mode.
        variance: σ² within a mode.
        quantiles: Starting points of the projection on the axis through the modes.
    """

    spans: ClassVar[dict[str, bool]] = {"dimension": True, "majority": False, "variance": True}
    parameter_features: ClassVar[tuple[str, ...]] = ("log_dimension", "majority", "log_variance")

    kind: Literal["mixture"] = "mixture"
    dimension: tuple[Dimension, Dimension] = (1e2, 1e10)
    majority: tuple[Majority, Majority] = (0.8, 0.8)
    variance: tuple[Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)]] = (0.25, 0.25)
    quantiles: Annotated[int, Field(ge=8, le=4096)] = 256

    def batch(self, count: int, sampler: SamplerName) -> MixtureBatch:
        return MixtureBatch(*self._lowest(count), self.quantiles)


class CurieWeissSource(_TwoModeSource):
    """A Curie-Weiss magnet below its critical temperature, its number of spins drawn log-uniformly.

    Attributes:
        dimension: d, smallest and largest.
        inverse_temperature: β; the two-saddle denoiser needs it well above 1.
        majority: p, which sets the field h = ½ log(p/(1−p)).
        samples: Stratified samples.
        strata: Points that represent the spins of a sample.
    """

    spans: ClassVar[dict[str, bool]] = {"dimension": True, "inverse_temperature": False, "majority": False}
    parameter_features: ClassVar[tuple[str, ...]] = ("log_dimension", "inverse_temperature", "majority")

    kind: Literal["curie-weiss"] = "curie-weiss"
    dimension: tuple[Dimension, Dimension] = (1e2, 1e4)
    inverse_temperature: tuple[Temperature, Temperature] = (2.0, 2.0)
    majority: tuple[Majority, Majority] = (0.8, 0.8)
    samples: Annotated[int, Field(ge=4, le=1024)] = 64
    strata: Annotated[int, Field(ge=4, le=1024)] = 16

    @model_validator(mode="after")
    def _two_modes(self) -> CurieWeissSource:
        least = CurieWeiss(dimension=int(self.dimension[0]), beta=self.inverse_temperature[0])
        if least.barrier < _LEAST_BARRIER:
            raise ValueError(
                f"dimension and inverse_temperature: the modes must be {_LEAST_BARRIER:g} nats apart for the saddles "
                f"(got {least.barrier:.3g} at d = {least.dimension}, beta = {least.beta:g})"
            )
        return self

    @property
    def accuracy(self) -> str:
        return (
            f"Errors are those of {self.samples} stratified samples with {self.strata} strata of spins, the same for "
            "every agent; they are accurate to a few percent."
        )

    def batch(self, count: int, sampler: SamplerName) -> CurieWeissBatch:
        return CurieWeissBatch(*self._lowest(count), self.samples, self.strata)


class _TwoModeBatch(SourceBatch):
    """Common part of the batches: the error and the features."""

    def error(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> FloatArray:
        """|p̂ − p| / min(p, 1 − p) + |v/σ² − 1|: both relative, so that losing either feature costs about 1."""
        found, wanted = self.parts(state, sigma, grids), self.targets()
        share, target = wanted["majority"], wanted["within_variance"]
        balance = np.abs(found["majority"] - share) / np.minimum(share, 1.0 - share)
        return np.asarray(balance + np.abs(found["within_variance"] / target - 1.0))

    @abstractmethod
    def _shown_parameters(self) -> tuple[FloatArray, ...]:
        """The features of the source itself, each ``[B]``."""

    def write_features(self, state: State, sigma: FloatArray, out: NDArray[np.float32]) -> None:
        """Write the features ``[entries, B]``.

        ``log_dimension`` ln d / 10; ``majority`` p; ``log_variance`` ln σ² / 5; ``inverse_temperature`` β / 2;
        ``log_sigma`` ln r / 5; the angles atan(r/σ) and atan(r/√d) in units of π/2; ``width`` log of the variance
        within a mode over that of the exact marginal; ``balance`` normal quantile of the share of trajectories that
        lean to the larger mode, minus that of p.
        """
        found, wanted = self.parts(state, sigma), self.targets()
        cosine2 = 1.0 / (1.0 + sigma**2)
        marginal = cosine2 * wanted["within_variance"] + (1.0 - cosine2)
        with np.errstate(divide="ignore"):
            log_sigma = 0.2 * np.log(sigma)
        share = np.clip(found["majority"], 1e-6, 1.0 - 1e-6)  # finite quantiles
        out[:] = (
            *self._shown_parameters(),
            log_sigma,
            *(np.arctan(sigma / scale) / (0.5 * np.pi) for scale in (self.near, self.far)),
            np.log(np.maximum(found["within_variance"], _SMALLEST) / marginal),
            ndtri(share) - ndtri(wanted["majority"]),
        )


class MixtureBatch(_TwoModeBatch):
    """Two-mode Gaussian mixtures in any dimension.

    The state is the quantiles of the projection on the axis through the modes, and the variance across it.

    Args:
        dimension: d, ``[B]``.
        majority: Weight p of the larger mode, ``[B]``, in (½, 1).
        variance: σ² within a mode, ``[B]``.
        quantiles: Starting points of the projection.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("dimension", "majority", "variance")
    by_row: ClassVar[tuple[str, ...]] = parameter_names

    def __init__(
        self, dimension: FloatArray, majority: FloatArray, variance: FloatArray, quantiles: int
    ) -> None:
        self.dimension, self.majority, self.variance = (np.array(x) for x in (dimension, majority, variance))
        self.near, self.far = np.sqrt(self.variance), np.sqrt(self.dimension)
        self.quantiles = quantiles

    def assign(self, rows: Rows, dimension: FloatArray, majority: FloatArray, variance: FloatArray) -> None:
        self.dimension[rows], self.majority[rows], self.variance[rows] = dimension, majority, variance
        self.near, self.far = np.sqrt(self.variance), np.sqrt(self.dimension)

    def start(self, rows: Rows) -> State:
        """Pure noise: quantiles of N(0, 1/d) on the axis, variance 1 across."""
        return _rows_last(quantile_start(self.quantiles, self.dimension[rows, None])), np.ones(len(rows))

    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """One exact DDIM step (THEORY 5)."""
        wide = (x[:, None] for x in (sigma, sigma_next, self.dimension, self.majority, self.variance))
        projection = mixture_step(state[0].T, *wide)
        return _rows_last(projection), state[1] * perpendicular_gain(sigma, sigma_next, self.variance)

    def deviation(self, state: State, other: State) -> FloatArray:
        """RMS distance of the projections in units of their spread, plus the absolute log ratio of the variances."""
        spread = np.sqrt(np.square(other[0]).mean(axis=0))
        apart = np.sqrt(np.square(state[0] - other[0]).mean(axis=0)) / spread
        width, wanted = (np.log(np.maximum(part, _SMALLEST)) for part in (state[1], other[1]))
        return np.asarray(apart + np.abs(width - wanted))

    def parts(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> Parts:
        """p̂ and the variance across the axis; p̂ to 1/quantiles where the grids are not given."""
        if grids is None:
            majority = positive_fraction(state[0].T)
        else:
            majority = majority_of_grids(grids, self.dimension, self.majority, self.variance)
        return {"majority": majority, "within_variance": state[1]}

    def targets(self) -> Parts:
        return {"majority": self.majority, "within_variance": self.variance}

    def _shown_parameters(self) -> tuple[FloatArray, ...]:
        return 0.1 * np.log(self.dimension), self.majority, 0.2 * np.log(self.variance)


class CurieWeissBatch(_TwoModeBatch):
    """Curie-Weiss magnets; the state is strata of spins' values in a few stratified samples.

    Args:
        dimension: d, ``[B]``.
        inverse_temperature: β, ``[B]``, above 1.
        majority: p, which sets the field, ``[B]``.
        samples: Stratified samples.
        strata: Points that represent the spins of a sample.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("dimension", "inverse_temperature", "majority")
    by_row: ClassVar[tuple[str, ...]] = (*parameter_names, "_share", "_variance")

    def __init__(
        self,
        dimension: FloatArray,
        inverse_temperature: FloatArray,
        majority: FloatArray,
        samples: int,
        strata: int,
    ) -> None:
        self.dimension, self.inverse_temperature, self.majority = (
            np.array(x) for x in (dimension, inverse_temperature, majority)
        )
        self.samples, self.strata = samples, strata
        self._share, self._variance = np.ones(len(self.dimension)), np.ones(len(self.dimension))
        self._prepare(np.arange(len(self.dimension)))

    def assign(self, rows: Rows, dimension: FloatArray, beta: FloatArray, majority: FloatArray) -> None:
        """Put new magnets into some rows; the number of spins is rounded."""
        self.dimension[rows] = np.rint(dimension)
        self.inverse_temperature[rows], self.majority[rows] = beta, majority
        self._prepare(rows)

    def start(self, rows: Rows) -> State:
        return (_rows_last(strata_start(self.samples, self.strata, self.dimension[rows, None, None])),)

    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """One DDIM step with the two-saddle denoiser (THEORY 6)."""
        wide: list[Any] = [
            x[:, None, None]
            for x in (sigma, sigma_next, self.dimension, self.inverse_temperature, self.majority)
        ]
        return (_rows_last(strata_step(np.moveaxis(state[0], -1, 0), *wide)),)

    def deviation(self, state: State, other: State) -> FloatArray:
        """RMS distance of the spins in units of their spread."""
        apart = np.square(state[0] - other[0]).mean(axis=(0, 1))
        return np.asarray(np.sqrt(apart / np.square(other[0]).mean(axis=(0, 1))))

    def parts(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> Parts:
        """p̂ and the variance of the spins within a sample."""
        share, variance = strata_outcome(np.moveaxis(state[0], -1, 0))
        return {"majority": share, "within_variance": variance}

    def targets(self) -> Parts:
        """P(M > 0) and the variance 1 − m*² of a spin within a mode."""
        return {"majority": self._share, "within_variance": self._variance}

    def _shown_parameters(self) -> tuple[FloatArray, ...]:
        return 0.1 * np.log(self.dimension), 0.5 * self.inverse_temperature, self._share

    def _prepare(self, rows: Rows) -> None:
        for row in rows.tolist():
            source = CurieWeiss(
                dimension=round(float(self.dimension[row])),
                beta=float(self.inverse_temperature[row]),
                majority=float(self.majority[row]),
            )
            self._variance[row] = 1.0 - source.magnetisation**2
            self._share[row] = source.positive_probability
        self.near, self.far = np.sqrt(self._variance), np.sqrt(self.dimension)


def _rows_last(values: FloatArray) -> FloatArray:
    # Always contiguous: sums over another memory layout round differently.
    return np.ascontiguousarray(np.moveaxis(values, 0, -1))
