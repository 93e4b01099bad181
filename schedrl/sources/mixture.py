r"""The two-mode Gaussian mixture in any dimension: its exact denoiser, and what a grid makes of it.

Source: the mixture of Aranguri et al. 2025 (arXiv 2501.00988) and its one-dimensional reduction. Under DDIM the
projection :math:`M = \mu \cdot x / d` moves by itself, and the coordinates orthogonal to :math:`\mu` are scaled, so d
is only a number. States are variance preserving (:mod:`schedrl.sources.scaling`). The functions step many mixtures at
once; all their arrays broadcast: B mixtures, Q values of M each. :class:`GaussianMixture` is one mixture as a value.
"""

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
from schedrl.schedules.conversions import Broadcast, FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.interpolants import Dimension, Interpolant
from schedrl.sources.scaling import gaussian_midpoints, half_log_odds, signal_and_noise

_ITERATIONS = 100
_PRECISION = 1e-14
_NOTHING = 1e-200


def quantile_start(num_quantiles: int, dimension: Broadcast) -> FloatArray:
    r"""Projections of pure noise, :math:`M \sim N(0, 1/d)`, on its quantile mid-points.

    Args:
        num_quantiles: Q, at least 2.
        dimension: d, broadcasts with [Q]; [B, 1] for a batch.

    Returns:
        [B, Q], ascending along the last axis.

    Examples:
        >>> quantile_start(2, np.array([[1.0], [100.0]])).round(4)
        array([[-0.6745,  0.6745],
               [-0.0674,  0.0674]])
    """
    return np.asarray(gaussian_midpoints(num_quantiles) / np.sqrt(dimension))


def mixture_step(
    m: FloatArray,
    sigma: Broadcast,
    sigma_next: Broadcast,
    dimension: Broadcast,
    majority: Broadcast,
    variance: Broadcast,
) -> FloatArray:
    r"""One DDIM step of the projection :math:`M = \mu \cdot x / d`.

    With :math:`(\cos, \sin)` of :math:`\arctan\sigma`, :math:`D = \sin^2 + s^2 \cos^2` and half log-odds
    :math:`h = \frac12 \log\frac{p}{1-p}`: the posterior mean of the sign is :math:`\tanh(h + \cos d M / D)`, the
    rest :math:`M - \cos \tanh(\cdot)` is split between noise and data as for one Gaussian. The map is increasing
    in M, so samples never overtake each other.

    Args:
        m: [B, Q] projections at ``sigma``.
        sigma: Level now, in (0, inf]; [B, 1].
        sigma_next: Level after the step, in [0, sigma); [B, 1].
        dimension: d; [B, 1].
        majority: Weight p of the mode at :math:`+\mu`, in (0, 1); [B, 1].
        variance: :math:`s^2 > 0` of the coordinates within a mode; [B, 1].

    Returns:
        [B, Q] projections at ``sigma_next``.

    Examples:
        >>> mixture_step(np.array([[-0.1, 0.1]]), np.inf, 0.75, 100.0, 0.8, 0.25)  # 0.6 M + 0.8 (2p - 1)
        array([[0.42, 0.54]])
    """
    cos, _ = now = signal_and_noise(sigma)
    cos_next, _ = after = signal_and_noise(sigma_next)
    spread, kept = _one_gaussian(now, after, variance)
    sign = np.tanh(half_log_odds(majority) + (cos * dimension / spread) * m)
    return np.asarray(kept * (m - cos * sign) + cos_next * sign)


def _one_gaussian(
    now: tuple[FloatArray, FloatArray], after: tuple[FloatArray, FloatArray], variance: Broadcast
) -> tuple[FloatArray, FloatArray]:
    """The marginal variance D of one Gaussian, and DDIM's factor on its state; (cos, sin) before and after a step."""
    (cos, sin), (cos_next, sin_next) = now, after
    spread = sin**2 + variance * cos**2
    return spread, (sin * sin_next + variance * cos * cos_next) / spread


def perpendicular_gain(sigma: Broadcast, sigma_next: Broadcast, variance: Broadcast) -> FloatArray:
    r"""Factor of one DDIM step on the variance of a coordinate orthogonal to :math:`\mu`.

    It is :math:`\cos^2(\varphi - \varphi') D'/D` with :math:`\varphi = \arctan(\sigma / s)` and the marginal
    variance :math:`D = (s^2 + \sigma^2) / (1 + \sigma^2)`: over a grid from infinity to 0 the factors D telescope
    to :math:`s^2`, and the variance is :math:`s^2 \prod \cos^2`. Start from 1, the variance of the noise.

    Args:
        sigma: Level now, in (0, inf]; any shape.
        sigma_next: Level after the step, in [0, sigma); broadcasts.
        variance: :math:`s^2 > 0` of the coordinates within a mode; broadcasts.

    Returns:
        The factor, of the broadcast shape.

    Examples:
        >>> float(perpendicular_gain(np.inf, 0.5, 0.25) * perpendicular_gain(0.5, 0.0, 0.25))  # s^2 cos^4(45°)
        0.0625
    """
    _, kept = _one_gaussian(signal_and_noise(sigma), signal_and_noise(sigma_next), variance)
    return np.asarray(np.square(kept))


