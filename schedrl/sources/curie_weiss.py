r"""The Curie-Weiss magnet as a source: its distribution, its exact denoiser, and what a grid makes of it.

Source: the Curie-Weiss model of Aranguri et al. 2025 (arXiv 2501.00988),
:math:`P(s) \propto \exp(\frac{\beta}{2d} (\sum s)^2 + \frac{h}{d} \sum s)` on :math:`\{\pm1\}^d`. Seen through
noise, :math:`x = \cos\psi\,s + \sin\psi\,z`, every spin feels a further field :math:`g = \cos\psi\,x /
\sin^2\psi`, because :math:`s_i^2 = 1`. The denoisers take that g, [..., d], and return E[s | x] of the same shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

import numpy as np
from pydantic import Field

from schedrl.errors import SchedrlError, Spec, unknown_name
from schedrl.schedules import Grid
from schedrl.schedules.conversions import Broadcast, FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.scaling import gaussian_midpoints, half_log_odds, signal_and_noise

Denoiser: TypeAlias = Literal["auto", "quadrature", "saddle"]
"""The ways to compute the posterior mean of the spins."""

_LOWEST_BARRIER = 10.0
_MOST_QUADRATURE = 1000  # spins up to which "auto" does not settle for the saddles
_MOST_SUMS = 20_000  # values of the magnetisation that are summed; of more, an even selection
_NUMBERS_AT_ONCE = 40_000  # coordinates simulated together; they stay in the cache
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


@dataclass(frozen=True)
class CurieWeissOutcome:
    """Averages over the samples of one grid.

    Attributes:
        majority: Fraction of samples with a positive magnetisation; target ``positive_probability``.
        coordinate_variance: Variance of the coordinates within a sample, averaged over samples; target 1 - m*²
            for large d.
        magnetisation: Mean of |M| over samples; target ``mean_magnetisation``.
    """

    majority: float
    coordinate_variance: float
    magnetisation: float


class CurieWeiss(Spec):
    r"""Spins that agree, in one of two ways.

    :math:`P(s) \propto \exp(\frac{\beta}{2d} (\sum_i s_i)^2 + \frac{h}{d} \sum_i s_i)` on :math:`\{\pm1\}^d`, with a
    total field h that does not grow with d (one that did would leave a single mode). Source: the second test source of
    Aranguri et al. 2025 (arXiv 2501.00988).

    Attributes:
        dimension: Number of spins d, in [1, 1e12]; for methods on single spins it must fit into memory.
        beta: Inverse temperature, in (0, 10]. Above 1 there are two modes, at magnetisations :math:`\pm m^*`.
        majority: p in [0.5, 1), sets the field :math:`h = \frac12 \log\frac{p}{1-p}`. It is not the weight of
            the positive mode; that is :attr:`positive_probability`.

    Examples:
        >>> magnet = CurieWeiss(dimension=1000, beta=2.0, majority=0.8)
        >>> round(magnet.magnetisation, 6), round(magnet.positive_probability, 6)
        (0.957504, 0.790354)
    """

    dimension: Annotated[int, Field(ge=1, le=10**12)]
    beta: Annotated[float, Field(gt=0.0, le=10.0)] = 2.0
    majority: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.8

    @property
    def field(self) -> float:
        """Total field h; a single spin feels h/d of it."""
        return float(half_log_odds(self.majority))

    @property
    def magnetisation(self) -> float:
        r"""Spontaneous magnetisation :math:`m^* = \tanh(\beta m^*)`, the modes' places for d → ∞; 0 if beta ≤ 1."""
        return float(spontaneous_magnetisation(self.beta))

    @property
    def limiting_probability(self) -> float:
        r"""Weight of the positive mode for d → ∞, :math:`1 / (1 + e^{-2 h m^*})`; 1/2 if there is one mode only."""
        return 1.0 / (1.0 + math.exp(-2.0 * self.field * self.magnetisation))

    @property
    def positive_probability(self) -> float:
        """P(M > 0) + P(M = 0)/2 at this d: exact up to d = 20 000, then from an even selection of magnetisations.

        The tie M = 0 of an even d is split, so that p = 1/2 gives 1/2.
        """
        totals, weights = self._half_distribution()
        lean = np.tanh(self.field * totals / self.dimension)
        return float(0.5 + 0.5 * (weights * lean).sum())

    @property
    def mean_magnetisation(self) -> float:
        """E|M| at this d, M the mean of the spins; accuracy as of :attr:`positive_probability`."""
        totals, weights = self._half_distribution()
        return float((weights * totals).sum() / self.dimension)

    @property
    def barrier(self) -> float:
        r"""Height of the barrier between the modes, :math:`d (\log\cosh \beta m^* - \beta m^{*2} / 2)`, in nats."""
        m = self.magnetisation
        return self.dimension * (math.log(math.cosh(self.beta * m)) - 0.5 * self.beta * m * m)

    def denoise(self, x: FloatArray, sigma: float, method: Denoiser = "auto") -> FloatArray:
        """Posterior mean of the spins seen through noise.

        Args:
            x: [..., d], variance preserving: cos ψ s + sin ψ z with tan ψ = ``sigma``.
            sigma: Noise-to-signal ratio in (0, inf].
            method: ``"quadrature"`` is exact to 4e-11; ``"saddle"`` is for large d; ``"auto"`` is quadrature up to
                d = 1000 and wherever the saddles do not hold.

        Returns:
            E[s | x], [..., d], in [-1, 1].

        Examples:
            >>> CurieWeiss(dimension=3).denoise(np.zeros(3), 1.0).round(6)
            array([0.523345, 0.523345, 0.523345])
        """
        observed = np.asarray(x, dtype=np.float64)
        if observed.ndim == 0 or observed.shape[-1] != self.dimension or not np.isfinite(observed).all():
            raise SchedrlError(
                f"field 'x': must be finite, with a last axis of dimension = {self.dimension} "
                f"(got shape {observed.shape})"
            )
        if not sigma > 0.0:
            raise SchedrlError(f"field 'sigma': must be positive, infinity included (got {sigma})")
        cos, sin = signal_and_noise(sigma)
        return self._posterior_mean((cos / sin**2) * observed, method)

    def simulate(
        self, grid: Grid, rng: np.random.Generator | int, num_samples: int, method: Denoiser = "auto"
    ) -> CurieWeissOutcome:
        """Draw samples with DDIM on a grid, all d coordinates of them.

        Every sample starts from N(0, I), whatever the first level; the means of the starting points are put on
        quantile mid-points, which takes most of the noise out of ``majority``.

        Args:
            grid: Where to step, best from infinity to 0.
            rng: Generator to draw from, or an integer seed.
            num_samples: Number of samples, at least 2.
            method: Denoiser, as for :meth:`denoise`.

        Examples:
            >>> grid = Grid(sigmas=(float("inf"), 10.0, 1.0, 0.0))
            >>> CurieWeiss(dimension=100).simulate(grid, 0, 50).majority
            0.88
        """
        count = as_count("num_samples", num_samples, 2)
        generator = np.random.default_rng(rng)
        starts = gaussian_midpoints(count) / math.sqrt(self.dimension)
        means, variances = np.empty(count), np.empty(count)
        at_once = max(1, _NUMBERS_AT_ONCE // self.dimension)
        for first in range(0, count, at_once):
            part = slice(first, first + at_once)
            x = generator.standard_normal((len(starts[part]), self.dimension))
            x += starts[part, None] - x.mean(axis=-1, keepdims=True)
            x = self._sample(grid, x, method)
            means[part], variances[part] = x.mean(axis=-1), x.var(axis=-1)
        return CurieWeissOutcome(
            majority=float((means > 0.0).mean()),
            coordinate_variance=float(variances.mean()),
            magnetisation=float(np.abs(means).mean()),
        )

    def _sample(self, grid: Grid, x: FloatArray, method: Denoiser) -> FloatArray:
        cos, sin = signal_and_noise(grid.sigma_array)
        for k in range(grid.num_steps):
            mean = self._posterior_mean((cos[k] / sin[k] ** 2) * x, method)
            kept = sin[k + 1] / sin[k]
            x = kept * x + (cos[k + 1] - cos[k] * kept) * mean
        return x

    def _posterior_mean(self, g: FloatArray, method: Denoiser) -> FloatArray:
        if method not in get_args(Denoiser):
            raise unknown_name("method", method, get_args(Denoiser))
        if method == "auto":
            saddles = self.dimension > _MOST_QUADRATURE and self.barrier >= _LOWEST_BARRIER
            method = "saddle" if saddles else "quadrature"
        if method == "quadrature":
            return quadrature_mean(g, self.dimension, self.beta, self.field)
        if self.barrier < _LOWEST_BARRIER:
            raise SchedrlError(
                "field 'method': 'saddle' needs two separate modes, a beta well above 1 or a larger dimension (got "
                f"beta = {self.beta} and dimension = {self.dimension}, a barrier of {self.barrier:.3g} of the least "
                f"{_LOWEST_BARRIER:g}); take 'quadrature'"
            )
        return saddle_mean(g, self.dimension, self.beta, self.field)

    def _half_distribution(self) -> tuple[FloatArray, FloatArray]:
        """Non-negative totals S of the spins, and the probabilities of |S|.

        A tie, S = 0, counts half. If there are too many totals, every n-th stands for its neighbours; the distribution
        is smooth on a scale of sqrt(d), so the error is invisible.
        """
        from scipy.special import gammaln

        d = self.dimension
        first, last = self._relevant_totals()
        stride = 2 * max(1, math.ceil((last - first) / (2 * _MOST_SUMS)))
        totals = np.arange(first, last + 1, stride, dtype=np.float64)
        log_weights = (
            self.beta * totals**2 / (2.0 * d)
            - gammaln(0.5 * (d + totals) + 1)
            - gammaln(0.5 * (d - totals) + 1)
        )
        both = np.logaddexp(self.field * totals / d, -self.field * totals / d)
        weights = np.exp(log_weights - log_weights.max() + both - math.log(2.0))
        weights[totals == 0.0] *= 0.5
        return totals, weights / weights.sum()

    def _relevant_totals(self) -> tuple[int, int]:
        """First and last total, of the parity of d, that must be summed."""
        d = self.dimension
        if d <= _MOST_SUMS:
            return d % 2, d
        # Sixteen standard deviations about the mode, or what is as wide where the curvature vanishes (beta near 1).
        m = self.magnetisation
        curvature = 1.0 / max(1.0 - m * m, 1e-12) - self.beta
        width = 16.0 * min(1.0 / math.sqrt(max(curvature, 1e-12) * d), d**-0.25)
        first = max(0, int(d * (m - width)))
        return first + (first + d) % 2, min(d, int(d * (m + width)))
