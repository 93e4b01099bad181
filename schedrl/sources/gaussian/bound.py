r"""The variational bound of a Gaussian source: what training sees, as opposed to what a sampler does.

The diffusion loss is :math:`\tfrac12 \int \mathrm{mmse}(g)\, dg` over the signal-to-noise ratio g = 1/r², with
:math:`\mathrm{mmse}(g) = \sum_i \lambda_i / (1 + \lambda_i g)` (Kingma et al. 2021, arXiv 2107.00630; Guo, Shamai &
Verdu 2005). In continuous time only the end points count; with N steps the levels between matter a little. Source
of the formulas: THEORY 3.7.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.divergences import kl_from_log

__all__ = ["best_bound_snr", "continuous_bound", "discrete_bound", "discrete_bound_gap"]


def _counts(eigenvalues: FloatArray, weights: FloatArray | None) -> FloatArray:
    return np.ones_like(eigenvalues) if weights is None else weights


def _checked(snr: FloatArray) -> FloatArray:
    """Signal-to-noise ratios that rise from the noise end to the data end, finite."""
    levels = np.asarray(snr, dtype=np.float64)
    if levels.shape[-1] < 2 or not ((np.diff(levels) > 0.0).all() and (levels >= 0.0).all()):
        raise SchedrlError("field 'snr': must be at least two rising levels, none negative")
    if not np.isfinite(levels).all():
        raise SchedrlError("field 'snr': must be finite (the bound of noise-free data is infinite)")
    return levels


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

    Raises:
        SchedrlError: The ends are not ordered or not finite.

    Examples:
        >>> continuous_bound(np.array([4.0, 1.0, 0.1]), 1e-3, 1e3).round(6)
        np.float64(9.906542)
    """
    low, high = _checked(np.array([snr_min, snr_max]))
    terms = np.log1p(eigenvalues * (high - low) / (1.0 + eigenvalues * low))
    return np.asarray(0.5 * (terms * _counts(eigenvalues, weights)).sum(axis=-1))


def discrete_bound(eigenvalues: FloatArray, snr: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    r"""Diffusion loss with N steps, :math:`\tfrac12 \sum_k (g_{k+1} - g_k)\, \mathrm{mmse}(g_k)`.

    Args:
        eigenvalues: λ, ``[..., E]``.
        snr: Rising levels ``[N+1]``, noise first, finite.
        weights: Multiplicities.

    Returns:
        ``[...]``, in nats; at least the continuous one, by :func:`discrete_bound_gap`.

    Raises:
        SchedrlError: The levels do not rise, or one is infinite.
    """
    levels = _checked(snr)
    continuous = continuous_bound(eigenvalues, float(levels[0]), float(levels[-1]), weights)
    return np.asarray(continuous + discrete_bound_gap(eigenvalues, levels, weights))


def discrete_bound_gap(
    eigenvalues: FloatArray, snr: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    r"""What N steps add to the continuous bound: :math:`\tfrac12 \sum_{k,i} [z - \log(1 + z)]`.

    Here :math:`z = \lambda_i (g_{k+1} - g_k) / (1 + \lambda_i g_k)`; the sum does not cancel, however many steps.

    Args:
        eigenvalues: λ, ``[..., E]``.
        snr: Rising levels ``[N+1]``, noise first, finite.
        weights: Multiplicities.

    Returns:
        ``[...]``, in nats, positive.

    Raises:
        SchedrlError: The levels do not rise, or one is infinite.

    Examples:
        >>> discrete_bound_gap(np.array([4.0, 1.0, 0.1]), np.logspace(-3, 3, 1001)).round(8)
        np.float64(0.05837116)
    """
    levels = _checked(snr)
    spectrum = np.asarray(eigenvalues, dtype=np.float64)[..., None, :]
    low, step = levels[:-1, None], np.diff(levels)[:, None]
    growth = np.log1p(spectrum * step / (1.0 + spectrum * low))
    return np.asarray(
        kl_from_log(growth, "reverse", _counts(eigenvalues, weights)[..., None, :]).sum(axis=-1)
    )


def best_bound_snr(eigenvalue: float, n: int, snr_min: float, snr_max: float) -> npt.NDArray[np.float64]:
    r"""Levels with the least N-step bound for one eigenvalue: uniform in :math:`\log(1 + \lambda g)`.

    Args:
        eigenvalue: λ.
        n: Number of steps.
        snr_min: First level.
        snr_max: Last level.

    Returns:
        Rising, ``[n+1]``.

    Examples:
        >>> best_bound_snr(1.0, 2, 0.0, 8.0)
        array([0., 2., 8.])
    """
    low, high = np.log1p(eigenvalue * np.array([snr_min, snr_max]))
    levels = np.expm1(np.linspace(low, high, n + 1)) / eigenvalue
    levels[0], levels[-1] = snr_min, snr_max
    return np.asarray(levels)
