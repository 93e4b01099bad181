"""Training runs of one row, all seeds side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schedrl.diffusion.ava import AVAController
from schedrl.diffusion.population import ControlledTraining, PhaseRecord, Population
from schedrl.experiments.ava_dsc.rows import Row, Setting
from schedrl.experiments.drivers import AgentDriver, Driver, FixedDriver, started
from schedrl.experiments.watch import Trained, Watch

__all__ = ["train_row"]

Array = NDArray[np.float64]


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
    driver: Driver
    if row.agent is not None:
        changed = variant.changed({"training.optimizer.learning_rate": rate}, variant.id)
        driver = AgentDriver(row.agent, variant.id, changed, seeds, device)
    else:
        population = started(variant, setting.training(row, rate), seeds, device)
        if row.schedule is not None:
            driver = FixedDriver(row.schedule, population, variant.timesteps)
        else:
            driver = AVADriver(row, population, variant.timesteps)
    watch = Watch(variant, driver.population, device)
    watch.follow(driver, steps or setting.steps, setting.measure_every)
    return watch.finish(tested)
