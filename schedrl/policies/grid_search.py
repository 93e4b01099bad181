"""Searches over grids, source by source, at a stated number of sampler runs each.

Each looks for the actions of an episode (so the same space as an agent's) that minimise the exact final error. All
sources are searched side by side. An evaluation is one whole run of the sampler on one source; a learned policy needs
none on a source it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

__all__ = [
    "AnyGridSearch",
    "CMAESGridSearch",
    "CoordinateGridSearch",
    "DynamicGridSearch",
    "GridSearch",
    "RandomGridSearch",
    "Solution",
]

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
            rngs: What is random comes from here, a generator per problem: what is found for one does not depend on
                which others are searched beside it.
        """


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
        """Draw, evaluate, keep the best."""
        best = np.zeros((len(problems), problems.width - 1))
        value = np.full(len(problems), np.inf)
        for begin in range(0, self.evaluations, _TRIES_AT_ONCE):
            count = min(_TRIES_AT_ONCE, self.evaluations - begin)
            tried = np.zeros((len(problems), count, problems.width - 1))
            for own, n, rng in zip(tried, problems.total.tolist(), rngs, strict=True):
                own[:, :n] = np.clip(self.spread * rng.standard_normal((count, n)), -1.0, 1.0)
            if begin == 0:
                tried[:, 0] = 0.0
            _keep_better(best, value, tried, _evaluate(problems, tried))
        return Solution(problems.placed(best), np.full(len(problems), self.evaluations))


class CMAESGridSearch(Spec):
    """CMA-ES (package ``cma``, extra ``search``), from the reference.

    Attributes:
        evaluations: Sampler runs per source.
        spread: Standard deviation of actions at the start.
    """

    name: Literal["cma-es"] = "cma-es"
    evaluations: Evaluations = 200
    spread: Annotated[float, Field(gt=0.0)] = 0.1

    def find(self, problems: SamplingProblems, rngs: Rngs) -> Solution:
        """One instance per source, in lockstep."""

        def search(part: SamplingProblems, own: Rngs) -> tuple[FloatArray, int]:
            best, value = np.zeros((len(part), part.width - 1)), _reference_value(part)
            spent, free = 1, part.width - 2  # the last step always ends at data
            instances = [CMAES(free, self.spread, rng) for rng in own]
            while free and spent < self.evaluations:
                # Every instance has the same population; the last generation is cut to what is left.
                asked = np.array([instance.ask() for instance in instances])
                counted = np.zeros((len(part), min(asked.shape[1], self.evaluations - spent), part.width - 1))
                counted[:, :, :free] = asked[:, : counted.shape[1]]
                values = _evaluate(part, counted)
                spent += counted.shape[1]
                _keep_better(best, value, counted, values)
                if counted.shape[1] < asked.shape[1]:
                    break
                for instance, scores in zip(instances, values, strict=True):
                    instance.tell(scores)
            return best, spent

        return _by_steps(problems, rngs, search)


class CoordinateGridSearch(Spec):
    """Coordinate descent, as Align Your Steps does it: one step after the other moved either way, ever finer.

    Attributes:
        evaluations: Sampler runs per source, at most.
        stride: First change of an action.
    """

    name: Literal["coordinate"] = "coordinate"
    evaluations: Evaluations = 200
    stride: Annotated[float, Field(gt=0.0)] = 0.1

    def find(self, problems: SamplingProblems, rngs: Rngs) -> Solution:
        """Sweeps over the steps; the stride halves after a sweep."""

        def search(part: SamplingProblems, own: Rngs) -> tuple[FloatArray, int]:
            best, value = np.zeros((len(part), part.width - 1)), _reference_value(part)
            spent, stride, free = 1, self.stride, part.width - 2
            while free > 0 and spent + 2 <= self.evaluations:
                for step in range(free):
                    if spent + 2 > self.evaluations:
                        break
                    tried = np.repeat(best[:, None], 2, axis=1)
                    tried[:, 0, step] = np.clip(tried[:, 0, step] + stride, -1.0, 1.0)
                    tried[:, 1, step] = np.clip(tried[:, 1, step] - stride, -1.0, 1.0)
                    spent += 2
                    _keep_better(best, value, tried, _evaluate(part, tried))
                stride *= 0.5
            return best, spent

        return _by_steps(problems, rngs, search)


