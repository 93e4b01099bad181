"""Training runs of one row, all seeds side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schedrl import data
from schedrl.benchmark.ava_dsc.records import Traces
from schedrl.benchmark.ava_dsc.rows import Row, Setting
from schedrl.diffusion.ava import AVAController
from schedrl.diffusion.controlled import ControlledTraining
from schedrl.diffusion.noise_law import NoiseLaw
from schedrl.diffusion.population import PhaseRecord, Population
from schedrl.environments.training.actions import DSCAction
from schedrl.environments.training.runs import Phase, TrainingRuns, untrained_mse, worst_error
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import apply_overrides, of_family
from schedrl.errors import SchedrlError
from schedrl.metrics.bound import Bound
from schedrl.policies.agents import find
from schedrl.policies.factory import make_policy

__all__ = ["Trained", "train_row"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """What became of the runs of a row.

    Attributes:
        population: The trained networks.
        steps: Optimizer steps at which the bound was measured.
        bounds: ``[measurements, runs]`` bits/dim, the worst bound from a divergence on.
        test_bounds: ``[runs]`` bits/dim, the worst bound for runs that diverged.
        diverged_at: ``[runs]`` optimizer steps, −1 for runs that did not.
        traces: ``[runs]`` what moved.
        train_seconds: Wall-clock time of the training, without the measurements above.
    """

    population: Population
    steps: tuple[int, ...]
    bounds: Array
    test_bounds: Array
    diverged_at: NDArray[np.int64]
    traces: tuple[Traces, ...]
    train_seconds: float


class Driver(Protocol):
    """Trains all runs of a row from one measurement to the next."""

    population: Population

    def train(self, num_steps: int) -> PhaseRecord:
        """Go on."""

    def gains(self) -> dict[str, Array]:
        """AVA's K (``gain``) and τ (``threshold``) ``[runs]``, as far as there are any."""


class FixedDriver:
    """A fixed schedule."""

    def __init__(self, row: Row, population: Population, timesteps: int | None) -> None:
        assert row.schedule is not None
        self.population = population
        laws = [row.schedule] * population.num_runs
        self._law = NoiseLaw.of(laws, timesteps, betas=population.spec.reads_betas)

    def train(self, num_steps: int) -> PhaseRecord:
        """Go on."""
        return self.population.train(self._law, num_steps)

    def gains(self) -> dict[str, Array]:
        """None."""
        return {}


class AVADriver:
    """AVA's controller, at every optimizer step."""

    def __init__(self, row: Row, population: Population, timesteps: int | None) -> None:
        assert row.ava is not None
        self.population = population
        self._controller = AVAController(row.ava, population.num_runs)
        self._training = ControlledTraining(population, self._controller, timesteps=timesteps)

    def train(self, num_steps: int) -> PhaseRecord:
        """Go on."""
        return self._training.train(num_steps)

    def gains(self) -> dict[str, Array]:
        """K and τ."""
        return {"gain": self._controller.gain.copy(), "threshold": self._controller.tau.copy()}


class AgentDriver:
    """An agent that decides before every phase of its environment."""

    def __init__(self, row: Row, setting: Setting, rate: float, seeds: Sequence[int], device: str) -> None:
        assert row.agent is not None
        definition = setting.variant.model_dump(mode="json")
        changed = apply_overrides(definition, {"training.optimizer.learning_rate": rate})
        self._runs = TrainingRuns(of_family(changed, TrainingVariant), len(seeds), device)
        for run, seed in enumerate(seeds):
            self._runs.start(run, seed)
        self.population = self._runs.population
        self._action, self._observe = setting.variant.action, setting.variant.observation.observe
        self._policy = make_policy(find(row.agent, setting.variant.id), setting.variant)
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
        runs, seen = self._runs, self._observe(self._runs.view())
        actions = []
        for run, state in enumerate(self._states):  # one by one: a network's last digit depends on its batch
            row = seen[run : run + 1]
            action, self._states[run] = self._policy.predict(row, state, self._start, deterministic=True)
            actions.append(np.asarray(action)[0])
        self._start = np.zeros_like(self._start)
        if not runs.walk(np.stack(actions)):
            raise SchedrlError("an experiment's agent decides once per phase")
        self._phase, self._left = runs.begin_phase(), runs.variant.episode.steps_per_phase
        return self._phase

    def gains(self) -> dict[str, Array]:
        """K; an agent has no τ."""
        if not isinstance(self._action, DSCAction):
            return {}
        return {"gain": np.exp(self._runs.memory[:, 0])}


