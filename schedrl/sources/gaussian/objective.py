"""The exact divergence of a sampler from its source as a function of the levels, to second order."""

from __future__ import annotations

import numpy as np

from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.divergences import Direction, kl_from_log, kl_slopes
from schedrl.sources.gaussian.pair_terms import expand, log_ratio
from schedrl.sources.gaussian.recursions import SamplerName, Start

__all__ = ["kl_derivatives", "kl_of_levels"]


def kl_of_levels(
    eigenvalues: FloatArray,
    sigmas: FloatArray,
    sampler: SamplerName,
    direction: Direction = "forward",
    start: Start = "vp",
    weights: FloatArray | None = None,
) -> FloatArray:
    """The exact divergence, ``[B]`` in nats, from ``[B, E]`` eigenvalues and ``[B, N+1]`` levels."""
    return kl_from_log(log_ratio(eigenvalues, sigmas, sampler, start), direction, weights)


def kl_derivatives(
    eigenvalues: FloatArray,
    sigmas: FloatArray,
    sampler: SamplerName,
    direction: Direction = "forward",
    start: Start = "vp",
    weights: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The exact divergence with its gradient and Hessian in the logarithms of the levels.

    The last level is an end: nothing is differentiated with respect to it.

    Args:
        eigenvalues: λ, ``[B, E]``.
        sigmas: Strictly descending levels, ``[B, N+1]``.
        sampler: Any but ``"ddpm-exact"``.
        direction: Which divergence.
        start: Variance of the first state.
        weights: Multiplicities, ``[B, E]``.

    Returns:
        Value ``[B]``, gradient ``[B, N]`` and Hessian ``[B, N, N]``, 0 for a first level that is infinite.

    Raises:
        SchedrlError: As :func:`log_ratio`.
    """
    expansion = expand(eigenvalues, sigmas, sampler, start)
    value = kl_from_log(expansion.log_q, direction, weights)
    first, second = kl_slopes(expansion.log_q, direction)
    second = second + expansion.outer * first
    if weights is not None:
        first, second = first * weights, second * weights
    slope = expansion.slope
    gradient = np.einsum("bke,be->bk", slope, first)
    hessian = (slope * second[:, None, :]) @ slope.transpose(0, 2, 1)
    places = np.arange(slope.shape[1])
    hessian[:, places, places] += np.einsum("bke,be->bk", expansion.diagonal, first)
    off = np.einsum("bke,be->bk", expansion.off, first)
    hessian[:, places[:-1], places[1:]] += off
    hessian[:, places[1:], places[:-1]] += off
    return value, gradient, hessian
