r"""Laws for the levels of a grid that follow from the spectrum.

The tangent law (:func:`schedrl.schedules.continuous_laws.tangent_sigmas`) is best for many DDIM steps and one
eigenvalue, the sine law for DDPM, the cube-root law for Heun; their scale can be fitted (:func:`best_gamma`). The
geodesic is best for many DDIM steps and any spectrum. Minimising :math:`\sum w_i E_i^2`, with
:math:`E_i = \int \phi_i'(u)^2 du` the loss of an eigenvalue (THEORY 3.1), makes the grid uniform in the length
:math:`\int \sqrt G\, dy`, :math:`y = \log r`, of the metric :math:`G = \sum w_i E_i (d\phi_i / dy)^2`,
:math:`d\phi / dy = \tfrac12 \sin 2\phi` (THEORY 3.4). A fixed point gives the weights E_i; lengths are integrated by
Gauss and Legendre on panels that are short where the eigenvalues lie.

A law takes fractions u of the way, 1 (noise) to 0 (data); its other arguments broadcast against them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError
from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas
from schedrl.schedules.conversions import Broadcast, FloatArray
from schedrl.sources.gaussian.divergences import Direction, kl
from schedrl.sources.gaussian.recursions import SamplerName, Start, output_variances

_NODES, _GAUSS = np.polynomial.legendre.leggauss(8)
_NODES, _GAUSS = 0.5 * (_NODES + 1.0), 0.5 * _GAUSS  # on [0, 1]
_MARGIN = 3.0  # e-folds beyond the spectrum in which the metric still bends
_TAIL = 33.0  # e-folds to an end at 0 or infinity; the length beyond is 1e-14
_CORE_PANEL, _TAIL_PANELS = 0.5, 12
_MAX_ITERATIONS, _TOLERANCE = 400, 1e-13
_MEMORY = 4_000_000  # numbers per array: problems x nodes x eigenvalues


class ScaledLaw(Protocol):
    """A law with a scale, such as :func:`~schedrl.schedules.continuous_laws.tangent_sigmas`."""

    def __call__(
        self, u: FloatArray, gamma: Broadcast, sigma_max: Broadcast = ..., sigma_min: Broadcast = ...
    ) -> FloatArray:
        """Levels at fractions u between two ends."""


def gamma_star(eigenvalues: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    r"""Scale of the tangent law that is best for many DDIM steps, ``[...]``.

    :math:`\gamma^* = (\sum w_i \lambda_i / \sum w_i / \lambda_i)^{1/4}`. Source: THEORY 3.6.

    Args:
        eigenvalues: λ, ``[..., E]``, positive.
        weights: Multiplicities; None counts each once.

    Examples:
        >>> gamma_star(np.array([4.0, 1.0, 0.1])).round(6)
        np.float64(0.820549)
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights
    total, inverse = (counts * eigenvalues).sum(axis=-1), (counts / eigenvalues).sum(axis=-1)
    return np.asarray((total / inverse) ** 0.25)


def sine_sigmas(
    u: FloatArray, gamma: Broadcast, sigma_max: Broadcast = np.inf, sigma_min: Broadcast = 0.0
) -> FloatArray:
    r"""Uniform in :math:`\sin\phi = r / \sqrt{\gamma^2 + r^2}`: best for many DDPM steps, one eigenvalue γ².

    Source: THEORY 3.6.

    Examples:
        >>> sine_sigmas(even_fractions(2), 1.0).round(6)
        array([    inf, 0.57735, 0.     ])
    """
    scale, top, bottom = (np.asarray(x, dtype=np.float64) for x in (gamma, sigma_max, sigma_min))
    with np.errstate(invalid="ignore"):
        first = np.where(np.isinf(top), 1.0, top / np.hypot(scale, top))
    sine = u * first + (1.0 - u) * (bottom / np.hypot(scale, bottom))
    # 1 - sin φ keeps its digits where sin φ has none left.
    missing = u * _one_minus_sine(scale, top) + (1.0 - u) * _one_minus_sine(scale, bottom)
    with np.errstate(divide="ignore"):
        levels = scale * sine / np.sqrt(missing * (1.0 + sine))
    return _pinned(levels, top, bottom)


def _one_minus_sine(scale: FloatArray, sigma: FloatArray) -> FloatArray:
    root = np.hypot(scale, sigma)
    return np.asarray(scale * scale / (root * (root + sigma)))


def cube_root_sigmas(
    u: FloatArray, gamma: Broadcast, sigma_max: Broadcast = np.inf, sigma_min: Broadcast = 0.0
) -> FloatArray:
    r"""Uniform in :math:`\int_0^\phi \tan^{1/3}`: best for many Heun steps, one eigenvalue γ².

    Source: THEORY 3.6. With :math:`z = \tan^{2/3}\phi` the integral is :math:`\tfrac32 \int_0^z s / (1 + s^3) ds`,
    which is elementary; bisection and Newton's method invert it.

    Examples:
        >>> cube_root_sigmas(even_fractions(2), 1.0, sigma_max=20.0).round(4)
        array([20.   ,  1.599,  0.   ])
    """
    scale, top, bottom = (np.asarray(x, dtype=np.float64) for x in (gamma, sigma_max, sigma_min))
    first, last = (_cube_root_path((end / scale) ** (2.0 / 3.0)) for end in (top, bottom))
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


