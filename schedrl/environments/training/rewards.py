"""What a phase of training earns."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.errors import Spec

__all__ = ["AnyReward", "BoundReward", "OwnLossReward", "RewardKind"]

Array = NDArray[np.float64]


class RewardKind(Protocol):
    """One way of scoring a phase."""

    @property
    def kind(self) -> str:
        """Name in the variant."""

    @property
    def needs_own_loss(self) -> bool:
        """Whether the loss under the schedule in force has to be measured."""

    def earned(self, before: Array, after: Array, own_loss: Array | None) -> Array:
        """Rewards of the surviving runs.

        Args:
            before: Validation bound before the phase, bits/dim, ``[runs]``.
            after: The same after it.
            own_loss: Validation ε error under the schedule in force, if it was asked for.
        """

    def penalty(self, worst_bound: float, worst_error: float, phases: int) -> float:
        """Reward of a run that diverges, below what any surviving run can have in total.

        Args:
            worst_bound: The bound at which a run counts as diverged.
            worst_error: The mean ε error at which it does.
            phases: Phases in an episode.
        """


class BoundReward(Spec):
    """Decrease of the validation bound over the phase, in bits/dim.

    The return telescopes to the first bound minus the last. The bound is the same measurement whatever the agent
    does, so the only way to earn is to train a better network.
    """

    kind: Literal["bound"] = "bound"

    @property
    def needs_own_loss(self) -> bool:
        """No."""
        return False

    def earned(self, before: Array, after: Array, own_loss: Array | None) -> Array:
        """``before - after``."""
        return before - after

    def penalty(self, worst_bound: float, worst_error: float, phases: int) -> float:
        """Minus the worst bound: as if the run had ended there, having started from zero."""
        return -worst_bound


class OwnLossReward(Spec):
    """Paper B's reward as printed: minus the validation loss under the schedule in force.

    An agent earns it by adding noise, not by training well. It is here to show that; see ``docs/results/gaming.md``.
    """

    kind: Literal["own_loss"] = "own_loss"

    @property
    def needs_own_loss(self) -> bool:
        """Yes."""
        return True

    def earned(self, before: Array, after: Array, own_loss: Array | None) -> Array:
        """Minus the loss."""
        assert own_loss is not None
        return -own_loss

    def penalty(self, worst_bound: float, worst_error: float, phases: int) -> float:
        """Minus the worst loss in every phase."""
        return -worst_error * phases


AnyReward = Annotated[BoundReward | OwnLossReward, Field(discriminator="kind")]
"""Any reward, chosen by ``kind``."""
