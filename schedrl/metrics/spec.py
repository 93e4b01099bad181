"""What a user writes about measurements (no torch here)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schedrl.errors import Spec

__all__ = ["BoundSpec"]


class BoundSpec(Spec):
    """Where the bound is measured.

    Attributes:
        logsnr_max: λ at the data end, pinned.
        logsnr_min: λ at the noise end, pinned.
        levels: Points of the midpoint rule on λ.
        images: How many images it is measured on; all when absent.
    """

    logsnr_max: Annotated[float, Field(le=20.0)] = 8.0
    logsnr_min: Annotated[float, Field(ge=-20.0)] = -6.0
    levels: Annotated[int, Field(ge=1, le=1000)] = 14
    images: Annotated[int, Field(ge=1)] | None = None

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