def majority_of_grids(
    sigmas: FloatArray, dimension: Broadcast, majority: Broadcast, variance: Broadcast
) -> FloatArray:
    r"""The weight :math:`\hat p` of the mode at :math:`+\mu` after a whole grid, exactly and smoothly.

    Every step is increasing in M, so one starting point :math:`M_0` divides the modes. It is found backwards: from
    M = 0 at the end, every step is inverted by Newton's method between bounds. Then :math:`\hat p = 1 - \Phi(\sqrt d
    M_0)`, without any quantiles.

    Args:
        sigmas: [B, N+1] grids, strictly descending along the last axis, from infinity to 0.
        dimension: d; [B].
        majority: Weight p of the mode at :math:`+\mu`, in (0, 1); [B].
        variance: :math:`s^2 > 0` of the coordinates within a mode; [B].

    Returns:
        [B] in [0, 1].

    Examples:
        >>> grid = np.array([[np.inf, 10.0, 1.0, 0.0]])
        >>> majority_of_grids(grid, 100.0, 0.5, 0.25), majority_of_grids(grid, 100.0, 0.8, 0.25).round(4)
        (array([0.5]), array([0.8911]))
    """
    from scipy.special import ndtr

    cos, sin = signal_and_noise(sigmas)
    field = half_log_odds(majority)
    divide = np.zeros(
        np.broadcast_shapes(sigmas.shape[:-1], np.shape(dimension), field.shape, np.shape(variance))
    )
    for k in range(sigmas.shape[-1] - 2, -1, -1):
        now, after = (cos[..., k], sin[..., k]), (cos[..., k + 1], sin[..., k + 1])
        spread, kept = _one_gaussian(now, after, variance)
        pull = cos[..., k + 1] - kept * cos[..., k]
        gain = cos[..., k] * dimension / spread
        # kept M + pull tanh(h + gain M) = divide; a single step from pure noise to data keeps nothing of M.
        kept = np.maximum(kept, _NOTHING)
        low, high = (divide - pull) / kept, (divide + pull) / kept
        point = np.clip(divide, low, high)
        for _ in range(_ITERATIONS):
            sign = np.tanh(field + gain * point)
            excess = kept * point + pull * sign - divide
            low, high = np.where(excess > 0.0, low, point), np.where(excess > 0.0, point, high)
            newton = point - excess / (kept + pull * gain * (1.0 - sign * sign))
            inside = (newton >= low) & (newton <= high)
            last, point = point, np.where(inside, newton, 0.5 * (low + high))
            if np.all(np.abs(point - last) <= _PRECISION * np.abs(point)):
                break
        divide = point
    return np.asarray(ndtr(-np.sqrt(dimension) * divide))


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
        smooth_majority: The same, exact and without steps of one quantile.
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

    Source: the first test source of Aranguri et al. 2025 (arXiv 2501.00988). In high dimension uniform steps lose
    either the weights or the width of the modes, see :mod:`schedrl.sources.interpolants`.

    Attributes:
        dimension: d, in [1, 1e12].
        majority: Weight p of the mode at :math:`+\mu`, in [0.5, 1).
        variance: :math:`\sigma^2` of the coordinates within a mode, in [1e-12, 1e12].

    Examples:
        >>> from schedrl.sources.interpolants import dilated_grid, uniform_grid
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

        Examples:
            >>> float(GaussianMixture(dimension=3).denoise([0.2, -0.1, 0.3], 0.5, Interpolant()).sign.round(6))
            0.870016
        """
        state, axis = self._state(x), self._axis(mu)
        if not 0.0 <= tau <= 1.0:
            raise SchedrlError(f"field 'tau': must lie in [0, 1] (got {tau})")
        if interpolant.scaling == "ve" and interpolant.dimension != self.dimension:
            raise SchedrlError(
                f"field 'interpolant': must have the mixture's dimension = {self.dimension:g} "
                f"(got {interpolant.dimension:g})"
            )
        alpha, beta = float(interpolant.alpha(tau)), float(interpolant.beta(tau))
        spread = alpha**2 + self.variance * beta**2
        sign = np.tanh(self.field + (beta / spread) * (state @ axis))
        centre = sign[..., None] * axis
        rest = (state - beta * centre) / spread
        return MixturePosterior(np.asarray(sign), centre + self.variance * beta * rest, alpha * rest)

    def simulate(self, grid: Grid, num_quantiles: int = 20_001) -> MixtureOutcome:
        """Run DDIM on a grid, without Monte Carlo noise and at a cost that does not depend on d.

        The sampler starts from N(0, I), whatever the first level.

        Args:
            grid: Where to step, best from infinity to 0.
            num_quantiles: Starting points of M, at least 2.
        """
        m = quantile_start(num_quantiles, self.dimension)
        sigmas = grid.sigma_array
        for now, after in itertools.pairwise(sigmas):
            m = mixture_step(m, now, after, self.dimension, self.majority, self.variance)
        gains = perpendicular_gain(sigmas[:-1], sigmas[1:], self.variance)
        smooth = majority_of_grids(sigmas, self.dimension, self.majority, self.variance)
        mode = m[m > 0.0]
        return MixtureOutcome(
            majority=mode.size / m.size,
            smooth_majority=float(smooth),
            within_variance=float(gains.prod()),
            mode_mean=float(mode.mean()) if mode.size else 0.0,
            mu_direction_variance=float(self.dimension * mode.var()) if mode.size else 0.0,
        )

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
