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
from schedrl.sources.gaussian.flow import FlowSampler, best_flow_sigmas, flow_distance

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
        ({"n": 4, "sigma_max": 1.0, "sigma_min": 2.0}, "field 'sigma_max': must be greater than sigma_min"),
    ],
)
def test_wrong_flow_grids(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        Gaussian(SPECTRUM).flow_grid(**options)
