"""The best levels for a sampler and a spectrum, at a given number of steps.

Several laws between the same two ends are tried, Newton's method continues from the best of them, and the best result
is kept, so it is never worse than any of the laws.

Newton's method solves many problems at once. The unknowns are the logarithms y of the levels. Where the Hessian is not
positive, negative curvatures count by their absolute value. A step is cut so that no two neighbours come closer than a
tenth of their distance, then halved until the divergence falls. Problems that are done no longer cost anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules.continuous_laws import even_fractions, karras_sigmas, tangent_sigmas
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.gaussian.divergences import Direction
from schedrl.sources.gaussian.laws import (
    best_gamma,
    cube_root_sigmas,
    gamma_star,
    geodesic_sigmas,
    sine_sigmas,
)
from schedrl.sources.gaussian.objective import kl_derivatives, kl_of_levels
from schedrl.sources.gaussian.recursions import SamplerName, Start

_FIRST_ITERATIONS, _LAST_ITERATIONS, _FINALISTS = 12, 200, 2
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_EXPONENTS = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0)
# Where a first level that is free starts, in units of the largest standard deviation.
_FIRST_LEVELS = (1.0, 3.0, 10.0, 50.0)
_HALVINGS = 40
_KEEP = 0.9  # a step uses up at most this share of the distance between two neighbours
_LONGEST_STEP = 3.0  # e-folds; further than this no quadratic model reaches
_FLAT = 1e-12  # curvatures below this share of the largest count as this share
_DONE = 1e-14  # predicted relative decrease below which a problem is done
_EXACT = 1e-22  # nats; a few eigenvalues can be met exactly by as many levels, and then only rounding is left
# Numbers per array, problems x steps x eigenvalues: of all laws at once, and of Newton's method.
_MEMORY, _NEWTON_MEMORY = 200_000, 400_000


def best_sigmas(
    eigenvalues: FloatArray,
    n: int,
    sampler: SamplerName = "ddim",
    weights: FloatArray | None = None,
    sigma_max: float | None = np.inf,
    sigma_min: float = 0.0,
    direction: Direction = "forward",
    start: Start = "vp",
    starts: int = 8,
) -> FloatArray:
    """Levels with the least exact divergence, for many spectra at once.

    Args:
        eigenvalues: λ, ``[B, E]``, positive.
        n: Number of steps, at least 1.
        sampler: Which sampler; not ``"ddpm-exact"``, which makes no error anywhere.
        weights: Multiplicities, ``[B, E]``, 0 for padding; None counts each eigenvalue once.
        sigma_max: First level, infinite by default; Heun's sampler needs a finite one. None chooses the first level
            too: from N(0, I) a finite one can be better, because a start that is too wide where λ < 1 makes up for
            the variance that the steps lose.
        sigma_min: Last level.
        direction: Which divergence.
        start: Variance of the first state.
        starts: Number of laws from which Newton's method continues.

    Returns:
        Strictly descending, ``[B, n+1]``. A minimum with respect to every free level, to about eight digits. It is
        never above a law that was tried; where few eigenvalues lie far apart, another minimum may be lower still.

    Examples:
        >>> best_sigmas(np.array([[4.0, 1.0, 0.1]]), 5)[0, 1:-1].round(4)
        array([3.5152, 1.3225, 0.5187, 0.1856])
    """
    count = as_count("n", n)
    as_count("starts", starts)
    problem = _problem(eigenvalues, sampler, weights, direction, start)
    _check_ends(sigma_max, sigma_min, sampler)
    size = max(1, _MEMORY // ((count + 8) * problem.eigenvalues.shape[1]))
    levels = [
        _best(problem.rows(slice(at, at + size)), count, sigma_max, sigma_min, starts)
        for at in range(0, len(problem.eigenvalues), size)
    ]
    return np.concatenate(levels) if levels else np.empty((0, count + 1))


def _problem(
    eigenvalues: FloatArray,
    sampler: SamplerName,
    weights: FloatArray | None,
    direction: Direction,
    start: Start,
) -> _Problem:
    spectra = np.asarray(eigenvalues, dtype=np.float64)
    if spectra.ndim != 2 or spectra.shape[1] == 0:
        raise SchedrlError(f"field 'eigenvalues': must have shape [B, E] (got {list(spectra.shape)})")
    wrong = ~((spectra > 0.0) & np.isfinite(spectra))
    if wrong.any():
        raise SchedrlError(
            f"field 'eigenvalues': must be positive and finite (got {float(spectra[wrong][0])})"
        )
    counts = np.ones_like(spectra) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape != spectra.shape or not ((counts >= 0.0).all() and (counts > 0.0).any(axis=1).all()):
        raise SchedrlError(
            f"field 'weights': must have the shape of eigenvalues, {list(spectra.shape)}, none negative and one "
            f"per row positive (got shape {list(counts.shape)})"
        )
    if sampler == "ddpm-exact":
        raise SchedrlError("field 'sampler': 'ddpm-exact' makes no error that depends on the levels")
    for kind, name, known in (
        ("sampler", sampler, SamplerName),
        ("direction", direction, Direction),
        ("start", start, Start),
    ):
        if name not in get_args(known):
            raise unknown_name(kind, str(name), get_args(known))
    return _Problem(spectra, counts, sampler, direction, start)


def _check_ends(sigma_max: float | None, sigma_min: float, sampler: SamplerName) -> None:
    if not (sigma_min >= 0.0 and np.isfinite(sigma_min)):
        raise SchedrlError(f"field 'sigma_min': must be 0 or positive, and finite (got {sigma_min})")
    if sigma_max is None:
        return
    if not sigma_max > sigma_min:
        raise SchedrlError(
            f"field 'sigma_max': must be greater than sigma_min = {sigma_min} (got {sigma_max})"
        )
    if sampler == "heun" and np.isinf(sigma_max):
        raise SchedrlError(
            "field 'sigma_max': must be finite for Heun's sampler, or None to choose it (got inf)"
        )


def _best(problem: _Problem, n: int, sigma_max: float | None, sigma_min: float, starts: int) -> FloatArray:
    if sigma_max is not None:
        first = np.full(len(problem.eigenvalues), sigma_max)
        return _from_laws(problem, n, first, sigma_min, starts)[0]
    found = []
    if problem.sampler != "heun":
        found.append(_from_laws(problem, n, np.full(len(problem.eigenvalues), np.inf), sigma_min, starts))
    free = problem._replace(first_is_free=True)
    widest = np.sqrt(np.where(problem.weights > 0.0, problem.eigenvalues, 0.0).max(axis=1))
    # A start far below the last level would not be one.
    found += [
        _from_laws(free, n, np.maximum(factor * widest, 2.0 * sigma_min), sigma_min, starts)
        for factor in _FIRST_LEVELS
    ]
    best = np.argmin([value for _, value in found], axis=0)
    return np.asarray(np.stack([levels for levels, _ in found])[best, np.arange(len(best))])


def _from_laws(
    problem: _Problem, n: int, first: FloatArray, sigma_min: float, starts: int
) -> tuple[FloatArray, FloatArray]:
    """Newton from the best of the laws between ``first`` and ``sigma_min``: levels and divergences."""
    tried = np.stack(list(_laws(problem, n, first, sigma_min)))
    values = np.stack([problem.value(levels) for levels in tried])
    if n == 1 and not problem.first_is_free:
        return tried[0], values[0]
    # A few steps from many laws show which minima are worth finishing.
    for count, iterations in ((starts, _FIRST_ITERATIONS), (_FINALISTS, _LAST_ITERATIONS)):
        order = np.argsort(values, axis=0, kind="stable")[:count]
        tried, values = np.take_along_axis(tried, order[:, :, None], axis=0), np.empty(order.shape)
        for place, levels in enumerate(tried):
            tried[place], values[place] = _minimise(problem, levels, iterations)
    best = np.argmin(values, axis=0), np.arange(len(first))
    return tried[best], values[best]


def _laws(problem: _Problem, n: int, first: FloatArray, sigma_min: float) -> Iterator[FloatArray]:
    """Candidates ``[B, n+1]``."""
    spectra, counts = problem.eigenvalues, problem.weights
    u, top = even_fractions(n), first[:, None]
    yield geodesic_sigmas(spectra, n, counts, first, sigma_min)
    for law in (tangent_sigmas, sine_sigmas, cube_root_sigmas):
        gamma = best_gamma(
            spectra, n, problem.sampler, counts, first, sigma_min, problem.direction, problem.start, law
        )
        yield law(u, gamma[:, None], top, sigma_min)
    yield tangent_sigmas(u, gamma_star(spectra, counts)[:, None], top, sigma_min)
    half_log = np.where(counts > 0.0, 0.5 * np.log(spectra), np.nan)
    scales = np.exp(np.nanquantile(half_log, _QUANTILES, axis=1))
    for scale in scales:
        yield tangent_sigmas(u, scale[:, None], top, sigma_min)
    for margin in (1.0, 3.0):
        yield _log_uniform(scales[0] / margin, scales[-1] * margin, n, first, sigma_min)
    finite = np.where(np.isfinite(first), first, 50.0 * scales[-1])
    for rho in _EXPONENTS:
        high = np.maximum(finite, 2.0 * sigma_min)[:, None]
        levels = karras_sigmas(u, np.full_like(high, rho), high, sigma_min)
        levels[:, 0], levels[:, -1] = first, sigma_min
        yield levels


def _log_uniform(
    low: FloatArray, high: FloatArray, n: int, first: FloatArray, sigma_min: float
) -> FloatArray:
    """Interior levels log-uniform between two scales, as far as the ends leave room."""
    bottom = np.maximum(low, 1.01 * sigma_min)
    top = np.minimum(high, 0.99 * first)
    inside = np.linspace(1.0, 0.0, n - 1) if n > 2 else np.full(n - 1, 0.5)
    levels = np.empty((len(low), n + 1))
    levels[:, 0], levels[:, -1] = first, sigma_min
    levels[:, 1:-1] = bottom[:, None] * (top / bottom)[:, None] ** inside
    return levels


class _Problem(NamedTuple):
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

    def rows(self, rows: npt.NDArray[np.intp] | slice) -> _Problem:
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


def _minimise(problem: _Problem, sigmas: FloatArray, iterations: int) -> tuple[FloatArray, FloatArray]:
    """Lower every divergence by Newton's method.

    Args:
        problem: The divergences.
        sigmas: Strictly descending levels to start from, ``[B, N+1]``. The last stays, and so does the first unless
            it is free (then it must be finite).
        iterations: Maximum number of steps.

    Returns:
        Levels ``[B, N+1]`` and their divergences ``[B]``, never above those at the start.
    """
    rows_at_once = max(1, _NEWTON_MEMORY // (sigmas.shape[1] * problem.eigenvalues.shape[1]))
    parts = [slice(at, at + rows_at_once) for at in range(0, len(sigmas), rows_at_once)]
    done = [_minimise_part(problem.rows(part), sigmas[part], iterations) for part in parts]
    return np.concatenate([levels for levels, _ in done]), np.concatenate([value for _, value in done])


def _minimise_part(problem: _Problem, start: FloatArray, iterations: int) -> tuple[FloatArray, FloatArray]:
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
    problem: _Problem,
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
