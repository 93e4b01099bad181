"""Which sources an environment draws its episodes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schedrl.data import AnyData
from schedrl.environments.sampling.network_spec import NetworkSpec
from schedrl.environments.sampling.spectrum import image_spectrum
from schedrl.errors import Spec
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.families import AnySpectrumFamily
from schedrl.sources.gaussian.recursions import SamplerName

if TYPE_CHECKING:
    from schedrl.environments.sampling.batches import SourceBatch

__all__ = ["AnySource", "CurieWeissSource", "GaussianSource", "ImageSource", "MixtureSource", "SourceKind"]

Features = tuple[tuple[str, int], ...]

Span = tuple[float, float]
"""Least and greatest value; equal for a constant."""


class SourceKind(Protocol):
    """One way of drawing the source of an episode.

    Attributes:
        spectral: Whether a batch holds spectra, as :class:`~schedrl.environments.sampling.gaussian.GaussianBatch`.
    """

    spectral: ClassVar[bool]

    @property
    def kind(self) -> str:
        """Name in the variant."""

    @property
    def num_uniforms(self) -> int:
        """Uniform random numbers that a source is a function of."""

    @property
    def feature_widths(self) -> Features:
        """Names and widths of what is seen of a source and of the sampler's state, as a batch's features have it."""

    @property
    def dimensions(self) -> Span | None:
        """Least and greatest dimension, for sources whose dimension is drawn."""

    @property
    def accuracy(self) -> str:
        """How exact the errors are, in a sentence for reports."""

    def batch(self, count: int, sampler: SamplerName) -> SourceBatch:
        """Room for ``count`` sources; :meth:`assign` fills it."""

    def assign(self, batch: Any, rows: NDArray[np.int64], uniforms: FloatArray) -> None:
        """Draw new sources for some rows of the batch from ``[rows, num_uniforms]`` numbers in (0, 1)."""


def _spectral_features(quantiles: int) -> Features:
    return ("spectrum", quantiles), ("angle", quantiles), ("deficit", quantiles), ("speed", 1), ("ahead", 1)


def _two_mode_features(*parameters: str) -> Features:
    names = (*parameters, "log_sigma", "near_angle", "far_angle", "width", "balance")
    return tuple((name, 1) for name in names)


class _Source(Spec):
    """What most kinds of source have in common."""

    spectral: ClassVar[bool] = False

    @property
    def dimensions(self) -> Span | None:
        return None

    @property
    def accuracy(self) -> str:
        return "Errors are exact: no samples are drawn."


class GaussianSource(_Source):
    """A Gaussian with a spectrum drawn anew each episode.

    Attributes:
        spectrum: The family it is drawn from.
        quantiles: Points of the spectrum that the agent sees.
    """

    spectral: ClassVar[bool] = True

    kind: Literal["gaussian"] = "gaussian"
    spectrum: AnySpectrumFamily
    quantiles: Annotated[int, Field(ge=1, le=64)] = 8

    @property
    def num_uniforms(self) -> int:
        """Those of the family."""
        return self.spectrum.num_uniforms

    @property
    def feature_widths(self) -> Features:
        """Quantiles of spectrum, angles and variance lost; the metric here and ahead."""
        return _spectral_features(self.quantiles)

    def batch(self, count: int, sampler: SamplerName) -> SourceBatch:
        """Room for spectra."""
        from schedrl.environments.sampling.gaussian import GaussianBatch

        shown = self.spectrum.draw(np.full((1, self.num_uniforms), 0.5))
        eigenvalues, weights = (np.repeat(part, count, axis=0) for part in shown)
        shared = self.spectrum.name == "fixed"
        return GaussianBatch(eigenvalues, weights, sampler, self.quantiles, shared=shared)

    def assign(self, batch: Any, rows: NDArray[np.int64], uniforms: FloatArray) -> None:
        """Draw spectra."""
        batch.assign_spectra(rows, *self.spectrum.draw(uniforms))


class ImageSource(_Source):
    """The Gaussian with the spectrum of an image set's training images, the same in every episode.

    Attributes:
        data: The image set.
        floor: Least standard deviation kept: smaller eigenvalues are noise to a model whose last level is this.
        quantiles: Points of the spectrum that the agent sees.
    """

    spectral: ClassVar[bool] = True

    kind: Literal["images"] = "images"
    data: AnyData
    floor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    quantiles: Annotated[int, Field(ge=1, le=64)] = 8

    @property
    def num_uniforms(self) -> int:
        """None."""
        return 0

    @property
    def feature_widths(self) -> Features:
        """Quantiles of spectrum, angles and variance lost; the metric here and ahead."""
        return _spectral_features(self.quantiles)

    def batch(self, count: int, sampler: SamplerName) -> SourceBatch:
        """The spectrum, once per row."""
        from schedrl.environments.sampling.gaussian import GaussianBatch

        eigenvalues = np.tile(image_spectrum(self.data, self.floor), (count, 1))
        return GaussianBatch(eigenvalues, np.ones_like(eigenvalues), sampler, self.quantiles, shared=True)

    def assign(self, batch: Any, rows: NDArray[np.int64], uniforms: FloatArray) -> None:
        """Nothing changes between episodes."""


class _Spans(_Source):
    """Shared part of sources whose parameters are drawn from spans."""

    @staticmethod
    def _between(span: Span, u: FloatArray, *, log: bool = False) -> FloatArray:
        low, high = span
        if low == high:
            return np.full(u.shape, low)
        return np.asarray(np.exp(np.log(low) + u * np.log(high / low)) if log else low + u * (high - low))

    @model_validator(mode="after")
    def _ordered(self) -> _Spans:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name}: the least value comes first (got {list(value)})")
        return self


_LEAST_BARRIER = 10.0

Temperature = Annotated[float, Field(gt=1.0, le=10.0)]
Majority = Annotated[float, Field(gt=0.5, lt=1.0)]
Dimension = Annotated[float, Field(ge=2.0, le=1e12)]


class MixtureSource(_Spans):
    """A two-mode Gaussian mixture in a dimension drawn log-uniformly.

    Attributes:
        dimension: d, least and greatest.
        majority: Weight p of the larger mode.
        variance: σ² within a mode.
        quantiles: Starting points of the projection on the modes' axis.
    """

    kind: Literal["mixture"] = "mixture"
    dimension: tuple[Dimension, Dimension] = (1e2, 1e10)
    majority: tuple[Majority, Majority] = (0.8, 0.8)
    variance: tuple[Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)]] = (0.25, 0.25)
    quantiles: Annotated[int, Field(ge=8, le=4096)] = 256

    @property
    def dimensions(self) -> Span:
        return self.dimension

    @property
    def num_uniforms(self) -> int:
        """One per parameter."""
        return 3

    @property
    def feature_widths(self) -> Features:
        """The source's parameters, where the sampler stands, and how far balance and width are off."""
        return _two_mode_features("log_dimension", "majority", "log_variance")

    def batch(self, count: int, sampler: SamplerName) -> SourceBatch:
        """Room for mixtures."""
        from schedrl.environments.sampling.high_dimension import MixtureBatch

        spans = self.dimension, self.majority, self.variance
        dimension, majority, variance = (np.full(count, span[0]) for span in spans)
        return MixtureBatch(dimension, majority, variance, self.quantiles)

    def assign(self, batch: Any, rows: NDArray[np.int64], uniforms: FloatArray) -> None:
        """Draw mixtures."""
        batch.assign_values(
            rows,
            self._between(self.dimension, uniforms[:, 0], log=True),
            self._between(self.majority, uniforms[:, 1]),
            self._between(self.variance, uniforms[:, 2], log=True),
        )


