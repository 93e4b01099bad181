r"""The posterior mean of Curie-Weiss spins, four ways.

Source: the Curie-Weiss model of Aranguri, Biroli, Mézard & Vanden-Eijnden (arXiv 2501.00988),
:math:`P(s) \propto \exp(\frac{\beta}{2d} (\sum s)^2 + \frac{h}{d} \sum s)` on :math:`\{\pm1\}^d`. Seen through
noise, :math:`x = \cos\psi\,s + \sin\psi\,z`, every spin feels a further field :math:`g = \cos\psi\,x /
\sin^2\psi`, because :math:`s_i^2 = 1`. All functions take that g, [..., d], and return E[s | x] of the same shape.
"""

from __future__ import annotations

import itertools

import numpy as np

from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.scaling import Broadcast

__all__ = [
    "MOST_ENUMERATED",
    "MOST_SUMMED",
    "enumeration_mean",
    "magnetisation_sum_mean",
    "quadrature_mean",
    "saddle_mean",
    "spontaneous_magnetisation",
]

MOST_ENUMERATED = 12
"""Largest d of :func:`enumeration_mean`."""

MOST_SUMMED = 500
"""Largest d of :func:`magnetisation_sum_mean`; beyond, the tilt of the rarest sums underflows."""

# Factors whose product is taken before its logarithm; none over- or underflows for fields up to 44.
_FACTORS_AT_ONCE = 8


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
    for _ in range(60):  # Newton from above: m - tanh(beta m) is convex there, so it never overshoots
        mean = np.tanh(ordered * m)
        slope = 1.0 - ordered * (1.0 - mean**2)
        step = (m - mean) / np.maximum(slope, 1e-300)
        m = np.clip(m - step, 0.0, 1.0)
        if np.all(np.abs(step) <= 1e-16):
            break
    return np.where(inverse_temperature > 1.0, m, 0.0)


def saddle_mean(
    g: FloatArray, dimension: Broadcast, beta: Broadcast, field: Broadcast, weights: FloatArray | None = None
) -> FloatArray:
    r"""Posterior mean from the two saddles :math:`f = \pm m^*`, for large d and :math:`\beta > 1`.

    :math:`E[s_i | x] = \sum_\pm w_\pm \tanh(\pm\beta m^* + g_i)` with :math:`w_\pm \propto e^{\pm h m^*}
    \prod_j (1 \pm m^* \tanh g_j)`. With :math:`t_i = \tanh g_i` and :math:`W = w_+ - w_- = \tanh(h m^* + \sum_j
    \mathrm{artanh}(m^* t_j))` both tanh come down to one fraction. The error falls with d: about 1.4e-3 at d =
    200 and 3e-4 at 1000 for beta = 2. Not valid near beta = 1.

    Args:
        g: [..., K] fields.
        dimension: d, broadcasts with [..., 1].
        beta: Inverse temperature, above 1; broadcasts with [..., 1].
        field: Total field h, broadcasts with [..., 1].
        weights: [..., K] share of the d spins that each entry of ``g`` stands for; None is 1/K each.

    Returns:
        [..., K] in [-1, 1].

    Examples:
        >>> saddle_mean(np.array([-0.1, 0.0, 0.1]), 1000.0, 2.0, 0.0).round(4)
        array([-0.0084,  0.    ,  0.0084])
    """
    m = spontaneous_magnetisation(beta)
    t = np.tanh(g)
    product = m * t
    if weights is None:
        sum_of_artanh = 0.5 * dimension * _mean_log((1.0 + product) / (1.0 - product), None)
    else:  # every digit is needed where d is large: it multiplies them
        sum_of_artanh = dimension * _mean(np.arctanh(product), weights)
    lean = np.tanh(field * m + sum_of_artanh)
    # (t (1 - m²) + W m (1 - t²)) / (1 - m² t²), in place: half of the time would go into fresh memory.
    below = np.subtract(1.0, np.square(product, out=product), out=product)
    above = (1.0 - m * m) * t
    above += (lean * m) * np.subtract(1.0, np.square(t, out=t), out=t)
    return np.asarray(np.divide(above, below, out=above))


def quadrature_mean(
    g: FloatArray, dimension: Broadcast, beta: Broadcast, field: Broadcast, weights: FloatArray | None = None
) -> FloatArray:
    r"""Posterior mean by quadrature over the Hubbard-Stratonovich field f, for any d and beta.

    :math:`E[s_i | x] = \int w(f) \tanh(\beta f + b + g_i) df / \int w(f) df` with b = h/d and :math:`\log w(f) =
    -d\beta f^2/2 + \sum_j \log\cosh(\beta f + b + g_j)`; trapezoid on :math:`|f| \le 1 + 6/\sqrt{d\beta}` with
    steps of at most :math:`1/(2\sqrt{d\beta})`. Exact to about 4e-11, at some :math:`4\sqrt{d\beta}` times the
    cost of :func:`saddle_mean`.

    Args:
        g: [..., K] fields.
        dimension: d, broadcasts with [..., 1].
        beta: Inverse temperature, broadcasts with [..., 1].
        field: Total field h, broadcasts with [..., 1].
        weights: [..., K] share of the d spins that each entry of ``g`` stands for; None is 1/K each.

    Returns:
        [..., K] in [-1, 1].

    Examples:
        >>> quadrature_mean(np.array([0.3, -0.2, 0.1, 0.0, 0.5, -0.4]), 6.0, 2.0, 0.1).round(8)[:3]
        array([0.36304386, 0.26364436, 0.32508693])
    """
    scale = np.sqrt(np.asarray(dimension * beta, dtype=np.float64))
    half_width = 1.0 + 6.0 / scale
    per_side = int(np.ceil((half_width * scale).max() / 0.5))
    # cosh(a + g) is proportional to e^(2a) + e^(-2|g|) or its mirror image: sums of positive terms, and no
    # exponential per node and spin.
    small = np.exp(-2.0 * np.abs(g))
    up, down = np.where(g >= 0.0, 1.0, small), np.where(g >= 0.0, small, 1.0)
    nodes = [half_width * (k / per_side) for k in range(-per_side, per_side + 1)]
    local = [beta * f + field / dimension for f in nodes]
    log_weights = np.stack(
        [
            dimension * (_mean_log(up * np.exp(2.0 * a) + down, weights) - a - 0.5 * beta * f * f)
            for f, a in zip(nodes, local, strict=True)
        ]
    )
    node_weights = np.exp(log_weights - log_weights.max(axis=0))
    total = np.zeros(np.broadcast_shapes(g.shape, node_weights.shape[1:]))
    for weight, a in zip(node_weights, local, strict=True):
        if weight.max() > 1e-18:
            rising = up * np.exp(2.0 * a)
            total += (rising - down) / (rising + down) * weight
    return np.asarray(total / node_weights.sum(axis=0))


