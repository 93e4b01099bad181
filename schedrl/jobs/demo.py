"""The main job, once, small enough for two cores: learn a schedule, compare it, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import TrainedAgent
from schedrl.policies.progress import TrainingProgress
from schedrl.policies.training import (
    REQUEST,
    Listener,
    TrainingRequest,
    read_request,
    request_for,
    resume,
    train,
)

__all__ = ["AGENT", "ENVIRONMENT", "MINUTES", "RUNS", "TrainingPlan", "train_for"]

ENVIRONMENT = "schedrl/DigitsKnots-v0"
"""Where the demo learns."""

RUNS = 1600
"""Training runs that PPO learns from in it, as many as the shipped policy did."""

MINUTES = 6.5
"""Longest that its training takes on a slow machine; the comparison needs about four minutes more on two cores."""

AGENT = "agent"
"""Folder of the trained agent, in the demo's."""


@dataclass(frozen=True)
class TrainingPlan:
    """What the demo trains.

    Attributes:
        request: The training.
        folder: Where to.
        minutes: When to stop in any case.
    """

    request: TrainingRequest
    folder: Path
    minutes: float

    @classmethod
    def make(
        cls,
        variant: TrainingVariant,
        overrides: dict[str, Any],
        folder: Path,
        *,
        timesteps: int | None,
        minutes: float,
    ) -> TrainingPlan:
        """Plan a training.

        Args:
            variant: The environment, changed as ``overrides`` say.
            overrides: Changes to the registered variant.
            folder: Where to.
            timesteps: Environment steps; :data:`RUNS` episodes when absent.
            minutes: When to stop in any case.

        Raises:
            SchedrlError: The folder holds another training.
        """
        steps = timesteps if timesteps is not None else RUNS * variant.episode_steps
        request = request_for(variant.id, 0, overrides, total_timesteps=steps)
        if (folder / REQUEST).is_file() and read_request(folder) != request:
            raise SchedrlError(f"{folder}: holds another training; give another folder, or delete this one")
        return cls(request, folder, minutes)


class _TimeIsUpError(Exception):
    """The training has had its minutes."""


def train_for(plan: TrainingPlan, listen: Callable[[TrainingProgress], None]) -> TrainedAgent:
    """Train, or go on with a training that was interrupted; stop when its minutes are spent.

    Returns:
        The agent, as far as it got.
    """
    import time

    end = time.monotonic() + 60.0 * plan.minutes

    def watch(progress: TrainingProgress) -> None:
        listen(progress)
        if time.monotonic() > end and progress.timesteps < plan.request.spec.total_timesteps:
            raise _TimeIsUpError

    watching: Listener = watch
    try:
        if (plan.folder / REQUEST).is_file():
            resume(plan.folder, listen=watching)
        else:
            train(plan.request, plan.folder, watching)
    except _TimeIsUpError:
        pass  # the session has saved the agent on its way out
    return TrainedAgent(name="ppo", path=str(plan.folder))