class CurieWeissSource(_Spans):
    """A Curie-Weiss magnet below its critical temperature, its number of spins drawn log-uniformly.

    Attributes:
        dimension: d, least and greatest.
        inverse_temperature: β; the two-saddle denoiser needs it well above 1.
        majority: p, by which the field h = ½ log(p/(1−p)) is set.
        samples: Stratified samples.
        strata: Points that stand for the spins of a sample.
    """

    kind: Literal["curie-weiss"] = "curie-weiss"
    dimension: tuple[Dimension, Dimension] = (1e2, 1e4)
    inverse_temperature: tuple[Temperature, Temperature] = (2.0, 2.0)
    majority: tuple[Majority, Majority] = (0.8, 0.8)
    samples: Annotated[int, Field(ge=4, le=1024)] = 64
    strata: Annotated[int, Field(ge=4, le=1024)] = 16

    @property
    def dimensions(self) -> Span:
        return self.dimension

    @property
    def accuracy(self) -> str:
        return (
            f"Errors are those of {self.samples} stratified samples with {self.strata} strata of spins, the same for "
            "every agent; they are accurate to a few percent."
        )

    @model_validator(mode="after")
    def _two_modes(self) -> CurieWeissSource:
        from schedrl.sources.curie_weiss import CurieWeiss

        least = CurieWeiss(dimension=int(self.dimension[0]), beta=self.inverse_temperature[0])
        if least.barrier < _LEAST_BARRIER:
            raise ValueError(
                f"dimension and inverse_temperature: the modes must be {_LEAST_BARRIER:g} nats apart for the saddles "
                f"(got {least.barrier:.3g} at d = {least.dimension}, beta = {least.beta:g})"
            )
        return self

    @property
    def num_uniforms(self) -> int:
        """One per parameter."""
        return 3

    @property
    def feature_widths(self) -> Features:
        """The source's parameters, where the sampler stands, and how far balance and width are off."""
        return _two_mode_features("log_dimension", "inverse_temperature", "majority")

    def batch(self, count: int, sampler: SamplerName) -> SourceBatch:
        """Room for magnets."""
        from schedrl.environments.sampling.high_dimension import CurieWeissBatch

        spans = self.dimension, self.inverse_temperature, self.majority
        dimension, beta, majority = (np.full(count, span[0]) for span in spans)
        return CurieWeissBatch(dimension, beta, majority, self.samples, self.strata)

    def assign(self, batch: Any, rows: NDArray[np.int64], uniforms: FloatArray) -> None:
        """Draw magnets; a number of spins is whole."""
        batch.assign_values(
            rows,
            np.rint(self._between(self.dimension, uniforms[:, 0], log=True)),
            self._between(self.inverse_temperature, uniforms[:, 1]),
            self._between(self.majority, uniforms[:, 2]),
        )


