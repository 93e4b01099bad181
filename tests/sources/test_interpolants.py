"""Interpolants, dilations, and the grids they stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from schedrl.errors import SchedrlError
from schedrl.sources.interpolants import (
    Interpolant,
    NoisePath,
    Scaling,
    dilated_grid,
    dilated_tangent_grid,
    dilated_times,
    uniform_grid,
)
from tests.sources.oracles import alpha_dot_alpha

ALL = [(scaling, path) for scaling in ("vp", "ve") for path in ("linear", "sqrt")]


@pytest.mark.parametrize(("scaling", "path"), ALL)
def test_product_of_noise_factor_and_its_slope(scaling: Scaling, path: NoisePath) -> None:
    interpolant = Interpolant(scaling=scaling, path=path, dimension=9.0)
    tau, step = np.linspace(0.05, 0.95, 7), 1e-6
    slope = (interpolant.alpha(tau + step) - interpolant.alpha(tau - step)) / (2 * step)
    np.testing.assert_allclose(alpha_dot_alpha(interpolant, tau), interpolant.alpha(tau) * slope, rtol=1e-7)
    assert interpolant.alpha(0.0) == (3.0 if scaling == "ve" else 1.0)
    assert interpolant.alpha(1.0) == 0.0
    assert alpha_dot_alpha(interpolant, 1.0) == (-interpolant.noise_variance if path == "sqrt" else 0.0)


@pytest.mark.parametrize(("scaling", "path"), ALL)
def test_grids_of_times(scaling: Scaling, path: NoisePath) -> None:
    interpolant = Interpolant(scaling=scaling, path=path, dimension=100.0)
    grid = interpolant.grid(interpolant.uniform_times(10))
    scale = 10.0 if scaling == "ve" else 1.0
    for k, sigma in enumerate(grid.sigmas[1:], start=1):
        tau = k / 10
        alpha = 1 - tau if path == "linear" else math.sqrt(1 - tau**2)
        assert sigma == pytest.approx(scale * alpha / tau, rel=1e-12)
    assert grid.sigmas[0] == math.inf
    assert grid.sigmas[-1] == 0.0
    assert grid == uniform_grid(10, 100.0, scaling, path)
    assert Interpolant.model_validate_json(interpolant.model_dump_json()) == interpolant


def test_dilated_times() -> None:
    assert dilated_times(4, 100.0) == pytest.approx([0, 0.15, 0.3, 0.65, 1], abs=1e-15)
    assert dilated_times(4, 100.0, path="sqrt") == pytest.approx([0, 0.15, 0.3, 0.65, 1], abs=1e-15)
    assert dilated_times(4, 100.0, scaling="ve") == pytest.approx([0, 0.35, 0.7, 0.85, 1], abs=1e-15)
    sqrt = dilated_times(4, 100.0, scaling="ve", path="sqrt")
    assert sqrt == pytest.approx([0, 0.4769696, 0.9539392, 0.988686, 1], abs=5e-8)


@pytest.mark.parametrize("dimension", [9.1, 100, 1e6, 1e12])
@pytest.mark.parametrize(("scaling", "path"), ALL)
def test_phases_meet_at_kappa(scaling: Scaling, path: NoisePath, dimension: float) -> None:
    times = dilated_times(12, dimension, 3.0, scaling, path)
    assert times.shape == (13,)
    assert (times[0], times[-1]) == (0.0, 1.0)
    grid = dilated_grid(12, dimension, 3.0, scaling, path)
    window = 3.0 / math.sqrt(dimension)
    if scaling == "vp":
        meeting = (1 - window) / window if path == "linear" else math.sqrt(1 / window**2 - 1)
    else:
        meeting = 3.0 / (1 - window if path == "linear" else math.sqrt(1 - window**2))
    assert grid.sigmas[6] == pytest.approx(meeting, rel=1e-9)
    assert grid.sigmas[0] == math.inf
    assert grid.sigmas[-1] == 0.0


@pytest.mark.parametrize("path", ["linear", "sqrt"])
@pytest.mark.parametrize("scaling", ["vp", "ve"])
def test_dilated_grid_is_that_of_its_times(scaling: Scaling, path: NoisePath) -> None:
    interpolant = Interpolant(scaling=scaling, path=path, dimension=1e4)
    grid = interpolant.grid(dilated_times(20, 1e4, 5.0, scaling, path))
    np.testing.assert_allclose(dilated_grid(20, 1e4, 5.0, scaling, path).sigmas, grid.sigmas, rtol=1e-10)


def test_tangent_replaces_the_second_phase_only() -> None:
    plain, tangent = dilated_grid(20, 1e8).sigma_array, dilated_tangent_grid(20, 1e8, 0.25).sigma_array
    np.testing.assert_array_equal(tangent[:11], plain[:11])
    angles = np.arctan(tangent[10:] / 0.5)
    np.testing.assert_allclose(np.diff(angles), -angles[0] / 10, rtol=1e-9)


@pytest.mark.parametrize(
    ("n", "dimension", "kappa", "message"),
    [
        (5, 100.0, 3.0, "field 'n': must be even, half the steps are for each phase (got 5)"),
        (0, 100.0, 3.0, "field 'n': must be a whole number of at least 2 (got 0)"),
        (4, 9.0, 3.0, "field 'kappa': must be positive and less than sqrt(dimension) = 3 (got 3.0)"),
        (4, 100.0, 0.0, "field 'kappa': must be positive and less than sqrt(dimension) = 10 (got 0.0)"),
        (4, 100.0, math.nan, "field 'kappa': must be positive and less than sqrt(dimension) = 10 (got nan)"),
        (4, 0.5, 3.0, "interpolant: field 'dimension': Input should be greater than or equal to 1 (got 0.5)"),
        (4, math.inf, 3.0, "interpolant: field 'dimension': Input should be a finite number (got inf)"),
    ],
)
def test_bad_dilations(n: int, dimension: float, kappa: float, message: str) -> None:
    with pytest.raises(SchedrlError) as error:
        dilated_times(n, dimension, kappa)
    assert str(error.value) == message
    with pytest.raises(SchedrlError):
        dilated_tangent_grid(n, dimension, 0.25, kappa)


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan, math.inf])
def test_tangent_needs_a_variance(variance: float) -> None:
    with pytest.raises(SchedrlError, match="field 'variance': must be positive and finite"):
        dilated_tangent_grid(4, 100.0, variance)


@pytest.mark.parametrize(
    "times", [[0.0, 0.5, 0.5], [0.5, 0.2], [-0.1, 1.0], [0.0, 1.1], [0.0, math.nan], [], [[0.0]]]
)
def test_bad_times(times: list[float]) -> None:
    with pytest.raises(SchedrlError, match=r"field 'times': must strictly increase within \[0, 1\]"):
        Interpolant().grid(times)


def test_bad_interpolants() -> None:
    with pytest.raises(SchedrlError, match="dimension"):
        Interpolant(dimension=0.0)
    with pytest.raises(SchedrlError, match="did you mean 've'"):
        uniform_grid(4, 100.0, "vee")  # type: ignore[arg-type]
    with pytest.raises(SchedrlError, match="field 'n': must be a whole number of at least 1"):
        uniform_grid(0, 100.0)
