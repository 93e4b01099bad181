"""Training the runs of a row side by side, and what is measured on the way and at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from schedrl import data
from schedrl.diffusion.ava import AVAController, AVASpec
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.population import ControlledTraining, PhaseRecord, Population
from schedrl.diffusion.prediction import surrogate_error
from schedrl.environments.training.runs import Phase, TrainingRuns
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.experiments.records import ExperimentSetting, Traces
from schedrl.metrics.population_samples import BATCH, draw_samples, reference_features
from schedrl.metrics.sample_quality import FrechetDistance
from schedrl.policies.agents import Agent
from schedrl.schedules import Schedule

Array = NDArray[np.float64]

_SURROGATE_IMAGES, _SURROGATE_SEED = 64, 13
"""Number of test images on which the error of MSFI's surrogate is measured, and the seed of their noise."""


class Driver(Protocol):
    """Trains all runs of a row and decides their schedules."""

    def train(self, num_steps: int) -> PhaseRecord:
        """Train on."""

    def gains(self) -> dict[str, Array]:
        """AVA's K (``gain``) and τ (``threshold``), each ``[runs]``, where the row has them."""


class FixedDriver:
    """Training under a fixed schedule; ``timesteps`` is T of discrete training, None if it is continuous."""

    def __init__(self, schedule: Schedule, population: Population, timesteps: int | None) -> None:
        schedules = [schedule] * population.num_runs
        noise = ScheduleNoise.of(schedules, timesteps, betas=population.spec.reads_betas)
        self.train = partial(population.train, noise)

    def gains(self) -> dict[str, Array]:
        return {}


class AVADriver:
    """Training under AVA, whose K moves at every optimizer step."""

    def __init__(self, spec: AVASpec, population: Population, timesteps: int | None) -> None:
        self._controller = AVAController(spec, population.num_runs)
        self.train = ControlledTraining(population, self._controller, timesteps=timesteps).train

    def gains(self) -> dict[str, Array]:
        return {"gain": self._controller.gain.copy(), "threshold": self._controller.tau.copy()}


class AgentDriver:
    """Training under an agent that decides before every phase of its environment; the runs are started."""

    def __init__(self, agent: Agent, runs: TrainingRuns) -> None:
        self._runs, self._policy = runs, agent.policy(runs.variant)
        self._states: list[Any] = [None] * runs.num_runs
        self._start = np.ones(1, dtype=np.bool_)
        self._phase: Phase | None = None
        self._left = 0

    def train(self, num_steps: int) -> PhaseRecord:
        """Train on; a call may begin or end within a phase."""
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
        runs, variant, complete = self._runs, self._runs.variant, False
        while not complete:
            seen, actions = variant.observation.observe(runs.view()), []
            for run, state in enumerate(self._states):
                row = seen[run : run + 1]  # by itself: a network's last digit depends on its batch
                action, self._states[run] = self._policy.predict(row, state, self._start, deterministic=True)
                actions.append(np.asarray(action)[0])
            self._start = np.zeros_like(self._start)
            complete = runs.walk(np.stack(actions))
        self._phase, self._left = runs.begin_phase(), variant.episode.steps_per_phase
        return self._phase

    def gains(self) -> dict[str, Array]:
        """K where the agent sets it; an agent has no τ."""
        gains = self._runs.variant.action.gains(self._runs.memory)
        return {} if gains is None else {"gain": gains}


@dataclass(frozen=True)
class TrainedRow:
    """The trained runs of a row.

    Attributes:
        population: The trained networks.
        steps: Optimizer steps at which the validation bound was measured.
        bounds: ``[measurements, runs]`` bits/dim; after a divergence, the worst bound (:class:`DivergenceRule`).
        test_bounds: ``[runs]`` bits/dim; the worst bound for diverged runs, and for all if it was not measured.
        diverged_at: ``[runs]`` optimizer steps, −1 for runs that did not diverge.
        traces: What changed during each run.
        step_seconds: Median wall-clock time of one optimizer step of all runs together.
    """

    population: Population
    steps: tuple[int, ...]
    bounds: Array
    test_bounds: Array
    diverged_at: NDArray[np.int64]
    traces: tuple[Traces, ...]
    step_seconds: float

    @property
    def lost(self) -> NDArray[np.bool_]:
        """Which runs diverged, ``[runs]``."""
        return self.diverged_at >= 0


