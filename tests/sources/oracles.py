"""Independent routes to what the sources compute: closed forms, exact sums, limits. Only tests use them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules import Grid, Schedule
from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas
from schedrl.schedules.conversions import FloatArray, logsnr_from_log_alpha_bar, sigma_from_logsnr
from schedrl.schedules.schedule import as_count
from schedrl.sources import GaussianMixture, Interpolant
from schedrl.sources.gaussian.divergences import kl
from schedrl.sources.gaussian.laws import _path, scan_minimum
from schedrl.sources.gaussian.recursions import (
    SamplerName,
    Start,
    exact_variance,
    output_variances,
    start_variance,
)
from schedrl.sources.interpolants import Scaling
from schedrl.sources.mixture import perpendicular_gain, quantile_start
from schedrl.sources.scaling import gaussian_midpoints, half_log_odds, positive_fraction

# --- Gaussian: samplers ----------------------------------------------------------------------------------------------


def closed_form_ddim(eigenvalues: FloatArray, sigmas: FloatArray, start: Start = "vp") -> FloatArray:
    r"""DDIM's output variances ``[..., E]`` as a product of cosines.

    :math:`\lambda' = (\lambda + r_0^2)\, \frac{V_N}{\lambda + r_N^2} \prod_k \cos^2(\phi_k - \phi_{k-1})` with
    :math:`\phi = \arctan(r / \sqrt\lambda)`. Source: THEORY 2.2.
    """
    levels, spectrum = sigmas[..., :, None], eigenvalues[..., None, :]
    angles = np.arctan(levels / np.sqrt(spectrum))
    loss = np.prod(np.cos(np.diff(angles, axis=-2)) ** 2, axis=-2)
    first = sigmas[..., :1]
    ratio = start_variance(eigenvalues, first, start) / exact_variance(eigenvalues, first)
    return np.asarray((eigenvalues + sigmas[..., -1:] ** 2) * ratio * loss)


def closed_form_ddpm(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start = "vp"
) -> FloatArray:
    r"""Ancestral sampling's output variances ``[..., E]`` as a sum over the steps.

    :math:`V_0 = (\lambda + R_0)^2 [V_N / (\lambda + R_N)^2 + \sum_k n_k / (\lambda + R_{k-1})^2]`, R = r², n_k the
    noise added on the way to level k-1. Source: THEORY 2.3.
    """
    squares, spectrum = sigmas[..., :, None] ** 2, eigenvalues[..., None, :]
    before, after = squares[..., :-1, :], squares[..., 1:, :]
    with np.errstate(invalid="ignore"):  # infinity over infinity, replaced by its limit
        if sampler == "ddpm":
            noise = after * np.where(np.isinf(before), 1.0, (before - after) / before)
        elif sampler == "ddpm-large":
            noise = (1.0 + after) * np.where(np.isinf(before), 1.0, (before - after) / (1.0 + before))
        elif sampler == "ddpm-exact":
            share = np.where(np.isinf(before), 1.0, (before - after) / (spectrum + before))
            noise = (spectrum + after) * share
        else:
            raise unknown_name("ancestral sampler", str(sampler), ("ddpm", "ddpm-large", "ddpm-exact"))
    added = np.sum(noise / (spectrum + after) ** 2, axis=-2)
    first, last = sigmas[..., :1] ** 2, sigmas[..., -1:] ** 2
    # V_N / (λ + R_N)² = (V_N / (λ + R_N)) / (λ + R_N): 0 at infinity.
    ratio = start_variance(eigenvalues, sigmas[..., :1], start) / exact_variance(eigenvalues, sigmas[..., :1])
    return np.asarray((eigenvalues + last) ** 2 * (ratio / (eigenvalues + first) + added))


def euler_vp_variances(
    eigenvalues: FloatArray, alpha_bar: FloatArray, beta: FloatArray, times: FloatArray
) -> FloatArray:
    r"""VP variances ``[E]`` after plain Euler steps of the probability-flow ODE in the time of a VP process.

    :math:`x_{k-1} = x_k [1 + \tfrac{\beta_k}{2}(t_k - t_{k-1})(1 - 1/S_k)]` with :math:`\beta = -d\log\bar\alpha/dt`
    and :math:`S = \bar\alpha\lambda + 1 - \bar\alpha`, from N(0, I). Exact for λ = 1. Source: THEORY 2.4.

    Args:
        eigenvalues: λ, ``[E]``.
        alpha_bar: ``[N+1]``, in the order of ``times``.
        beta: ``[N+1]``, finite; the last is not used.
        times: Descending, ``[N+1]``.
    """
    if not np.isfinite(beta[:-1]).all():
        raise SchedrlError("field 'beta': must be finite at every time that is left (start below t = 1)")
    variance = np.ones_like(eigenvalues)
    for k, step in enumerate(-np.diff(times)):
        marginal = alpha_bar[k] * eigenvalues + (1.0 - alpha_bar[k])
        variance = variance * (1.0 + 0.5 * beta[k] * step * (1.0 - 1.0 / marginal)) ** 2
    return variance


# --- Gaussian: laws --------------------------------------------------------------------------------------------------


def power_time_sigmas(
    schedule: Schedule, rho: npt.ArrayLike, n: int, num_train_timesteps: int = 1000
) -> FloatArray:
    r"""Levels ``[..., n+1]`` at :math:`t_k = T (k/n)^\rho` of a schedule, whose log ᾱ is interpolated; THEORY 4.1."""
    power = np.asarray(rho, dtype=np.float64)[..., None]
    log_alpha_bar = np.concatenate([[0.0], schedule.log_alphas_cumprod(num_train_timesteps)])
    times = num_train_timesteps * even_fractions(n) ** power
    at_times = np.interp(times, np.arange(num_train_timesteps + 1), log_alpha_bar)
    return sigma_from_logsnr(logsnr_from_log_alpha_bar(at_times))


def tangent_on_schedule(schedule: Schedule, n: int, gamma: float, num_train_timesteps: int = 1000) -> Grid:
    """The tangent law from the level of a schedule's last step to clean data. Source: THEORY 4.3."""
    last = float(sigma_from_logsnr(schedule.logsnr_steps(num_train_timesteps)[-1]))
    return Grid(sigmas=tuple(tangent_sigmas(even_fractions(as_count("n", n)), gamma, last).tolist()))


