"""Rewards of a sampling environment: both pay for the drop of the final error's logarithm below the reference's."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from schedrl.errors import Spec
from schedrl.schedules.conversions import FloatArray

ERROR_RANGE = (1e-30, 1e30)
"""Errors are clipped to this range, so that their logarithms and ratios are finite."""


def log_error(error: FloatArray) -> FloatArray:
    """Natural log of an error clipped to :data:`ERROR_RANGE`.

    Examples:
        >>> log_error(np.array([1.0, np.inf])).round(2)
        array([ 0.  , 69.08])
    """
    return np.asarray(np.log(np.clip(error, *ERROR_RANGE)))


class SamplingReward(Spec):
    """One way of paying.

    Attributes:
        kind: Name in the variant.
        needs_prediction: Whether the final error has to be predicted at every step.
    """

    kind: str
    needs_prediction: ClassVar[bool] = False


class PredictedReward(SamplingReward):
    """Each step earns the drop in the log of the final error that would follow if the reference took the rest.

    The sum is the log of the reference's final error minus the log of the agent's: the return of ``"final"``, paid
    where it is earned.
    """

    kind: Literal["predicted"] = "predicted"
    needs_prediction: ClassVar[bool] = True


class FinalReward(SamplingReward):
    """The last step earns the log of the reference's final error minus the log of the agent's; the others nothing."""

    kind: Literal["final"] = "final"


AnySamplingReward = Annotated[PredictedReward | FinalReward, Field(discriminator="kind")]
"""Any reward, chosen by ``kind``."""
