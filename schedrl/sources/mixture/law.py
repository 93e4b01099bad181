"""The two-mode Gaussian mixture as a source: its exact denoiser and velocity, and what a grid makes of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from schedrl.errors import SchedrlError, Spec
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.interpolants import Dimension, Interpolant
from schedrl.sources.mixture.batched import (
    majority_of_grids,
    mixture_step,
    perpendicular_gain,
    quantile_start,
)
from schedrl.sources.scaling import half_log_odds, positive_fraction, signal_and_noise

__all__ = ["GaussianMixture", "MixtureOutcome", "MixturePosterior"]


@dataclass(frozen=True)
class MixturePosterior:
    """Posterior means given one noisy state.

    Attributes:
        sign: E[s | x], [...] in [-1, 1]: which mode.
        data: E[a | x], [..., d].
        noise: E[z | x], [..., d].
    """

    sign: FloatArray
    data: FloatArray
    noise: FloatArray


@dataclass(frozen=True)
class MixtureOutcome:
    """What a sampler makes of the mixture, from the one-dimensional reduction.

    The projection on the modes' axis is M = μ·x / d; its target is ±1 with variance s²/d.

    Attributes:
        majority: p̂, fraction of the quantiles that end at M > 0; target p.
        smooth_majority: The same without steps of one quantile.
        within_variance: Variance of a coordinate orthogonal to μ; target s².
        mode_mean: Mean of M over M > 0; target 1.
        mu_direction_variance: d Var(M | M > 0), target s². **Not a fair measure in high dimension**: at fixed N the
            standard deviation of M within a mode saturates (at about 2e-3 for N = 20) while the target's falls like
            1/sqrt(d), so that this grows without bound for every grid, dilated ones included.
    """

    majority: float
    smooth_majority: float
    within_variance: float
    mode_mean: float
    mu_direction_variance: float


class GaussianMixture(Spec):
    r"""Two Gaussians at :math:`\pm\mu` with :math:`|\mu|^2 = d`: :math:`a = s \mu + \sigma \xi`, s = +1 with weight p.

    Source: the first test law of Aranguri, Biroli, Mézard & Vanden-Eijnden (arXiv 2501.00988). In high dimension
    uniform steps lose either the weights or the width of the modes, see :mod:`schedrl.sources.dilations`.

    Attributes:
        dimension: d, in [1, 1e12].
        majority: Weight p of the mode at :math:`+\mu`, in [0.5, 1).
        variance: :math:`\sigma^2` of the coordinates within a mode, in [1e-12, 1e12].

    Examples:
        >>> from schedrl.sources.dilations import dilated_grid, uniform_grid
        >>> mixture = GaussianMixture(dimension=1e10)
        >>> outcome = mixture.simulate(dilated_grid(20, 1e10))
        >>> round(outcome.smooth_majority, 4), round(outcome.within_variance, 4)
        (0.8172, 0.1856)
        >>> outcome = mixture.simulate(uniform_grid(20, 1e10, "ve"))
        >>> round(outcome.smooth_majority, 4), round(outcome.within_variance, 4)
        (0.8072, 0.0)
    """

    dimension: Dimension
    majority: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.8
    variance: Annotated[float, Field(ge=1e-12, le=1e12)] = 0.25

    @property
    def field(self) -> float:
        r"""Half the log-odds of the modes, :math:`h = \frac12 \log\frac{p}{1-p}`."""
        return float(half_log_odds(self.majority))

    def denoise(
        self, x: npt.ArrayLike, tau: float, interpolant: Interpolant, mu: npt.ArrayLike | None = None
    ) -> MixturePosterior:
        r"""Posterior means of sign, data and noise in d dimensions.

        With :math:`D = \alpha^2 + \sigma^2 \beta^2`: :math:`E[s|x] = \tanh(h + \beta \mu \cdot x / D)`,
        :math:`E[a|x] = E[s|x] \mu + (\sigma^2 \beta / D) (x - \beta E[s|x] \mu)` and :math:`E[z|x] = (\alpha / D) (x -
        \beta E[s|x] \mu)`.

        Args:
            x: [..., d] state :math:`\alpha z + \beta a`.
            tau: Time in [0, 1].
            interpolant: Which :math:`\alpha` and :math:`\beta`.
            mu: [d] centre of the positive mode, of squared length d; all ones by default.

        Returns:
            The three posterior means.

        Raises:
            SchedrlError: ``x`` or ``mu`` has another shape or length, ``tau`` is not in [0, 1], or the interpolant is
                for another dimension.

        Examples:
            >>> float(GaussianMixture(dimension=3).denoise([0.2, -0.1, 0.3], 0.5, Interpolant()).sign.round(6))
            0.870016
        """
        state, axis = self._state(x), self._axis(mu)
        alpha, beta = self._factors(tau, interpolant)
        spread = alpha**2 + self.variance * beta**2
        sign = np.tanh(self.field + (beta / spread) * (state @ axis))
        centre = sign[..., None] * axis
        rest = (state - beta * centre) / spread
        return MixturePosterior(np.asarray(sign), centre + self.variance * beta * rest, alpha * rest)

    def velocity(
        self, x: npt.ArrayLike, tau: float, interpolant: Interpolant, mu: npt.ArrayLike | None = None
    ) -> FloatArray:
        r"""The velocity :math:`b = \alpha' E[z|x] + \beta' E[a|x]` of the probability flow.

        Written as :math:`b = c x + (\beta' - c \beta) E[s|x] \mu` with :math:`c = (\alpha\alpha' + \sigma^2
        \beta\beta') / D`, it is finite at time 1 on either path.

        Args:
            x: [..., d] state :math:`\alpha z + \beta a`.
            tau: Time in [0, 1].
            interpolant: Which :math:`\alpha` and :math:`\beta`.
            mu: [d] centre of the positive mode, of squared length d; all ones by default.

        Returns:
            [..., d].

        Raises:
            SchedrlError: As for :meth:`denoise`.

        Examples:
            >>> GaussianMixture(dimension=3).velocity([0.2, -0.1, 0.3], 0.5, Interpolant()).round(8)
            array([1.15202627, 1.51202627, 1.03202627])
        """
        state, axis = self._state(x), self._axis(mu)
        self._factors(tau, interpolant)
        growth, pull, _ = self._rates(tau, interpolant)
        sign = self.denoise(state, tau, interpolant, axis).sign
        return np.asarray(growth * state + pull * sign[..., None] * axis)

    def simulate(self, grid: Grid, num_quantiles: int = 20_001) -> MixtureOutcome:
        """Run DDIM on a grid, without Monte Carlo noise and at a cost that does not depend on d.

        The sampler starts from N(0, I), whatever the first level.

        Args:
            grid: Where to step, best from infinity to 0.
            num_quantiles: Starting points of M, at least 2.

        Returns:
            What the samples show.

        Raises:
            SchedrlError: ``num_quantiles`` is not a valid count.
        """
        m = quantile_start(num_quantiles, self.dimension)
        sigmas = grid.sigma_array
        for now, after in itertools.pairwise(sigmas):
            m = mixture_step(m, now, after, self.dimension, self.majority, self.variance)
        gains = perpendicular_gain(sigmas[:-1], sigmas[1:], self.variance)
        smooth = majority_of_grids(sigmas, self.dimension, self.majority, self.variance)
        return self._outcome(m, float(gains.prod()), float(smooth))

    def simulate_euler(
        self, interpolant: Interpolant, times: npt.ArrayLike, num_quantiles: int = 20_001
    ) -> MixtureOutcome:
        """Run Euler's method on the velocity, for comparison with :meth:`simulate`.

        On the linear path it is the same map as DDIM. On the sqrt path it is not, and for the exploding scaling its
        error grows with d.

        Args:
            interpolant: Whose velocity.
            times: [N+1] strictly increasing, in [0, 1]; starts from pure noise at the first.
            num_quantiles: Starting points of M, at least 2.

        Returns:
            What the samples show.

        Raises:
            SchedrlError: A value is out of range, or the interpolant is for another dimension.

        Examples:
            >>> from schedrl.sources.dilations import dilated_times
            >>> vp = Interpolant()
            >>> euler = GaussianMixture(dimension=1e4).simulate_euler(vp, dilated_times(20, 1e4))
            >>> round(euler.smooth_majority, 4), round(euler.within_variance, 4)
            (0.8173, 0.1874)
        """
        interpolant.sigmas(times)  # checks them
        self._factors(0.0, interpolant)
        stops = np.asarray(times, dtype=np.float64)
        width = math.sqrt(interpolant.noise_variance)
        m = width * quantile_start(num_quantiles, self.dimension)
        for now, after in itertools.pairwise(stops):
            growth, pull, gain = self._rates(now, interpolant)
            m = m + (after - now) * (growth * m + pull * np.tanh(self.field + gain * m))
            width *= 1.0 + (after - now) * growth
        return self._outcome(m, float(width**2), float(positive_fraction(m)))

    def sample(
        self, grid: Grid, rng: np.random.Generator | int, num_samples: int, mu: npt.ArrayLike | None = None
    ) -> FloatArray:
        r"""Draw samples with DDIM on a grid, all d coordinates of them.

        Args:
            grid: Where to step, best from infinity to 0.
            rng: Generator to draw from, or an integer seed.
            num_samples: Number of samples, at least 1.
            mu: [d] centre of the positive mode, of squared length d; all ones by default.

        Returns:
            [num_samples, d] in the variance-preserving scaling of the last level; data if that is 0.

        Raises:
            SchedrlError: ``num_samples`` or ``mu`` is not valid.

        Examples:
            >>> grid = Grid(sigmas=(float("inf"), 1.0, 0.0))
            >>> GaussianMixture(dimension=4).sample(grid, 0, 2).shape
            (2, 4)
        """
        axis = self._axis(mu)
        x = np.random.default_rng(rng).standard_normal((as_count("num_samples", num_samples), len(axis)))
        cos, sin = signal_and_noise(grid.sigma_array)
        for k in range(grid.num_steps):
            spread = sin[k] ** 2 + self.variance * cos[k] ** 2
            centre = np.tanh(self.field + (cos[k] / spread) * (x @ axis))[:, None] * axis
            rest = (x - cos[k] * centre) / spread
            x = sin[k + 1] * sin[k] * rest + cos[k + 1] * (centre + self.variance * cos[k] * rest)
        return x

    def _outcome(self, m: FloatArray, within_variance: float, smooth_majority: float) -> MixtureOutcome:
        mode = m[m > 0.0]
        return MixtureOutcome(
            majority=mode.size / m.size,
            smooth_majority=smooth_majority,
            within_variance=within_variance,
            mode_mean=float(mode.mean()) if mode.size else 0.0,
            mu_direction_variance=float(self.dimension * mode.var()) if mode.size else 0.0,
        )

    def _rates(self, tau: float, interpolant: Interpolant) -> tuple[float, float, float]:
        """c, β' - cβ with β' = 1, and βd/D: the velocity of M is c M + (β' - cβ) tanh(h + βd/D M)."""
        alpha, beta = float(interpolant.alpha(tau)), float(interpolant.beta(tau))
        product = float(interpolant.alpha_dot_alpha(tau))
        spread = alpha**2 + self.variance * beta**2
        growth = (product + self.variance * beta) / spread
        pull = (alpha**2 - product * beta) / spread
        return growth, pull, beta * self.dimension / spread

    def _factors(self, tau: float, interpolant: Interpolant) -> tuple[float, float]:
        if not 0.0 <= tau <= 1.0:
            raise SchedrlError(f"field 'tau': must lie in [0, 1] (got {tau})")
        if interpolant.scaling == "ve" and interpolant.dimension != self.dimension:
            raise SchedrlError(
                f"field 'interpolant': must have the mixture's dimension = {self.dimension:g} "
                f"(got {interpolant.dimension:g})"
            )
        return float(interpolant.alpha(tau)), float(interpolant.beta(tau))

    def _state(self, x: npt.ArrayLike) -> FloatArray:
        state = np.asarray(x, dtype=np.float64)
        if state.ndim == 0 or state.shape[-1] != self.dimension or not np.isfinite(state).all():
            raise SchedrlError(
                f"field 'x': must be finite, with a last axis of dimension = {self.dimension:g} "
                f"(got shape {state.shape})"
            )
        return state

    def _axis(self, mu: npt.ArrayLike | None) -> FloatArray:
        if mu is None:
            if self.dimension != int(self.dimension):
                raise SchedrlError(
                    f"field 'dimension': must be whole where there are coordinates (got {self.dimension})"
                )
            return np.ones(int(self.dimension))
        axis = np.asarray(mu, dtype=np.float64)
        if axis.shape != (self.dimension,) or not math.isclose(axis @ axis, self.dimension, rel_tol=1e-9):
            raise SchedrlError(
                f"field 'mu': must have dimension = {self.dimension:g} entries and that squared length "
                f"(got shape {axis.shape} and {float(np.square(axis).sum()):g})"
            )
        return axis