def _pinned(levels: FloatArray, first: FloatArray, last: FloatArray) -> FloatArray:
    """The same levels with exact ends."""
    levels[..., -1:] = last
    levels[..., :1] = first
    return levels


def best_gamma(
    eigenvalues: FloatArray,
    n: int,
    sampler: SamplerName = "ddim",
    weights: FloatArray | None = None,
    sigma_max: npt.ArrayLike = np.inf,
    sigma_min: npt.ArrayLike = 0.0,
    direction: Direction = "forward",
    start: Start = "vp",
    law: ScaledLaw = tangent_sigmas,
) -> FloatArray:
    """Scale of a law that has the least exact divergence at this number of steps.

    Args:
        eigenvalues: λ, ``[B, E]``.
        n: Number of steps.
        sampler: Which sampler.
        weights: Multiplicities, ``[B, E]``.
        sigma_max: First level, one for all or ``[B]``; finite for Heun's sampler.
        sigma_min: Last level, likewise.
        direction: Which divergence.
        start: Variance of the first state.
        law: Which law; the tangent by default.

    Returns:
        ``[B]``, to about seven digits, within a factor e² of the eigenvalues' roots.

    Examples:
        >>> best_gamma(np.array([[4.0, 1.0, 0.1]]), 5).round(5)
        array([0.81219])
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights
    roots = 0.5 * np.log(eigenvalues)
    low = np.where(counts > 0.0, roots, np.inf).min(axis=1) - 2.0
    high = np.where(counts > 0.0, roots, -np.inf).max(axis=1) + 2.0
    top, bottom = (np.asarray(end, dtype=np.float64)[..., None, None] for end in (sigma_max, sigma_min))
    if sampler == "heun" and np.isinf(top).any():
        raise SchedrlError("field 'sigma_max': Heun's sampler needs a finite first level (got inf)")
    u = even_fractions(n)

    def objective(log_gamma: FloatArray) -> FloatArray:
        sigmas = law(u, np.exp(log_gamma)[..., None], top, bottom)
        target = eigenvalues[:, None] + sigmas[..., -1:] ** 2
        ratio = output_variances(eigenvalues[:, None], sigmas, sampler, start) / target
        return kl(ratio, direction, counts[:, None])

    return np.exp(scan_minimum(objective, low, high))


def scan_minimum(
    objective: Callable[[FloatArray], FloatArray],
    low: FloatArray,
    high: FloatArray,
    points: int = 65,
    rounds: int = 9,
) -> FloatArray:
    """Where functions of one variable are least, by a scan that zooms in on the best point.

    Args:
        objective: Values ``[B, P]`` at places ``[B, P]``.
        low: Lower bounds, ``[B]``.
        high: Upper bounds, ``[B]``.
        points: Places of the first scan; later ones take 9.
        rounds: Number of scans; each after the first narrows the bracket by 4.

    Returns:
        The best places found, ``[B]``.
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


class _Path(NamedTuple):
    r"""Panels of the way, from the smallest level up.

    Attributes:
        edges: Logarithms of the levels between panels, ``[B, P+1]``.
        length: Length of the way up to each edge, ``[B, P+1]``.
        factors: Weight times E, ``[B, E]``.
        energies: E, ``[B, E]``: for many DDIM steps :math:`\log q_i \to -E_i / N`.
    """

    edges: FloatArray
    length: FloatArray
    factors: FloatArray
    energies: FloatArray


