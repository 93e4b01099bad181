"""Runs watched while they are trained: bounds, divergence, what moves, time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from schedrl import data
from schedrl.diffusion.population import PhaseRecord, Population
from schedrl.environments.training.divergence import DivergenceRule
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import Spec
from schedrl.experiments.drivers import Driver
from schedrl.metrics.variational_bound import Bound

__all__ = ["Traces", "Trained", "Watch"]

Array = NDArray[np.float64]


class Traces(Spec):
    """What moved while a run was trained, measurement by measurement; nothing after a divergence.

    Attributes:
        gain: AVA's K.
        threshold: τ.
        gradient_norm: Root mean square of ‖∇L‖ since the last measurement.
        rate: Mean of η_t since then.
    """

    gain: tuple[FiniteFloat, ...] = ()
    threshold: tuple[FiniteFloat, ...] = ()
    gradient_norm: tuple[FiniteFloat, ...] = ()
    rate: tuple[FiniteFloat, ...] = ()


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
        step_seconds: Wall-clock time of one optimizer step of all runs together, the median over the training.
    """

    population: Population
    steps: tuple[int, ...]
    bounds: Array
    test_bounds: Array
    diverged_at: NDArray[np.int64]
    traces: tuple[Traces, ...]
    step_seconds: float


class Watch:
    """Measures runs while they train, and keeps what is finite.

    Args:
        variant: Says where bounds are measured, and when a run counts as diverged.
        population: The runs.
        device: Where.
    """

    def __init__(self, variant: TrainingVariant, population: Population, device: str) -> None:
        images = data.load(variant.data)
        self.population, self._seconds = population, list[float]()
        self._bound = Bound(variant.bound, images.validation, images.levels, device)
        assert variant.test_bound is not None  # a setting sees to it
        self._test = Bound(variant.test_bound, images.test, images.levels, device)
        self._divergence = DivergenceRule(variant, self._bound)
        runs = population.num_runs
        self._diverged_at = np.full(runs, -1, dtype=np.int64)
        self._steps: list[int] = []
        self._bounds: list[Array] = []
        self._traces: list[dict[str, list[float]]] = [{} for _ in range(runs)]

    def follow(self, driver: Driver, budget: int, every: int) -> None:
        """Train to the end, with a measurement every so many optimizer steps."""
        done = 0
        while done < budget:
            part = min(every, budget - done)
            began = time.perf_counter()
            record = driver.train(part)
            self._seconds.append((time.perf_counter() - began) / part)
            done += part
            self._note(done, record, driver.gains())

    def _note(self, done: int, record: PhaseRecord, gains: dict[str, Array]) -> None:
        value = self._bound.evaluate(self.population.predict_epsilon, self.population.num_runs)
        diverged = self._divergence.diverged(record, value)
        self._diverged_at[diverged & (self._diverged_at < 0)] = done
        lost = self._diverged_at >= 0
        self._steps.append(done)
        self._bounds.append(np.where(lost, self._divergence.worst_bound, value.bits_per_dim))
        moved = {
            "gradient_norm": np.sqrt(np.square(record.gradient_norm.astype(np.float64)).mean(axis=0)),
            "rate": record.rate.mean(axis=0),
        }
        for name, values in (moved | gains).items():
            for run in np.flatnonzero(~lost):
                self._traces[run].setdefault(name, []).append(float(values[run]))

    def finish(self, tested: bool) -> Trained:
        """What became of the runs; test images are measured if asked for."""
        lost = self._diverged_at >= 0
        tests = np.full(len(lost), self._divergence.worst_bound)
        if tested and not lost.all():
            found = self._test.evaluate(self.population.predict_epsilon, len(lost)).bits_per_dim
            tests = np.where(lost, tests, found)
        traces = tuple(Traces(**{name: tuple(v) for name, v in each.items()}) for each in self._traces)
        return Trained(
            self.population, tuple(self._steps), np.stack(self._bounds), tests, self._diverged_at, traces,
            float(np.median(self._seconds)),
        )  # fmt: skip
