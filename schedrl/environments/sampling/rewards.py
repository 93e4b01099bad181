"""What a step of a sampler earns."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from schedrl.errors import Spec
from schedrl.schedules.conversions import FloatArray

__all__ = [
    "ERROR_RANGE",
    "AnySamplingReward",
    "FinalReward",
    "PredictedReward",
    "SamplingReward",
    "log_error",
]

ERROR_RANGE = (1e-30, 1e30)
"""Errors beyond it count as its ends, so that their logarithms and ratios are numbers."""


def log_error(error: FloatArray) -> FloatArray:
    """Natural log of an error, cut to where it is a number.

    Examples:
        >>> log_error(np.array([1.0, np.inf])).round(2)
        array([ 0.  , 69.08])
    """
    return np.asarray(np.log(np.clip(error, *ERROR_RANGE)))


class SamplingReward(Protocol):
    """One way of paying for the drop of the final error's logarithm below the reference's."""

    @property
    def kind(self) -> str:
        """Name in the variant."""

    @property
    def needs_prediction(self) -> bool:
        """Whether the final error has to be predicted at every step."""


class PredictedReward(Spec):
    """Each step earns the drop in log of the final error that would follow if the reference took the rest.

    It telescopes to the log of the reference's final error minus the log of the agent's: the same return as
    ``"final"``, paid where it is earned.
    """

    kind: Literal["predicted"] = "predicted"

    @property
    def needs_prediction(self) -> bool:
        """Yes."""
        return True


class FinalReward(Spec):
    """The last step earns the log of the reference's final error minus the log of the agent's; the others nothing."""

    kind: Literal["final"] = "final"

    @property
    def needs_prediction(self) -> bool:
        """No."""
        return False


AnySamplingReward = Annotated[PredictedReward | FinalReward, Field(discriminator="kind")]
"""Any reward, chosen by ``kind``."""
