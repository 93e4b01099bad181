r"""How far a sampler's output is from a Gaussian source, and the variational bound of that source.

Divergences compare two Gaussians with the same eigenvectors. Notation: ``q`` is the variance of a sampler's output over
the true one, per eigenvector, and ``weights`` how often each eigenvector counts (0 for padding).

The bound is what training sees. Its diffusion loss is :math:`\tfrac12 \int \mathrm{mmse}(g)\, dg` over the
signal-to-noise ratio g = 1/r², with :math:`\mathrm{mmse}(g) = \sum_i \lambda_i / (1 + \lambda_i g)` (Kingma et al.
2021, arXiv 2107.00630; Guo, Shamai & Verdu 2005). In continuous time only the end points count; with N steps the
levels between matter a little. Source of the formulas: THEORY 3.7.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import numpy as np

from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules.conversions import FloatArray

Direction: TypeAlias = Literal["forward", "reverse"]
"""``forward`` is KL(source ‖ output), which punishes what the sampler misses; ``reverse`` KL(output ‖ source)."""

_SERIES_BELOW = 0.1
# Σ x^j / j! from j = 2 on, Horner; the first term left out is 1e-16 of the sum at the limit above.
_COEFFICIENTS = (1 / 3628800, 1 / 362880, 1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5)
_LARGEST_EXPONENT = 690.0  # e^690 = 4e299: thousands of them still sum to a finite number
_LARGEST_TERM = math.exp(_LARGEST_EXPONENT)


def kl(q: FloatArray, direction: Direction = "forward", weights: FloatArray | None = None) -> FloatArray:
    r"""Kullback-Leibler divergence between source and output, in nats.

    Forward, KL(source ‖ output), is :math:`\tfrac12 \sum_i w_i (1/q_i - 1 + \log q_i)`; reverse is
    :math:`\tfrac12 \sum_i w_i (q_i - 1 - \log q_i)`. Near q = 1, where both are :math:`\log^2 q / 4` and the
    formulas cancel, a series keeps all digits that ``q`` has. A term is at most 4e299, so that the sum is infinite
    only where some ``q`` that counts is exactly 0 or infinite.

    Args:
        q: Output over true variance, ``[..., E]``, not negative.
        direction: Which of the two.
        weights: Multiplicities, broadcast against ``q``; None counts each once.

    Returns:
        ``[...]``, not negative.

    Examples:
        >>> kl(np.array([1.0 + 2.0**-33])) * 4 / 2.0**-66  # doctest: +ELLIPSIS
        np.float64(0.99999999...)
        >>> kl(np.array([0.5, 0.0]), weights=np.array([1.0, 0.0])).round(6)
        np.float64(0.153426)
    """
    q = np.asarray(q, dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        x = np.log(q)
        if direction == "forward":
            return _half_sum(1.0 / q, np.negative(x, out=x), weights)
    return _half_sum(q, _signed(x, direction), weights)


def kl_from_log(
    log_q: FloatArray, direction: Direction = "forward", weights: FloatArray | None = None
) -> FloatArray:
    """:func:`kl` from log q, which keeps the digits of a ratio very close to 1; -inf where no variance is left."""
    x = _signed(log_q, direction)
    return _half_sum(np.exp(np.minimum(x, _LARGEST_EXPONENT)), x, weights)


def _half_sum(exponential: FloatArray, x: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Half the weighted sum of e^x - 1 - x over the last axis."""
    terms = np.minimum(exponential, _LARGEST_TERM)
    terms -= 1.0
    terms -= x
    small = np.abs(x) < _SERIES_BELOW
    if small.any():
        tiny = x[small]
        series = np.full_like(tiny, _COEFFICIENTS[0])
        for coefficient in _COEFFICIENTS[1:]:
            series *= tiny
            series += coefficient
        terms[small] = tiny * tiny * series
    endless = np.isinf(x)
    if endless.any():
        terms[endless] = np.inf
    if weights is None:
        return np.asarray(0.5 * terms.sum(axis=-1))
    if endless.any():  # what does not count may be anything
        terms = np.where(np.asarray(weights) > 0.0, terms, 0.0)
    return np.asarray(0.5 * np.einsum("...i,...i->...", terms, weights))