def best_rho(
    levels: Callable[[FloatArray], FloatArray], eigenvalues: FloatArray, start: Start = "vp"
) -> FloatArray:
    """Exponents ``[B]`` in [0.3, 30] of a power law ``[..., n+1]`` from ``[...]`` with the least DDIM divergence."""

    def objective(log_rho: FloatArray) -> FloatArray:
        sigmas, spectra = levels(np.exp(log_rho)), eigenvalues[:, None]
        return kl(output_variances(spectra, sigmas, "ddim", start) / (spectra + sigmas[..., -1:] ** 2))

    bounds = np.log(np.tile([[0.3], [30.0]], len(eigenvalues)))
    # Fine, because a level that passes an eigenvalue makes a minimum of its own.
    return np.exp(scan_minimum(objective, bounds[0], bounds[1], points=257))


def tangent_energies(
    eigenvalues: FloatArray, gamma: npt.ArrayLike, sigma_max: float = math.inf, sigma_min: float = 0.0
) -> FloatArray:
    r"""What the tangent law loses of each eigenvalue ``[..., E]``: :math:`\log q_i \to -E_i / N` for DDIM.

    :math:`E_i = \int_0^1 \phi_i'(u)^2 du`, in closed form. Source: THEORY 3.1 and 3.3.
    """
    scale, root = np.asarray(gamma, dtype=np.float64)[..., None], np.sqrt(eigenvalues)
    span = np.arctan(sigma_max / scale) - np.arctan(sigma_min / scale)

    def path(sigma: float) -> FloatArray:
        angle = np.arctan(sigma / root)
        half, wave = 0.5 * angle, 0.25 * np.sin(2.0 * angle)
        return np.asarray(scale / root * (half + wave) + root / scale * (half - wave))

    return np.asarray(span * (path(sigma_max) - path(sigma_min)))


def geodesic_energies(eigenvalues: FloatArray) -> FloatArray:
    r"""What the geodesic loses of each eigenvalue ``[B, E]``: :math:`\log q_i \to -E_i / N` for DDIM."""
    rows = len(eigenvalues)
    return _path(eigenvalues, np.ones_like(eigenvalues), np.full(rows, np.inf), np.zeros(rows)).energies


