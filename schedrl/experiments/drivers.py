"""What decides the noise of the runs of a row while they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schedrl import data
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.population import PhaseRecord, Population
from schedrl.diffusion.training_spec import TrainingSpec
from schedrl.environments.training.runs import Phase, TrainingRuns
from schedrl.environments.training.variant import TrainingVariant
from schedrl.policies.agents import find
from schedrl.schedules import Schedule

__all__ = ["AgentDriver", "Driver", "FixedDriver", "started"]

Array = NDArray[np.float64]


class Driver(Protocol):
    """Trains all runs of a row from one measurement to the next."""

    population: Population

    def train(self, num_steps: int) -> PhaseRecord:
        """Go on."""

    def gains(self) -> dict[str, Array]:
        """AVA's K (``gain``) and τ (``threshold``) ``[runs]``, as far as there are any."""


def started(
    variant: TrainingVariant, training: TrainingSpec, seeds: Sequence[int], device: str
) -> Population:
    """A population on a variant's training images, one run per seed."""
    population = Population(training, data.load(variant.data).train, len(seeds), device)
    for run, seed in enumerate(seeds):
        population.start(run, seed)
    return population


class FixedDriver:
    """A fixed schedule."""

    def __init__(self, schedule: Schedule, population: Population, timesteps: int | None) -> None:
        self.population = population
        laws = [schedule] * population.num_runs
        self._law = ScheduleNoise.of(laws, timesteps, betas=population.spec.reads_betas)

    def train(self, num_steps: int) -> PhaseRecord:
        """Go on."""
        return self.population.train(self._law, num_steps)

    def gains(self) -> dict[str, Array]:
        """None."""
        return {}


class AgentDriver:
    """An agent that decides before every phase of its environment.

    Args:
        agent: Its name.
        env_id: The environment whose policy it is.
        variant: What is trained; it asks and shows what that environment does.
        seeds: One run each.
        device: Where.
    """

    def __init__(
        self, agent: str, env_id: str, variant: TrainingVariant, seeds: Sequence[int], device: str
    ) -> None:
        self._runs = TrainingRuns(variant, len(seeds), device)
        for run, seed in enumerate(seeds):
            self._runs.start(run, seed)
        self.population = self._runs.population
        self._action, self._observe = variant.action, variant.observation.observe
        self._policy = find(agent, env_id).policy(variant)
        self._states: list[Any] = [None] * len(seeds)
        self._start = np.ones(1, dtype=np.bool_)
        self._phase: Phase | None = None
        self._left = 0

    def train(self, num_steps: int) -> PhaseRecord:
        """Go on, through as many phases as it takes."""
        records = []
        while num_steps > 0:
            phase = self._phase or self._decide()
            part = min(num_steps, self._left)
            records.append(phase.advance(part))
            self._left -= part
            num_steps -= part
            if self._left == 0:
                self._runs.finish_phase(phase)
                self._phase = None
        return PhaseRecord.joined(records)

    def _decide(self) -> Phase:
        runs, complete = self._runs, False
        while not complete:
            seen, actions = self._observe(runs.view()), []
            for run, state in enumerate(
                self._states
            ):  # one by one: a network's last digit depends on its batch
                row = seen[run : run + 1]
                action, self._states[run] = self._policy.predict(row, state, self._start, deterministic=True)
                actions.append(np.asarray(action)[0])
            self._start = np.zeros_like(self._start)
            complete = runs.walk(np.stack(actions))
        self._phase, self._left = runs.begin_phase(), runs.variant.episode.steps_per_phase
        return self._phase

    def gains(self) -> dict[str, Array]:
        """K, where the agent sets it; an agent has no τ."""
        gains = self._action.gains(self._runs.memory)
        return {} if gains is None else {"gain": gains}
