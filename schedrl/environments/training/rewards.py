"""Rewards of a phase of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.errors import Spec

Array = NDArray[np.float64]


class TrainingReward(Spec, ABC):
    """One way of scoring a phase.

    Attributes:
        kind: Name in the variant.
        needs_own_loss: Whether the loss under the schedule in force has to be measured.
    """

    kind: str
    needs_own_loss: ClassVar[bool] = False

    @abstractmethod
    def earned(self, before: Array, after: Array, own_loss: Array | None) -> Array:
        """Rewards of the surviving runs.

        Args:
            before: Validation bound before the phase, bits/dim, ``[runs]``.
            after: The same after it.
            own_loss: Validation ε error under the schedule in force, where it was measured.
        """

    @abstractmethod
    def penalty(self, worst_bound: float, worst_error: float, phases: int) -> float:
        """Reward of a run that diverges, below what any surviving run can have in total.

        Args:
            worst_bound: The bound at which a run counts as diverged.
            worst_error: The mean ε error at which it does.
            phases: Phases in an episode.
        """


class BoundReward(TrainingReward):
    """Decrease of the validation bound over the phase, in bits/dim.

    The return telescopes to the first bound minus the last. No action can change how the bound is measured, so the only
    way to earn is to train a better network.
    """

    kind: Literal["bound"] = "bound"

    def earned(self, before: Array, after: Array, own_loss: Array | None) -> Array:
        return before - after

    def penalty(self, worst_bound: float, worst_error: float, phases: int) -> float:
        """Minus the worst bound: as if the run had ended there, having started from zero."""
        return -worst_bound


class OwnLossReward(TrainingReward):
    """AKOD's printed reward: minus the validation loss under the schedule in force.

    An agent earns it by adding noise, not by training well; see ``docs/results/gaming.md``.
    """

    kind: Literal["own_loss"] = "own_loss"
    needs_own_loss: ClassVar[bool] = True

    def earned(self, before: Array, after: Array, own_loss: Array | None) -> Array:
        assert own_loss is not None
        return -own_loss

    def penalty(self, worst_bound: float, worst_error: float, phases: int) -> float:
        return -worst_error * phases


AnyReward = Annotated[BoundReward | OwnLossReward, Field(discriminator="kind")]
"""Any reward, chosen by ``kind``."""
