r"""The divergence of a sampler as a function of its levels, with exact gradient and Hessian.

Along one eigenvector the output variance is a sum of terms that see two neighbouring levels each. With r before a
step, r' after it, :math:`\phi = \arctan(r / \sqrt\lambda)`, :math:`\delta = \phi - \phi'` and
:math:`g = \cos\phi' / \cos\phi` (THEORY 2.2, 2.3, 2.5, rewritten so that nothing cancels):

- DDIM: :math:`\log q = \text{start} + \sum \log\cos^2\delta`;
- Heun: :math:`\log q = \text{start} + \sum 2 \log(\cos\delta + \tfrac12 g \sin^2\delta)`, DDIM's term in a step to 0;
- DDPM, R = r²: :math:`q - 1 = (\lambda + R_0) [\text{start} + \sum T]` with :math:`T = -\lambda (R - R')^2 /
  (R (\lambda + R)(\lambda + R')^2)` (small) or :math:`(1 - \lambda)(R - R')^2 / ((1 + R)(\lambda + R)(\lambda +
  R')^2)` (large): what each step's noise misses of the exact variance.

So the Hessian in y = log r is tridiagonal plus one rank per eigenvalue. Derivatives of the pieces:
:math:`d\phi/dy = a = \sin\phi\cos\phi`, :math:`da/dy = a \cos 2\phi`, :math:`d\log(\lambda + R)/dy = 2\sin^2\phi`.
Arrays are ``[B, steps, E]`` (levels as ``[B, steps, 1]``), B problems at a time.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

import numpy as np

from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.divergences import Direction, kl_from_log, kl_slopes
from schedrl.sources.gaussian.recursions import SamplerName, Start


class _PairTerm(NamedTuple):
    """A term of two levels, and its derivatives in their logarithms; ``b`` is before the step, ``a`` after it.

    Where a level is 0 or infinite, derivatives with respect to it are 0.
    """

    value: FloatArray
    b: FloatArray
    a: FloatArray
    bb: FloatArray
    ba: FloatArray
    aa: FloatArray


class _Expansion(NamedTuple):
    """Log variance ratios to second order in the logarithms of the levels.

    Attributes:
        log_q: ``[B, E]``.
        slope: d log q / d y for all levels but the last, which is an end and stays, ``[B, N, E]``.
        diagonal: Diagonal of the tridiagonal part of the second derivative, ``[B, N, E]``.
        off: Its off-diagonal, ``[B, N-1, E]``.
        outer: Factor of the rest, slope times slope: 0, or -1 where log q is the logarithm of a sum.
    """

    log_q: FloatArray
    slope: FloatArray
    diagonal: FloatArray
    off: FloatArray
    outer: float


class _Angles(NamedTuple):
    """Functions of φ = atan(r/√λ) at one level: a = sin φ cos φ, cos 2φ, sin² φ."""

    a: FloatArray
    cosine_twice: FloatArray
    sine_squared: FloatArray


def _angles(eigenvalues: FloatArray, sigma: FloatArray) -> _Angles:
    with np.errstate(divide="ignore", over="ignore"):  # both ends have finite limits
        cotangent = np.sqrt(eigenvalues) / sigma
        sine_squared = 1.0 / (1.0 + cotangent * cotangent)
        return _Angles(1.0 / (cotangent + 1.0 / cotangent), 1.0 - 2.0 * sine_squared, sine_squared)


def _sine_squared(eigenvalues: FloatArray | float, sigma: FloatArray) -> FloatArray:
    """R / (λ + R), also at both ends."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1.0 / (1.0 + eigenvalues / (sigma * sigma)))


def _tangent(eigenvalues: FloatArray, before: FloatArray, after: FloatArray) -> FloatArray:
    """Tan δ = (r - r')√λ / (λ + r r'); √λ / r' from infinity."""
    root = np.sqrt(eigenvalues)
    with np.errstate(divide="ignore", invalid="ignore"):
        finite = (before - after) * root / (eigenvalues + before * after)
        return np.asarray(np.where(np.isinf(before), root / after, finite))


