"""Families of spectra, which turn uniform numbers into a new Gaussian source."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from schedrl.errors import SchedrlError, Spec
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import require_within_unit


def _variance(value: float) -> float:
    if not 1e-12 <= value <= 1e12:
        raise ValueError("must be a variance between 1e-12 and 1e12")
    return value


Eigenvalue = Annotated[float, AfterValidator(_variance)]
"""A variance, in a range where nothing computed from it over- or underflows."""
Count = Annotated[int, Field(ge=1, le=65_536)]


class SpectrumFamily(Spec, ABC):
    """A distribution of spectra, as a pure function of uniform numbers: a seed determines the spectrum.

    Attributes:
        name: Which family; the discriminator of ``AnySpectrumFamily``.
    """

    model_config = ConfigDict(validate_default=True)

    name: str

    @property
    @abstractmethod
    def num_uniforms(self) -> int:
        """K, the number of uniform numbers for one spectrum."""

    @property
    @abstractmethod
    def num_eigenvalues(self) -> int:
        """E, the largest number of eigenvalues."""

    @abstractmethod
    def _draw(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues and weights, ``[B, E]``, from ``[B, K]``."""

    def draw(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Make one spectrum per row of uniform numbers.

        Args:
            u: ``[B, K]`` in [0, 1], K being ``num_uniforms``.

        Returns:
            Eigenvalues in descending order and their weights, both ``[B, E]``. A spectrum with fewer than E
            eigenvalues is filled up with eigenvalues 1 of weight 0.
        """
        u = np.asarray(u, dtype=np.float64)
        if u.ndim != 2 or u.shape[1] != self.num_uniforms:
            raise SchedrlError(f"field 'u': must have shape [B, {self.num_uniforms}] (got {list(u.shape)})")
        return self._draw(require_within_unit("u", u))


class LogUniformSpectrum(SpectrumFamily):
    """Eigenvalues log-uniform over a spread that is itself drawn.

    The largest and the smallest eigenvalue span the drawn spread exactly (where there are two); the others lie
    log-uniformly between. One eigenvalue is the drawn scale.

    Attributes:
        eigenvalues: Number of eigenvalues; with ``max_eigenvalues`` the smallest number.
        max_eigenvalues: Largest number; the number is drawn uniformly per spectrum. None always draws ``eigenvalues``.
        decades: Largest spread, in decades; the drawn spread is uniform from 0 to it.
        scale: Range of the geometric mean of the largest and the smallest, drawn log-uniformly.

    Examples:
        >>> family = LogUniformSpectrum(eigenvalues=2, decades=4.0)
        >>> family.draw(np.full((1, family.num_uniforms), 0.5))
        (array([[10. ,  0.1]]), array([[1., 1.]]))
    """

    name: Literal["log-uniform"] = "log-uniform"
    eigenvalues: Count = 8
    max_eigenvalues: Count | None = None
    decades: Annotated[float, Field(ge=0.0, le=16.0)] = 4.0
    scale: tuple[Eigenvalue, Eigenvalue] = (0.5, 2.0)

    @field_validator("max_eigenvalues")
    @classmethod
    def _not_fewer(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("eigenvalues")
        if value is not None and least is not None and value < least:
            raise ValueError(f"must be at least eigenvalues = {least}")
        return value

    @field_validator("scale")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _rising(value)

    @property
    def num_eigenvalues(self) -> int:
        return self.max_eigenvalues or self.eigenvalues

    @property
    def num_uniforms(self) -> int:
        # Number, spread and scale, then a place for each eigenvalue between the two ends.
        return 3 + max(self.num_eigenvalues - 2, 0)

    def _draw(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        most = self.num_eigenvalues
        choices = most - self.eigenvalues + 1
        count = self.eigenvalues + np.minimum(np.floor(u[:, :1] * choices), choices - 1)
        spread = np.where(count > 1, self.decades * u[:, 1:2], 0.0)
        scale = np.log10(_between(u[:, 2:3], *self.scale, logarithmic=True))
        places = np.concatenate([np.ones_like(scale), np.zeros_like(scale), u[:, 3:]], axis=1)[:, :most]
        weights = (np.arange(most) < count).astype(np.float64)
        places = -np.sort(np.where(weights > 0.0, -places, np.inf), axis=1)
        exponents = scale + spread * (np.where(weights > 0.0, places, 0.5) - 0.5)
        return np.where(weights > 0.0, np.exp(math.log(10.0) * exponents), 1.0), weights


class PowerLawSpectrum(SpectrumFamily):
    r"""The spectrum of natural images: :math:`\lambda_k \propto k^{-a}`, k = 1 … E.

    Attributes:
        eigenvalues: E.
        exponent: Range of a, drawn uniformly.
        scale: Range of the mean of the eigenvalues (the variance of a pixel), drawn log-uniformly.

    Examples:
        >>> family = PowerLawSpectrum(eigenvalues=3, exponent=(1.0, 1.0), scale=(1.0, 1.0))
        >>> family.draw(np.full((1, family.num_uniforms), 0.5))[0].round(4)
        array([[1.6364, 0.8182, 0.5455]])
    """

    name: Literal["power-law"] = "power-law"
    eigenvalues: Count = 64
    exponent: tuple[Annotated[float, Field(ge=0.0, le=4.0)], Annotated[float, Field(ge=0.0, le=4.0)]] = (
        0.5,
        2.5,
    )
    scale: tuple[Eigenvalue, Eigenvalue] = (0.1, 1.0)

    @field_validator("exponent", "scale")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _rising(value)

    @property
    def num_eigenvalues(self) -> int:
        return self.eigenvalues

    @property
    def num_uniforms(self) -> int:
        return 2  # exponent and scale

    def _draw(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        exponent = _between(u[:, :1], *self.exponent, logarithmic=False)
        shape = np.arange(1.0, self.eigenvalues + 1.0) ** -exponent
        mean = _between(u[:, 1:], *self.scale, logarithmic=True)
        spectrum = mean * shape / shape.mean(axis=1, keepdims=True)
        return spectrum, np.ones_like(spectrum)


class FixedSpectrum(SpectrumFamily):
    """Always the same spectrum.

    Attributes:
        values: The eigenvalues, positive.

    Examples:
        >>> FixedSpectrum(values=(0.25, 4.0)).draw(np.empty((1, 0)))
        (array([[4.  , 0.25]]), array([[1., 1.]]))
    """

    name: Literal["fixed"] = "fixed"
    values: Annotated[tuple[Eigenvalue, ...], Field(min_length=1)]

    def __init__(self, values: Any = None, **data: Any) -> None:
        super().__init__(**(data if values is None else {"values": values, **data}))

    @property
    def num_eigenvalues(self) -> int:
        return len(self.values)

    @property
    def num_uniforms(self) -> int:
        return 0

    def _draw(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        spectrum = np.tile(np.sort(self.values)[::-1], (len(u), 1))
        return spectrum, np.ones_like(spectrum)


AnySpectrumFamily: TypeAlias = Annotated[
    LogUniformSpectrum | PowerLawSpectrum | FixedSpectrum, Field(discriminator="name")
]
"""A spectrum family as a field of a pydantic model, told apart by ``name``."""


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if low > high:
        raise ValueError(f"must be a range from low to high, but {low} > {high}")
    return value


def _between(u: FloatArray, low: float, high: float, *, logarithmic: bool) -> FloatArray:
    if logarithmic:
        return np.asarray(low * (high / low) ** u)
    return np.asarray(low + (high - low) * u)