class NetworkSource(_Source, NetworkSpec):
    """A trained network as a source: see :class:`~schedrl.environments.sampling.network_spec.NetworkSpec`."""

    @property
    def accuracy(self) -> str:
        flow = "distances to its own flow"
        measure = "Fréchet distances to the training images" if self.error == "frechet" else flow
        return (
            f"The network `{self.model}` is run; errors are {measure}, of {self.images} images per episode, with the "
            "same noise for every agent."
        )

    @property
    def num_uniforms(self) -> int:
        """One, which stands for the starting noise of all images."""
        return 1

    @property
    def feature_widths(self) -> tuple[tuple[str, int], ...]:
        """Where the sampler stands, and what the network's last estimates were like."""
        return tuple((name, 1) for name in ("angle", "state", "estimate", "change", "speed"))

    def batch(self, count: int, sampler: SamplerName) -> Any:
        """Room for ``count`` starting noises.

        Raises:
            SchedrlError: The network, its data or the feature network is missing.
        """
        from schedrl.environments.sampling.network import NetworkBatch

        return NetworkBatch.of(self, count, sampler)

    def assign(self, batch: Any, rows: NDArray[np.int64], uniforms: FloatArray) -> None:
        """Draw starting noise."""
        batch.assign_noise(rows, (uniforms[:, 0] * 2.0**53).astype(np.int64))


AnySource = Annotated[
    GaussianSource | ImageSource | MixtureSource | CurieWeissSource | NetworkSource,
    Field(discriminator="kind"),
]
"""Any source, chosen by ``kind``."""
