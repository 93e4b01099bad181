"""Methods that place a grid for a spectrum, between the ends of the schedule that a network trained on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from schedrl.errors import SchedrlError, unknown_name
from schedrl.files import read_object
from schedrl.schedules import Grid
from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.divergences import kl
from schedrl.sources.gaussian.flow import NetworkError, Prediction, best_flow_sigmas
from schedrl.sources.gaussian.laws import best_gamma, geodesic_sigmas
from schedrl.sources.gaussian.optimum import best_sigmas
from schedrl.sources.gaussian.recursions import output_variances

METHODS = ("tangent", "geodesic", "optimal", "flow")
"""Names of methods, beside ``agent:NAME``."""

_BINS = 384

_MEAN_WEIGHTS = {"ddim": 0.75, "heun": 3.0}
"""How much a missed mean counts where a grid may start late; chosen with the errors of ``NetworkError.usual``."""


def place(
    method: str,
    eigenvalues: FloatArray,
    n: int,
    sampler: Any,
    ends: tuple[float, float],
    network_error: NetworkError | None = None,
    mean_squares: FloatArray | None = None,
) -> tuple[Grid, list[str]]:
    """Place a grid.

    Args:
        method: ``"tangent"`` (one scale, the best for this sampler and N), ``"geodesic"`` (best for many DDIM steps),
            ``"optimal"`` (least exact divergence), ``"flow"`` (least distance from the flow, for DDIM and Heun) or
            ``"agent:NAME"`` (a policy trained in AnyGaussianSampling-v0).
        eigenvalues: [E] of the data's covariance.
        n: Number of steps N.
        sampler: ``"ddim"``, ``"ddpm"`` or ``"heun"``.
        ends: Lowest and highest level that the network was trained on.
        network_error: Of the network, for ``"flow"``; None stands for the exact denoiser, as the other methods do.
        mean_squares: [E] of the data's mean; with a network's error, ``"flow"`` then also chooses where to start,
            unless the network predicts epsilon, whose flow above a late start would be missed.

    Returns:
        The grid, from the highest level to 0, and what had to be changed, as sentences.

    Raises:
        SchedrlError: There is no such method or agent, the agent cannot take this many steps, or the sampler has no
            flow.
    """
    low, high = ends
    values, weights, means = binned(eigenvalues, mean_squares)
    if method.startswith("agent:"):
        made, notes = _within(_by_agent(method.removeprefix("agent:"), values, weights, n), low, high)
        if sampler != "ddim":
            notes.append(f"the agent was trained for ddim; its grid is used for {sampler} unchanged")
        return made, notes
    match method:
        case "tangent":
            gamma = best_gamma(values[None], n, sampler, weights[None], high)
            levels = tangent_sigmas(even_fractions(n), float(gamma[0]), high)
        case "geodesic":
            levels = geodesic_sigmas(values[None], n, weights[None], high)[0]
        case "optimal":
            levels = best_sigmas(values[None], n, sampler, weights[None], high)[0]
            if n > 1 and levels[-2] < low:
                return _best_above(values, weights, _within(levels, low, high)[0], sampler)
        case "flow":
            if sampler == "ddpm":
                raise SchedrlError(
                    "method 'flow': is for the deterministic samplers, ddim and heun (got ddpm, which adds noise)"
                )
            late = None
            if network_error and network_error.prediction != "epsilon" and means is not None:
                late = means * _MEAN_WEIGHTS[sampler]
            levels = best_flow_sigmas(
                values,
                n,
                sampler,
                weights,
                first=high,
                least=low,
                network_error=network_error,
                mean_squares=late,
            )
            high = float(levels[0])
        case _:
            raise unknown_name("method", method, (*METHODS, "agent:NAME"))
    return _within(levels, low, high)


def binned(
    eigenvalues: FloatArray, mean_squares: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """A spectrum of at most a few hundred different values, the multiplicity of each, and its mean squares.

    Only the search for a grid uses it; reported errors are exact for the spectrum itself.
    """
    if len(eigenvalues) <= _BINS:
        return eigenvalues, np.ones_like(eigenvalues), mean_squares
    logs = np.log(eigenvalues)
    edges = np.linspace(logs.min(), logs.max(), _BINS + 1)[1:-1]
    bins = np.digitize(logs, edges)
    counts = np.bincount(bins, minlength=_BINS).astype(np.float64)
    full = counts > 0.0

    def averages(of: FloatArray) -> FloatArray:
        return (np.bincount(bins, weights=of, minlength=_BINS)[full] / counts[full])[::-1].copy()

    means = None if mean_squares is None else averages(mean_squares)
    return np.exp(averages(logs)), counts[full][::-1].copy(), means


def read_network_error(text: str, prediction: Prediction) -> NetworkError:
    """An error as a user gives it.

    Args:
        text: A number, or a file with the variance at some log-SNR: a .csv with columns ``logsnr`` and ``variance``,
            or a .json object with these two lists.
        prediction: What the network predicts.

    Examples:
        >>> read_network_error("1e-3", "epsilon").variance
        (0.001,)
    """
    path = Path(text)
    if path.suffix not in (".csv", ".json"):
        try:
            number = float(text)
        except ValueError:
            raise SchedrlError(
                f"network error: must be a number, or a .csv or .json file (got '{text}')"
            ) from None
        return NetworkError((number,), prediction)
    try:
        if path.suffix == ".json":
            read: Any = read_object(path, "network error")
        else:
            with warnings.catch_warnings(action="ignore"):  # of an empty file
                read = np.genfromtxt(path, delimiter=",", names=True, encoding="utf-8-sig")
        columns = [np.array(read[name], dtype=np.float64, ndmin=1) for name in ("logsnr", "variance")]
        order = np.argsort(columns[0])
        logsnr, variance = (tuple(column[order].tolist()) for column in columns)
        if len(columns[0]) != len(columns[1]):
            raise ValueError
    except OSError as problem:
        raise SchedrlError(f"network error {path}: cannot be read: {problem}") from None
    except SchedrlError:
        raise
    except (KeyError, IndexError, TypeError, ValueError):
        raise SchedrlError(
            f"network error {path}: needs logsnr and variance, as many numbers of one as of the other"
        ) from None
    return NetworkError(variance, prediction, logsnr)


def _best_above(values: FloatArray, weights: FloatArray, start: Grid, sampler: Any) -> tuple[Grid, list[str]]:
    """The best grid with the last positive level of ``start``, for an optimum that would go below it."""
    from scipy.optimize import minimize

    levels = start.sigma_array
    span = np.log(levels[0] / levels[-2])

    def at(shares: FloatArray) -> FloatArray:
        steps = np.exp(shares - shares.max())
        inner = levels[0] * np.exp(-span * np.cumsum(steps)[:-1] / steps.sum())
        return np.concatenate([levels[:1], inner, levels[-2:]])

    def error(shares: FloatArray) -> float:
        ratio = output_variances(values, at(shares), sampler) / values
        return float(np.log(kl(ratio, weights=weights)))

    first = np.log(np.maximum(np.log(levels[:-2] / levels[1:-1]), 1e-6))
    found = minimize(error, first, method="L-BFGS-B", options={"maxiter": 300, "maxfun": 40_000})
    best = found.x if found.fun < error(first) else first
    note = f"the last positive level is the training schedule's lowest, {levels[-2]:.4g}; the best one would be lower"
    return Grid(sigmas=tuple(at(best).tolist())), [note]


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
    """Move positive levels into the range that a network knows, without losing a step."""
    positive = levels[:-1].copy()
    notes = []
    above, below = int((positive[1:] >= high).sum()), int((positive < low).sum())
    positive[0] = high
    if above:
        inside = positive[above + 1] if above + 1 < len(positive) else low
        positive[: above + 1] = np.geomspace(high, inside, above + 2)[:-1]
        notes.append(
            f"{above} more of the method's levels were above the training schedule's highest, {high:.4g}; "
            "they were moved below it"
        )
    if below:
        inside = positive[-below - 1] if below < len(positive) else high
        positive[-below:] = np.geomspace(inside, low, below + 1)[1:]
        notes.append(
            f"{below} of the method's levels were below the training schedule's lowest, {low:.4g}; "
            "they were moved above it"
        )
    return Grid(sigmas=(*positive.tolist(), 0.0)), notes
