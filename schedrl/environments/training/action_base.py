"""What every kind of action has in common."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from schedrl.diffusion.training_spec import DSCCoefficients
from schedrl.errors import Spec
from schedrl.schedules import Schedule

__all__ = ["ActionKind", "Array", "BoxAction", "Memory", "PhaseAction", "Range"]

Array = NDArray[np.float64]

Memory = tuple[float, ...]
"""What one run carries from phase to phase."""

Range = tuple[float, float]
"""Pinned log-SNR end points of the measurement: (data end, noise end)."""


class ActionKind(Protocol):
    """One way of deciding a schedule."""

    @property
    def kind(self) -> str:
        """Name in the variant."""

    @property
    def num_knots(self) -> int:
        """Environment steps in the sweep before each phase of training."""

    @property
    def initial_memory(self) -> Memory:
        """What a run carries from phase to phase, at the start: log K for ``gain``, four logs for ``dsc``."""

    def space(self) -> gym.spaces.Box | gym.spaces.Discrete:
        """Action space of one run."""

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        """Decode a sweep.

        Args:
            sweep: ``[knots, runs, ...]`` actions.
            memory: ``[runs, entries]``, carried from the last phase.
            limits: Log-SNR at the data and at the noise end of the measurement.

        Returns:
            One schedule per run, and the memory to carry on.
        """

    def coefficients(self, memory: Array) -> DSCCoefficients | None:
        """DSC's γ and λ for the next phase, where the agent sets them."""

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[Any]:
        """Action at ``knot`` that reproduces ``schedule``.

        Raises:
            SchedrlError: This kind cannot represent the schedule.
        """


class PhaseAction(Spec):
    """What most kinds have in common: one action a phase, nothing carried, the variant's own optimizer."""

    @property
    def num_knots(self) -> int:
        """One."""
        return 1

    @property
    def initial_memory(self) -> Memory:
        """Nothing is carried."""
        return ()

    def coefficients(self, memory: Array) -> DSCCoefficients | None:
        """None: the optimizer is the variant's."""
        return None


class BoxAction(PhaseAction):
    """Common part of the continuous kinds: a Box of [−1, 1], and 0 as the reference."""

    @property
    def width(self) -> int:
        """Numbers in an action."""
        return 1

    def space(self) -> gym.spaces.Box:
        """Box of [−1, 1]."""
        return gym.spaces.Box(-1.0, 1.0, (self.width,), np.float32)
