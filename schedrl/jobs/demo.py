"""The main job, once, small enough for two cores: learn a schedule, compare it, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedrl.benchmark.families import checked
from schedrl.benchmark.tasks import Part, held_out_seeds
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import Agent, Form, TrainedAgent, default_agents
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

__all__ = ["AGENT", "ENVIRONMENT", "MINUTES", "RUNS", "TrainingPlan", "comparison", "train_for"]

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


def comparison(
    variant: TrainingVariant,
    overrides: Mapping[str, Any],
    num_seeds: int,
    forms: tuple[Form, ...],
    learned: Agent | None = None,
) -> Part:
    """The benchmark of the demo: every agent of the catalogue, and the learned one when it is there.

    Args:
        variant: The environment, changed as ``overrides`` say.
        overrides: Changes to the registered variant.
        num_seeds: Number of held-out seeds.
        forms: Forms in which hand-made schedules are measured.
        learned: What the demo has learned.

    Raises:
        SchedrlError: Something in it cannot be measured.
    """
    agents: dict[str, Agent] = {} if learned is None else {"ppo": learned}
    for agent in default_agents(variant):
        agents["ppo (shipped)" if agent.role == "learned" else agent.name] = agent
    seeds, reference = tuple(held_out_seeds(num_seeds)), "ppo" if learned is not None else None
    return checked(Part(variant, agents, seeds, forms, reference=reference, overrides=overrides))
