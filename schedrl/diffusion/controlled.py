"""A population whose noise is decided while it trains."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedrl.diffusion.ava import AVAController
from schedrl.diffusion.noise_law import NoiseLaw
from schedrl.diffusion.population import PhaseRecord, Population
from schedrl.errors import SchedrlError

__all__ = ["ControlledTraining"]

Array = NDArray[np.float64]


class ControlledTraining:
    """A population whose noise AVA decides.

    Args:
        population: The runs, started.
        controller: With as many runs.
        every: Optimizer steps between two moves of K. Every step's norm enters τ; the norm that moves K is the root
            mean square of them, as for an environment's phases.
        timesteps: T of discrete training; continuous when absent.

    Raises:
        SchedrlError: The two differ in their number of runs.
    """

    def __init__(
        self, population: Population, controller: AVAController, every: int = 1, timesteps: int | None = None
    ) -> None:
        if controller.num_runs != population.num_runs:
            raise SchedrlError(
                f"controller: must have as many runs as the population, {population.num_runs} "
                f"(got {controller.num_runs})"
            )
        if every < 1:
            raise SchedrlError(f"every: must be at least 1 (got {every})")
        self.population, self.controller, self.every, self._timesteps = (
            population,
            controller,
            every,
            timesteps,
        )
        self._squares: list[Array] = []

    def train(self, num_steps: int) -> PhaseRecord:
        """Take ``num_steps`` optimizer steps in every run."""
        told = self.population.spec.reads_betas
        records = []
        while num_steps > 0:
            part = min(num_steps, self.every - len(self._squares))
            law = NoiseLaw.of(self.controller.schedules(), self._timesteps, betas=told)
            records.append(self.population.train(law, part))
            for norms in records[-1].gradient_norm.astype(np.float64):
                self.controller.observe(norms)
                self._squares.append(np.square(norms))
            if len(self._squares) == self.every:
                self.controller.move(np.sqrt(np.mean(self._squares, axis=0)))
                self._squares = []
            num_steps -= part
        return PhaseRecord.joined(records)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to go on exactly: arrays, and plain JSON."""
        arrays, meta = self.population.state()
        arrays |= {f"ava.{name}": array for name, array in self.controller.state().items()}
        arrays["ava.squares"] = np.array(self._squares).reshape(-1, self.population.num_runs)
        return arrays, meta

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.population.restore(arrays, meta)
        own = {name.removeprefix("ava."): array for name, array in arrays.items() if name.startswith("ava.")}
        self._squares = list(np.array(own.pop("squares"), dtype=np.float64))
        self.controller.restore(own)
