"""A trained network as a sampling problem: the error is a distance to its own fine-grid flow, or to real images.

Rows of a batch differ by their starting noise. A row's state are the states of its images and what the network's last
estimate of them was like, which is all that an agent sees: the network is called once a step, for all rows together.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.sampling.batches import State, run_grids
from schedrl.environments.sampling.gaussian import GaussianBatch
from schedrl.environments.sampling.network_spec import NetworkSpec
from schedrl.environments.sampling.network_steps import ddim_step, heun_step, mean_square
from schedrl.environments.sampling.references import Scales
from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.recursions import SamplerName

if TYPE_CHECKING:
    from schedrl.environments.sampling.laboratory import Laboratory

__all__ = ["NetworkBatch"]

_STATE_MS, _CLEAN_MS, _CHANGE_MS, _TURN = range(4)
"""Rows of what is remembered of an estimate: mean squares of state, estimate and its change, and the last step's
length in atan(σ / near)."""

_SMALLEST = 1e-12
"""Mean squares below it count as this, so that their logarithms are numbers."""

_NUMBERS_AT_ONCE = 1 << 22
"""Pixels of all the images that grids are walked for side by side; bounds memory."""


class NetworkBatch:
    """Starting noises of one network, one per row; ``[images, pixels, rows]`` inside.

    Args:
        laboratory: What all rows share.
        numbers: That stand for the noises, ``[B]``.
        sampler: ``ddim`` or ``heun``.
    """

    def __init__(self, laboratory: Laboratory, numbers: NDArray[np.int64], sampler: SamplerName) -> None:
        self.lab, self.numbers, self.sampler = laboratory, numbers, sampler
        near, far = laboratory.scales.near[0], laboratory.scales.far[0]
        self.scales = Scales(np.full(len(numbers), near), np.full(len(numbers), far))

    @classmethod
    def of(cls, source: NetworkSpec, count: int, sampler: SamplerName) -> NetworkBatch:
        """Room for ``count`` noises.

        Raises:
            SchedrlError: The network, its data or the feature network is missing.
        """
        from schedrl.environments.sampling.laboratory import laboratory  # loads PyTorch

        return cls(laboratory(source), np.zeros(count, dtype=np.int64), sampler)

    def assign_noise(self, rows: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        """Give some rows other noise."""
        self.numbers[rows] = numbers

    def take(self, rows: NDArray[np.int64]) -> NetworkBatch:
        """The noises of some rows."""
        taken = copy(self)
        taken.numbers, taken.scales = self.numbers[rows], self.scales.take(rows)
        return taken

    @property
    def gaussian(self) -> GaussianBatch:
        """The Gaussian with the data's spectrum, a batch of one: what closed-form grids know of the data.

        Raises:
            SchedrlError: The spectrum is not known.
        """
        if (found := self.lab.gaussian) is None:
            raise SchedrlError(
                f"network '{self.lab.source.model}': its data's spectrum is not known; name source.data, or register "
                "it with data or eigenvalues"
            )
        return found

    def geodesic_angles(self) -> FloatArray:
        """Those of the Gaussian with the data's spectrum."""
        return np.repeat(self.gaussian.geodesic_angles(), len(self.numbers), axis=1)

    def start(self, rows: NDArray[np.int64]) -> State:
        """The noise itself, whatever the first level; nothing has been estimated."""
        z = np.stack([self.lab.noise(number) for number in self.numbers[rows].tolist()], axis=-1)
        seen = np.zeros((4, len(rows)))
        seen[_STATE_MS] = mean_square(z)
        return z, np.zeros_like(z), seen

    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """One DDIM step, or one of Heun's; samplers that do not move are not shown to the network."""
        moving = np.flatnonzero(sigma > sigma_next)
        if len(moving) < len(sigma):
            parts = tuple(part.copy() for part in state)
            if len(moving):
                fresh = self._moved(
                    tuple(part[..., moving] for part in state), sigma[moving], sigma_next[moving]
                )
                for part, new in zip(parts, fresh, strict=True):
                    part[..., moving] = new
            return parts
        return self._moved(state, sigma, sigma_next)

    def deviation(self, state: State, other: State) -> FloatArray:
        """Root mean square distance of the images' states."""
        return np.asarray(np.sqrt(mean_square(state[0] - other[0])))

    def error(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> FloatArray:
        """Mean squared distance to the teacher, or the Fréchet distance, as the source has it."""
        return self._chosen(self.parts(state, sigma, grids))

    def parts(
        self, state: State, sigma: FloatArray, grids: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """``teacher_mse``, and ``frechet`` where the source names features."""
        return self.lab.measure(state[0], self.numbers)

    def outcomes(self, grids: FloatArray) -> dict[str, FloatArray]:
        """The parts of the errors of given grids ``[B, M + 1]``; the network runs for those not met before."""
        keys = [(number, _key(grid)) for number, grid in zip(self.numbers.tolist(), grids, strict=True)]
        known = {key: self.lab.outcomes.get(key) for key in keys}
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        fresh = sorted(row for key, row in first.items() if known[key] is None)
        part = max(1, _NUMBERS_AT_ONCE // (self.lab.size * self.lab.pixels))
        for begin in range(0, len(fresh), part):
            rows = np.array(fresh[begin : begin + part])
            taken = self.take(rows)
            values = taken.parts(run_grids(taken, grids[rows]), grids[rows, -1])
            for place, row in enumerate(rows.tolist()):
                known[keys[row]] = own = {name: float(value[place]) for name, value in values.items()}
                self.lab.outcomes.put(keys[row], own)
        found = [outcome for key in keys if (outcome := known[key]) is not None]
        return {name: np.array([outcome[name] for outcome in found]) for name in found[0]}

    def errors_of(self, grids: FloatArray) -> FloatArray:
        """Errors of given grids, ``[B]``; see :meth:`outcomes`."""
        return self._chosen(self.outcomes(grids))

    def targets(self) -> dict[str, FloatArray]:
        """No distance. A Fréchet distance of finitely many images stays above it."""
        names = ("teacher_mse",) if self.lab.source.features is None else ("teacher_mse", "frechet")
        return {name: np.zeros(len(self.numbers)) for name in names}

    def write_features(self, state: State, sigma: FloatArray, out: NDArray[np.float32]) -> None:
        """Write what can be seen into ``out``, ``[5, B]``.

        ``angle`` atan(σ / near) in units of π/2; ``state`` log of the images' mean square; ``estimate`` log of the mean
        square of the network's last estimate of clean images, ``change`` of how much that differs from the one before
        (the first from 0), and ``speed`` the same divided by the square of the step between the two, in
        atan(σ / near). The last three are quarters of the logarithm, and 0 before the first step.
        """
        seen = state[2]
        logs = np.log(np.maximum(seen, _SMALLEST))
        out[0] = np.arctan(sigma / self.scales.near) * (2.0 / np.pi)
        out[1] = logs[_STATE_MS]
        begun = seen[_TURN] > 0.0
        out[2] = np.where(begun, 0.25 * logs[_CLEAN_MS], 0.0)
        out[3] = np.where(begun, 0.25 * logs[_CHANGE_MS], 0.0)
        out[4] = np.where(begun, 0.25 * (logs[_CHANGE_MS] - 2.0 * logs[_TURN]), 0.0)

    def parameters(self) -> dict[str, FloatArray]:
        """The numbers that stand for the noises."""
        return {"noise": self.numbers.astype(np.float64)}

    def _moved(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        z, last, seen = state
        clean = self.lab.denoise(z, sigma)
        moved = ddim_step(z, clean, sigma, sigma_next)
        inside = np.flatnonzero(sigma_next > 0.0)
        if self.sampler == "heun" and len(inside):
            here, there = sigma[inside], sigma_next[inside]
            second = self.lab.denoise(moved[..., inside], there)
            moved[..., inside] = heun_step(
                z[..., inside], clean[..., inside], moved[..., inside], second, here, there
            )
        stats = np.empty_like(seen)
        stats[_STATE_MS] = mean_square(moved)
        stats[_CLEAN_MS] = mean_square(clean)
        stats[_CHANGE_MS] = mean_square(clean - last)
        near = self.lab.scales.near[0]
        stats[_TURN] = np.arctan(sigma / near) - np.arctan(sigma_next / near)
        return moved, clean, stats

    def _chosen(self, parts: dict[str, FloatArray]) -> FloatArray:
        return parts["teacher_mse" if self.lab.source.error == "teacher" else "frechet"]


def _key(grid: FloatArray) -> bytes:
    """A grid without the repetitions at its end, which change nothing."""
    return grid[: int(np.argmin(grid)) + 1].tobytes()
