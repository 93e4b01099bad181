"""Specifications of measurements. No torch here."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schedrl.data.image_data import ImageCount
from schedrl.errors import Spec


class BoundSpec(Spec):
    """End points, grid and images of the bound.

    Attributes:
        logsnr_max: λ at the data end, pinned.
        logsnr_min: λ at the noise end, pinned.
        levels: Points of the midpoint rule on λ.
        images: Number of images; all when absent.
    """

    logsnr_max: Annotated[float, Field(le=20.0)] = 8.0
    logsnr_min: Annotated[float, Field(ge=-20.0)] = -6.0
    levels: Annotated[int, Field(ge=1, le=1000)] = 14
    images: ImageCount | None = None

    @model_validator(mode="after")
    def _ordered(self) -> BoundSpec:
        if self.logsnr_min >= self.logsnr_max:
            raise ValueError(
                f"logsnr_min must be below logsnr_max = {self.logsnr_max} (got {self.logsnr_min})"
            )
        return self

    @property
    def grid(self) -> NDArray[np.float64]:
        """Midpoints of the λ cells, descending, ``[levels]``.

        Examples:
            >>> BoundSpec(logsnr_max=8.0, logsnr_min=-4.0, levels=3).grid
            array([ 6.,  2., -2.])
        """
        places = (np.arange(self.levels) + 0.5) / self.levels
        return self.logsnr_max + places * (self.logsnr_min - self.logsnr_max)

    def cell_bits(self, mse: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bits/dim of errors ``[..., levels]`` in each cell of the grid: ½ Δλ E‖ε − ε̂‖² / (D log 2)."""
        cell = (self.logsnr_max - self.logsnr_min) / self.levels
        bits: NDArray[np.float64] = 0.5 * cell * mse / math.log(2.0)
        return bits


class SampleSpec(Spec):
    """Samples for the quality of a trained network.

    Attributes:
        count: Images drawn from each network. Fréchet distances are biased in it: compare only equal counts.
        steps: Sampler steps, equally spaced in λ between the end points of the bound.
        sampler: The sampler.
        features: Name of the feature extractor; the image set's own when absent.
    """

    count: Annotated[int, Field(ge=2, le=1_000_000)] = 500
    steps: Annotated[int, Field(ge=1, le=10_000)] = 20
    sampler: Literal["ddim", "ddpm"] = "ddim"
    features: str | None = None
