"""Distance to the flow: by simulation, and its least value by other routes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedrl.diffusion.samplers import ddim, heun
from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.sources import Gaussian
from schedrl.sources.gaussian.flow import (
    FlowSampler,
    NetworkError,
    Prediction,
    best_flow_sigmas,
    flow_distance,
)

SPECTRUM = np.array([3.0, 0.5, 0.04, 0.002])


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_distance_is_that_of_a_sampler_that_is_run(sampler: FlowSampler) -> None:
    """From the same noise, on the exact denoiser, the flow being as many steps as it takes."""
    import torch

    spectrum = torch.tensor(SPECTRUM)

    def exact(z: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
        alpha, noise = logsnr.double().sigmoid().sqrt(), (-logsnr.double()).sigmoid()
        return z * alpha * spectrum / (alpha**2 * spectrum + noise)

    run = {"ddim": ddim, "heun": heun}[sampler]
    start = torch.randn(500, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start /= start.square().mean(dim=0).sqrt()  # so that the mean over noise is exact
    levels = [1e4, 6.0, 1.3, 0.4, 0.1, 0.0]
    fine = [*np.geomspace(1e4, 1e-4, 600).tolist(), 0.0]
    distance = (run(exact, start, levels) - heun(exact, start, fine)).square().mean()
    assert flow_distance(SPECTRUM, np.array(levels), sampler) == pytest.approx(float(distance), rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(1e-3, 5.0), min_size=1, max_size=6),
    st.integers(2, 8),
    st.sampled_from([np.inf, 150.0, 12.0]),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.integers(0, 1000),
)
def test_no_levels_nearby_are_better(
    values: list[float], steps: int, first: float, least: float, seed: int
) -> None:
    spectrum, rng = np.array(values), np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2.0, len(values))
    best = best_flow_sigmas(spectrum, steps, "ddim", weights, first=first, least=least)
    assert len(best) == steps + 1
    assert (best[0], best[-1]) == (first, 0.0)
    assert best[-2] >= least
    assert all(left > right for left, right in pairwise(best))
    found = flow_distance(spectrum, best, "ddim", weights)
    for size in (0.2, 0.02):
        other = _shifted(best, size, rng)
        if other[1] < first and other[-2] >= least and all(a > b for a, b in pairwise(other)):
            assert found <= flow_distance(spectrum, other, "ddim", weights) * (1.0 + 1e-5) + 1e-15


@pytest.mark.parametrize("least", [0.0, 0.05])
def test_slopes_find_what_differences_find(least: float) -> None:
    from scipy.optimize import approx_fprime

    from schedrl.sources.gaussian.flow import _Levels

    problem = _Levels(SPECTRUM, np.array([1.0, 2.0, 0.5, 3.0]), 6, "ddim", 40.0, least)
    logits = np.random.default_rng(0).normal(scale=0.4, size=problem.shares)
    value, slope = problem.error_and_slope(logits)
    assert value == pytest.approx(problem.error(logits), rel=1e-12)
    np.testing.assert_allclose(slope, approx_fprime(logits, problem.error, 1e-7), atol=1e-5)


def test_weights_count_directions() -> None:
    levels = np.array([np.inf, 1.0, 0.2, 0.0])
    twice = flow_distance(np.array([1.0, 1.0, 0.1]), levels)
    assert flow_distance(np.array([1.0, 0.1]), levels, weights=np.array([2.0, 1.0])) == pytest.approx(twice)


def _shifted(levels: FloatArray, size: float, rng: np.random.Generator) -> FloatArray:
    other = levels.copy()
    other[1:-1] *= np.exp(size * rng.standard_normal(len(levels) - 2))
    return other


def _run_with_errors(levels: list[float], sampler: str, error: NetworkError, mean: FloatArray) -> FloatArray:
    """Squared distances ``[n, E]`` to the flow from the first level, each prediction with an error of its own."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((40_000, len(SPECTRUM)))

    def slope(y: FloatArray, r: float) -> FloatArray:
        alpha = 1.0 / np.sqrt(1.0 + r * r)
        sigma, x = r * alpha, y * alpha
        clean = mean + SPECTRUM / (SPECTRUM + r * r) * (y - mean)
        eps = (x - alpha * clean) / sigma
        wrong = np.sqrt(error.variance[0]) * rng.standard_normal(y.shape)
        if error.prediction == "epsilon":
            return np.asarray(eps + wrong)
        if error.prediction == "sample":
            return np.asarray((x - alpha * (clean + wrong)) / sigma)
        return np.asarray(sigma * x + alpha * (alpha * eps - sigma * clean + wrong))

    y = noise * np.sqrt(1.0 + levels[0] ** 2)
    for r, ahead in pairwise(levels):
        first = slope(y, r)
        there = y + (ahead - r) * first
        if sampler == "heun" and ahead > 0.0:
            there = y + 0.5 * (ahead - r) * (first + slope(there, ahead))
        y = there
    origin = 20.0
    start = noise * np.sqrt(1.0 + origin**2)
    flow = mean + (start - mean) * np.sqrt(SPECTRUM / (SPECTRUM + origin**2))
    return np.asarray(np.square(y - flow))


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("first", [20.0, 6.0])
def test_a_networks_errors_add_what_a_simulation_finds(
    first: float, prediction: Prediction, sampler: FlowSampler
) -> None:
    levels, mean = [first, 5.0, 1.3, 0.4, 0.1, 0.0], np.array([2.0, -1.0, 0.5, 0.0])
    error = NetworkError((0.02,), prediction)
    found = _run_with_errors(levels, sampler, error, mean).mean()
    exact = flow_distance(
        SPECTRUM, np.array(levels), sampler, network_error=error, origin=20.0, mean_squares=np.square(mean)
    )
    assert exact == pytest.approx(float(found), rel=0.03)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_no_error_is_the_exact_denoiser(sampler: FlowSampler) -> None:
    levels = np.array([20.0, 5.0, 1.3, 0.4, 0.0])
    for prediction in ("epsilon", "v_prediction", "sample"):
        without = flow_distance(SPECTRUM, levels, sampler, network_error=NetworkError((0.0,), prediction))
        assert without == flow_distance(SPECTRUM, levels, sampler)


