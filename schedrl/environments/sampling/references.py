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
from schedrl.schedules.base import Sigma
from schedrl.schedules.conversions import FloatArray

__all__ = ["AnyReference", "LawReference", "Reference", "Scales", "TangentReference", "TwoScaleReference"]


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


class Reference(Protocol):
    """One way of placing steps, and of measuring where one is between them."""

    @property
    def name(self) -> str:
        """Name in the variant."""

    @property
    def first_level(self) -> float:
        """Noise level at w = 1, often infinity."""

    def sigma(self, place: FloatArray, total: NDArray[np.int64], scales: Scales) -> FloatArray:
        """Noise levels at places w ``[B]`` of grids with ``total`` steps ``[B]``."""

    def place(self, sigma: FloatArray, total: NDArray[np.int64], scales: Scales) -> FloatArray:
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

    def sigma(self, place: FloatArray, total: NDArray[np.int64], scales: Scales) -> FloatArray:
        """γ tan(πw/2); exactly infinite at w = 1."""
        levels = self._scale(scales) * np.tan(0.5 * np.pi * place)
        return np.where(place < 1.0, levels, np.inf)

    def place(self, sigma: FloatArray, total: NDArray[np.int64], scales: Scales) -> FloatArray:
        """(2/π) atan(σ/γ)."""
        return np.asarray(np.arctan(sigma / self._scale(scales)) * (2.0 / np.pi))

    def _scale(self, scales: Scales) -> FloatArray | float:
        return scales.near if self.gamma is None else self.gamma


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

    def sigma(self, place: FloatArray, total: NDArray[np.int64], scales: Scales) -> FloatArray:
        """exp(middle + slope · logit w)."""
        middle, slope = self._line(scales)
        with np.errstate(divide="ignore"):
            return np.asarray(np.exp(middle + slope * (np.log(place) - np.log1p(-place))))

    def place(self, sigma: FloatArray, total: NDArray[np.int64], scales: Scales) -> FloatArray:
        """The logistic function of (log σ − middle) / slope."""
        middle, slope = self._line(scales)
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp((middle - np.log(sigma)) / slope)))

    def _line(self, scales: Scales) -> tuple[FloatArray, FloatArray]:
        near, far = np.log(scales.near), np.log(scales.far)
        # Scales that coincide would leave no room between them.
        slope = np.maximum(far - near, 1.0) / (2.0 * (math.log1p(-self.margin) - math.log(self.margin)))
        return 0.5 * (near + far), slope


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

    def sigma(self, place: FloatArray, total: NDArray[np.int64], scales: Scales) -> FloatArray:
        """Levels of the law, and what lies between them."""
        angles = self._angles(total, scales)
        at = place * total
        index = np.minimum(at.astype(np.int64), total - 1)
        rows = np.arange(len(place))
        share = at - index
        angle = angles[rows, index] * (1.0 - share) + angles[rows, index + 1] * share
        levels = scales.near * np.tan(np.minimum(angle, 0.5 * np.pi))
        exact = _levels(self.grid, int(total.max()))[total, index]
        # Exactly on a level (the ends above all) no rounding of the tangent may show.
        return np.where(share == 0.0, exact, np.where(place >= 1.0, self.first_level, levels))

    def place(self, sigma: FloatArray, total: NDArray[np.int64], scales: Scales) -> FloatArray:
        """Between the two levels that enclose it."""
        angles = self._angles(total, scales)
        wanted = np.arctan(sigma / scales.near)
        index = np.clip((angles <= wanted[:, None]).sum(axis=1) - 1, 0, total - 1)
        rows = np.arange(len(sigma))
        low, high = angles[rows, index], angles[rows, index + 1]
        share = (wanted - low) / (high - low)
        return np.asarray(np.clip((index + share) / total, 0.0, 1.0))

    def _angles(self, total: NDArray[np.int64], scales: Scales) -> FloatArray:
        """Ascending angles of the levels ``[B, steps + 1]``, padded with values beyond the last."""
        levels = _levels(self.grid, int(total.max()))[total]
        return np.where(np.isnan(levels), 4.0, np.arctan(levels / scales.near[:, None]))


@cache
def _levels(law: AnyGridLaw, most: int) -> FloatArray:
    """Ascending levels of the law at every number of steps, ``[most + 1, most + 1]``, padded with NaN."""
    table = np.full((most + 1, most + 1), np.nan)
    for steps in range(1, most + 1):
        table[steps, : steps + 1] = law.grid(steps).sigma_array[::-1]
    return table


AnyReference = Annotated[TangentReference | TwoScaleReference | LawReference, Field(discriminator="name")]
"""Any reference, chosen by ``name``."""