class DynamicGridSearch(Spec):
    """The shortest path through a fine grid (as GITS and Watson et al.): step costs are local errors and add up.

    The cost of a step from one candidate level to another is how far it lands from the fine grid's own state there.
    It takes L (L − 1) / 2 steps of the sampler, counted as that many N-ths of a run.

    Attributes:
        levels: L, candidate levels along the reference.
    """

    name: Literal["dynamic"] = "dynamic"
    levels: Annotated[int, Field(ge=4, le=512)] = 65

    def find(self, problems: SamplingProblems, rngs: Rngs) -> Solution:
        """Costs of all pairs, then the cheapest path of N steps."""
        count, size = self.levels, len(problems)
        reference, batch = problems.variant.action.reference, problems.batch
        places = np.linspace(1.0, 0.0, count)
        fine = np.stack([reference.sigma(np.full(size, w), problems.total, batch) for w in places])
        fine[0] = reference.first_level
        states = [batch.start(np.arange(size))]
        for level in range(count - 1):
            states.append(batch.advance(states[-1], fine[level], fine[level + 1]))
        cost = np.full((count, count, size), np.inf)
        for start in range(count - 1):
            for end in range(start + 1, count):
                landed = batch.advance(states[start], fine[start], fine[end])
                cost[start, end] = batch.deviation(landed, states[end])
        sigmas = np.zeros((size, problems.width))
        sigmas[:, 0] = reference.first_level
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
    """Indices ``[B, steps + 1]`` of the cheapest path from the first level to the last in exactly so many steps."""
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


def _evaluate(problems: SamplingProblems, actions: FloatArray) -> FloatArray:
    """Log errors ``[B, K]`` of K episodes of actions ``[B, K, N]`` per source."""
    size, tries = actions.shape[:2]
    flat = actions.reshape(size * tries, -1)
    owner = np.repeat(np.arange(size), tries)
    values = np.empty(size * tries)
    for begin in range(0, len(flat), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        chosen = problems.take(owner[part])
        values[part] = log_error(chosen.error(chosen.placed(flat[part, : chosen.width - 1])))
    return values.reshape(size, tries)


def _reference_value(problems: SamplingProblems) -> FloatArray:
    """Log errors ``[B]`` of the reference grids: the first evaluation of a search."""
    return _evaluate(problems, np.zeros((len(problems), 1, problems.width - 1)))[:, 0]


def _keep_better(best: FloatArray, value: FloatArray, tried: FloatArray, scores: FloatArray) -> None:
    """Put the best of what was tried (``[B, K, N]``, ``[B, K]``) in place of what it beats."""
    rows, index = np.arange(len(best)), scores.argmin(axis=1)
    better = scores[rows, index] < value
    best[better], value[better] = tried[rows, index][better], scores[rows, index][better]


def _by_steps(
    problems: SamplingProblems,
    rngs: Rngs,
    search: Callable[[SamplingProblems, Rngs], tuple[FloatArray, int]],
) -> Solution:
    """Search problems of equal N side by side: nothing is spent on steps that shorter grids do not have."""
    actions = np.zeros((len(problems), problems.width - 1))
    spent = np.zeros(len(problems), dtype=np.int64)
    for n in np.unique(problems.total).tolist():
        rows = np.flatnonzero(problems.total == n)
        found, spent[rows] = search(problems.take(rows), [rngs[row] for row in rows.tolist()])
        actions[rows, :n] = found
    return Solution(problems.placed(actions), spent)