def kl_slopes(log_q: FloatArray, direction: Direction = "forward") -> tuple[FloatArray, FloatArray]:
    """First and second derivative of one eigenvector's divergence in its log q; the second is positive."""
    x = np.minimum(_signed(log_q, direction), _LARGEST_EXPONENT)
    sign = 0.5 if direction == "reverse" else -0.5
    return sign * np.expm1(x), 0.5 * np.exp(x)


def _signed(log_q: FloatArray, direction: Direction) -> FloatArray:
    """The x of which both divergences are (e^x - 1 - x) / 2."""
    if direction == "forward":
        return -np.asarray(log_q, dtype=np.float64)
    if direction == "reverse":
        return np.asarray(log_q, dtype=np.float64)
    raise unknown_name("direction", str(direction), get_args(Direction))


def w2_squared(q: FloatArray, variances: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    r"""Squared Wasserstein-2 distance, :math:`\sum_i w_i \lambda_i (\sqrt{q_i} - 1)^2`.

    Args:
        q: Output over true variance, ``[..., E]``, not negative.
        variances: True variances λ (+ r_0²), broadcast against ``q``.
        weights: Multiplicities, broadcast against ``q``; None counts each once.

    Returns:
        ``[...]``, in squared units of the data.

    Examples:
        >>> w2_squared(np.array([4.0]), np.array([2.0]))
        array(2.)
    """
    q = np.asarray(q, dtype=np.float64)
    terms = variances * ((q - 1.0) / (np.sqrt(q) + 1.0)) ** 2
    return np.asarray((terms if weights is None else terms * weights).sum(axis=-1))


def continuous_bound(
    eigenvalues: FloatArray, snr_min: float, snr_max: float, weights: FloatArray | None = None
) -> FloatArray:
    r"""Diffusion loss in continuous time, :math:`\tfrac12 \sum_i \log\frac{1 + \lambda_i g_1}{1 + \lambda_i g_0}`.

    Args:
        eigenvalues: λ, ``[..., E]``.
        snr_min: g at the noise end, 0 or positive.
        snr_max: g at the data end, greater and finite.
        weights: Multiplicities.

    Returns:
        ``[...]``, in nats.

    Examples:
        >>> continuous_bound(np.array([4.0, 1.0, 0.1]), 1e-3, 1e3).round(6)
        np.float64(9.906542)
    """
    low, high = _rising(np.array([snr_min, snr_max]))
    terms = np.log1p(eigenvalues * (high - low) / (1.0 + eigenvalues * low))
    return np.asarray(0.5 * (terms if weights is None else terms * weights).sum(axis=-1))


def bound_gap(eigenvalues: FloatArray, snr: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    r"""What N steps add to the continuous bound: :math:`\tfrac12 \sum_{k,i} [z - \log(1 + z)]`.

    Here :math:`z = \lambda_i (g_{k+1} - g_k) / (1 + \lambda_i g_k)`; the sum does not cancel for any number of steps.

    Args:
        eigenvalues: λ, ``[..., E]``.
        snr: Rising levels g, ``[N+1]``, noise first, finite.
        weights: Multiplicities.

    Returns:
        ``[...]``, in nats, positive.

    Examples:
        >>> bound_gap(np.array([4.0, 1.0, 0.1]), np.logspace(-3, 3, 1001)).round(8)
        np.float64(0.05837116)
    """
    levels = _rising(snr)
    spectrum = np.asarray(eigenvalues, dtype=np.float64)[..., None, :]
    low, step = levels[:-1, None], np.diff(levels)[:, None]
    growth = np.log1p(spectrum * step / (1.0 + spectrum * low))
    counts = np.ones_like(eigenvalues) if weights is None else weights
    return np.asarray(kl_from_log(growth, "reverse", counts[..., None, :]).sum(axis=-1))


def _rising(snr: FloatArray) -> FloatArray:
    """Signal-to-noise ratios that rise from the noise end to the data end, finite."""
    levels = np.asarray(snr, dtype=np.float64)
    if levels.shape[-1] < 2 or not ((np.diff(levels) > 0.0).all() and (levels >= 0.0).all()):
        raise SchedrlError("field 'snr': must be at least two rising levels, none negative")
    if not np.isfinite(levels).all():
        raise SchedrlError("field 'snr': must be finite (the bound of noise-free data is infinite)")
    return levels
