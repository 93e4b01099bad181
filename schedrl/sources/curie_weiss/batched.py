r"""One DDIM step of many Curie-Weiss magnets at once, at a cost that does not grow with the dimension.

Source: the Curie-Weiss model of Aranguri, Biroli, Mézard & Vanden-Eijnden (arXiv 2501.00988),
:math:`P(s) \propto \exp(\frac{\beta}{2d} (\sum s)^2 + \frac{h}{d} \sum s)` on :math:`\{\pm1\}^d`. The denoiser
couples the coordinates through their sum only, so a sample is stood for by K coordinates, each for d/K of them: a
state is [B, S, K], with S samples of each of B magnets. States are variance preserving
(:mod:`schedrl.sources.scaling`), and the parameters are [B, 1, 1].
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from schedrl.schedules.conversions import FloatArray
from schedrl.sources.scaling import (
    Broadcast,
    gaussian_midpoints,
    half_log_odds,
    positive_fraction,
    signal_and_noise,
)

__all__ = [
    "quadrature_mean",
    "saddle_mean",
    "spontaneous_magnetisation",
    "strata_outcome",
    "strata_start",
    "strata_step",
]


def spontaneous_magnetisation(beta: Broadcast) -> FloatArray:
    r"""The solution :math:`m^* \ge 0` of :math:`m = \tanh(\beta m)`; 0 up to :math:`\beta = 1`.

    Args:
        beta: Inverse temperature, positive, any shape.

    Returns:
        :math:`m^*` in [0, 1), same shape.

    Examples:
        >>> spontaneous_magnetisation(np.array([0.5, 1.1, 2.0])).tolist()
        [0.0, 0.502940574..., 0.957504024...]
    """
    inverse_temperature = np.asarray(beta, dtype=np.float64)
    ordered = np.maximum(inverse_temperature, 1.0)
    m = np.ones_like(ordered)
    for _ in range(40):  # Newton from above: m - tanh(beta m) is convex there, so it never overshoots
        mean = np.tanh(ordered * m)
        slope = 1.0 - ordered * (1.0 - mean**2)
        step = (m - mean) / np.maximum(slope, 1e-300)
        m = np.maximum(m - step, 0.0)
        if np.all(np.abs(step) <= 1e-16):
            break
    return np.where(inverse_temperature > 1.0, m, 0.0)


def strata_start(num_samples: int, num_strata: int, dimension: Broadcast) -> FloatArray:
    r"""Pure noise: the mean of a sample and the deviations of its coordinates, both on quantile mid-points.

    The mean :math:`M \sim N(0, 1/d)` is stratified over the samples; the K deviations are the same in every
    sample, centred, with variance :math:`1 - 1/d`.

    Args:
        num_samples: S, at least 2.
        num_strata: K, at least 2.
        dimension: d, broadcasts with [S, K]; [B, 1, 1] for a batch.

    Returns:
        [B, S, K].

    Raises:
        SchedrlError: ``num_samples`` or ``num_strata`` is not a whole number of at least 2.

    Examples:
        >>> strata_start(2, 3, np.array([[[100.0]]])).round(2)
        array([[[-1.29, -0.07,  1.15],
                [-1.15,  0.07,  1.29]]])
    """
    size = np.asarray(dimension, dtype=np.float64)
    deviations = gaussian_midpoints(num_strata)
    deviations /= np.sqrt(np.square(deviations).mean())
    means = gaussian_midpoints(num_samples)[:, None] / np.sqrt(size)
    return np.asarray(means + np.sqrt(1.0 - 1.0 / size) * deviations)


def saddle_mean(g: FloatArray, dimension: Broadcast, m_star: Broadcast, field: Broadcast) -> FloatArray:
    r"""Posterior mean of the spins from the two saddles :math:`f = \pm m^*`, for large d and :math:`\beta > 1`.

    :math:`E[s_i | x] = \sum_\pm w_\pm \tanh(\pm\beta m^* + g_i)` with :math:`w_\pm \propto e^{\pm h m^*}
    \prod_j (1 \pm m^* \tanh g_j)`. With :math:`t_i = \tanh g_i` and :math:`W = w_+ - w_- = \tanh(h m^* + \sum_j
    \mathrm{artanh}(m^* t_j))` both tanh come down to one fraction.

    Args:
        g: [..., K] fields :math:`\cos x / \sin^2`; each stands for d/K coordinates.
        dimension: d, broadcasts with [..., 1].
        m_star: Spontaneous magnetisation, broadcasts with [..., 1].
        field: Total field h, broadcasts with [..., 1].

    Returns:
        [..., K] in [-1, 1].

    Examples:
        >>> saddle_mean(np.array([-0.1, 0.0, 0.1]), 1000.0, 0.9, 0.0).round(4)
        array([-0.0191,  0.    ,  0.0191])
    """
    t = np.tanh(g)
    product = m_star * t
    lean = np.tanh(field * m_star + dimension * np.arctanh(product).mean(axis=-1, keepdims=True))
    return np.asarray((t * (1.0 - np.square(m_star)) + (lean * m_star) * (1.0 - t * t)) / (1.0 - product**2))


def quadrature_mean(g: FloatArray, dimension: Broadcast, beta: Broadcast, field: Broadcast) -> FloatArray:
    r"""Posterior mean of the spins by quadrature over the Hubbard-Stratonovich field, for any d and beta.

    :math:`E[s_i | x] = \int w(f) \tanh(\beta f + b + g_i) df / \int w(f) df`, :math:`\log w(f) = -d\beta f^2/2 +
    \sum_j \log\cosh(\beta f + b + g_j)`, b = h/d; trapezoid on :math:`|f| \le 1 + 6/\sqrt{d\beta}` with steps of
    at most :math:`1/(2\sqrt{d\beta})`. Costs about :math:`4\sqrt{d\beta}` times :func:`saddle_mean`.

    Args:
        g: [..., K] fields :math:`\cos x / \sin^2`; each stands for d/K coordinates.
        dimension: d, broadcasts with [..., 1].
        beta: Inverse temperature, broadcasts with [..., 1].
        field: Total field h, broadcasts with [..., 1].

    Returns:
        [..., K] in [-1, 1].

    Examples:
        >>> quadrature_mean(np.array([0.3, -0.2, 0.1, 0.0, 0.5, -0.4]), 6.0, 2.0, 0.1).round(8)[:3]
        array([0.36304386, 0.26364436, 0.32508693])
    """
    size, inverse_temperature = (np.asarray(value, dtype=np.float64) for value in (dimension, beta))
    scale = np.sqrt(size * inverse_temperature)
    half_width = 1.0 + 6.0 / scale
    per_side = int(np.ceil((half_width * scale).max() / 0.5))
    fields = half_width * (np.arange(-per_side, per_side + 1) / per_side)  # [..., nodes]
    local = (inverse_temperature * fields + field / size)[..., None] + g[..., None, :]
    size_, inverse_temperature_ = size[..., None], inverse_temperature[..., None]
    log_weights = size_ * (
        _log_cosh(local).mean(axis=-1, keepdims=True) - 0.5 * inverse_temperature_ * fields[..., None] ** 2
    )
    weights = np.exp(log_weights - log_weights.max(axis=-2, keepdims=True))
    return np.asarray((weights * np.tanh(local)).sum(axis=-2) / weights.sum(axis=-2))


def strata_step(
    x: FloatArray,
    sigma: Broadcast,
    sigma_next: Broadcast,
    dimension: Broadcast,
    beta: Broadcast,
    majority: Broadcast,
    method: Literal["saddle", "quadrature"] = "saddle",
) -> FloatArray:
    r"""One DDIM step of all samples of all magnets.

    Args:
        x: [B, S, K] coordinates at ``sigma``.
        sigma: Level now, in (0, inf]; [B, 1, 1].
        sigma_next: Level after the step, in [0, sigma); [B, 1, 1].
        dimension: d; [B, 1, 1].
        beta: Inverse temperature; above 1, and not close to it, for the saddles; [B, 1, 1].
        majority: p in (0, 1), which sets the field; [B, 1, 1].
        method: Denoiser: two saddles for large d (error about 1.4e-3 at d = 200, 3e-4 at 1000), or quadrature
            for any d, at :math:`4\sqrt{d\beta}` times the cost.

    Returns:
        [B, S, K] coordinates at ``sigma_next``.

    Examples:
        >>> x = strata_start(2, 3, 100.0)
        >>> strata_step(x, np.inf, 0.75, 100.0, 2.0, 0.8).shape
        (2, 3)
    """
    cos, sin = signal_and_noise(sigma)
    cos_next, sin_next = signal_and_noise(sigma_next)
    g = (cos / sin**2) * x
    field = half_log_odds(majority)
    if method == "saddle":
        mean = saddle_mean(g, dimension, spontaneous_magnetisation(beta), field)
    else:
        mean = quadrature_mean(g, dimension, beta, field)
    ratio = sin_next / sin
    return np.asarray(ratio * x + (cos_next - cos * ratio) * mean)


def strata_outcome(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What a batch of samples shows: how many lean to the majority, and how wide their coordinates spread.

    Args:
        x: [B, S, K], in the order of :func:`strata_start`.

    Returns:
        [B] probability of a positive mean, interpolated between the samples as in
        :func:`~schedrl.sources.scaling.positive_fraction`; [B] variance of the coordinates of a sample, averaged
        over the samples.

    Examples:
        >>> [part.round(6) for part in strata_outcome(strata_start(20, 16, np.array([[[100.0]]])))]
        [array([0.5]), array([0.99])]
    """
    return positive_fraction(x.mean(axis=-1)), np.asarray(x.var(axis=-1).mean(axis=-1))


def _log_cosh(x: FloatArray) -> FloatArray:
    magnitude = np.abs(x)
    return np.asarray(magnitude + np.log1p(np.exp(-2.0 * magnitude)) - np.log(2.0))
