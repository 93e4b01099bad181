"""The scale or the exponent of a law that is best at a given number of steps, by the exact divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.divergences import Direction, kl
from schedrl.sources.gaussian.formulas import tangent_sigmas
from schedrl.sources.gaussian.recursions import SamplerName, Start, output_variances

__all__ = ["Law", "best_gamma", "best_rho", "scan_minimum"]


class Law(Protocol):
    """A law with a scale, such as :func:`~schedrl.sources.gaussian.formulas.tangent_sigmas`."""

    def __call__(
        self, gamma: npt.ArrayLike, n: int, sigma_max: npt.ArrayLike = ..., sigma_min: npt.ArrayLike = ...
    ) -> FloatArray:
        """Levels ``[..., n+1]`` from scales ``[...]`` and ends that broadcast against them."""


def scan_minimum(
    objective: Callable[[FloatArray], FloatArray],
    low: FloatArray,
    high: FloatArray,
    points: int = 65,
    rounds: int = 9,
) -> FloatArray:
    """Where functions of one variable are least: scanned, then zoomed in on the best point again and again.

    Args:
        objective: Values ``[B, P]`` at places ``[B, P]``.
        low: Lower bounds, ``[B]``.
        high: Upper bounds, ``[B]``.
        points: Places of the first scan; later ones take 9.
        rounds: Number of scans; each after the first narrows the bracket by 4.

    Returns:
        The best places seen, ``[B]``.
    """
    rows = np.arange(len(low))
    width = (high - low) / (points - 1)
    places = low[:, None] + width[:, None] * np.arange(points)
    best, value = np.array(low, dtype=np.float64), np.full(len(low), np.inf)
    for _ in range(rounds):
        found = objective(places)
        index = np.argmin(np.where(np.isnan(found), np.inf, found), axis=1)
        better = found[rows, index] < value
        best = np.where(better, places[rows, index], best)
        value = np.where(better, found[rows, index], value)
        places = np.clip(
            best[:, None] + width[:, None] * np.linspace(-1.0, 1.0, 9), low[:, None], high[:, None]
        )
        width = width / 4.0
    return best


def best_gamma(
    eigenvalues: FloatArray,
    n: int,
    sampler: SamplerName = "ddim",
    weights: FloatArray | None = None,
    sigma_max: npt.ArrayLike = np.inf,
    sigma_min: npt.ArrayLike = 0.0,
    direction: Direction = "forward",
    start: Start = "vp",
    law: Law = tangent_sigmas,
) -> FloatArray:
    """Scale of a law that has the least exact divergence at this number of steps.

    Args:
        eigenvalues: λ, ``[B, E]``.
        n: Number of steps.
        sampler: Which sampler.
        weights: Multiplicities, ``[B, E]``.
        sigma_max: First level, one for all or ``[B]``.
        sigma_min: Last level, likewise.
        direction: Which divergence.
        start: Variance of the first state.
        law: Which law; the tangent by default.

    Returns:
        ``[B]``, to about seven digits, within a factor e² of the eigenvalues' roots.

    Raises:
        SchedrlError: A name does not exist.

    Examples:
        >>> best_gamma(np.array([[4.0, 1.0, 0.1]]), 5).round(5)
        array([0.81219])
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights
    roots = 0.5 * np.log(eigenvalues)
    low = np.where(counts > 0.0, roots, np.inf).min(axis=1) - 2.0
    high = np.where(counts > 0.0, roots, -np.inf).max(axis=1) + 2.0
    ends = tuple(np.asarray(end, dtype=np.float64)[..., None] for end in (sigma_max, sigma_min))

    def objective(log_gamma: FloatArray) -> FloatArray:
        sigmas = law(np.exp(log_gamma), n, *ends)
        return _kl(eigenvalues[:, None], sigmas, sampler, counts[:, None], direction, start)

    return np.exp(scan_minimum(objective, low, high))


def best_rho(
    levels: Callable[[FloatArray], FloatArray],
    eigenvalues: FloatArray,
    sampler: SamplerName = "ddim",
    weights: FloatArray | None = None,
    direction: Direction = "forward",
    start: Start = "vp",
) -> FloatArray:
    """Exponent of a power law that has the least exact divergence.

    Args:
        levels: The law: ``[..., n+1]`` levels from exponents ``[...]``; :func:`power_sigmas` or
            :func:`power_time_sigmas` with everything else filled in.
        eigenvalues: λ, ``[B, E]``.
        sampler: Which sampler.
        weights: Multiplicities, ``[B, E]``.
        direction: Which divergence.
        start: Variance of the first state.

    Returns:
        ``[B]``, in [0.3, 30].

    Raises:
        SchedrlError: A name does not exist.

    Examples:
        >>> from schedrl.sources.gaussian.formulas import power_sigmas
        >>> law = lambda rho: power_sigmas(rho, 10, sigma_max=80.0)
        >>> best_rho(law, np.array([[0.25]])).round(3)
        array([5.677])
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights

    def objective(log_rho: FloatArray) -> FloatArray:
        return _kl(eigenvalues[:, None], levels(np.exp(log_rho)), sampler, counts[:, None], direction, start)

    bounds = np.log(np.tile([[0.3], [30.0]], len(eigenvalues)))
    # Fine, because a level that passes an eigenvalue makes a minimum of its own.
    return np.exp(scan_minimum(objective, bounds[0], bounds[1], points=257))


def _kl(
    eigenvalues: FloatArray,
    sigmas: FloatArray,
    sampler: SamplerName,
    weights: FloatArray,
    direction: Direction,
    start: Start,
) -> FloatArray:
    """Divergences ``[B, P]`` of P grids for each of B spectra."""
    if sigmas[..., 0].max() == np.inf and sampler == "heun":
        raise SchedrlError("field 'sigma_max': Heun's sampler needs a finite first level (got inf)")
    target = eigenvalues + sigmas[..., -1:] ** 2
    return kl(output_variances(eigenvalues, sigmas, sampler, start) / target, direction, weights)
