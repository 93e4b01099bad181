"""A run's random numbers: which images, which noise levels, which noise, which initial weights.

Each kind has its own generator, all derived from the run's seed, and each is consumed at a fixed rate per optimizer
step. So what a run draws depends on its seed and the step count alone: not on its actions, on how the steps are cut
into phases, or on the runs trained beside it. Two runs seeded alike see the same images and the same noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RunStream"]


class RunStream:
    """Random numbers of one run.

    Args:
        seed: The run's seed, a non-negative integer.
        num_images: Size of the training set that indices are drawn from.
        batch_size: Images per optimizer step.

    Examples:
        >>> sorted(RunStream(seed=0, num_images=6, batch_size=3).indices(2).ravel().tolist())
        [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, seed: int, num_images: int, batch_size: int) -> None:
        self.num_images, self.batch_size = num_images, batch_size
        children = np.random.SeedSequence(seed).spawn(4)
        self._init, self._order, self._level, self._noise = (
            np.random.Generator(np.random.PCG64(c)) for c in children
        )
        self._queue: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def initial_weights(self, size: int) -> NDArray[np.float32]:
        """Standard normal numbers, one per parameter."""
        return self._init.standard_normal(size, dtype=np.float32)

    def indices(self, num_steps: int) -> NDArray[np.int64]:
        """Training images of the next steps ``[num_steps, batch_size]``; every image once per epoch, in new order."""
        wanted = num_steps * self.batch_size
        while len(self._queue) < wanted:
            self._queue = np.concatenate([self._queue, self._order.permutation(self.num_images)])
        taken, self._queue = self._queue[:wanted], self._queue[wanted:]
        return taken.reshape(num_steps, self.batch_size)

    def levels(self, num_steps: int) -> NDArray[np.float32]:
        """Uniform numbers ``[num_steps, batch_size]`` in [0, 1), stratified: one per ``1/batch_size`` of the interval.

        They become noise levels through the schedule's quantile function. Stratifying them takes most of the luck
        of the draw out of a batch.
        """
        jitter = self._level.random((num_steps, self.batch_size), dtype=np.float32)
        places = np.arange(self.batch_size, dtype=np.float32)
        levels: NDArray[np.float32] = (places + jitter) / np.float32(self.batch_size)
        return np.minimum(levels, np.float32(1.0 - 2.0**-24))

    def noise(self, num_steps: int, image_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Standard normal noise ``[num_steps, batch_size, *image_shape]``."""
        noise = np.empty((num_steps, self.batch_size, *image_shape), dtype=np.float32)
        self.fill_noise(noise)
        return noise

    def fill_noise(self, place: NDArray[np.float32]) -> None:
        """Write the next noise ``[num_steps, batch_size, *image_shape]`` into a contiguous array."""
        self._noise.standard_normal(dtype=np.float32, out=place)

    def state(self) -> dict[str, Any]:
        """Where the streams stand, as plain JSON."""
        taken = self.snapshot()
        return {**taken, "queue": taken["queue"].tolist()}

    def snapshot(self) -> dict[str, Any]:
        """The same at once, the queue as an array that is never written to."""
        generators = {"init": self._init, "order": self._order, "level": self._level, "noise": self._noise}
        states: dict[str, Any] = {name: g.bit_generator.state for name, g in generators.items()}
        return {**states, "queue": self._queue}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self._init.bit_generator.state = state["init"]
        self._order.bit_generator.state = state["order"]
        self._level.bit_generator.state = state["level"]
        self._noise.bit_generator.state = state["noise"]
        self._queue = np.asarray(state["queue"], dtype=np.int64)
