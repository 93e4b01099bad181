"""Searches over grids, source by source, at a stated number of sampler runs each.

Each looks for the actions of an episode (so the same space as an agent's) that minimise the exact final error. All
sources are searched side by side. An evaluation is one whole run of the sampler on one source; a learned policy needs
none on a source it has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.rewards import log_error
from schedrl.errors import Spec
from schedrl.policies.cma_es import CMAES
from schedrl.schedules.conversions import FloatArray

_ROWS_AT_ONCE = 8192
"""Sampler runs evaluated side by side; bounds memory, as does the next."""

_TRIES_AT_ONCE = 1024
"""Random grids drawn at once for each source."""

Rngs = Sequence[np.random.Generator]

Evaluations = Annotated[int, Field(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class Solution:
    """Grids for sampling problems.

    Attributes:
        sigmas: ``[B, greatest N + 1]``, descending; shorter grids repeat their last value.
        evaluations: Sampler runs spent on each source to find its grid, ``[B]``; 0 for closed forms and policies.
        seconds: Wall-clock time for all of them.
    """

    sigmas: FloatArray
    evaluations: NDArray[np.int64]
    seconds: float = 0.0

    @classmethod
    def free(cls, sigmas: FloatArray) -> Solution:
        """Grids that took no sampler run to find."""
        return cls(sigmas, np.zeros(len(sigmas), dtype=np.int64))


class GridSearch(Protocol):
    """A way of finding a grid by trying."""

    @property
    def name(self) -> str:
        """Name in an agent's file."""

    def find(self, problems: SamplingProblems, rngs: Rngs) -> Solution:
        """Search for every problem.

        Args:
            problems: The problems.
            rngs: A generator per problem, so what is found for one does not depend on which others are searched.
        """


class _Tries:
    """The best actions of whole episodes found so far, ``[B, N]``, and the sampler runs spent on each source."""

    def __init__(self, problems: SamplingProblems) -> None:
        self.problems, self.spent = problems, 0
        self.best, self._value = np.zeros((len(problems), problems.width - 1)), np.full(len(problems), np.inf)

    def evaluate(self, actions: FloatArray) -> FloatArray:
        """Log errors ``[B, K]`` of K episodes of actions ``[B, K, N]`` per source."""
        size, tries = actions.shape[:2]
        flat = actions.reshape(size * tries, -1)
        owner = np.repeat(np.arange(size), tries)
        values = np.empty(size * tries)
        for begin in range(0, len(flat), _ROWS_AT_ONCE):
            part = slice(begin, begin + _ROWS_AT_ONCE)
            chosen = self.problems.take(owner[part])
            values[part] = log_error(chosen.error(chosen.placed(flat[part, : chosen.width - 1])))
        scores = values.reshape(size, tries)
        rows, index = np.arange(size), scores.argmin(axis=1)
        better = scores[rows, index] < self._value
        self.best[better], self._value[better] = actions[rows, index][better], scores[rows, index][better]
        self.spent += tries
        return scores


class RandomGridSearch(Spec):
    """The best of normally distributed actions around the reference.

    Attributes:
        evaluations: Sampler runs per source; the reference is the first.
        spread: Standard deviation of actions.
    """

    name: Literal["random"] = "random"
    evaluations: Evaluations = 200
    spread: Annotated[float, Field(gt=0.0)] = 0.2

    def find(self, problems: SamplingProblems, rngs: Rngs) -> Solution:
        tries = _Tries(problems)
        for begin in range(0, self.evaluations, _TRIES_AT_ONCE):
            count = min(_TRIES_AT_ONCE, self.evaluations - begin)
            tried = np.zeros((len(problems), count, problems.width - 1))
            for own, n, rng in zip(tried, problems.total.tolist(), rngs, strict=True):
                own[:, :n] = np.clip(self.spread * rng.standard_normal((count, n)), -1.0, 1.0)
            if begin == 0:
                tried[:, 0] = 0.0
            tries.evaluate(tried)
        return Solution(problems.placed(tries.best), np.full(len(problems), self.evaluations))


class _SearchByN(Spec):
    """A search of problems of equal N side by side: nothing is spent on steps that shorter grids do not have."""

    evaluations: Evaluations = 200

    def find(self, problems: SamplingProblems, rngs: Rngs) -> Solution:
        """Search the problems of each N, from the reference, which is the first evaluation."""
        actions = np.zeros((len(problems), problems.width - 1))
        spent = np.zeros(len(problems), dtype=np.int64)
        for n in np.unique(problems.total).tolist():
            rows = np.flatnonzero(problems.total == n)
            tries = _Tries(problems.take(rows))
            tries.evaluate(np.zeros((len(rows), 1, n)))
            if n > 1:  # the last step always ends at data
                self._improve(tries, n - 1, [rngs[row] for row in rows.tolist()])
            actions[rows, :n], spent[rows] = tries.best, tries.spent
        return Solution(problems.placed(actions), spent)

    def _improve(self, tries: _Tries, free: int, rngs: Rngs) -> None:
        """Try other values of the first ``free`` actions until the evaluations are spent."""
        raise NotImplementedError


