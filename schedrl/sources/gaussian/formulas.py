r"""Laws with a formula: a scale or an exponent, the two ends and a number of steps give the levels.

All are batched: scales ``[...]`` give levels ``[..., n+1]`` from ``sigma_max`` (which may be infinite) down to
``sigma_min`` (which may be 0).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray, logsnr_from_log_alpha_bar, sigma_from_logsnr
from schedrl.schedules.schedule import Schedule, as_count

__all__ = [
    "cube_root_sigmas",
    "gamma_star",
    "power_sigmas",
    "power_time_sigmas",
    "sine_sigmas",
    "tangent_energies",
    "tangent_on_schedule",
    "tangent_sigmas",
]


def _fractions(n: int) -> FloatArray:
    """Falling from 1 to 0 in n steps."""
    return np.arange(n, -1, -1) / n


def _ends(sigma_max: npt.ArrayLike, sigma_min: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both ends as columns, to broadcast against levels."""
    high, low = (np.asarray(end, dtype=np.float64)[..., None] for end in (sigma_max, sigma_min))
    return high, low


def _pinned(levels: FloatArray, first: FloatArray, last: FloatArray) -> FloatArray:
    """The same levels with exact ends."""
    levels[..., -1:] = last
    levels[..., :1] = first
    return levels


