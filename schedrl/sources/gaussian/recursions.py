r"""What a sampler does to the variance of a Gaussian along one eigenvector: exact, at any number of steps.

The data are :math:`x_0 \sim N(0, \lambda)` along an eigenvector of the covariance; the state at noise-to-signal
ratio :math:`r` is :math:`x = \cos\theta\, x_0 + \sin\theta\, \epsilon` with :math:`\theta = \arctan r` (the
variance-preserving state, :math:`\bar\alpha = \cos^2\theta`), and its variance-exploding twin is
:math:`y = x / \cos\theta`. With the exact denoiser every sampler is linear, so a step maps a variance ``v`` to
``gain * v + noise``. With sine and cosine everything stays finite for pure noise, :math:`r = \infty`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import numpy as np

from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules.conversions import FloatArray

SamplerName: TypeAlias = Literal["ddim", "ddpm", "ddpm-large", "ddpm-exact", "heun"]
"""``ddim`` (eta = 0) is Euler in sigma; ``ddpm`` is ancestral sampling with the small variance
:math:`\\tilde\\beta`, ``ddpm-large`` with :math:`\\beta`, ``ddpm-exact`` with the one that is right for every
eigenvalue at once; ``heun`` is EDM's second-order sampler, whose last step to 0 is Euler's."""

Start: TypeAlias = Literal["vp", "ve", "exact"]
"""Variance of the first variance-exploding state: 1 + r² (x from N(0, I)), r², or the true λ + r²."""

_TINY = float(np.finfo(np.float64).tiny)


def cosine_sine(sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cosine and sine of atan(sigma) to the last digit, also at infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        cosine = 1.0 / np.sqrt(1.0 + sigma * sigma)
        return cosine, np.where(cosine == 0.0, 1.0, sigma * cosine)


def exact_variance(eigenvalues: FloatArray, sigma: FloatArray) -> FloatArray:
    r"""Variance of the true VP state, :math:`\cos^2\theta\, \lambda + \sin^2\theta`; everything broadcasts."""
    cosine, sine = cosine_sine(np.asarray(sigma, dtype=np.float64))
    return np.asarray(cosine * cosine * eigenvalues + sine * sine)


def transition(
    eigenvalues: FloatArray, sigma: FloatArray, sigma_next: FloatArray, sampler: SamplerName
) -> tuple[FloatArray, FloatArray | None]:
    r"""One step of a sampler: the VP state's variance ``v`` becomes ``gain * v + noise``.

    Source: THEORY 2.1, 2.3 and 2.5, in sine and cosine of :math:`\theta`. With :math:`S = \cos^2\theta\,\lambda
    + \sin^2\theta` and primes for the next level,

    - DDIM multiplies the state by :math:`(\cos\theta\cos\theta'\lambda + \sin\theta\sin\theta') / S`;
    - DDPM by :math:`(\cos\theta / \cos\theta')\, S' / S`, and adds :math:`\beta = 1 - \cos^2\theta /
      \cos^2\theta'` (large), :math:`\beta \sin^2\theta' / \sin^2\theta` (small) or :math:`\beta S' / S` (exact);
    - Heun by :math:`(\cos\theta' / \cos\theta)\, [\lambda + rr' + \tfrac12 \lambda (r - r')^2 / (\lambda +
      r'^2)] / (\lambda + r^2)`, or, where :math:`r' = 0`, as DDIM. EDM's two half slopes, summed up.

    It is fastest where ``eigenvalues`` lies in Fortran order and ``sigma`` is a column: the inner loop is then long.

    Args:
        eigenvalues: λ, ``[..., E]``, positive.
        sigma: r, broadcasts against ``eigenvalues`` (``[..., 1]``, say); may be infinite, except for Heun.
        sigma_next: r', of the shape of ``sigma``, not above it; may be 0.
        sampler: Which one.

    Returns:
        ``gain`` and ``noise``, fresh arrays that broadcast to ``eigenvalues``; ``noise`` is None where nothing
        is added.

    Examples:
        >>> gain, noise = transition(np.array([4.0, 0.25]), np.array([np.inf]), np.array([1.0]), "ddim")
        >>> gain, noise
        (array([0.5, 0.5]), None)
    """
    if sampler == "heun":
        return _heun_gain(eigenvalues, sigma, sigma_next), None
    cosine, sine = cosine_sine(sigma)
    cosine_next, sine_next = cosine_sine(sigma_next)
    variance = eigenvalues * (cosine * cosine)
    variance += sine * sine
    if sampler == "ddim":
        gain = eigenvalues * (cosine * cosine_next)
        gain += sine * sine_next
        gain /= variance
        gain *= gain
        return gain, None
    # 1 - cos²θ/cos²θ', as a product so that two close levels lose no digits.
    beta = (sine - sigma_next * cosine) * (sine + sigma_next * cosine)
    gain = eigenvalues * (cosine_next * cosine_next)
    gain += sine_next * sine_next
    gain /= variance
    if sampler == "ddpm-exact":
        noise = gain * beta
    elif sampler == "ddpm-large":
        noise = beta
    elif sampler == "ddpm":
        ratio = sine_next / np.maximum(sine, _TINY)
        noise = beta * (ratio * ratio)
    else:
        raise unknown_name("sampler", str(sampler), get_args(SamplerName))
    gain *= cosine / cosine_next
    gain *= gain
    return gain, noise


def _heun_gain(eigenvalues: FloatArray, sigma: FloatArray, sigma_next: FloatArray) -> FloatArray:
    cosine, cosine_next = cosine_sine(sigma)[0], cosine_sine(sigma_next)[0]
    if not np.isfinite(sigma).all():
        raise SchedrlError("field 'sigma': Heun's sampler needs a finite first level (got inf)")
    step = sigma - sigma_next
    # The corrector adds a positive term to Euler's λ + rr', except in a step to 0.
    half = np.where(sigma_next == 0.0, 0.0, 0.5 * step * step)
    gain = eigenvalues * half
    gain /= eigenvalues + sigma_next * sigma_next
    gain += eigenvalues
    gain += sigma * sigma_next
    gain /= eigenvalues + sigma * sigma
    gain *= cosine_next / cosine
    gain *= gain
    return gain


def start_variance(eigenvalues: FloatArray, sigma: FloatArray, start: Start) -> FloatArray:
    """Variance of the first VP state.

    Args:
        eigenvalues: λ, ``[..., E]``.
        sigma: First level r_N, ``[..., 1]``; may be infinite, where every start has variance 1.
        start: ``"vp"`` for x from N(0, I), ``"ve"`` for y from N(0, r²), ``"exact"`` for the true marginal.

    Returns:
        An array that broadcasts to ``eigenvalues``.
    """
    cosine, sine = cosine_sine(sigma)
    if start == "vp":
        return np.ones_like(sine)
    if start == "ve":
        return np.asarray(sine * sine)
    if start == "exact":
        return np.asarray(cosine * cosine * eigenvalues + sine * sine)
    raise unknown_name("start", str(start), get_args(Start))


def _steps(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start
) -> Iterator[FloatArray]:
    """The VP variances at every level, from the first, each ``[..., E]``; the yielded array is reused."""
    lead = np.broadcast_shapes(eigenvalues.shape[:-1], sigmas.shape[:-1])
    variance = np.empty((*lead, eigenvalues.shape[-1]))
    variance[...] = start_variance(eigenvalues, sigmas[..., :1], start)
    yield variance
    for step in range(sigmas.shape[-1] - 1):
        gain, noise = transition(eigenvalues, sigmas[..., step, None], sigmas[..., step + 1, None], sampler)
        variance *= gain
        if noise is not None:
            variance += noise
        yield variance


def output_variances(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start = "vp"
) -> FloatArray:
    r"""Variance of the sampler's output, to compare with :math:`\lambda + r_0^2`.

    Args:
        eigenvalues: λ, ``[..., E]``, positive.
        sigmas: Descending levels, ``[..., N+1]``; leading axes broadcast against those of ``eigenvalues``.
        sampler: Which sampler.
        start: Variance of the first state.

    Returns:
        Variance of y_0, ``[..., E]``: of the state at the last level in units of the data.

    Examples:
        >>> levels = np.sqrt(2.5) * np.tan(np.pi * np.arange(7, -1, -1) / 14)
        >>> output_variances(np.array([2.5]), levels, "ddim").round(6)
        array([1.752085])
    """
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    sigmas = np.asarray(sigmas, dtype=np.float64)
    variance = np.empty(0)
    for variance in _steps(eigenvalues, sigmas, sampler, start):  # noqa: B007 (only the last is wanted)
        pass
    last = sigmas[..., -1:]
    return np.asarray(variance * (1.0 + last * last))


def variance_trajectory(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start = "vp"
) -> FloatArray:
    """VP variances at every level, ``[..., N+1, E]``, the first level's first; arguments as for the output's.

    Divided by :func:`exact_variance` they show where a sampler loses variance.
    """
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    sigmas = np.asarray(sigmas, dtype=np.float64)
    return np.stack([v.copy() for v in _steps(eigenvalues, sigmas, sampler, start)], axis=-2)
