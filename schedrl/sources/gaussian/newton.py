"""Newton's method for the levels of many grids at once.

Unknown are the logarithms y of the levels. A step is that of Newton, with negative curvature turned round where the
Hessian is not positive; it is cut so that no two neighbours come closer than a tenth of their distance, then halved
until the divergence falls. Problems that are done no longer cost anything.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.divergences import Direction
from schedrl.sources.gaussian.objective import kl_derivatives, kl_of_levels
from schedrl.sources.gaussian.recursions import SamplerName, Start

__all__ = ["Problem", "minimise"]

_MAX_ITERATIONS = 200
_HALVINGS = 40
_KEEP = 0.9  # a step uses up at most this share of the distance between two neighbours
_LONGEST_STEP = 3.0  # e-folds; further than this no quadratic model reaches
_FLAT = 1e-12  # curvatures below this share of the largest count as this share
_DONE = 1e-14  # predicted relative decrease below which a problem is done
_EXACT = 1e-22  # nats; a few eigenvalues can be met exactly by as many levels, and then only rounding is left
_MEMORY = 400_000  # numbers per array: problems x steps x eigenvalues


class Problem(NamedTuple):
    """What is minimised: B divergences, each a function of the levels.

    Attributes:
        eigenvalues: ``[B, E]``.
        weights: ``[B, E]``.
        sampler: Which sampler.
        direction: Which divergence.
        start: Variance of the first state.
        first_is_free: Whether the first level may move.
    """

    eigenvalues: FloatArray
    weights: FloatArray
    sampler: SamplerName
    direction: Direction
    start: Start
    first_is_free: bool = False

    def rows(self, rows: npt.NDArray[np.intp] | slice) -> Problem:
        """Some of the problems."""
        return self._replace(eigenvalues=self.eigenvalues[rows], weights=self.weights[rows])

    def value(self, sigmas: FloatArray, rows: npt.NDArray[np.intp] | None = None) -> FloatArray:
        """Divergences ``[B]`` at ``[B, N+1]`` levels, of some rows; infinite where two levels coincide."""
        chosen = np.arange(len(self.eigenvalues)) if rows is None else rows
        distinct = np.asarray((np.diff(sigmas) < 0.0).all(axis=1))
        here, value = self.rows(chosen[distinct]), np.full(len(sigmas), np.inf)
        value[distinct] = kl_of_levels(
            here.eigenvalues, sigmas[distinct], self.sampler, self.direction, self.start, here.weights
        )
        return value

    def derivatives(self, sigmas: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, and gradient and Hessian in the logarithms of the free levels."""
        value, gradient, hessian = kl_derivatives(
            self.eigenvalues, sigmas, self.sampler, self.direction, self.start, self.weights
        )
        free = slice(0 if self.first_is_free else 1, None)
        return value, gradient[:, free], hessian[:, free, free]


def minimise(
    problem: Problem, sigmas: FloatArray, iterations: int = _MAX_ITERATIONS
) -> tuple[FloatArray, FloatArray]:
    """Lower every divergence as far as Newton's method can from where it starts.

    Args:
        problem: The divergences.
        sigmas: Strictly descending levels to start from, ``[B, N+1]``. The last stays, and so does the first unless
            it is free (then it must be finite).
        iterations: At most so many steps.

    Returns:
        Levels ``[B, N+1]`` and their divergences ``[B]``, never above those at the start.
    """
    rows_at_once = max(1, _MEMORY // (sigmas.shape[1] * problem.eigenvalues.shape[1]))
    parts = [slice(at, at + rows_at_once) for at in range(0, len(sigmas), rows_at_once)]
    done = [_minimise(problem.rows(part), sigmas[part], iterations) for part in parts]
    return np.concatenate([levels for levels, _ in done]), np.concatenate([value for _, value in done])


def _minimise(problem: Problem, start: FloatArray, iterations: int) -> tuple[FloatArray, FloatArray]:
    levels = start.copy()
    best = problem.value(levels)
    free = slice(0 if problem.first_is_free else 1, -1)
    if levels[:, free].shape[1] == 0:
        return levels, best
    active = np.flatnonzero(np.isfinite(best) & (best > _EXACT))
    for _ in range(iterations):
        if not len(active):
            break
        here = problem.rows(active)
        value, gradient, hessian = here.derivatives(levels[active])
        step = -_solve(hessian, gradient)
        promised = -np.einsum("bk,bk->b", gradient, step)
        worthwhile = promised > _DONE * value
        active, step, promised = active[worthwhile], step[worthwhile], promised[worthwhile]
        share = _longest(levels[active], step, free)
        step, promised = step * share[:, None], promised * share
        moved = _line_search(problem.rows(active), levels, best, active, step, promised, free)
        active = active[moved & (best[active] > _EXACT)]
    return levels, best


def _solve(hessian: FloatArray, gradient: FloatArray) -> FloatArray:
    """The Newton direction; with curvatures by absolute value where one is negative."""
    right = gradient[:, :, None]
    try:
        np.linalg.cholesky(hessian)
        return np.asarray(np.linalg.solve(hessian, right)[:, :, 0], dtype=np.float64)
    except np.linalg.LinAlgError:  # one of them is not positive definite
        signed, basis = np.linalg.eigh(hessian)
    curvature = np.abs(signed)
    floor = np.maximum(_FLAT * curvature.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    along = (basis.transpose(0, 2, 1) @ right)[:, :, 0] / np.maximum(curvature, floor)
    return np.asarray((basis @ along[:, :, None])[:, :, 0], dtype=np.float64)


def _longest(levels: FloatArray, step: FloatArray, free: slice) -> FloatArray:
    """The largest share of the step, at most 1, that keeps neighbours apart, ``[B]``."""
    whole = np.zeros_like(levels)
    whole[:, free] = step
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = -np.diff(np.log(levels))
        closing = np.diff(whole)
        room = np.where(closing > 0.0, _KEEP * gap / closing, np.inf)
    reach = _LONGEST_STEP / np.maximum(np.abs(step).max(axis=1), _LONGEST_STEP)
    return np.asarray(np.minimum(room.min(axis=1), reach), dtype=np.float64)


def _line_search(
    problem: Problem,
    levels: FloatArray,
    best: FloatArray,
    active: npt.NDArray[np.intp],
    step: FloatArray,
    promised: FloatArray,
    free: slice,
) -> npt.NDArray[np.bool_]:
    """Halve the steps until the divergences fall; write what was found, and say which did."""
    moved = np.zeros(len(active), dtype=bool)
    waiting = np.arange(len(active))
    share = 1.0
    for _ in range(_HALVINGS):
        if not len(waiting):
            break
        rows = active[waiting]
        trial = levels[rows]
        trial[:, free] *= np.exp(share * step[waiting])
        value = problem.value(trial, waiting)
        better = value < best[rows] - 1e-4 * share * promised[waiting]
        levels[rows[better]], best[rows[better]] = trial[better], value[better]
        moved[waiting[better]] = True
        waiting = waiting[~better]
        share *= 0.5
    return moved