def geodesic_sigmas(
    eigenvalues: FloatArray,
    n: int,
    weights: FloatArray | None = None,
    sigma_max: npt.ArrayLike = np.inf,
    sigma_min: npt.ArrayLike = 0.0,
) -> FloatArray:
    """Levels at equal distances along the geodesic; for equal eigenvalues this is the tangent law.

    Args:
        eigenvalues: λ, ``[B, E]``, positive.
        n: Number of steps.
        weights: Multiplicities, ``[B, E]``; None counts each once.
        sigma_max: First level, one for all or ``[B]``; may be infinite.
        sigma_min: Last level, likewise; may be 0.

    Returns:
        Descending, ``[B, n+1]``.

    Examples:
        >>> geodesic_sigmas(np.array([[4.0, 1.0, 0.1]]), 5)[:, 1:-1].round(5)
        array([[3.43685, 1.30922, 0.53369, 0.1933 ]])
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights
    levels = np.empty((len(eigenvalues), n + 1))
    levels[:, 0], levels[:, -1] = sigma_max, sigma_min
    nodes = 8 * max(n, 2 * _TAIL_PANELS + 40)
    size = max(1, _MEMORY // (nodes * eigenvalues.shape[1]))
    for at in range(0, len(eigenvalues), size):
        rows = slice(at, at + size)
        path = _path(eigenvalues[rows], counts[rows], levels[rows, 0], levels[rows, -1])
        levels[rows, 1:-1] = np.exp(_places(path, eigenvalues[rows], np.arange(n - 1, 0, -1) / n))
    return levels


def _speeds(log_sigma: FloatArray, half_log: FloatArray) -> FloatArray:
    """(dφ/dy)², ``[B, K, E]``, at ``[B, K]`` places, from log √λ ``[B, E]``."""
    apart = np.exp(-np.abs(log_sigma[:, :, None] - half_log[:, None, :]))
    return np.asarray((apart / (1.0 + apart * apart)) ** 2)


def _edges(
    half_log: FloatArray, counts: FloatArray, sigma_max: FloatArray, sigma_min: FloatArray
) -> FloatArray:
    """Panel edges ``[B, P+1]``: long ones in the tails, short ones where the eigenvalues lie."""
    lowest = np.where(counts > 0.0, half_log, np.inf).min(axis=1)
    highest = np.where(counts > 0.0, half_log, -np.inf).max(axis=1)
    with np.errstate(divide="ignore"):
        low, high = np.log(sigma_min), np.log(sigma_max)
    bottom = np.where(np.isfinite(low), low, np.minimum(lowest, high) - _TAIL)
    top = np.where(np.isfinite(high), high, np.maximum(highest, low) + _TAIL)
    left, right = np.clip(lowest - _MARGIN, bottom, top), np.clip(highest + _MARGIN, bottom, top)
    panels = max(1, int(np.ceil((right - left).max() / _CORE_PANEL)))
    tail = np.linspace(0.0, 1.0, _TAIL_PANELS + 1)
    below = bottom[:, None] + (left - bottom)[:, None] * tail[:-1]
    core = left[:, None] + (right - left)[:, None] * np.linspace(0.0, 1.0, panels + 1)
    above = right[:, None] + (top - right)[:, None] * tail[1:]
    return np.concatenate([below, core, above], axis=1)


def _path(eigenvalues: FloatArray, counts: FloatArray, sigma_max: FloatArray, sigma_min: FloatArray) -> _Path:
    half_log = 0.5 * np.log(eigenvalues)
    edges = _edges(half_log, counts, sigma_max, sigma_min)
    width = np.diff(edges, axis=1)
    places = edges[:, :-1, None] + width[:, :, None] * _NODES
    areas = (width[:, :, None] * _GAUSS).reshape(len(edges), -1)
    speeds = _speeds(places.reshape(len(edges), -1), half_log)
    energies = np.ones_like(eigenvalues)
    metric = np.empty(0)
    for _ in range(_MAX_ITERATIONS):
        metric = np.sqrt((speeds @ (counts * energies)[:, :, None])[:, :, 0])
        total = (areas * metric).sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            share = np.where(metric > 0.0, areas / metric, 0.0)
        found = total * (share[:, None, :] @ speeds)[:, 0]
        change = np.abs(found / energies - 1.0)[counts > 0.0].max()
        energies = 0.5 * (energies + found)
        if change < _TOLERANCE:
            break
    factors = counts * energies
    metric = np.sqrt((speeds @ factors[:, :, None])[:, :, 0])
    pieces = (areas * metric).reshape(places.shape).sum(axis=2)
    length = np.concatenate([np.zeros((len(edges), 1)), np.cumsum(pieces, axis=1)], axis=1)
    return _Path(edges, length, factors, energies)


def _places(path: _Path, eigenvalues: FloatArray, fractions: FloatArray) -> FloatArray:
    """Logarithms of the levels at fractions of the length, ``[B, K]``."""
    half_log = 0.5 * np.log(eigenvalues)
    wanted = path.length[:, -1:] * fractions
    panel = (path.length[:, None, 1:-1] <= wanted[:, :, None]).sum(axis=2)
    left, right = (np.take_along_axis(path.edges, place, axis=1) for place in (panel, panel + 1))
    before, after = (np.take_along_axis(path.length, place, axis=1) for place in (panel, panel + 1))
    rest = wanted - before
    place = left + (right - left) * np.clip(rest / (after - before), 0.0, 1.0)
    for _ in range(12):  # Newton: the slope of the length is the metric
        inner = left[:, :, None] + (place - left)[:, :, None] * _NODES
        length = (_metric(inner, half_log, path.factors) * _GAUSS).sum(axis=2) * (place - left)
        place = place - (length - rest) / _metric(place[:, :, None], half_log, path.factors)[:, :, 0]
        place = np.clip(place, left, right)
    return place


def _metric(places: FloatArray, half_log: FloatArray, factors: FloatArray) -> FloatArray:
    """The metric's root at ``[B, K, J]`` places."""
    flat = places.reshape(len(places), -1)
    squared = (_speeds(flat, half_log) @ factors[:, :, None])[:, :, 0]
    return np.asarray(np.sqrt(squared).reshape(places.shape))
