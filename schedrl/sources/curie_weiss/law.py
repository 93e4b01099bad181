r"""The Curie-Weiss magnet as a source: its law, its exact denoiser, and what a grid makes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

import numpy as np
from pydantic import Field

from schedrl.errors import SchedrlError, Spec, unknown_name
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.curie_weiss.denoisers import (
    enumeration_mean,
    magnetisation_sum_mean,
    quadrature_mean,
    saddle_mean,
    spontaneous_magnetisation,
)
from schedrl.sources.scaling import gaussian_midpoints, half_log_odds, signal_and_noise

__all__ = ["CurieWeiss", "CurieWeissOutcome", "Denoiser"]

Denoiser: TypeAlias = Literal["auto", "quadrature", "enumeration", "poisson-binomial", "saddle"]
"""The ways to compute the posterior mean of the spins."""

_LOWEST_BARRIER = 10.0
_MOST_QUADRATURE = 1000  # spins up to which "auto" does not settle for the saddles
_MOST_SUMS = 20_000  # values of the magnetisation that are summed; of more, an even selection
_NUMBERS_AT_ONCE = 40_000  # coordinates simulated together; they stay in the cache


@dataclass(frozen=True)
class CurieWeissOutcome:
    """What the samples of one grid show.

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
    total field h that does not grow with d (one that did would leave a single mode). Source: the second test law of
    Aranguri, Biroli, Mézard & Vanden-Eijnden (arXiv 2501.00988).

    Attributes:
        dimension: Number of spins d, in [1, 1e12]; what touches single spins needs it to fit into memory.
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
        totals, weights = self._half_law()
        lean = np.tanh(self.field * totals / self.dimension)
        return float(0.5 + 0.5 * (weights * lean).sum())

    @property
    def mean_magnetisation(self) -> float:
        """E|M| at this d, M the mean of the spins; accuracy as of :attr:`positive_probability`."""
        totals, weights = self._half_law()
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
            method: ``"quadrature"`` is exact to 4e-11; ``"saddle"`` is for large d; ``"poisson-binomial"`` and
                ``"enumeration"`` are exact references for small d; ``"auto"`` is quadrature up to d = 1000 and
                wherever the saddles do not hold.

        Returns:
            E[s | x], [..., d], in [-1, 1].

        Raises:
            SchedrlError: ``x`` has another last axis than d, is not finite, or ``sigma`` is not in range; or the
                method does not allow this d or beta.

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

        Returns:
            What the samples show.

        Raises:
            SchedrlError: As for :meth:`denoise`, or ``num_samples`` is not a valid count.

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
        match method:
            case "quadrature":
                return quadrature_mean(g, self.dimension, self.beta, self.field)
            case "poisson-binomial":
                return magnetisation_sum_mean(g, self.beta, self.field)
            case "enumeration":
                return enumeration_mean(g, self.beta, self.field)
            case "saddle":
                if self.barrier < _LOWEST_BARRIER:
                    raise SchedrlError(
                        "field 'method': 'saddle' needs two separate modes, a beta well above 1 or a larger "
                        f"dimension (got beta = {self.beta} and dimension = {self.dimension}, a barrier of "
                        f"{self.barrier:.3g} where {_LOWEST_BARRIER:g} is the least); take 'quadrature'"
                    )
                return saddle_mean(g, self.dimension, self.beta, self.field)

    def _half_law(self) -> tuple[FloatArray, FloatArray]:
        """Non-negative totals S of the spins, and the probabilities of |S|.

        A tie, S = 0, counts half. If there are too many totals, every n-th stands for its neighbours; the law is
        smooth on a scale of sqrt(d), so that loses nothing that can be seen.
        """
        from scipy.special import gammaln

        d = self.dimension
        first, last = self._relevant_totals()
        stride = 2 * max(1, math.ceil((last - first) / (2 * _MOST_SUMS)))
        totals = np.arange(first, last + 1, stride, dtype=np.float64)
        log_law = (
            self.beta * totals**2 / (2.0 * d)
            - gammaln(0.5 * (d + totals) + 1)
            - gammaln(0.5 * (d - totals) + 1)
        )
        both = np.logaddexp(self.field * totals / d, -self.field * totals / d)
        weights = np.exp(log_law - log_law.max() + both - math.log(2.0))
        weights[totals == 0.0] *= 0.5
        return totals, weights / weights.sum()

    def _relevant_totals(self) -> tuple[int, int]:
        """First and last total of the parity of d that need to be summed."""
        d = self.dimension
        if d <= _MOST_SUMS:
            return d % 2, d
        # Sixteen standard deviations about the mode, or what is as wide where the curvature vanishes (beta near 1).
        m = self.magnetisation
        curvature = 1.0 / max(1.0 - m * m, 1e-12) - self.beta
        width = 16.0 * min(1.0 / math.sqrt(max(curvature, 1e-12) * d), d**-0.25)
        first = max(0, int(d * (m - width)))
        return first + (first + d) % 2, min(d, int(d * (m + width)))