def train_row(
    row: Row,
    setting: Setting,
    rate: float,
    seeds: Sequence[int],
    *,
    steps: int | None = None,
    tested: bool = True,
    device: str = "cpu",
) -> Trained:
    """Train one run per seed.

    Args:
        row: How.
        setting: On what.
        rate: The learning rate.
        seeds: Of weights, batches and noise.
        steps: Optimizer steps; the setting's budget when absent.
        tested: Measure test images at the end.
        device: Where.
    """
    variant = setting.variant
    budget = steps or setting.steps
    driver: Driver
    if row.agent is not None:
        driver = AgentDriver(row, setting, rate, seeds, device)
    else:
        images = data.load(variant.data)
        population = Population(setting.training(row, rate), images.train, len(seeds), device)
        for run, seed in enumerate(seeds):
            population.start(run, seed)
        kind = FixedDriver if row.ava is None else AVADriver
        driver = kind(row, population, variant.timesteps)
    watch = _Watch(setting, driver.population, device)
    done = 0
    while done < budget:
        part = min(setting.measure_every, budget - done)
        began = time.perf_counter()
        record = driver.train(part)
        watch.seconds += time.perf_counter() - began
        done += part
        watch.note(done, record, driver.gains())
    return watch.finish(tested)


class _Watch:
    """Measures runs while they train, and keeps what is finite."""

    def __init__(self, setting: Setting, population: Population, device: str) -> None:
        variant = setting.variant
        images = data.load(variant.data)
        self.population, self.seconds = population, 0.0
        self._bound = Bound(variant.bound, images.validation, images.levels, device)
        assert variant.test_bound is not None  # the setting has seen to it
        self._test = Bound(variant.test_bound, images.test, images.levels, device)
        self._worst_error = worst_error(variant, untrained_mse(variant, self._bound))
        self._worst = float(self._bound.bits_per_dim(np.full(variant.bound.levels, self._worst_error)))
        runs = population.num_runs
        self._diverged_at = np.full(runs, -1, dtype=np.int64)
        self._steps: list[int] = []
        self._bounds: list[Array] = []
        self._traces: list[dict[str, list[float]]] = [{} for _ in range(runs)]

    def note(self, done: int, record: PhaseRecord, gains: dict[str, Array]) -> None:
        value = self._bound.evaluate(self.population.predict_epsilon, self.population.num_runs)
        error = value.mse.mean(axis=1)
        gone = ~(np.isfinite(record.loss).all(axis=0) & (error <= self._worst_error))
        self._diverged_at[gone & (self._diverged_at < 0)] = done
        lost = self._diverged_at >= 0
        self._steps.append(done)
        self._bounds.append(np.where(lost, self._worst, value.bits_per_dim))
        moved = {
            "gradient_norm": np.sqrt(np.square(record.gradient_norm.astype(np.float64)).mean(axis=0)),
            "rate": record.rate.mean(axis=0),
        }
        for name, values in (moved | gains).items():
            for run in np.flatnonzero(~lost):
                self._traces[run].setdefault(name, []).append(float(values[run]))

    def finish(self, tested: bool) -> Trained:
        lost = self._diverged_at >= 0
        tests = np.full(len(lost), self._worst)
        if tested and not lost.all():
            found = self._test.evaluate(self.population.predict_epsilon, len(lost)).bits_per_dim
            tests = np.where(lost, self._worst, found)
        traces = tuple(Traces(**{name: tuple(v) for name, v in each.items()}) for each in self._traces)
        return Trained(
            self.population, tuple(self._steps), np.stack(self._bounds), tests, self._diverged_at, traces,
            self.seconds,
        )  # fmt: skip
