"""Ways of placing a grid for a spectrum between the ends of a training law."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.divergences import kl
from schedrl.sources.gaussian.recursions import output_variances

__all__ = ["METHODS", "binned", "place", "tangent_between"]

METHODS = ("tangent", "geodesic", "optimal", "flow")
"""Names of methods, beside ``agent:NAME``."""

_BINS = 384


def place(
    method: str, eigenvalues: FloatArray, n: int, sampler: str, ends: tuple[float, float]
) -> tuple[Grid, list[str]]:
    """Place a grid.

    Args:
        method: ``"tangent"`` (one scale, the best for this sampler and N), ``"geodesic"`` (best for many DDIM steps),
            ``"optimal"`` (least exact divergence), ``"flow"`` (least distance to the flow, for DDIM and Heun) or
            ``"agent:NAME"`` (a policy trained in AnyGaussianSampling-v0).
        eigenvalues: [E] of the data's covariance.
        n: Number of steps N.
        sampler: ``"ddim"``, ``"ddpm"`` or ``"heun"``.
        ends: Least and greatest level that the network was trained on.

    Returns:
        The grid, from the greatest level to 0, and what had to be changed, as sentences.

    Raises:
        SchedrlError: No such method or agent, the agent cannot take this many steps, or the sampler has no flow.
    """
    low, high = ends
    values, weights = binned(eigenvalues)
    if method == "tangent":
        levels = _best_tangent(values, weights, n, sampler, high)
    elif method == "geodesic":
        from schedrl.sources.gaussian.laws import geodesic_sigmas

        levels = geodesic_sigmas(values[None], n, weights[None], high, 0.0)[0]
    elif method == "optimal":
        from schedrl.sources.gaussian.optimum import best_sigmas

        levels = best_sigmas(values[None], n, sampler, weights[None], high, 0.0)[0]  # type: ignore[arg-type]
        if n > 1 and levels[-2] < low:
            return _best_above(values, weights, _within(levels, low, high)[0], sampler)
    elif method == "flow":
        if sampler == "ddpm":
            raise SchedrlError(
                "method 'flow': is for samplers that follow it, ddim and heun (got ddpm, which adds noise)"
            )
        from schedrl.sources.gaussian.flow import best_flow_sigmas

        levels = best_flow_sigmas(values, n, sampler, weights, first=high, least=low)  # type: ignore[arg-type]
    elif method.startswith("agent:"):
        levels = _by_agent(method.removeprefix("agent:"), values, weights, n)
        made, notes = _within(levels, low, high)
        if sampler != "ddim":
            notes.append(f"the agent was trained for ddim; its grid is used for {sampler} as it is")
        return made, notes
    else:
        raise unknown_name("method", method, (*METHODS, "agent:NAME"))
    return _within(levels, low, high)


def binned(eigenvalues: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A spectrum with at most a few hundred different values, each with how often it counts.

    Only grids are looked for on it; what is reported is exact for the spectrum itself.
    """
    if len(eigenvalues) <= _BINS:
        return eigenvalues, np.ones_like(eigenvalues)
    logs = np.log(eigenvalues)
    edges = np.linspace(logs.min(), logs.max(), _BINS + 1)[1:-1]
    bins = np.digitize(logs, edges)
    counts = np.bincount(bins, minlength=_BINS).astype(np.float64)
    sums = np.bincount(bins, weights=logs, minlength=_BINS)
    full = counts > 0.0
    return np.exp(sums[full] / counts[full])[::-1].copy(), counts[full][::-1].copy()


def tangent_between(gamma: float, n: int, high: float) -> FloatArray:
    """The tangent law from a finite first level to 0."""
    first = np.arctan(high / gamma)
    levels = gamma * np.tan(first * np.arange(n, -1, -1) / n)
    levels[0] = high
    return np.asarray(levels)