def _ddim(eigenvalues: FloatArray, before: FloatArray, after: FloatArray) -> _PairTerm:
    t = _tangent(eigenvalues, before, after)
    b, a = _angles(eigenvalues, before), _angles(eigenvalues, after)
    with np.errstate(invalid="ignore"):  # from infinity to 0 nothing moves, and the variance is lost
        twice, bend = 2.0 * t, 2.0 + 2.0 * t * t
        slope_b, slope_a = twice * b.a, twice * a.a
        return _PairTerm(
            -np.log1p(t * t),
            -slope_b,
            slope_a,
            -bend * b.a * b.a - slope_b * b.cosine_twice,
            bend * b.a * a.a,
            -bend * a.a * a.a + slope_a * a.cosine_twice,
        )


class _HeunStep(NamedTuple):
    """Cosine and sine of δ, g, and F - 1 where F = cos δ + g sin² δ / 2."""

    cosine: FloatArray
    sine: FloatArray
    g: FloatArray
    above: FloatArray


def _heun_step(eigenvalues: FloatArray, before: FloatArray, after: FloatArray) -> _HeunStep:
    t = _tangent(eigenvalues, before, after)
    cosine = 1.0 / np.sqrt(1.0 + t * t)
    sine = t * cosine
    square = sine * sine
    excess = (before - after) * (before + after) / (eigenvalues + after * after)  # g² - 1
    g = np.sqrt(1.0 + excess)
    # Small differences, each without cancellation: g - 1, and 1 - cos δ.
    above = 0.5 * square * (excess / (1.0 + g) - square / (1.0 + cosine) ** 2)
    return _HeunStep(cosine, sine, g, above)


def _heun(eigenvalues: FloatArray, before: FloatArray, after: FloatArray) -> _PairTerm:
    b, a = _angles(eigenvalues, before), _angles(eigenvalues, after)
    cosine, sine, g, above = _heun_step(eigenvalues, before, after)
    square = sine * sine
    half = 0.5 * g * square
    factor = 2.0 / (1.0 + above)
    cross = g * sine * cosine
    bend = g * (cosine * cosine - square) - cosine
    turn = cross - sine
    f_b = factor * (turn * b.a + half * b.sine_squared)
    f_a = -factor * (turn * a.a + half * a.sine_squared)
    f_bb = bend * b.a**2 + 2.0 * cross * b.a * b.sine_squared + turn * b.a * b.cosine_twice
    f_bb += half * (b.sine_squared**2 + 2.0 * b.a**2)
    f_aa = bend * a.a**2 + 2.0 * cross * a.a * a.sine_squared - turn * a.a * a.cosine_twice
    f_aa += half * (a.sine_squared**2 - 2.0 * a.a**2)
    f_ba = bend * b.a * a.a + cross * (b.a * a.sine_squared + a.a * b.sine_squared)
    f_ba += half * b.sine_squared * a.sine_squared
    return _PairTerm(
        2.0 * np.log1p(above),
        f_b,
        f_a,
        factor * f_bb - 0.5 * f_b**2,
        -factor * f_ba - 0.5 * f_b * f_a,
        factor * f_aa - 0.5 * f_a**2,
    )


def _ddpm(
    eigenvalues: FloatArray, before: FloatArray, after: FloatArray, last: FloatArray, sampler: SamplerName
) -> _PairTerm:
    value, gap = _ddpm_values(eigenvalues, before, after, last, sampler)
    b, a = _angles(eigenvalues, before), _angles(eigenvalues, after)
    share = _sine_squared(1.0, before)
    if sampler == "ddpm":
        own, own_slope = np.full(1, -2.0), np.zeros(1)
    else:
        own, own_slope = -2.0 * share, -4.0 * share * (1.0 - share)
    # Slopes of the logarithm of the value; κ = R / (R - R').
    kappa = 1.0 / gap
    pinch = 8.0 * kappa * (kappa - 1.0)
    log_b = 4.0 * kappa + own - 2.0 * b.sine_squared
    log_a = -4.0 * (kappa - 1.0) - 4.0 * a.sine_squared
    return _PairTerm(
        value,
        value * log_b,
        value * log_a,
        value * (log_b * log_b - pinch + own_slope - 4.0 * b.a * b.a),
        value * (log_b * log_a + pinch),
        value * (log_a * log_a - pinch - 8.0 * a.a * a.a),
    )


