"""Sampling problems outside an environment: given sources and numbers of steps, and what any grid is worth on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.sampling.batches import RemembersOutcomes, SourceBatch, run_grids
from schedrl.environments.sampling.streams import UniformStreams
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.schedules.conversions import FloatArray

__all__ = ["SamplingProblems", "draw_episodes"]


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
        """Levels of the longest grid."""
        return int(self.total.max()) + 1

    def placed(self, actions: FloatArray) -> FloatArray:
        """Grids ``[B, greatest N + 1]`` that follow from actions ``[B, greatest N]`` of whole episodes."""
        placement, reference = self.variant.action, self.variant.action.reference
        grids = np.zeros((len(self), self.width))
        grids[:, 0] = reference.first_level
        place = np.ones(len(self))
        for step in range(self.width - 1):
            remaining = np.maximum(self.total - step, 1)
            place = placement.next_place(place, remaining, actions[:, step])
            grids[:, step + 1] = reference.sigma(place, self.total, self.batch)
        return grids

    def error(self, sigmas: FloatArray) -> FloatArray:
        """Exact final errors ``[B]`` of grids ``[B, M + 1]``; shorter ones repeat their last level."""
        if isinstance(self.batch, RemembersOutcomes):
            return self.batch.errors_of(sigmas)
        return self.batch.error(run_grids(self.batch, sigmas), sigmas[:, -1], sigmas)

    def parts(self, sigmas: FloatArray) -> dict[str, FloatArray]:
        """What the errors are made of, by name, each ``[B]``."""
        if isinstance(self.batch, RemembersOutcomes):
            return self.batch.outcomes(sigmas)
        return self.batch.parts(run_grids(self.batch, sigmas), sigmas[:, -1], sigmas)


def draw_episodes(
    variant: SamplingVariant, batch: SourceBatch, rows: NDArray[np.int64], uniforms: FloatArray
) -> NDArray[np.int64]:
    """Draw the sources of new episodes into a batch, and their numbers of steps.

    Args:
        variant: What an episode is.
        batch: Its ``rows`` are replaced.
        rows: Which.
        uniforms: ``[rows, 1 + num_uniforms]`` in (0, 1).

    Returns:
        Numbers of steps ``[rows]``: log-uniform, so that few steps, where grids matter most, are not rare.
    """
    least, most = variant.steps.minimum, variant.steps.maximum
    variant.source.assign(batch, rows, uniforms[:, 1:])
    drawn = least * ((most + 1) / least) ** uniforms[:, 0]
    return np.minimum(drawn.astype(np.int64), most)
