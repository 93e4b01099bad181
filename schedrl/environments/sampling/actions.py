"""What an agent decides in a sampling environment: how far the next step goes, relative to a reference grid.

A reference grid maps a place w in [0, 1] (0 at data, 1 at noise) to a sigma. N steps of equal length in w are the grid
itself, which the sampler follows if the agent does nothing. The map between its sigmas decides how far an action of a
given size moves a step, but not which grids can be reached.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cache
from typing import Annotated, ClassVar, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.environments.sampling.source_kind import SourceBatch
from schedrl.errors import Spec
from schedrl.schedules import AnyGridLaw
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import Sigma

Counts = NDArray[np.int64]


class ReferenceGrid(Spec, ABC):
    """One way of placing steps, and of measuring a place between them.

    Attributes:
        name: Name in the variant.
        needs_spectrum: Whether it is computed from the spectrum of a Gaussian.
    """

    name: str
    needs_spectrum: ClassVar[bool] = False

    @property
    def first_sigma(self) -> float:
        return math.inf

    def check(self) -> None:
        """Raise ``ValueError`` if it is no grid from noise to data."""

    @abstractmethod
    def sigma(self, place: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        """Sigmas at places w ``[B]`` of grids with ``total`` steps ``[B]``."""

    @abstractmethod
    def place(self, sigma: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        """Places of sigmas ``[B]``, the inverse of :meth:`sigma`."""


class TangentReference(ReferenceGrid):
    r"""The tangent law :math:`\sigma = \gamma \tan(\pi w / 2)`, from infinity to 0.

    Attributes:
        gamma: γ; when absent each source's own γ* (THEORY 3.6), the best of the family for many steps.
    """

    name: Literal["tangent"] = "tangent"
    gamma: Sigma | None = None

    def sigma(self, place: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        """γ tan(πw/2); exactly infinite at w = 1."""
        sigmas = self._scale(sources) * np.tan(0.5 * np.pi * place)
        return np.where(place < 1.0, sigmas, np.inf)

    def place(self, sigma: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        return np.asarray(np.arctan(sigma / self._scale(sources)) * (2.0 / np.pi))

    def _scale(self, sources: SourceBatch) -> FloatArray | float:
        return sources.near if self.gamma is None else self.gamma


class TwoScaleReference(ReferenceGrid):
    r"""log σ linear in logit w, through the source's two scales: near at w = ``margin``, far at w = 1 − ``margin``.

    It spreads the steps evenly between the noise levels at which something happens. Runs from infinity to 0.

    Attributes:
        margin: Share of the steps beyond each scale.
    """

    name: Literal["two-scale"] = "two-scale"
    margin: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1

    def sigma(self, place: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        """exp(middle + slope · logit w)."""
        middle, slope = self._line(sources)
        with np.errstate(divide="ignore"):
            return np.asarray(np.exp(middle + slope * (np.log(place) - np.log1p(-place))))

    def place(self, sigma: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        """The logistic function of (log σ − middle) / slope."""
        middle, slope = self._line(sources)
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp((middle - np.log(sigma)) / slope)))

    def _line(self, sources: SourceBatch) -> tuple[FloatArray, FloatArray]:
        near, far = np.log(sources.near), np.log(sources.far)
        # Steps need some length even if the two coincide.
        slope = np.maximum(far - near, 1.0) / (2.0 * (math.log1p(-self.margin) - math.log(self.margin)))
        return 0.5 * (near + far), slope


class _TabulatedReference(ReferenceGrid):
    """A reference that is linear in the angle atan(σ / near) between the rows of a table."""

    @abstractmethod
    def table(self, total: Counts, sources: SourceBatch) -> tuple[FloatArray, Counts]:
        """Ascending angles at equal places, ``[rows, B]``, and the index of each source's last row, ``[B]``.

        Later rows are padded with values above all angles.
        """

    def sigma(self, place: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        table, last = self.table(total, sources)
        at = place * last
        index = np.minimum(at.astype(np.int64), len(table) - 2)
        share, columns = at - index, np.arange(len(at))
        # A share of 0 must not meet a padded row.
        above = np.where(share > 0.0, table[index + 1, columns], 0.0)
        angle = table[index, columns] * (1.0 - share) + above * share
        sigmas = sources.near * np.tan(np.minimum(angle, 0.5 * np.pi))
        # Exactly infinite at the end of a reference that begins there.
        return np.where((place >= 1.0) & (angle >= 0.5 * np.pi), np.inf, sigmas)

    def place(self, sigma: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        table, last = self.table(total, sources)
        angle, columns = np.arctan(sigma / sources.near), np.arange(len(sigma))
        index = np.clip((table <= angle).sum(axis=0) - 1, 0, last - 1)
        low, high = table[index, columns], table[index + 1, columns]
        return np.asarray(np.clip((index + (angle - low) / (high - low)) / last, 0.0, 1.0))


class GeodesicReference(_TabulatedReference):
    """The weighted geodesic of each Gaussian source, from infinity to 0: the best grid for many DDIM steps.

    It is that of the quantiles of the spectrum that the agent sees (of the whole spectrum where all sources share one),
    tabulated at 256 places.
    """

    name: Literal["geodesic"] = "geodesic"
    needs_spectrum: ClassVar[bool] = True

    def table(self, total: Counts, sources: SourceBatch) -> tuple[FloatArray, Counts]:
        angles = sources.geodesic_angles()
        return angles, np.full(len(total), len(angles) - 1)


class LawReference(_TabulatedReference):
    """A named grid of :mod:`schedrl.schedules` at any number of steps.

    Attributes:
        grid: The law.
    """

    name: Literal["law"] = "law"
    grid: AnyGridLaw

    @property
    def first_sigma(self) -> float:
        return self.grid.grid(1).sigmas[0]

    def check(self) -> None:
        if (last := self.grid.grid(1).sigmas[-1]) > 0.0:
            raise ValueError(f"action.reference: grid '{self.grid.name}' must end at 0 (ends at {last:g})")

    def table(self, total: Counts, sources: SourceBatch) -> tuple[FloatArray, Counts]:
        sigmas = _sigmas(self.grid, int(total.max()))[total].T
        return np.where(np.isnan(sigmas), 4.0, np.arctan(sigmas / sources.near)), total

    def sigma(self, place: FloatArray, total: Counts, sources: SourceBatch) -> FloatArray:
        # The law's own sigmas are exact, without the rounding of the tangent.
        at = place * total
        nearest = np.rint(at).astype(np.int64)
        exact = _sigmas(self.grid, int(total.max()))[total, nearest]
        return np.where(at == nearest, exact, super().sigma(place, total, sources))


@cache
def _sigmas(law: AnyGridLaw, most: int) -> FloatArray:
    """Ascending sigmas of the law at every number of steps, ``[most + 1, most + 1]``, padded with NaN."""
    table = np.full((most + 1, most + 1), np.nan)
    for steps in range(1, most + 1):
        table[steps, : steps + 1] = law.grid(steps).sigma_array[::-1]
    return table


AnyReference = Annotated[
    TangentReference | TwoScaleReference | GeodesicReference | LawReference, Field(discriminator="name")
]
"""Any reference grid, chosen by ``name``."""


class Placement(Spec):
    r"""The next step's share of the remaining way.

    At place w with n steps left, the next place is :math:`w' = w (1 - s)` with
    :math:`\mathrm{logit}\, s = \mathrm{logit}(1/n) + scale \cdot a`. Action 0 goes 1/n of the way, so zeros from start
    to end give the reference grid. The last step always ends at data.

    Attributes:
        reference: The grid along which w is measured.
        scale: Change of the logit at action ±1.

    Examples:
        >>> placement = Placement()
        >>> step = lambda a: placement.next_place(np.array([0.5]), np.array([5]), np.array([a])).item()
        >>> step(0.0), step(1.0) < 0.4 < step(-1.0) < 0.5
        (0.4, True)
    """

    reference: AnyReference = TangentReference()
    scale: Annotated[float, Field(gt=0.0, le=50.0)] = 3.0

    def space(self) -> gym.spaces.Box:
        """Box of [−1, 1], one entry."""
        return gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def next_place(self, place: FloatArray, remaining: Counts, action: FloatArray) -> FloatArray:
        """Places after a step, ``[B]``.

        Args:
            place: w, in (0, 1].
            remaining: n, the steps left, this one included; the last goes all the way.
            action: In [−1, 1].
        """
        others = np.maximum(remaining - 1, 0) * np.exp(-self.scale * action)
        moved: FloatArray = place * (others / (1.0 + others))
        return moved

    def encode(
        self, sigma: FloatArray, wanted: FloatArray, remaining: Counts, total: Counts, sources: SourceBatch
    ) -> NDArray[np.float32]:
        """Actions ``[B, 1]`` that step from ``sigma`` to ``wanted``, clipped to the box.

        Args:
            sigma: Present sigmas.
            wanted: Next sigmas, below them.
            remaining: Steps left, this one included.
            total: Steps of the episode.
            sources: The sources.
        """
        here, there = (self.reference.place(level, total, sources) for level in (sigma, wanted))
        with np.errstate(divide="ignore"):
            # The odds of the wanted share against those of an even step; infinite at either end of the way.
            odds = (
                np.log(np.maximum(here - there, 0.0)) - np.log(there) + np.log(np.maximum(remaining - 1, 1))
            )
        action = np.where(remaining > 1, odds / self.scale, 0.0)
        return action.clip(-1.0, 1.0).astype(np.float32)[:, None]