def _best_tangent(values: FloatArray, weights: FloatArray, n: int, sampler: str, high: float) -> FloatArray:
    from scipy.optimize import minimize_scalar

    def error(log_gamma: float) -> float:
        levels = tangent_between(float(np.exp(log_gamma)), n, high)
        ratio = output_variances(values, levels, sampler) / values  # type: ignore[arg-type]
        return float(np.log(kl(ratio, weights=weights)))

    span = 0.5 * np.log(values.min()) - 1.0, 0.5 * np.log(values.max()) + 1.0
    # A grid first: between eigenvalues far apart there can be several minima.
    tried = np.linspace(*span, 33)
    best = int(np.argmin([error(x) for x in tried]))
    bounds = tried[max(best - 1, 0)], tried[min(best + 1, 32)]
    return tangent_between(float(np.exp(minimize_scalar(error, bounds=bounds, method="bounded").x)), n, high)


def _best_above(values: FloatArray, weights: FloatArray, start: Grid, sampler: str) -> tuple[Grid, list[str]]:
    """The best grid whose last positive level is the start's, where the free optimum's lies below it."""
    from scipy.optimize import minimize

    levels = start.sigma_array
    span = np.log(levels[0] / levels[-2])

    def at(shares: FloatArray) -> FloatArray:
        steps = np.exp(shares - shares.max())
        inner = levels[0] * np.exp(-span * np.cumsum(steps)[:-1] / steps.sum())
        return np.concatenate([levels[:1], inner, levels[-2:]])

    def error(shares: FloatArray) -> float:
        ratio = output_variances(values, at(shares), sampler) / values  # type: ignore[arg-type]
        return float(np.log(kl(ratio, weights=weights)))

    first = np.log(np.maximum(np.log(levels[:-2] / levels[1:-1]), 1e-6))
    found = minimize(error, first, method="L-BFGS-B", options={"maxiter": 300, "maxfun": 40_000})
    best = found.x if found.fun < error(first) else first
    return Grid(sigmas=tuple(at(best).tolist())), [
        f"the last positive level is the training law's first, {levels[-2]:.4g}; the best one without a law is below it"
    ]


def _by_agent(name: str, values: FloatArray, weights: FloatArray, n: int) -> FloatArray:
    from schedrl.environments.registration import sampling_variant
    from schedrl.environments.sampling.gaussian_source import GaussianBatch
    from schedrl.environments.sampling.problems import SamplingProblems
    from schedrl.policies.agents import find

    env_id = "schedrl/AnyGaussianSampling-v0"
    variant: Any = sampling_variant(env_id, {})
    if not variant.steps.minimum <= n <= variant.steps.maximum:
        raise SchedrlError(
            f"method 'agent:{name}': agents of {env_id} take {variant.steps.minimum} to {variant.steps.maximum} "
            f"steps (got {n})"
        )
    agent = find(name, env_id)
    batch = GaussianBatch(values[None], weights[None], variant.sampler, variant.source.quantiles)
    problems = SamplingProblems(variant, batch, np.array([n], dtype=np.int64))
    return np.asarray(agent.solve(problems).sigmas[0])


def _within(levels: FloatArray, low: float, high: float) -> tuple[Grid, list[str]]:
    """Bring positive levels into the range that a network knows, without losing a step."""
    positive = levels[:-1].copy()
    notes = []
    above, below = int((positive[1:] >= high).sum()), int((positive < low).sum())
    positive[0] = high
    if above:
        inside = positive[above + 1] if above + 1 < len(positive) else low
        positive[: above + 1] = np.geomspace(high, inside, above + 2)[:-1]
        notes.append(
            f"{above} more of the method's levels lay above the training law's last, {high:.4g}; moved below it"
        )
    if below:
        inside = positive[-below - 1] if below < len(positive) else high
        positive[-below:] = np.geomspace(inside, low, below + 1)[1:]
        notes.append(
            f"{below} of the method's levels lay below the training law's first, {low:.4g}; moved above it"
        )
    return Grid(sigmas=(*positive.tolist(), 0.0)), notes