def train_watched(
    driver: Driver, runs: TrainingRuns, num_steps: int, every: int, *, tested: bool = True
) -> TrainedRow:
    """Train started runs for ``num_steps``, and measure the validation bound ``every`` so many steps.

    The variant of the runs says how bounds are measured and when a run has diverged. ``tested`` asks for the bound on
    test images at the end.
    """
    population, num_runs, worst = runs.population, runs.num_runs, runs.divergence.worst_bound
    diverged_at = np.full(num_runs, -1, dtype=np.int64)
    traces: list[dict[str, list[float]]] = [{} for _ in range(num_runs)]
    steps, bounds, seconds = list[int](), list[Array](), list[float]()
    for done in [*range(every, num_steps, every), num_steps]:
        part = done - (steps[-1] if steps else 0)
        began = time.perf_counter()
        record = driver.train(part)
        seconds.append((time.perf_counter() - began) / part)
        value = runs.bound.evaluate(population.predict_epsilon, num_runs)
        diverged_at[runs.divergence.diverged(record, value) & (diverged_at < 0)] = done
        lost = diverged_at >= 0
        steps.append(done)
        bounds.append(np.where(lost, worst, value.bits_per_dim))
        moved = driver.gains() | {
            "gradient_norm": np.sqrt(np.square(record.gradient_norm.astype(np.float64)).mean(axis=0)),
            "rate": record.rate.mean(axis=0),
        }
        for run in np.flatnonzero(~lost):
            for name, values in moved.items():
                traces[run].setdefault(name, []).append(float(values[run]))
    lost, tests = diverged_at >= 0, np.full(num_runs, worst)
    if tested and not lost.all() and (found := runs.test_bounds()) is not None:
        tests = np.where(lost, worst, found.bits_per_dim)
    return TrainedRow(
        population, tuple(steps), np.stack(bounds), tests, diverged_at,
        tuple(Traces(**{name: tuple(values) for name, values in each.items()}) for each in traces),
        float(np.median(seconds)),
    )  # fmt: skip


def check_samples(setting: ExperimentSetting) -> None:
    """Make sure that Fréchet distances can be measured: the feature network is there and fits, samples are enough."""
    features = reference_features(setting.variant.data, setting.extractor).extractor
    if setting.samples <= features.dimension:
        raise SchedrlError(
            f"experiment: samples must be more than the {features.dimension} features of '{features.name}' "
            f"(got {setting.samples})"
        )


def sample_fields(
    trained: TrainedRow, setting: ExperimentSetting, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Sample every network in each of the setting's ways, and compare with the training images.

    A run's seed also fixes its starting noise.

    Returns:
        Of each run, the fields ``frechet`` and ``sampled_images_per_second`` of its record.
    """
    reference = reference_features(setting.variant.data, setting.extractor)
    population, distances, seconds = trained.population, [dict[str, float | None]() for _ in seeds], 0.0
    zeros = torch.zeros(len(seeds), BATCH, *population.image_shape, device=population.device)
    population.predict_epsilon(zeros, zeros[:, :, 0, 0, 0])  # fills caches, on a GPU above all
    for way in setting.ways:
        began = time.perf_counter()
        images = draw_samples(
            population, setting.variant.bound, setting.samples, way.steps, seeds, way.sampler
        )
        seconds += time.perf_counter() - began
        for run, lost in enumerate(trained.lost):
            usable = not lost and np.isfinite(images[run]).all()
            own = reference.extractor.features(images[run]) if usable else None
            found = None if own is None else FrechetDistance.between(own, reference).value
            distances[run][way.label] = found
    whole = any(distance is not None for each in distances for distance in each.values())
    speed = len(seeds) * len(setting.ways) * setting.samples / seconds if whole else None
    only = setting.ways[0].label if len(setting.ways) == 1 else None
    return [
        {"frechet": each[only] if only else each, "sampled_images_per_second": speed} for each in distances
    ]


def surrogate_fields(trained: TrainedRow, variant: TrainingVariant) -> list[dict[str, Any]]:
    """Errors of a sampler's feature for t−1 at every other λ of the bound's grid.

    Returns:
        Of each run, the fields ``surrogate_error``, ``standing_still`` and ``surrogate_levels`` of its record; empty
        without MSFI or after a divergence.
    """
    population = trained.population
    found: list[dict[str, Any]] = [{} for _ in trained.lost]
    if (msfi := population.spec.network.msfi) is None:
        return found
    x0 = torch.from_numpy(np.array(data.load(variant.data).test[:_SURROGATE_IMAGES])).to(population.device)
    rng = np.random.default_rng(_SURROGATE_SEED)
    noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)).to(population.device)
    levels = tuple(variant.bound.grid[::2].tolist())
    for run in np.flatnonzero(~trained.lost):  # separately: PyTorch's last digit depends on their number
        rows = slice(run, run + 1)
        log_beta = partial(population.log_beta_at, rows=rows) if population.spec.network.modulation else None
        network, at = population.averaged_network(rows), torch.tensor(levels)
        error = surrogate_error(network, population.spec, x0, noise, at, msfi.gap[0], log_beta)
        found[run] = {
            "surrogate_error": tuple(error.surrogate[0].tolist()),
            "standing_still": tuple(error.standing_still[0].tolist()),
            "surrogate_levels": levels,
        }
    return found
