"""Sources side by side: what a vector environment knows of each of its episodes' sources, and their exact samplers.

A batch holds parameters, one row per environment. What a sampler has done so far is a *state*, a tuple of arrays whose
last axis are the same rows, which a batch advances without keeping it: the same step serves an episode, the prediction
of how it would end, and the evaluation of a given grid.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.sampling.references import Scales
from schedrl.schedules.conversions import FloatArray

__all__ = ["RemembersOutcomes", "SourceBatch", "State", "at_rows", "moved_rows", "run_grids"]

State = tuple[FloatArray, ...]
"""Where samplers stand; environments are the last axis of every array."""


class SourceBatch(Protocol):
    """Sources of one kind, one row per environment."""

    @property
    def scales(self) -> Scales:
        """Noise levels at which something happens."""

    def geodesic_angles(self) -> FloatArray:
        """Angles along each source's geodesic, see :class:`~schedrl.environments.sampling.references.Sources`."""

    def take(self, rows: NDArray[np.int64]) -> SourceBatch:
        """The sources of some rows."""

    def start(self, rows: NDArray[np.int64]) -> State:
        """States of samplers at pure noise, ``[..., rows]``."""

    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """One step of every row's sampler, level ``sigma`` to ``sigma_next`` (``[B]``); nothing changes in place."""

    def deviation(self, state: State, other: State) -> FloatArray:
        """How far two states at the same level are apart, ``[B]``: what dynamic programming adds up."""

    def error(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> FloatArray:
        """Error of samplers that stand at data (or at their last level ``sigma``), ``[B]``, positive.

        Exact where ``grids``, the levels they walked ``[B, M + 1]``, are given; from the state alone it may be rounded.
        """

    def parts(
        self, state: State, sigma: FloatArray, grids: FloatArray | None = None
    ) -> dict[str, FloatArray]:
        """What the error is made of, by name, each ``[B]``."""

    def targets(self) -> dict[str, FloatArray]:
        """What the parts of a sampler without error would be, each ``[B]``."""

    def write_features(self, state: State, sigma: FloatArray, out: NDArray[np.float32]) -> None:
        """Write what can be seen at level ``sigma`` into ``out``, ``[entries, B]``; the source kind has the names."""

    def parameters(self) -> dict[str, FloatArray]:
        """Parameters of the sources by name, each ``[B, ...]``, for infos and records."""


@runtime_checkable
class RemembersOutcomes(Protocol):
    """A batch whose samplers are dear to run, and which keeps what grids came to."""

    def errors_of(self, grids: FloatArray) -> FloatArray:
        """Errors ``[B]`` of grids ``[B, M + 1]``."""

    def outcomes(self, grids: FloatArray) -> dict[str, FloatArray]:
        """What they are made of."""


def at_rows(state: State, rows: NDArray[np.int64]) -> State:
    """The states of some rows."""
    return tuple(part[..., rows] for part in state)


def run_grids(batch: SourceBatch, sigmas: FloatArray) -> State:
    """States at the end of given grids.

    Args:
        batch: The sources.
        sigmas: Descending levels ``[B, N + 1]``; a shorter grid repeats its last level.
    """
    state = batch.start(np.arange(len(sigmas)))
    for step in range(sigmas.shape[1] - 1):
        now, after = sigmas[:, step], sigmas[:, step + 1]
        state = moved_rows(batch, state, now, after, now > after)
    return state


def moved_rows(
    batch: SourceBatch, state: State, sigma: FloatArray, sigma_next: FloatArray, moving: NDArray[np.bool_]
) -> State:
    """One step of the samplers that are ``moving``, ``[B]``; the others stay as they are."""
    if moving.all():
        return batch.advance(state, sigma, sigma_next)
    with np.errstate(invalid="ignore", divide="ignore"):  # a step of no length may be 0/0
        moved = batch.advance(state, sigma, sigma_next)
    return tuple(np.where(moving, new, old) for new, old in zip(moved, state, strict=True))
