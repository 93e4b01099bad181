"""The best levels for a sampler and a spectrum, at a given number of steps.

Several laws between the same two ends are tried, Newton's method goes on from the best of them, and the best result
is kept: it is never worse than any of the laws.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np

from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.gaussian.divergences import Direction
from schedrl.sources.gaussian.laws import (
    best_gamma,
    cube_root_sigmas,
    gamma_star,
    geodesic_sigmas,
    power_sigmas,
    sine_sigmas,
    tangent_sigmas,
)
from schedrl.sources.gaussian.newton import Problem, minimise
from schedrl.sources.gaussian.recursions import SamplerName, Start

__all__ = ["best_sigmas"]

_FIRST_ITERATIONS, _LAST_ITERATIONS, _FINALISTS = 12, 200, 2
_MEMORY = 200_000  # numbers per array: problems x steps x eigenvalues
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_EXPONENTS = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0)
# Where a first level that is free starts, in units of the largest standard deviation.
_FIRST_LEVELS = (1.0, 3.0, 10.0, 50.0)


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
        sigma_max: First level, infinite by default; Heun's sampler needs a finite one. None leaves the first level
            free, to be chosen with the others: from N(0, I) a finite one can be better, because a start that is too
            wide where λ < 1 makes up for what the steps lose.
        sigma_min: Last level.
        direction: Which divergence.
        start: Variance of the first state.
        starts: From how many of the laws Newton's method goes on.

    Returns:
        Strictly descending, ``[B, n+1]``. A minimum with respect to every free level, to about eight digits. It is
        never above a law that was tried; where few eigenvalues lie far apart, another minimum may be lower still.

    Raises:
        SchedrlError: A value is out of range, or a name does not exist.

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
) -> Problem:
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
    return Problem(spectra, counts, sampler, direction, start)


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


def _best(problem: Problem, n: int, sigma_max: float | None, sigma_min: float, starts: int) -> FloatArray:
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
    problem: Problem, n: int, first: FloatArray, sigma_min: float, starts: int
) -> tuple[FloatArray, FloatArray]:
    """Newton from the best of the laws between ``first`` and ``sigma_min``: levels and divergences."""
    tried = np.stack(list(_laws(problem, n, first, sigma_min)))
    values = np.stack([problem.value(levels) for levels in tried])
    if n == 1 and not problem.first_is_free:
        return tried[0], values[0]
    # A few steps from many laws show which minima are worth going to the bottom of.
    for count, iterations in ((starts, _FIRST_ITERATIONS), (_FINALISTS, _LAST_ITERATIONS)):
        order = np.argsort(values, axis=0, kind="stable")[:count]
        tried, values = np.take_along_axis(tried, order[:, :, None], axis=0), np.empty(order.shape)
        for place, levels in enumerate(tried):
            tried[place], values[place] = minimise(problem, levels, iterations)
    best = np.argmin(values, axis=0), np.arange(len(first))
    return tried[best], values[best]


def _laws(problem: Problem, n: int, first: FloatArray, sigma_min: float) -> Iterator[FloatArray]:
    """Candidates ``[B, n+1]``."""
    spectra, counts = problem.eigenvalues, problem.weights
    yield geodesic_sigmas(spectra, n, counts, first, sigma_min)
    for law in (tangent_sigmas, sine_sigmas, cube_root_sigmas):
        gamma = best_gamma(
            spectra, n, problem.sampler, counts, first, sigma_min, problem.direction, problem.start, law
        )
        yield law(gamma, n, first, sigma_min)
    yield tangent_sigmas(gamma_star(spectra, counts), n, first, sigma_min)
    half_log = np.where(counts > 0.0, 0.5 * np.log(spectra), np.nan)
    scales = np.exp(np.nanquantile(half_log, _QUANTILES, axis=1))
    for scale in scales:
        yield tangent_sigmas(scale, n, first, sigma_min)
    for margin in (1.0, 3.0):
        yield _log_uniform(scales[0] / margin, scales[-1] * margin, n, first, sigma_min)
    finite = np.where(np.isfinite(first), first, 50.0 * scales[-1])
    for rho in _EXPONENTS:
        levels = power_sigmas(np.full(len(first), rho), n, np.maximum(finite, 2.0 * sigma_min), sigma_min)
        levels[:, 0] = first
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