def best_bound_snr(eigenvalue: float, n: int, snr_min: float, snr_max: float) -> FloatArray:
    r"""Rising levels ``[n+1]`` with the least bound for one eigenvalue: uniform in :math:`\log(1 + \lambda g)`."""
    low, high = np.log1p(eigenvalue * np.array([snr_min, snr_max]))
    levels = np.expm1(np.linspace(low, high, n + 1)) / eigenvalue
    levels[0], levels[-1] = snr_min, snr_max
    return np.asarray(levels)


# --- mixture: the flow's velocity ------------------------------------------------------------------------------------


def alpha_dot_alpha(interpolant: Interpolant, tau: npt.ArrayLike) -> FloatArray:
    r"""The product :math:`\alpha \alpha'`, finite at time 1 even where :math:`\alpha'` is not."""
    time = np.asarray(tau, dtype=np.float64)
    return np.asarray(-interpolant.noise_variance * (time if interpolant.path == "sqrt" else 1.0 - time))


def _rates(source: GaussianMixture, tau: float, interpolant: Interpolant) -> tuple[float, float, float]:
    """c, β' - cβ with β' = 1, and βd/D: the velocity of M is c M + (β' - cβ) tanh(h + βd/D M)."""
    alpha, beta = float(interpolant.alpha(tau)), float(interpolant.beta(tau))
    product = float(alpha_dot_alpha(interpolant, tau))
    spread = alpha**2 + source.variance * beta**2
    growth = (product + source.variance * beta) / spread
    pull = (alpha**2 - product * beta) / spread
    return growth, pull, beta * source.dimension / spread


def mixture_velocity(
    source: GaussianMixture,
    x: npt.ArrayLike,
    tau: float,
    interpolant: Interpolant,
    mu: npt.ArrayLike | None = None,
) -> FloatArray:
    r"""The velocity :math:`b = \alpha' E[z|x] + \beta' E[a|x]` of the probability flow, [..., d].

    Written as :math:`b = c x + (\beta' - c \beta) E[s|x] \mu` with :math:`c = (\alpha\alpha' + \sigma^2
    \beta\beta') / D`, it is finite at time 1 on either path.
    """
    sign = source.denoise(x, tau, interpolant, mu).sign
    growth, pull, _ = _rates(source, tau, interpolant)
    axis = np.ones(int(source.dimension)) if mu is None else np.asarray(mu)
    return np.asarray(growth * np.asarray(x) + pull * sign[..., None] * axis)


def mixture_euler(
    source: GaussianMixture, interpolant: Interpolant, times: FloatArray, num_quantiles: int = 20_001
) -> tuple[FloatArray, float]:
    """Euler's method on the velocity: projections M at the last time, and the variance across the modes' axis.

    On the linear path it is the same map as DDIM. On the sqrt path it is not, and for the exploding scaling its error
    grows with d.
    """
    width = math.sqrt(interpolant.noise_variance)
    m = width * quantile_start(num_quantiles, source.dimension)
    for now, after in itertools.pairwise(times):
        growth, pull, gain = _rates(source, now, interpolant)
        m = m + (after - now) * (growth * m + pull * np.tanh(source.field + gain * m))
        width *= 1.0 + (after - now) * growth
    return m, width**2


# --- mixture: limits of infinite dimension ---------------------------------------------------------------------------


def phase_one_majority(majority: float, kappa: float = 3.0) -> float:
    r"""Weight of the larger mode after the variance-preserving first phase, with infinitely many steps.

    :math:`\hat p = p\,\Phi(\kappa + h/\kappa) + (1 - p)\,\Phi(-\kappa + h/\kappa)`: the bias that stays because the
    first phase ends at a finite :math:`\kappa`. It falls quickly: 2e-3 at 2, 7e-5 at 3 for p = 0.8.
    """
    from scipy.special import ndtr

    shift = float(half_log_odds(majority)) / kappa
    return float(majority * ndtr(kappa + shift) + (1.0 - majority) * ndtr(-kappa + shift))