def _ddpm_values(
    eigenvalues: FloatArray, before: FloatArray, after: FloatArray, last: FloatArray, sampler: SamplerName
) -> tuple[FloatArray, FloatArray]:
    """The terms times λ + R_0, and (R - R') / R."""
    gap = _relative_gap(before, after)
    variance = eigenvalues + after * after
    value = _sine_squared(eigenvalues, before)
    value *= gap * gap
    value *= (eigenvalues + last * last) / variance
    value /= variance
    missing = -eigenvalues if sampler == "ddpm" else (1.0 - eigenvalues) * _sine_squared(1.0, before)
    return value * missing, gap


def _relative_gap(before: FloatArray, after: FloatArray) -> FloatArray:
    """(R - R') / R; 1 from infinity."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.isinf(before), 1.0, (before - after) / before * (1.0 + after / before)))


def _direct_ddpm(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start
) -> FloatArray:
    """The ratio q as a sum of positive terms, for a q that is far below 1; ``[B, E]``."""
    before, after = sigmas[:, :-1], sigmas[:, 1:]
    squares = after * after
    if sampler == "ddpm":
        noise = squares * _relative_gap(before, after)
    else:
        noise = (1.0 + squares) * _sine_squared(1.0, before) * _relative_gap(before, after)
    last = eigenvalues + sigmas[:, -1:] ** 2
    variance = eigenvalues + squares
    begin = 0.0 if start == "ve" else np.where(start == "exact", eigenvalues, 1.0)
    first = eigenvalues + sigmas[:, :1] ** 2
    with np.errstate(invalid="ignore"):
        # V_N / (λ + R_N)², V_N being R_N plus what the start adds.
        share = (_sine_squared(eigenvalues, sigmas[:, :1]) + begin / first) / first
    return np.asarray((last * share)[:, 0] + np.sum(noise / variance * (last / variance), axis=1))


def _check_sampler(sampler: SamplerName, sigmas: FloatArray) -> None:
    if sampler == "ddpm-exact":
        raise SchedrlError("field 'sampler': 'ddpm-exact' has no error that depends on the levels")
    if sampler not in get_args(SamplerName):
        raise unknown_name("sampler", str(sampler), get_args(SamplerName))
    if sampler == "heun" and not np.isfinite(sigmas[:, 0]).all():
        raise SchedrlError("field 'sigma_max': Heun's sampler needs a finite first level (got inf)")


def _terms(eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName) -> _PairTerm:
    """The terms of all steps, ``[B, N, E]``, from ``[B, 1, E]`` and ``[B, N+1, 1]``."""
    before, after = sigmas[:, :-1], sigmas[:, 1:]
    if _is_sum(sampler):
        return _ddpm(eigenvalues, before, after, sigmas[:, -1:], sampler)
    if sampler == "ddim":
        return _ddim(eigenvalues, before, after)
    term, rows = _heun(eigenvalues, before, after), sigmas[:, -1, 0] == 0.0
    if rows.any():  # Euler's step to 0
        euler = _ddim(eigenvalues[rows], sigmas[rows, -2:-1], sigmas[rows, -1:])
        for whole, part in zip(term, euler, strict=True):
            whole[rows, -1:] = part
    return term


def _total(eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName) -> FloatArray:
    """The sum of the terms alone, ``[B, E]``."""
    before, after = sigmas[:, :-1], sigmas[:, 1:]
    if _is_sum(sampler):
        values, _ = _ddpm_values(eigenvalues, before, after, sigmas[:, -1:], sampler)
        return np.asarray(values.sum(axis=1))
    if sampler == "ddim":
        return np.asarray(-np.log1p(_tangent(eigenvalues, before, after) ** 2).sum(axis=1))
    values, rows = 2.0 * np.log1p(_heun_step(eigenvalues, before, after).above), sigmas[:, -1, 0] == 0.0
    if rows.any():
        ratio = _tangent(eigenvalues[rows], sigmas[rows, -2:-1], sigmas[rows, -1:])
        values[rows, -1:] = -np.log1p(ratio * ratio)
    return np.asarray(values.sum(axis=1))


def _begin(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The start's term of the first level with its two derivatives, ``[B, 1, E]``."""
    first = sigmas[:, :1]
    own = _angles(eigenvalues, first)
    if start not in get_args(Start):
        raise unknown_name("start", str(start), get_args(Start))
    if start == "exact":
        nothing = np.zeros_like(own.a)
        return nothing, nothing, nothing
    if sampler in ("ddpm", "ddpm-large"):
        variance = eigenvalues + first * first
        missing = 1.0 - eigenvalues if start == "vp" else -eigenvalues
        value = missing * ((eigenvalues + sigmas[:, -1:] ** 2) / variance) / variance
        slope = -4.0 * own.sine_squared
        return value, value * slope, value * (slope * slope - 8.0 * own.a * own.a)
    if start == "ve":
        return np.log(own.sine_squared), 2.0 * (1.0 - own.sine_squared), -4.0 * own.a * own.a
    unit = _angles(np.ones(1), first)
    with np.errstate(invalid="ignore"):
        ratio = (1.0 - eigenvalues) / (eigenvalues + first * first)
    return (
        np.log1p(ratio),
        2.0 * (unit.sine_squared - own.sine_squared),
        4.0 * (unit.a * unit.a - own.a * own.a),
    )


