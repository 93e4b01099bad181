"""Random numbers of many environments, each a function of its seed and the number of its episode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["UniformStreams"]

_BLOCK = 32
"""Episodes drawn at once: making a generator costs as much as an episode, so it is made once per block."""

_OPEN = 2.0**-54
"""Moves [0, 1) into (0, 1): a quantile function at 0 is not a number."""


class UniformStreams:
    """Uniform numbers in (0, 1), a row per environment and episode.

    Row ``e`` of an environment depends on its seed and on ``e`` alone: not on the other environments, and not on what
    agents did. That makes runs seeded alike comparable, and the state of a stream two whole numbers.

    Args:
        num_envs: Number of environments.
        width: Numbers per episode.

    Examples:
        >>> streams = UniformStreams(2, 3)
        >>> streams.seed(0, 7), streams.seed(1, 7)
        (None, None)
        >>> rows = streams.draw(np.arange(2))
        >>> bool((rows[0] == rows[1]).all()), bool((streams.draw(np.arange(2)) == rows).any())
        (True, False)
    """

    def __init__(self, num_envs: int, width: int) -> None:
        self.width = width
        self.seeds = np.full(num_envs, -1, dtype=np.int64)
        self.episodes = np.zeros(num_envs, dtype=np.int64)
        self._loaded = np.full(num_envs, -1, dtype=np.int64)
        self._blocks = np.empty((num_envs, _BLOCK, width))

    def seed(self, env: int, seed: int) -> None:
        """Begin the stream of ``seed`` in environment ``env``."""
        self.seeds[env], self.episodes[env], self._loaded[env] = seed, 0, -1

    def draw(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The next episode's numbers of some environments, ``[rows, width]``."""
        numbers = self.peek(rows)
        self.episodes[rows] += 1
        return numbers

    def peek(self, rows: NDArray[np.int64], ahead: int = 0) -> NDArray[np.float64]:
        """Numbers of the episode ``ahead`` of the next one (−1: of the present one), without drawing them."""
        episodes = self.episodes[rows] + ahead
        blocks = episodes // _BLOCK
        for env in rows[self._loaded[rows] != blocks].tolist():
            block = int((self.episodes[env] + ahead) // _BLOCK)
            # The block is the top word of Philox's counter, so blocks never overlap.
            bits = np.random.Philox(key=int(self.seeds[env]), counter=block << 192)
            self._blocks[env] = np.random.Generator(bits).random((_BLOCK, self.width))
            self._loaded[env] = block
        return self._blocks[rows, episodes % _BLOCK] + _OPEN
