"""Episodes of many samplers at once, without Gymnasium's conventions. Pure NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.definition import OBSERVATION_LIMIT
from schedrl.environments.sampling.problems import SamplingProblems, UniformStreams, draw_episodes
from schedrl.environments.sampling.rewards import log_error
from schedrl.environments.sampling.source_kind import Rows, SourceBatch, State, at_rows, moved_rows
from schedrl.environments.sampling.variant import PROGRESS, SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray


class SamplingRuns:
    """Episodes of a variant, side by side.

    Args:
        variant: The environment.
        num_runs: Number of episodes.

    Attributes:
        total: Steps N of each episode, ``[runs]``.
        remaining: Steps left, ``[runs]``.
        place: w along the reference, ``[runs]``.
        sigma: Present sigma, ``[runs]``.
        levels: Sigmas so far, ``[runs, greatest N + 1]``; later entries are 0.
        sampler: State of the samplers.
        batch: The sources.
        expected: Log of the final error if the reference takes the remaining steps, ``[runs]``; where the reward needs
            no prediction, that of the reference grid until the end.
        reference_error: Log of the final error of the reference grid, ``[runs]``.

    Raises:
        SchedrlError: The source's data is missing.
    """

    def __init__(self, variant: SamplingVariant, num_runs: int) -> None:
        self.variant, self.num_runs = variant, num_runs
        self.streams = UniformStreams(num_runs, 1 + variant.source.num_uniforms)
        self.batch: SourceBatch = variant.source.batch(num_runs, variant.sampler)
        self.reference = variant.action.reference
        self.total = np.full(num_runs, variant.steps.minimum, dtype=np.int64)
        self.remaining = self.total.copy()
        self.place, self.sigma = np.ones(num_runs), np.full(num_runs, self.reference.first_sigma)
        self.levels = np.zeros((num_runs, variant.steps.maximum + 1))
        self.sampler: State = self.batch.start(np.arange(num_runs))
        # A few more columns than runs: rows that are a power of two apart collide in the cache when transposed.
        entries = len(variant.observation_names)
        self._seen = np.empty((entries, num_runs + _PADDING), dtype=np.float32)[:, :num_runs]
        self.expected = np.zeros(num_runs)
        self.reference_error = np.zeros(num_runs)

    def start(self, rows: Rows) -> None:
        """Begin new episodes in some runs."""
        self.total[rows] = draw_episodes(self.variant, self.batch, rows, self.streams.draw(rows))
        self._begin(rows)

    def adopt(self, problems: SamplingProblems) -> None:
        """Begin an episode in every run on the given problems instead of drawn ones."""
        self.batch, self.total = problems.batch, problems.total.copy()
        self._begin(np.arange(self.num_runs))

    def advance(self, actions: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Take one step in every run whose episode has not ended.

        Args:
            actions: ``[runs]`` in [−1, 1].

        Returns:
            Rewards ``[runs]``, and which episodes ended.
        """
        self.place = self.variant.action.next_place(self.place, self.remaining, actions)
        sigma = self.reference.sigma(self.place, self.total, self.batch)
        moving = self.remaining > 0
        self.sampler = moved_rows(self.batch, self.sampler, self.sigma, sigma, moving)
        self.sigma = sigma
        ended = self.remaining == 1
        self.remaining = np.maximum(self.remaining - 1, 0)
        self.levels[np.arange(self.num_runs), self.total - self.remaining] = sigma
        before = self.expected
        predicted = self._predicted() if self.variant.reward.needs_prediction else before
        self.expected = np.where(moving, predicted, before)
        if len(rows := np.flatnonzero(ended)):
            batch, sampler, grids = self._at(rows)
            self.expected[rows] = log_error(batch.error(sampler, self.sigma[rows], grids))
        return before - self.expected, ended

    def observe(self) -> NDArray[np.float32]:
        with np.errstate(divide="ignore"):
            left = np.log(self.remaining) / 3.0
        seen = self._seen
        seen[: len(PROGRESS)] = self.remaining / self.total, left, self.place
        self.batch.write_features(self.sampler, self.sigma, seen[len(PROGRESS) :])
        np.clip(seen, -OBSERVATION_LIMIT, OBSERVATION_LIMIT, out=seen)
        return np.array(seen.T, order="C")  # a copy, also of a single row

    def outcome(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Results of ended episodes, each ``[rows]``: the error and its parts."""
        batch, sampler, grids = self._at(rows)
        return {
            "error": np.exp(self.expected[rows]),
            **batch.parts(sampler, self.sigma[rows], grids),
        }

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to continue exactly: arrays, and plain JSON."""
        arrays = {name: getattr(self, name).copy() for name in _STATE}
        arrays |= {f"sampler.{place}": part.copy() for place, part in enumerate(self.sampler)}
        arrays |= {"seeds": self.streams.seeds.copy(), "episodes": self.streams.episodes.copy()}
        return arrays, {}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        for name, own in self.state()[0].items():
            if arrays[name].shape != own.shape:
                raise SchedrlError(f"state '{name}': must have shape {own.shape} (got {arrays[name].shape})")
        for run, seed in enumerate(arrays["seeds"].tolist()):
            self.streams.seed(run, seed)
        self.streams.episodes = np.array(arrays["episodes"])
        begun = np.flatnonzero(self.streams.episodes > 0)
        if len(begun):
            draw_episodes(self.variant, self.batch, begun, self.streams.peek(begun, ahead=-1))
        for name in _STATE:
            setattr(self, name, np.array(arrays[name]))
        self.sampler = tuple(np.array(arrays[f"sampler.{place}"]) for place in range(len(self.sampler)))

    def _begin(self, rows: Rows) -> None:
        self.remaining[rows], self.place[rows] = self.total[rows], 1.0
        self.sigma[rows] = self.reference.first_sigma
        self.levels[rows] = 0.0
        self.levels[rows, 0] = self.reference.first_sigma
        fresh = self.batch.start(rows)
        if len(rows) == self.num_runs:
            self.sampler = fresh
        else:
            for kept, new in zip(self.sampler, fresh, strict=True):
                kept[..., rows] = new
        problems = SamplingProblems(self.variant, self.batch, self.total)
        problems = problems if len(rows) == self.num_runs else problems.take(rows)
        self.expected[rows] = self.reference_error[rows] = log_error(problems.error(problems.reference()))

    def _predicted(self) -> FloatArray:
        """Log of the final error if the reference takes the remaining steps."""
        sampler, place, sigma, remaining = self.sampler, self.place, self.sigma, self.remaining
        for _ in range(int(remaining.max())):
            others = np.maximum(remaining - 1, 0)
            place = place * (others / np.maximum(remaining, 1))
            after = self.reference.sigma(place, self.total, self.batch)
            sampler = moved_rows(self.batch, sampler, sigma, after, remaining > 0)
            sigma, remaining = after, others
        return log_error(self.batch.error(sampler, sigma))

    def _at(self, rows: Rows) -> tuple[SourceBatch, State, FloatArray]:
        """Sources, states and grids of some rows."""
        if len(rows) == self.num_runs:
            return self.batch, self.sampler, self.levels[rows]
        return self.batch.take(rows), at_rows(self.sampler, rows), self.levels[rows]


_PADDING = 16

_STATE = ("total", "remaining", "place", "sigma", "levels", "expected", "reference_error")
