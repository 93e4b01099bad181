"""Sampling problems outside an environment: drawn sources and numbers of steps, and the error of any grid on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedrl.diffusion.run_stream import folded_seed
from schedrl.environments.sampling.source_kind import SourceBatch
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.schedules.conversions import FloatArray

_BLOCK = 32
"""Episodes drawn at once: making a generator takes as long as an episode, so one serves a block."""

_OPEN = 2.0**-54
"""Moves [0, 1) into (0, 1), because a quantile function is infinite at 0."""


class UniformStreams:
    """Uniform numbers in (0, 1), a row per environment and episode.

    Row ``e`` of an environment depends on its seed and on ``e`` alone, neither on the other environments nor on the
    agents. So runs seeded alike can be compared, and the state of a stream is two integers.

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
        """Begin the stream of ``seed``, of any size, in environment ``env``."""
        self.seeds[env], self.episodes[env], self._loaded[env] = folded_seed(seed, 63), 0, -1

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


@dataclass(frozen=True)
class SamplingProblems:
    """Sources, one per row, each to be sampled in a given number of steps.

    Attributes:
        variant: The environment they belong to.
        batch: The sources.
        total: Number of steps N of each, ``[B]``.
    """

    variant: SamplingVariant
    batch: SourceBatch
    total: NDArray[np.int64]

    @classmethod
    def drawn(cls, variant: SamplingVariant, seeds: Sequence[int]) -> SamplingProblems:
        """The problems of the first episodes after ``reset(seed=seeds)``.

        Raises:
            SchedrlError: The source's data is missing.
        """
        streams = UniformStreams(len(seeds), 1 + variant.source.num_uniforms)
        for row, seed in enumerate(seeds):
            streams.seed(row, seed)
        rows = np.arange(len(seeds))
        batch = variant.source.batch(len(seeds), variant.sampler)
        total = draw_episodes(variant, batch, rows, streams.draw(rows))
        return cls(variant, batch, total)

    def __len__(self) -> int:
        return len(self.total)

    def take(self, rows: NDArray[np.int64]) -> SamplingProblems:
        """Some of the problems; a row may come more than once."""
        return SamplingProblems(self.variant, self.batch.take(rows), self.total[rows])

    def reference(self) -> FloatArray:
        """The reference grid of each, ``[B, greatest N + 1]``; shorter ones end in zeros."""
        return self.placed(np.zeros((len(self), self.width - 1)))

    @property
    def width(self) -> int:
        """Sigmas of the longest grid, N + 1."""
        return int(self.total.max()) + 1

    def placed(self, actions: FloatArray) -> FloatArray:
        """Grids ``[B, greatest N + 1]`` that follow from actions ``[B, greatest N]`` of whole episodes."""
        placement, reference = self.variant.action, self.variant.action.reference
        grids = np.zeros((len(self), self.width))
        grids[:, 0] = reference.first_sigma
        place = np.ones(len(self))
        for step in range(self.width - 1):
            remaining = np.maximum(self.total - step, 1)
            place = placement.next_place(place, remaining, actions[:, step])
            grids[:, step + 1] = reference.sigma(place, self.total, self.batch)
        return grids

    def error(self, sigmas: FloatArray) -> FloatArray:
        """Exact final errors ``[B]`` of grids ``[B, M + 1]``; shorter ones repeat their last sigma."""
        return self.batch.grid_errors(sigmas)

    def parts(self, sigmas: FloatArray) -> dict[str, FloatArray]:
        """The parts of the errors, by name, each ``[B]``."""
        return self.batch.grid_parts(sigmas)


def draw_episodes(
    variant: SamplingVariant, batch: SourceBatch, rows: NDArray[np.int64], uniforms: FloatArray
) -> NDArray[np.int64]:
    """Draw the sources of new episodes into a batch, and their numbers of steps.

    Args:
        variant: The environment.
        batch: Gets the new sources in its ``rows``.
        rows: The environments that begin an episode.
        uniforms: ``[rows, 1 + num_uniforms]`` in (0, 1).

    Returns:
        Numbers of steps ``[rows]``: log-uniform, so that small numbers, at which grids matter most, are not rare.
    """
    least, most = variant.steps.minimum, variant.steps.maximum
    variant.source.assign(batch, rows, uniforms[:, 1:])
    drawn = least * ((most + 1) / least) ** uniforms[:, 0]
    return np.minimum(drawn.astype(np.int64), most)