def test_an_error_at_one_level_counts_in_the_step_from_there() -> None:
    error = NetworkError((1e-9, 1e-2, 1e-9), "epsilon", (-3.0, -2.0 * float(np.log(1.3)), 3.0))
    with_it = error.amplified(np.array([5.0, 1.3, 0.2, 0.0]))[:3]
    np.testing.assert_allclose(with_it, [1e-9 * 26.0, 1e-2 * 2.69, 1e-9 * 1.04], rtol=1e-9)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("least", [0.0, 0.1])
def test_no_levels_nearby_are_better_with_an_error(
    least: float, prediction: Prediction, sampler: FlowSampler
) -> None:
    error, rng = NetworkError((1e-2,), prediction), np.random.default_rng(0)
    means = None if prediction == "epsilon" else np.array([4.0, 1.0, 0.3, 0.1])

    def distance(levels: FloatArray) -> float:
        return flow_distance(SPECTRUM, levels, sampler, network_error=error, origin=100.0, mean_squares=means)

    best = best_flow_sigmas(
        SPECTRUM, 6, sampler, first=100.0, least=least, network_error=error, mean_squares=means
    )
    assert len(best) == 7
    assert (best[0] == 100.0) if means is None else (5.0 < best[0] < 100.0)
    assert best[-2] >= least * (1.0 - 1e-12)
    for _ in range(20):
        other = _shifted(best, 0.02, rng)
        if other[-2] >= least:
            assert distance(best) <= distance(other) * (1.0 + 1e-5)


def test_an_error_of_epsilon_caps_the_first_step() -> None:
    firsts = [
        best_flow_sigmas(SPECTRUM, 6, first=157.0, network_error=NetworkError((variance,)))[1]
        for variance in (0.0, 1e-4, 1e-2)
    ]
    assert firsts == sorted(firsts)
    assert firsts[-1] > 3.0 * firsts[0]
    source = Gaussian(SPECTRUM)
    guessed = source.flow_grid(6, sigma_max=157.0, prediction="epsilon")
    assert guessed == source.flow_grid(6, sigma_max=157.0, network_error=1e-2)
    assert guessed.sigmas[1] == pytest.approx(firsts[-1], rel=1e-3)
    assert source.flow_grid(6, prediction="v_prediction").sigmas[0] == np.inf


@pytest.mark.parametrize(
    ("variance", "prediction", "logsnr", "message"),
    [
        ((-1.0,), "epsilon", (0.0,), "must be finite and not negative"),
        ((float("nan"),), "epsilon", (0.0,), "must be finite and not negative"),
        ((), "epsilon", (), "must be finite and not negative"),
        ((1.0, 2.0), "epsilon", (1.0, 1.0), "logsnr must rise"),
        ((1.0, 2.0), "epsilon", (1.0,), "logsnr must rise"),
        ((1.0,), "epsilom", (0.0,), "did you mean 'epsilon'"),
    ],
)
def test_wrong_errors(
    variance: tuple[float, ...], prediction: Any, logsnr: tuple[float, ...], message: str
) -> None:
    with pytest.raises(SchedrlError, match=message):
        NetworkError(variance, prediction, logsnr)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_flow_grid_of_a_source_is_closer_to_the_flow_than_its_other_grids(sampler: FlowSampler) -> None:
    source = Gaussian(SPECTRUM)
    found = source.flow_grid(6, sampler, 80.0)
    assert (found.num_steps, found.sigmas[0], found.sigmas[-1]) == (6, 80.0, 0.0)
    least = flow_distance(SPECTRUM, found.sigma_array, sampler)
    others = [source.best_grid(6, sampler, 80.0), source.geodesic_grid(6, 80.0)]
    assert all(least < flow_distance(SPECTRUM, other.sigma_array, sampler) for other in others)
    # From infinity by default; no positive level lies below sigma_min.
    assert source.flow_grid(6).sigmas[0] == np.inf
    assert source.flow_grid(6, sampler, 80.0, 0.3).sigmas[-2] >= 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "field 'n': must be a whole number of at least 1"),
        ({"n": 4, "sampler": "ddpm"}, r"unknown deterministic sampler 'ddpm'.* Known: ddim, heun"),
        ({"n": 4, "sampler": "heun"}, "field 'sigma_max': must be finite for Heun's sampler"),
        ({"n": 4, "prediction": "epsilon"}, "must be finite for a network that predicts epsilon"),
        ({"n": 4, "network_error": -1.0}, "must be finite and not negative"),
        ({"n": 4, "sigma_max": 1.0, "sigma_min": 2.0}, "field 'sigma_max': must be greater than sigma_min"),
    ],
)
def test_wrong_flow_grids(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        Gaussian(SPECTRUM).flow_grid(**options)
