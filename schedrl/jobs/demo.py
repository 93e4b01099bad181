"""The main job, once, small enough for two cores: learn a schedule, compare it, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from schedrl.benchmark.families import checked
from schedrl.benchmark.tasks import Part, held_out_seeds
from schedrl.environments.training.variant import TrainingVariant
from schedrl.policies.agents import Agent, Form, TrainedAgent, default_agents
from schedrl.policies.ppo_training import (
    Listener,
    TrainingRequest,
    begin_or_resume,
    check_folder,
    request_for,
)
from schedrl.policies.progress import TrainingProgress

ENVIRONMENT = "schedrl/DigitsKnots-v0"
"""Where the demo learns."""

RUNS = 1600
"""Training runs that PPO learns from, the same number as for the shipped policy."""

MINUTES = 6.5
"""Longest time of its training on a slow machine; the benchmark takes about four minutes more on two cores."""

AGENT = "agent"
"""Folder of the trained agent, in the demo's."""


def request_in(
    folder: Path, variant: TrainingVariant, overrides: dict[str, Any], timesteps: int | None = None
) -> TrainingRequest:
    """The training of the demo.

    Args:
        folder: Folder of the agent.
        variant: The environment, changed by ``overrides``.
        overrides: Changes to the registered variant.
        timesteps: Environment steps; :data:`RUNS` episodes when absent.
    """
    steps = timesteps if timesteps is not None else RUNS * variant.episode_steps
    request = request_for(variant.id, 0, overrides, total_timesteps=steps)
    check_folder(request, folder)
    return request


class _TimeIsUpError(Exception):
    """The minutes of the training are spent."""


def train_for(request: TrainingRequest, folder: Path, minutes: float, listen: Listener) -> TrainedAgent:
    """Train, or continue a training that was interrupted; stop when the minutes are spent.

    Returns:
        The agent after its last update.
    """
    end = time.monotonic() + 60.0 * minutes

    def watch(progress: TrainingProgress) -> None:
        listen(progress)
        if time.monotonic() > end and progress.timesteps < request.spec.total_timesteps:
            raise _TimeIsUpError

    with suppress(_TimeIsUpError):  # the agent has been saved
        begin_or_resume(request, folder, watch)
    return TrainedAgent(name="ppo", path=str(folder))


def benchmark(
    variant: TrainingVariant,
    overrides: Mapping[str, Any],
    num_seeds: int,
    forms: tuple[Form, ...],
    learned: Agent | None = None,
) -> Part:
    """The benchmark of the demo: every agent of the catalogue, and the learned one when it is there.

    Args:
        variant: The environment, changed by ``overrides``.
        overrides: Changes to the registered variant.
        num_seeds: Number of held-out seeds.
        forms: Forms in which hand-made schedules are measured.
        learned: The agent that was trained.
    """
    agents: dict[str, Agent] = {} if learned is None else {"ppo": learned}
    for agent in default_agents(variant):
        agents["ppo (shipped)" if agent.role == "learned" else agent.name] = agent
    seeds, reference = tuple(held_out_seeds(num_seeds)), "ppo" if learned is not None else None
    return checked(Part(variant, agents, seeds, forms, reference=reference, overrides=overrides))