def gamma_star(eigenvalues: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    r"""Scale of the tangent law that is best for many DDIM steps.

    :math:`\gamma^* = (\sum w_i \lambda_i / \sum w_i / \lambda_i)^{1/4}`. Source: THEORY 3.6.

    Args:
        eigenvalues: λ, ``[..., E]``, positive.
        weights: Multiplicities; None counts each once.

    Returns:
        ``[...]``.

    Examples:
        >>> gamma_star(np.array([4.0, 1.0, 0.1])).round(6)
        np.float64(0.820549)
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights
    total, inverse = (counts * eigenvalues).sum(axis=-1), (counts / eigenvalues).sum(axis=-1)
    return np.asarray((total / inverse) ** 0.25)


def tangent_sigmas(
    gamma: npt.ArrayLike, n: int, sigma_max: npt.ArrayLike = np.inf, sigma_min: npt.ArrayLike = 0.0
) -> FloatArray:
    r"""The tangent law: uniform in :math:`\arctan(r / \gamma)`. Source: THEORY 3.2, 3.3.

    Args:
        gamma: Scale, ``[...]``, positive.
        n: Number of steps.
        sigma_max: First level; broadcasts against ``gamma``, as the last does.
        sigma_min: Last level.

    Returns:
        Descending, ``[..., n+1]``.

    Examples:
        >>> tangent_sigmas(2.0, 2)
        array([inf,  2.,  0.])
    """
    scale, (top, bottom) = np.asarray(gamma, dtype=np.float64)[..., None], _ends(sigma_max, sigma_min)
    u = _fractions(n)
    # Measured from both ends: near infinity the cotangent has the digits that the tangent has near 0.
    first, last = np.arctan2(scale, top), np.arctan(bottom / scale)
    span = 0.5 * np.pi - first - last
    low, high = last + u * span, first + (1.0 - u) * span
    with np.errstate(divide="ignore"):
        levels = scale * np.where(low < high, np.tan(low), 1.0 / np.tan(high))
    return _pinned(levels, top, bottom)


def sine_sigmas(
    gamma: npt.ArrayLike, n: int, sigma_max: npt.ArrayLike = np.inf, sigma_min: npt.ArrayLike = 0.0
) -> FloatArray:
    r"""Uniform in :math:`\sin\phi = r / \sqrt{\gamma^2 + r^2}`: best for many DDPM steps, one eigenvalue γ².

    Source: THEORY 3.6. Arguments and result as for :func:`tangent_sigmas`.

    Examples:
        >>> sine_sigmas(1.0, 2).round(6)
        array([    inf, 0.57735, 0.     ])
    """
    scale, (top, bottom) = np.asarray(gamma, dtype=np.float64)[..., None], _ends(sigma_max, sigma_min)
    last = bottom / np.hypot(scale, bottom)
    rest = _one_minus_sine(scale, top)  # 1 - sin φ keeps its digits where sin φ has none left
    u = _fractions(n)
    missing = u * rest + (1.0 - u) * _one_minus_sine(scale, bottom)
    sine = u * (1.0 - rest) + (1.0 - u) * last
    with np.errstate(divide="ignore"):
        levels = scale * sine / np.sqrt(missing * (1.0 + sine))
    return _pinned(levels, top, bottom)


def _one_minus_sine(scale: FloatArray, sigma: FloatArray) -> FloatArray:
    root = np.hypot(scale, sigma)
    return np.asarray(scale * scale / (root * (root + sigma)))


def cube_root_sigmas(
    gamma: npt.ArrayLike, n: int, sigma_max: npt.ArrayLike = np.inf, sigma_min: npt.ArrayLike = 0.0
) -> FloatArray:
    r"""Uniform in :math:`\int_0^\phi \tan^{1/3}`: best for many Heun steps, one eigenvalue γ².

    Source: THEORY 3.6. Arguments and result as for :func:`tangent_sigmas`. With :math:`z = \tan^{2/3}\phi` the
    integral is :math:`\tfrac32 \int_0^z s / (1 + s^3) ds`, which is elementary; it is inverted by
    bisection and Newton's method.

    Examples:
        >>> cube_root_sigmas(1.0, 2, sigma_max=20.0).round(4)
        array([20.   ,  1.599,  0.   ])
    """
    scale, (top, bottom) = np.asarray(gamma, dtype=np.float64)[..., None], _ends(sigma_max, sigma_min)
    first, last = (_cube_root_path((end / scale) ** (2.0 / 3.0)) for end in (top, bottom))
    u = _fractions(n)
    wanted = u * first + (1.0 - u) * last
    low, high = np.full_like(wanted, -40.0), np.full_like(wanted, 40.0)  # of log z
    for _ in range(14):
        middle = 0.5 * (low + high)
        above = _cube_root_path(np.exp(middle)) > wanted
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    place = 0.5 * (low + high)
    for _ in range(4):
        z = np.exp(place)
        place = np.clip(place - (_cube_root_path(z) - wanted) * (1.0 + z**3) / (1.5 * z * z), low, high)
    return _pinned(scale * np.exp(1.5 * place), top, bottom)


def _cube_root_path(z: FloatArray) -> FloatArray:
    r""":math:`\tfrac32 \int_0^z s / (1 + s^3) ds`; a series where the closed form cancels."""
    near = np.minimum(z, 0.1)
    cubed = near**3
    series = near * near * (0.5 - cubed * (0.2 - cubed * (0.125 - cubed * (1 / 11 - cubed / 14))))
    far = np.clip(z, 0.1, 1e100)
    closed = np.log((far * far - far + 1.0) / (1.0 + far) ** 2) / 6.0
    closed += (np.arctan((2.0 * far - 1.0) / np.sqrt(3.0)) + np.pi / 6.0) / np.sqrt(3.0)
    return np.asarray(1.5 * np.where(z < 0.1, series, closed))


def power_sigmas(
    rho: npt.ArrayLike, n: int, sigma_max: npt.ArrayLike, sigma_min: npt.ArrayLike = 0.0
) -> FloatArray:
    r"""Karras' law: uniform in :math:`\sigma^{1/\rho}` between two finite ends. Source: THEORY 4.2.

    Args:
        rho: Warping, ``[...]``.
        n: Number of steps.
        sigma_max: First level, finite.
        sigma_min: Last level; 0 gives ``sigma_max (k/n)^rho``.

    Returns:
        Descending, ``[..., n+1]``.
    """
    power, (top, bottom) = np.asarray(rho, dtype=np.float64)[..., None], _ends(sigma_max, sigma_min)
    low, high = bottom ** (1.0 / power), top ** (1.0 / power)
    return _pinned((low + _fractions(n) * (high - low)) ** power, top, bottom)


def power_time_sigmas(
    schedule: Schedule, rho: npt.ArrayLike, n: int, num_train_timesteps: int = 1000
) -> FloatArray:
    r"""Levels at :math:`t_k = T (k/n)^\rho` of a schedule, whose log ᾱ is interpolated linearly; ᾱ(0) = 1.

    Source: THEORY 4.1.

    Args:
        schedule: The schedule the network was trained with.
        rho: Exponent, ``[...]``; above 1 the steps are dense near data.
        n: Number of steps.
        num_train_timesteps: T.

    Returns:
        Descending to 0, ``[..., n+1]``.
    """
    power = np.asarray(rho, dtype=np.float64)[..., None]
    log_alpha_bar = np.concatenate([[0.0], schedule.log_alphas_cumprod(num_train_timesteps)])
    times = num_train_timesteps * _fractions(n) ** power
    at_times = np.interp(times, np.arange(num_train_timesteps + 1), log_alpha_bar)
    return sigma_from_logsnr(logsnr_from_log_alpha_bar(at_times))


def tangent_on_schedule(schedule: Schedule, n: int, gamma: float, num_train_timesteps: int = 1000) -> Grid:
    """The tangent law between the ends of a schedule: from the level of its last step to clean data.

    Args:
        schedule: The schedule the network was trained with.
        n: Number of steps.
        gamma: Scale.
        num_train_timesteps: T.

    Returns:
        The grid; its ``timesteps(schedule, T)`` are the steps to take. Source: THEORY 4.3.

    Raises:
        SchedrlError: ``n`` is not a positive whole number.

    Examples:
        >>> from schedrl.schedules import get
        >>> tangent_on_schedule(get("linear"), 2, 0.4).timesteps(get("linear")).round(1)
        array([1000. ,  117.3,    0. ])
    """
    last = sigma_from_logsnr(schedule.logsnr_steps(num_train_timesteps)[-1])
    return Grid(sigmas=tuple(tangent_sigmas(gamma, as_count("n", n), float(last)).tolist()))


def tangent_energies(
    eigenvalues: FloatArray,
    gamma: npt.ArrayLike,
    sigma_max: npt.ArrayLike = np.inf,
    sigma_min: npt.ArrayLike = 0.0,
) -> FloatArray:
    r"""What the tangent law loses of each eigenvalue: :math:`\log q_i \to -E_i / N` for DDIM.

    :math:`E_i = \int_0^1 \phi_i'(u)^2 du`, in closed form. Source: THEORY 3.1 and 3.3.

    Args:
        eigenvalues: λ, ``[..., E]``.
        gamma: Scale, ``[...]``.
        sigma_max: First level.
        sigma_min: Last level.

    Returns:
        ``[..., E]``.

    Examples:
        >>> tangent_energies(np.array([4.0]), 0.7, 80.0, 0.002)
        array([3.81554459])
    """
    scale, root = np.asarray(gamma, dtype=np.float64)[..., None], np.sqrt(eigenvalues)
    top, bottom = _ends(sigma_max, sigma_min)
    span = np.arctan(top / scale) - np.arctan(bottom / scale)

    def path(sigma: FloatArray) -> FloatArray:
        angle = np.arctan(sigma / root)
        half, wave = 0.5 * angle, 0.25 * np.sin(2.0 * angle)
        return np.asarray(scale / root * (half + wave) + root / scale * (half - wave))

    return np.asarray(span * (path(top) - path(bottom)))
