"""A run's random numbers: images, noise levels, noise and initial weights.

Each kind has its own generator, derived from the run's seed, and each optimizer step consumes a fixed amount of each.
So a run's numbers depend on its seed and the step count alone: not on its actions, on how the steps are divided into
phases, or on other runs. Two runs with one seed see the same images and the same noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
        self._generators = {
            name: np.random.Generator(np.random.PCG64(child))
            for name, child in zip(("init", "order", "level", "noise"), children, strict=True)
        }
        self._queue: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def initial_weights(self, size: int) -> NDArray[np.float32]:
        """Standard normal numbers, one per parameter."""
        return self._generators["init"].standard_normal(size, dtype=np.float32)

    def indices(self, num_steps: int) -> NDArray[np.int64]:
        """Training images of the next steps ``[num_steps, batch_size]``: each image once per epoch, in random order."""
        wanted = num_steps * self.batch_size
        while len(self._queue) < wanted:
            self._queue = np.concatenate(
                [self._queue, self._generators["order"].permutation(self.num_images)]
            )
        taken, self._queue = self._queue[:wanted], self._queue[wanted:]
        return taken.reshape(num_steps, self.batch_size)

    def levels(self, num_steps: int) -> NDArray[np.float32]:
        """Uniform numbers ``[num_steps, batch_size]`` in [0, 1), stratified: one per ``1/batch_size`` of the interval.

        The schedule's quantile function turns them into noise levels. Stratification reduces the variance of a batch.
        """
        jitter = self._generators["level"].random((num_steps, self.batch_size), dtype=np.float32)
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
        self._generators["noise"].standard_normal(dtype=np.float32, out=place)

    def state(self) -> dict[str, Any]:
        """Everything needed to continue exactly, as plain JSON."""
        taken = self.snapshot()
        return {**taken, "queue": taken["queue"].tolist()}

    def snapshot(self) -> dict[str, Any]:
        """As :meth:`state`, but without copying the queue, an array that is never written to."""
        states: dict[str, Any] = {name: g.bit_generator.state for name, g in self._generators.items()}
        return {**states, "queue": self._queue}

    def restore(self, state: dict[str, Any]) -> None:
        for name, generator in self._generators.items():
            generator.bit_generator.state = state[name]
        self._queue = np.asarray(state["queue"], dtype=np.int64)


def folded_seed(seed: int, bits: int) -> int:
    """A seed below ``2 ** bits``, at most 64 bits, for a generator that takes no greater one.

    A seed that is small enough stays; any other is hashed, so that two are the same with probability ``2 ** -bits``.

    Examples:
        >>> folded_seed(7, 32), folded_seed(2**64, 32) < 2**32
        (7, True)
    """
    if seed < 2**bits:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) >> (64 - bits)
