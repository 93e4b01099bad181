r"""Conversions between log-SNR, kept signal variance, betas and noise-to-signal ratio.

Notation: :math:`\bar\alpha` is the kept signal variance, :math:`\beta_i = 1 - \bar\alpha_i /
\bar\alpha_{i-1}`, :math:`\lambda = \log(\bar\alpha / (1 - \bar\alpha))` the log-SNR and :math:`\sigma =
\sqrt{(1 - \bar\alpha) / \bar\alpha} = e^{-\lambda / 2}` the noise-to-signal ratio (the sigma of a
variance-exploding process). Everything is float64 and works on logarithms, so neither a nearly clean nor a
nearly destroyed image loses digits: :math:`\bar\alpha` itself underflows at :math:`\lambda \approx -745` and
rounds to one at :math:`\lambda \approx 37`. Infinite ends map to infinite ends. Arguments have any shape, and results
the same.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
"""What every function of this package returns: a float64 array (0-d for a scalar argument)."""

Broadcast: TypeAlias = float | FloatArray
"""A parameter of a batched function: one number for all, or an array that broadcasts."""

_LOG_HALF = -0.6931471805599453


def _float64(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)


def logsnr_from_log_alpha_bar(log_alpha_bar: npt.ArrayLike) -> FloatArray:
    r""":math:`\lambda = \log\bar\alpha - \log(1 - \bar\alpha)` from :math:`\log \bar\alpha \le 0`.

    Examples:
        >>> logsnr_from_log_alpha_bar([-1000.0, np.log(0.5), -1e-30, 0.0])
        array([-1000.        ,     0.        ,    69.07755279,            inf])
    """
    log_signal = _float64(log_alpha_bar)
    with np.errstate(divide="ignore"):
        # Each branch is exact where the other cancels.
        near_clean = np.log(-np.expm1(np.maximum(log_signal, _LOG_HALF)))
        near_noise = np.log1p(-np.exp(np.minimum(log_signal, _LOG_HALF)))
    return _float64(log_signal - np.where(log_signal > _LOG_HALF, near_clean, near_noise))


def log_alpha_bar_from_logsnr(logsnr: npt.ArrayLike) -> FloatArray:
    r""":math:`\log \bar\alpha = -\log(1 + e^{-\lambda})`.

    Examples:
        >>> log_alpha_bar_from_logsnr([-1000.0, 0.0, 50.0])
        array([-1.00000000e+03, -6.93147181e-01, -1.92874985e-22])
    """
    return _float64(-np.logaddexp(0.0, -_float64(logsnr)))


def alpha_bar_from_logsnr(logsnr: npt.ArrayLike) -> FloatArray:
    r""":math:`\bar\alpha = 1 / (1 + e^{-\lambda})` in [0, 1].

    Examples:
        >>> alpha_bar_from_logsnr([-np.inf, 0.0, np.inf])
        array([0. , 0.5, 1. ])
    """
    return _float64(np.exp(log_alpha_bar_from_logsnr(logsnr)))


def logsnr_from_alpha_bar(alpha_bar: npt.ArrayLike) -> FloatArray:
    r""":math:`\lambda` from :math:`\bar\alpha` in [0, 1]; where its logarithm is known, that has more digits.

    Examples:
        >>> logsnr_from_alpha_bar([0.0, 0.5, 1.0])
        array([-inf,   0.,  inf])
    """
    signal = _float64(alpha_bar)
    with np.errstate(divide="ignore"):
        return _float64(np.log(signal) - np.log1p(-signal))


def logsnr_from_sigma(sigma: npt.ArrayLike) -> FloatArray:
    r""":math:`\lambda = -2 \log \sigma` from the noise-to-signal ratio :math:`\sigma \ge 0`.

    Examples:
        >>> logsnr_from_sigma([np.inf, 1.0, 0.0])
        array([-inf,  -0.,  inf])
    """
    with np.errstate(divide="ignore"):
        return _float64(-2.0 * np.log(_float64(sigma)))


def sigma_from_logsnr(logsnr: npt.ArrayLike) -> FloatArray:
    r"""The noise-to-signal ratio :math:`\sigma = e^{-\lambda / 2}`.

    Examples:
        >>> sigma_from_logsnr([-np.inf, 0.0, np.inf])
        array([inf,  1.,  0.])
    """
    with np.errstate(over="ignore"):
        return _float64(np.exp(-0.5 * _float64(logsnr)))


def log_alpha_bar_from_betas(betas: npt.ArrayLike) -> FloatArray:
    r""":math:`\log \bar\alpha_i`, [T], of :math:`\bar\alpha_i = \prod_{j \le i} (1 - \beta_j)`, betas in [0, 1).

    Examples:
        >>> log_alpha_bar_from_betas([0.5, 0.5]) / np.log(2.0)
        array([-1., -2.])
    """
    return _float64(np.cumsum(np.log1p(-_float64(betas)), axis=-1))


def betas_from_log_alpha_bar(log_alpha_bar: npt.ArrayLike) -> FloatArray:
    r"""The betas :math:`\beta_i = 1 - \bar\alpha_i / \bar\alpha_{i-1}`, [T] in [0, 1], with :math:`\bar\alpha_0 = 1`.

    ``log_alpha_bar`` is [T] and non-increasing; the last may be ``-inf``.

    Examples:
        >>> betas_from_log_alpha_bar(np.log([0.5, 0.25, 0.025]))
        array([0.5, 0.5, 0.9])
    """
    return _float64(-np.expm1(np.diff(_float64(log_alpha_bar), prepend=0.0)))
