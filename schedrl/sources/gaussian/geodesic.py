r"""The grid that is best for many DDIM steps and any spectrum: equal steps along a geodesic.

Minimising :math:`\sum w_i E_i^2`, with :math:`E_i = \int \phi_i'(u)^2 du` the loss of an eigenvalue (THEORY 3.1),
makes the grid uniform in the length :math:`\int \sqrt G\, dy`, :math:`y = \log r`, of the metric :math:`G = \sum w_i
E_i (d\phi_i / dy)^2`, :math:`d\phi / dy = \tfrac12 \sin 2\phi` (THEORY 3.4). The weights E_i are found as a fixed
point; lengths are integrated by Gauss and Legendre on panels that are short where the eigenvalues lie.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schedrl.schedules.conversions import FloatArray

__all__ = ["geodesic_energies", "geodesic_sigmas"]

_NODES, _GAUSS = np.polynomial.legendre.leggauss(8)
_NODES, _GAUSS = 0.5 * (_NODES + 1.0), 0.5 * _GAUSS  # on [0, 1]
_MARGIN = 3.0  # e-folds beyond the spectrum in which the metric still bends
_TAIL = 33.0  # e-folds to an end at 0 or infinity; the length beyond is 1e-14
_CORE_PANEL, _TAIL_PANELS = 0.5, 12
_MAX_ITERATIONS, _TOLERANCE = 400, 1e-13
_MEMORY = 4_000_000  # numbers per array: problems x nodes x eigenvalues


class _Path(NamedTuple):
    """Panels of the way, from the smallest level up.

    Attributes:
        edges: Logarithms of the levels between panels, ``[B, P+1]``.
        length: Length of the way up to each edge, ``[B, P+1]``.
        factors: Weight times E, ``[B, E]``.
        energies: E, ``[B, E]``.
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
    """Levels at equal distances along the geodesic.

    For equal eigenvalues this is the tangent law.

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
    for rows in _chunks(eigenvalues, n):
        path = _path(eigenvalues[rows], counts[rows], levels[rows, 0], levels[rows, -1])
        levels[rows, 1:-1] = np.exp(_places(path, eigenvalues[rows], np.arange(n - 1, 0, -1) / n))
    return levels


def geodesic_energies(
    eigenvalues: FloatArray,
    weights: FloatArray | None = None,
    sigma_max: npt.ArrayLike = np.inf,
    sigma_min: npt.ArrayLike = 0.0,
) -> FloatArray:
    r"""What the geodesic grid loses of each eigenvalue: :math:`\log q_i \to -E_i / N` for DDIM.

    Args:
        eigenvalues: λ, ``[B, E]``, positive.
        weights: Multiplicities, ``[B, E]``.
        sigma_max: First level.
        sigma_min: Last level.

    Returns:
        ``[B, E]``; the limit of N² times the divergence is a quarter of the weighted sum of their squares.

    Examples:
        >>> geodesic_energies(np.array([[4.0, 1.0, 0.1]])).round(4)
        array([[3.1795, 2.6498, 3.3131]])
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights
    first, last = (np.broadcast_to(end, len(eigenvalues)) for end in (sigma_max, sigma_min))
    parts = [
        _path(eigenvalues[rows], counts[rows], first[rows], last[rows]).energies
        for rows in _chunks(eigenvalues, 0)
    ]
    return np.concatenate(parts)


def _chunks(eigenvalues: FloatArray, n: int) -> list[slice]:
    nodes = 8 * max(n, 2 * _TAIL_PANELS + 40)
    size = max(1, _MEMORY // (nodes * eigenvalues.shape[1]))
    return [slice(at, at + size) for at in range(0, len(eigenvalues), size)]


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
    left = np.take_along_axis(path.edges, panel, axis=1)
    right = np.take_along_axis(path.edges, panel + 1, axis=1)
    rest = wanted - np.take_along_axis(path.length, panel, axis=1)
    whole = np.take_along_axis(path.length, panel + 1, axis=1) - np.take_along_axis(
        path.length, panel, axis=1
    )
    place = left + (right - left) * np.clip(rest / whole, 0.0, 1.0)
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
