"""What an agent decides: how far the next step goes, relative to the reference."""

from __future__ import annotations

from typing import Annotated

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.environments.sampling.references import AnyReference, Sources, TangentReference
from schedrl.errors import Spec
from schedrl.schedules.conversions import FloatArray

__all__ = ["Placement"]


class Placement(Spec):
    r"""The next step's share of the way that is left.

    At place w with n steps left, the next place is :math:`w' = w (1 - s)` with
    :math:`\mathrm{logit}\, s = \mathrm{logit}(1/n) + scale \cdot a`. Action 0 goes 1/n of the way, so zeros from start
    to end give the reference grid. The last step always ends at data.

    Attributes:
        reference: The line along which w is measured.
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

    def next_place(self, place: FloatArray, remaining: NDArray[np.int64], action: FloatArray) -> FloatArray:
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
        self,
        sigma: FloatArray,
        wanted: FloatArray,
        remaining: NDArray[np.int64],
        total: NDArray[np.int64],
        sources: Sources,
    ) -> NDArray[np.float32]:
        """Actions ``[B, 1]`` that step from level ``sigma`` to ``wanted``, clipped to the box.

        Args:
            sigma: Present levels.
            wanted: Next levels, below them.
            remaining: Steps left, this one included.
            total: Steps of the episode.
            sources: What is sampled.
        """
        here, there = (self.reference.place(level, total, sources) for level in (sigma, wanted))
        with np.errstate(divide="ignore"):
            # The odds of the wanted share against those of an even step; infinite at either end of the way.
            odds = (
                np.log(np.maximum(here - there, 0.0)) - np.log(there) + np.log(np.maximum(remaining - 1, 1))
            )
        action = np.where(remaining > 1, odds / self.scale, 0.0)
        return action.clip(-1.0, 1.0).astype(np.float32)[:, None]
