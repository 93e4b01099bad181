"""Reference grids: where the sampler steps when an agent does nothing, and the line along which it moves steps.

A reference maps a place w in [0, 1] (0 at data, 1 at noise) to a noise level. N steps of equal length in w are the
reference grid itself. What the map looks like between its levels decides how an action of a given size moves a step,
not what can be reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.errors import Spec
from schedrl.schedules import AnyGridLaw
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import Sigma

__all__ = [
    "AnyReference",
    "GeodesicReference",
    "LawReference",
    "Reference",
    "Scales",
    "Sources",
    "TangentReference",
    "TwoScaleReference",
]


@dataclass
class Scales:
    """Noise levels at which something happens, one row per environment.

    Attributes:
        near: Typical spread of the data: γ* of a Gaussian source, σ within a mode of a mixture. ``[B]``
        far: Noise level at which the source first shows: its largest spread, √d of a mixture. ``[B]``
    """

    near: FloatArray
    far: FloatArray

    def take(self, rows: NDArray[np.int64]) -> Scales:
        """Scales of some environments."""
        return Scales(self.near[rows], self.far[rows])


class Sources(Protocol):
    """What a reference asks of the sources that it places steps for."""

    @property
    def scales(self) -> Scales:
        """Noise levels at which something happens."""

    def geodesic_angles(self) -> FloatArray:
        """atan(σ / near) at equal places along each source's geodesic, ``[places + 1, B]`` from 0 to π/2.

        Raises:
            SchedrlError: The sources are not Gaussian.
        """


class Reference(Protocol):
    """One way of placing steps, and of measuring where one is between them."""

    @property
    def name(self) -> str:
        """Name in the variant."""

    @property
    def first_level(self) -> float:
        """Noise level at w = 1, often infinity."""

    def sigma(self, place: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """Noise levels at places w ``[B]`` of grids with ``total`` steps ``[B]``."""

    def place(self, sigma: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """The way back: places of noise levels ``[B]``."""


class TangentReference(Spec):
    r"""The tangent law :math:`\sigma = \gamma \tan(\pi w / 2)`, from infinity to 0.

    Attributes:
        gamma: γ; when absent each source's own γ* (THEORY 3.6), the best of the family for many steps.
    """

    name: Literal["tangent"] = "tangent"
    gamma: Sigma | None = None

    @property
    def first_level(self) -> float:
        """Infinity."""
        return math.inf

    def sigma(self, place: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """γ tan(πw/2); exactly infinite at w = 1."""
        levels = self._scale(sources) * np.tan(0.5 * np.pi * place)
        return np.where(place < 1.0, levels, np.inf)

    def place(self, sigma: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """(2/π) atan(σ/γ)."""
        return np.asarray(np.arctan(sigma / self._scale(sources)) * (2.0 / np.pi))

    def _scale(self, sources: Sources) -> FloatArray | float:
        return sources.scales.near if self.gamma is None else self.gamma


class TwoScaleReference(Spec):
    r"""log σ linear in logit w, through the source's two scales: near at w = ``margin``, far at w = 1 − ``margin``.

    It knows at which noise levels something happens and spreads the steps evenly between, as one would who does not
    know how many of them each needs. Runs from infinity to 0.

    Attributes:
        margin: Share of the steps beyond each scale.
    """

    name: Literal["two-scale"] = "two-scale"
    margin: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1

    @property
    def first_level(self) -> float:
        """Infinity."""
        return math.inf

    def sigma(self, place: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """exp(middle + slope · logit w)."""
        middle, slope = self._line(sources)
        with np.errstate(divide="ignore"):
            return np.asarray(np.exp(middle + slope * (np.log(place) - np.log1p(-place))))

    def place(self, sigma: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """The logistic function of (log σ − middle) / slope."""
        middle, slope = self._line(sources)
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp((middle - np.log(sigma)) / slope)))

    def _line(self, sources: Sources) -> tuple[FloatArray, FloatArray]:
        near, far = np.log(sources.scales.near), np.log(sources.scales.far)
        # Scales that coincide would leave no room between them.
        slope = np.maximum(far - near, 1.0) / (2.0 * (math.log1p(-self.margin) - math.log(self.margin)))
        return 0.5 * (near + far), slope


class GeodesicReference(Spec):
    """The weighted geodesic of each Gaussian source, from infinity to 0: the best grid for many DDIM steps.

    It is that of the spectrum's quantiles as the agent sees them (of the whole spectrum where all sources share one),
    tabulated at 256 places and read off linearly in atan(σ / near) between them. What is left to an agent is what a
    closed form for many steps does not know of few.
    """

    name: Literal["geodesic"] = "geodesic"

    @property
    def first_level(self) -> float:
        """Infinity."""
        return math.inf

    def sigma(self, place: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """Levels at places along the geodesic."""
        angles = sources.geodesic_angles()
        angle = _between(angles, place * (len(angles) - 1))
        return _level(angle, place, sources)

    def place(self, sigma: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """Between the two places that enclose a level."""
        angles = sources.geodesic_angles()
        return _found(angles, np.arctan(sigma / sources.scales.near), np.full(len(sigma), len(angles) - 1))


class LawReference(Spec):
    """A named grid of :mod:`schedrl.schedules`, at any number of steps.

    Between two of its levels a place is read off linearly in atan(σ / near).

    Attributes:
        grid: The law.
    """

    name: Literal["law"] = "law"
    grid: AnyGridLaw

    @property
    def first_level(self) -> float:
        """The law's own first level."""
        return self.grid.grid(1).sigmas[0]

    def sigma(self, place: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """Levels of the law, and what lies between them."""
        at = place * total
        levels = _level(_between(self._angles(total, sources), at), place, sources)
        # Exactly on a level no rounding of the tangent may show.
        nearest = np.rint(at).astype(np.int64)
        exact = _levels(self.grid, int(total.max()))[total, nearest]
        return np.where(at == nearest, exact, levels)

    def place(self, sigma: FloatArray, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """Between the two levels that enclose it."""
        return _found(self._angles(total, sources), np.arctan(sigma / sources.scales.near), total)

    def _angles(self, total: NDArray[np.int64], sources: Sources) -> FloatArray:
        """Ascending angles of the levels ``[steps + 1, B]``, padded with values beyond the last."""
        levels = _levels(self.grid, int(total.max()))[total].T
        return np.where(np.isnan(levels), _BEYOND, np.arctan(levels / sources.scales.near))


_BEYOND = 4.0
"""An angle that no level has."""


@cache
def _levels(law: AnyGridLaw, most: int) -> FloatArray:
    """Ascending levels of the law at every number of steps, ``[most + 1, most + 1]``, padded with NaN."""
    table = np.full((most + 1, most + 1), np.nan)
    for steps in range(1, most + 1):
        table[steps, : steps + 1] = law.grid(steps).sigma_array[::-1]
    return table


def _between(table: FloatArray, at: FloatArray) -> FloatArray:
    """Values at fractional rows ``at`` of a table with a column per source, ``[B]``; its last row is not exceeded."""
    index = np.minimum(at.astype(np.int64), len(table) - 2)
    share, columns = at - index, np.arange(len(at))
    # A padded row is never wanted, but a share of 0 must not meet it either.
    above = np.where(share > 0.0, table[index + 1, columns], 0.0)
    return np.asarray(table[index, columns] * (1.0 - share) + above * share)


def _level(angle: FloatArray, place: FloatArray, sources: Sources) -> FloatArray:
    """Levels of angles; exactly infinite at the end of a reference that begins there."""
    levels = sources.scales.near * np.tan(np.minimum(angle, 0.5 * np.pi))
    return np.where((place >= 1.0) & (angle >= 0.5 * np.pi), np.inf, levels)


def _found(table: FloatArray, angle: FloatArray, last: NDArray[np.int64]) -> FloatArray:
    """Where in [0, 1] an ascending table, whose last row is ``last``, has the angles ``[B]``."""
    index = np.clip((table <= angle).sum(axis=0) - 1, 0, last - 1)
    columns = np.arange(len(angle))
    low, high = table[index, columns], table[index + 1, columns]
    return np.asarray(np.clip((index + (angle - low) / (high - low)) / last, 0.0, 1.0))


AnyReference = Annotated[
    TangentReference | TwoScaleReference | GeodesicReference | LawReference, Field(discriminator="name")
]
"""Any reference, chosen by ``name``."""