def _is_sum(sampler: SamplerName) -> bool:
    return sampler in ("ddpm", "ddpm-large")


def log_ratio(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start = "vp"
) -> FloatArray:
    r"""Log of output variance over :math:`\lambda + r_0^2`, to full relative accuracy also near 0.

    Args:
        eigenvalues: λ, ``[B, E]``.
        sigmas: Descending levels, ``[B, N+1]``.
        sampler: Any but ``"ddpm-exact"``.
        start: Variance of the first state.

    Returns:
        ``[B, E]``; -inf where all variance is lost (one step from infinity to 0).

    Examples:
        >>> log_ratio(np.array([[1.0]]), np.array([[np.inf, 1.0, 0.0]]), "ddim").round(6)
        array([[-1.386294]])
    """
    spectrum, levels = eigenvalues[:, None, :], sigmas[:, :, None]
    _check_sampler(sampler, sigmas)
    total = _begin(spectrum, levels, sampler, start)[0][:, 0] + _total(spectrum, levels, sampler)
    return _log_q(total, spectrum, levels, sampler, start) if _is_sum(sampler) else total


def _log_q(
    total: FloatArray, eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start
) -> FloatArray:
    """Log q from q - 1, summed without cancellation; where q is small a positive sum is the accurate one."""
    low = total < -0.5
    if not low.any():
        return np.log1p(total)
    with np.errstate(divide="ignore"):
        direct = np.log(_direct_ddpm(eigenvalues, sigmas, sampler, start))
    return np.asarray(np.where(low, direct, np.log1p(np.maximum(total, -0.5))))


def _expand(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start = "vp"
) -> _Expansion:
    """:func:`log_ratio` with its derivatives in the logarithms of the levels, which descend strictly."""
    spectrum, levels = eigenvalues[:, None, :], sigmas[:, :, None]
    _check_sampler(sampler, sigmas)
    term = _terms(spectrum, levels, sampler)
    value, begin_slope, begin_bend = _begin(spectrum, levels, sampler, start)
    total = value[:, 0] + term.value.sum(axis=1)
    slope, diagonal, off = term.b, term.bb, term.ba[:, :-1]
    slope[:, :1] += begin_slope
    diagonal[:, :1] += begin_bend
    slope[:, 1:] += term.a[:, :-1]
    diagonal[:, 1:] += term.aa[:, :-1]
    if not _is_sum(sampler):
        return _Expansion(total, slope, diagonal, off, 0.0)
    log_q = _log_q(total, spectrum, levels, sampler, start)
    with np.errstate(over="ignore"):
        inverse = np.exp(-log_q)[:, None, :]
    return _Expansion(log_q, slope * inverse, diagonal * inverse, off * inverse, -1.0)


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
    """
    expansion = _expand(eigenvalues, sigmas, sampler, start)
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