def dilated_majority(majority: float, num_steps: int, kappa: float = 3.0, scaling: Scaling = "vp") -> float:
    r"""Weight of the larger mode after N steps of the first phase of a dilation, linear path, to about 1e-5.

    Preserving: Euler for :math:`\nu' = \kappa \tanh(h + \kappa s \nu)` with :math:`\nu = \sqrt d M`, then the sign
    of :math:`h + \kappa \nu`. Exploding: Euler for :math:`M' = (\tanh(h + \tau M / (1 - \tau)^2) - M) / (1 -
    \tau)`, then the sign of M; kappa plays no part.
    """
    field = float(half_log_odds(majority))
    m = gaussian_midpoints(20_001)
    for k in range(num_steps):
        s = k / num_steps
        if scaling == "vp":
            m = m + (kappa / num_steps) * np.tanh(field + kappa * s * m)
        else:
            m = m + (np.tanh(field + (s / (1.0 - s) ** 2) * m) - m) / (num_steps * (1.0 - s))
    return float(positive_fraction(field + kappa * m if scaling == "vp" else m))


def dilated_within_variance(
    variance: float, num_steps: int, kappa: float = 3.0, scaling: Scaling = "vp"
) -> float:
    r"""Variance across the modes' axis after N steps of the second phase of a dilation, linear path.

    Preserving: the N steps are those of a uniform grid on their own, :math:`\sigma = (1 - s)/s`; the result is
    :math:`s^2` less an error of order 1/N. Exploding: Euler in the noise level from :math:`\kappa` to 0, from a
    variance :math:`\kappa^2`; the first phase has lost :math:`s^2` of it in one last step that comes down from
    :math:`\sqrt d`. The result is :math:`s^2 \kappa^2 / (\kappa^2 + s^2)` less an error of order 1/N: a bias of 2.7 %
    at 3 and 1 % at 5 for :math:`s^2 = 1/4` that no number of steps removes (d goes to infinity first).
    """
    left = np.arange(num_steps, -1, -1) / num_steps
    if scaling == "vp":
        with np.errstate(divide="ignore"):
            sigmas = left / (1.0 - left)
        start = 1.0
    else:
        sigmas = kappa * left
        start = kappa**2 / (1.0 + kappa**2)  # of the noise alone, in the preserving scale
    return float(start * perpendicular_gain(sigmas[:-1], sigmas[1:], variance).prod())


def tangent_within_variance(variance: float, num_steps: int) -> float:
    r"""The largest variance across the modes' axis that N steps of DDIM from pure noise can keep.

    :math:`s^2 \cos^{2N}(\pi / 2N)`, that of the tangent grid (elementary scheduling, arXiv 2601.13602).
    """
    return float(variance * math.cos(math.pi / (2 * num_steps)) ** (2 * num_steps))


def uniform_ve_within_variance(variance: float, num_steps: int, dimension: float) -> float:
    r"""Variance across the modes' axis after N uniform steps of the exploding interpolant, to leading order in 1/d.

    :math:`s^4 (N - 1)^2 / d`: the last step starts at :math:`\sigma = \sqrt d / (N - 1)`, far above s, and the modes
    collapse to points.
    """
    return variance**2 * (num_steps - 1) ** 2 / dimension


# --- Curie-Weiss -----------------------------------------------------------------------------------------------------


def magnetisation_sum_mean(g: FloatArray, beta: float, field: float) -> FloatArray:
    r"""Posterior mean of the spins by a sum over the magnetisation: exact to rounding for d up to 500.

    Without their coupling the spins are independent with :math:`P(s_i = 1) = 1/(1 + e^{-2 g_i})`, and the number
    of positive ones is Poisson-binomial. A forward pass gathers its distribution before each spin, a backward
    pass the mean of the coupling :math:`\exp(\beta S^2/2d + hS/d)` over the spins after it; all terms are
    positive.
    """
    from scipy.special import expit

    size = g.shape[-1]
    total = 2.0 * np.arange(size + 1) - size
    exponent = beta * total**2 / (2.0 * size) + field * total / size
    coupling = np.exp(exponent - exponent.max())
    plus, minus = expit(2.0 * g), expit(-2.0 * g)
    after = [np.broadcast_to(coupling, (*g.shape[:-1], size + 1))]
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
    """Posterior mean of the spins by the sum over all 2^d configurations."""
    size = g.shape[-1]
    spins = np.array(list(itertools.product((-1.0, 1.0), repeat=size)))
    total = spins.sum(axis=-1)
    energy = g @ spins.T + beta * total**2 / (2.0 * size) + field * total / size
    weight = np.exp(energy - energy.max(axis=-1, keepdims=True))
    return np.asarray(weight @ spins / weight.sum(axis=-1, keepdims=True))