class CMAESGridSearch(_SearchByN):
    """CMA-ES (package ``cma``, extra ``search``), from the reference.

    Attributes:
        evaluations: Sampler runs per source.
        spread: Standard deviation of actions at the start.
    """

    name: Literal["cma-es"] = "cma-es"
    spread: Annotated[float, Field(gt=0.0)] = 0.1

    def _improve(self, tries: _Tries, free: int, rngs: Rngs) -> None:
        instances = [CMAES(free, self.spread, rng) for rng in rngs]  # in lockstep
        while tries.spent < self.evaluations:
            # Every instance has the same population; the last generation is cut to what is left.
            asked = np.array([instance.ask() for instance in instances])
            tried = np.zeros((len(rngs), min(asked.shape[1], self.evaluations - tries.spent), free + 1))
            tried[:, :, :free] = asked[:, : tried.shape[1]]
            values = tries.evaluate(tried)
            if tried.shape[1] == asked.shape[1]:
                for instance, scores in zip(instances, values, strict=True):
                    instance.tell(scores)


class CoordinateGridSearch(_SearchByN):
    """Coordinate descent, as Align Your Steps does it: one step after the other moved either way, ever finer.

    Attributes:
        evaluations: Sampler runs per source, at most.
        stride: First change of an action; it halves after each sweep over the steps.
    """

    name: Literal["coordinate"] = "coordinate"
    stride: Annotated[float, Field(gt=0.0)] = 0.1

    def _improve(self, tries: _Tries, free: int, rngs: Rngs) -> None:
        stride, step = self.stride, 0
        while tries.spent + 2 <= self.evaluations:
            tried = np.repeat(tries.best[:, None], 2, axis=1)
            tried[:, 0, step] = np.clip(tried[:, 0, step] + stride, -1.0, 1.0)
            tried[:, 1, step] = np.clip(tried[:, 1, step] - stride, -1.0, 1.0)
            tries.evaluate(tried)
            step = (step + 1) % free
            stride *= 0.5 if step == 0 else 1.0


class DynamicGridSearch(Spec):
    """The shortest path through a fine grid (as GITS and Watson et al.): step costs are local errors and add up.

    The cost of a step from one candidate sigma to another is the distance of its end from the fine grid's state there.
    The search takes L (L − 1) / 2 steps of the sampler, which count as L (L − 1) / 2N runs.

    Attributes:
        levels: L, candidate sigmas along the reference.
    """

    name: Literal["dynamic"] = "dynamic"
    levels: Annotated[int, Field(ge=4, le=512)] = 65

    def find(self, problems: SamplingProblems, rngs: Rngs) -> Solution:
        """Costs of all pairs, then the cheapest path of N steps."""
        count, size = self.levels, len(problems)
        reference, batch = problems.variant.action.reference, problems.batch
        places = np.linspace(1.0, 0.0, count)
        fine = np.stack([reference.sigma(np.full(size, w), problems.total, batch) for w in places])
        fine[0] = reference.first_sigma
        states = [batch.start(np.arange(size))]
        for level in range(count - 1):
            states.append(batch.advance(states[-1], fine[level], fine[level + 1]))
        cost = np.full((count, count, size), np.inf)
        for start in range(count - 1):
            for end in range(start + 1, count):
                landed = batch.advance(states[start], fine[start], fine[end])
                cost[start, end] = batch.deviation(landed, states[end])
        sigmas = np.zeros((size, problems.width))
        sigmas[:, 0] = reference.first_sigma
        for n in np.unique(problems.total).tolist():
            rows = np.flatnonzero(problems.total == n)
            path = _cheapest_path(cost[:, :, rows], min(n, count - 1))
            sigmas[rows[:, None], np.arange(path.shape[1])] = fine[path, rows[:, None]]
        spent = np.ceil(0.5 * count * (count - 1) / problems.total).astype(np.int64)
        return Solution(sigmas, spent)


AnyGridSearch = Annotated[
    RandomGridSearch | CMAESGridSearch | CoordinateGridSearch | DynamicGridSearch, Field(discriminator="name")
]
"""Any search, chosen by ``name``."""


def _cheapest_path(cost: FloatArray, steps: int) -> NDArray[np.int64]:
    """Indices ``[B, steps + 1]`` of the cheapest path from the first sigma to the last in exactly ``steps`` steps."""
    count, size = cost.shape[0], cost.shape[2]
    reached = np.full((count, size), np.inf)
    reached[0] = 0.0
    came_from = np.zeros((steps, count, size), dtype=np.int64)
    for step in range(steps):
        through = reached[:, None] + cost
        came_from[step] = through.argmin(axis=0)
        reached = through.min(axis=0)
    path = np.full((size, steps + 1), count - 1, dtype=np.int64)
    for step in range(steps, 0, -1):
        path[:, step - 1] = came_from[step - 1, path[:, step], np.arange(size)]
    return path