def magnetisation_sum_mean(g: FloatArray, beta: float, field: float) -> FloatArray:
    r"""Posterior mean by summing over the magnetisation: exact to rounding, :math:`O(d^2)` per sample.

    Without their coupling the spins are independent with :math:`P(s_i = 1) = 1/(1 + e^{-2 g_i})`, and the number
    of positive ones is Poisson-binomial. A forward pass gathers its distribution before each spin, a backward
    pass the mean of the coupling :math:`\exp(\beta S^2/2d + hS/d)` over the spins after it; all terms are
    positive.

    Args:
        g: [..., d] fields, d at most ``MOST_SUMMED``.
        beta: Inverse temperature.
        field: Total field h.

    Returns:
        [..., d] in [-1, 1].

    Raises:
        SchedrlError: d is too large.

    Examples:
        >>> magnetisation_sum_mean(np.array([0.3, -0.2, 0.1, 0.0, 0.5, -0.4]), 2.0, 0.1).round(8)[:3]
        array([0.36304386, 0.26364436, 0.32508693])
    """
    from scipy.special import expit

    size = _at_most(g.shape[-1], MOST_SUMMED, "poisson-binomial")
    plus, minus = expit(2.0 * g), expit(-2.0 * g)
    after = [np.broadcast_to(_coupling(size, beta, field), (*g.shape[:-1], size + 1))]
    for i in range(size - 1, 0, -1):  # after[-1]: given the number of positive spins among the first i
        later = after[-1]
        after.append(minus[..., i, None] * later[..., :-1] + plus[..., i, None] * later[..., 1:])
    before = np.ones((*g.shape[:-1], 1))
    means = np.empty_like(g)
    for i in range(size):
        later = after.pop()
        positive = plus[..., i] * (before * later[..., 1:]).sum(axis=-1)
        negative = minus[..., i] * (before * later[..., :-1]).sum(axis=-1)
        means[..., i] = (positive - negative) / (positive + negative)
        grown = np.zeros((*g.shape[:-1], i + 2))
        grown[..., 1:] += plus[..., i, None] * before
        grown[..., :-1] += minus[..., i, None] * before
        before = grown
    return means


def enumeration_mean(g: FloatArray, beta: float, field: float) -> FloatArray:
    """Posterior mean by the sum over all 2^d configurations.

    Args:
        g: [..., d] fields, d at most ``MOST_ENUMERATED``.
        beta: Inverse temperature.
        field: Total field h.

    Returns:
        [..., d] in [-1, 1].

    Raises:
        SchedrlError: d is too large.

    Examples:
        >>> enumeration_mean(np.array([0.3, -0.2, 0.1, 0.0, 0.5, -0.4]), 2.0, 0.1).round(8)[:3]
        array([0.36304386, 0.26364436, 0.32508693])
    """
    size = _at_most(g.shape[-1], MOST_ENUMERATED, "enumeration")
    spins = np.array(list(itertools.product((-1.0, 1.0), repeat=size)))
    total = spins.sum(axis=-1)
    energy = g @ spins.T + beta * total**2 / (2.0 * size) + field * total / size
    weight = np.exp(energy - energy.max(axis=-1, keepdims=True))
    return np.asarray(weight @ spins / weight.sum(axis=-1, keepdims=True))


def _at_most(size: int, most: int, method: str) -> int:
    if size > most:
        raise SchedrlError(f"field 'method': '{method}' takes at most {most} spins (got {size})")
    return size


def _coupling(size: int, beta: float, field: float) -> FloatArray:
    """exp(beta S² / 2d + h S / d) for 0 … d positive spins, divided by its largest value; [d + 1]."""
    total = 2.0 * np.arange(size + 1) - size
    exponent = beta * total**2 / (2.0 * size) + field * total / size
    return np.asarray(np.exp(exponent - exponent.max()))


def _mean(values: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Mean over the last axis, which stays."""
    if weights is None:
        return np.asarray(values.mean(axis=-1, keepdims=True))
    return np.asarray(np.einsum("...k,...k->...", values, weights)[..., None])


def _mean_log(values: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Mean of the logarithm over the last axis, which stays."""
    size = values.shape[-1]
    if weights is not None or size < 2 * _FACTORS_AT_ONCE:
        return _mean(np.log(values), weights)
    whole = size - size % _FACTORS_AT_ONCE  # logarithms of products: an eighth as many logarithms
    products = values[..., :whole].reshape(*values.shape[:-1], _FACTORS_AT_ONCE, -1).prod(axis=-2)
    total = np.log(products).sum(axis=-1, keepdims=True)
    return np.asarray((total + np.log(values[..., whole:]).sum(axis=-1, keepdims=True)) / size)
