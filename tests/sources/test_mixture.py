"""The Gaussian mixture against other routes: densities, many dimensions, limits, and the values that were derived."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from schedrl import schedules
from schedrl.errors import SchedrlError
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.interpolants import (
    Interpolant,
    NoisePath,
    Scaling,
    dilated_grid,
    dilated_tangent_grid,
    dilated_times,
    uniform_grid,
)
from schedrl.sources.mixture import (
    GaussianMixture,
    mixture_step,
    perpendicular_gain,
    quantile_start,
)
from schedrl.sources.scaling import positive_fraction
from tests.sources.oracles import (
    alpha_dot_alpha,
    dilated_majority,
    dilated_within_variance,
    mixture_euler,
    mixture_velocity,
    phase_one_majority,
    tangent_within_variance,
    uniform_ve_within_variance,
)

STATE = [0.2, -0.1, 0.3]
ALL: list[tuple[Scaling, NoisePath]] = [("vp", "linear"), ("ve", "linear"), ("vp", "sqrt"), ("ve", "sqrt")]


def _grid(kind: str, n: int, dimension: float) -> Grid:
    scaling: Scaling = "vp" if kind.startswith("vp") else "ve"
    return (uniform_grid if kind.endswith("uniform") else dilated_grid)(n, dimension, scaling=scaling)


# --- the denoiser and the velocity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scaling", "path", "velocity"),
    [
        ("vp", "linear", [1.15202627, 1.51202627, 1.03202627]),
        ("ve", "linear", [1.01827867, 1.52597098, 0.8490479]),
        ("vp", "sqrt", [0.81218578, 0.95064732, 0.76603193]),
    ],
)
def test_velocity(scaling: Scaling, path: NoisePath, velocity: list[float]) -> None:
    interpolant = Interpolant(scaling=scaling, path=path, dimension=3.0)
    computed = mixture_velocity(GaussianMixture(dimension=3), STATE, 0.5, interpolant)
    assert computed == pytest.approx(velocity, abs=5e-9)


@pytest.mark.parametrize(("scaling", "path"), ALL)
def test_velocity_is_that_of_the_posterior_means(scaling: Scaling, path: NoisePath) -> None:
    interpolant = Interpolant(scaling=scaling, path=path, dimension=3.0)
    source, mu = GaussianMixture(dimension=3), np.array([1.0, -1.0, 1.0])
    posterior = source.denoise(STATE, 0.3, interpolant, mu)
    alpha, beta = float(interpolant.alpha(0.3)), 0.3
    alpha_dot = float(alpha_dot_alpha(interpolant, 0.3)) / alpha
    expected = alpha_dot * posterior.noise + posterior.data
    np.testing.assert_allclose(mixture_velocity(source, STATE, 0.3, interpolant, mu), expected, rtol=1e-12)
    np.testing.assert_allclose(alpha * posterior.noise + beta * posterior.data, STATE, rtol=1e-12)
    assert np.isfinite(mixture_velocity(source, STATE, 1.0, interpolant, mu)).all()


def test_posterior_means_from_the_density() -> None:
    """Tweedie: E[z | x] is minus alpha times the slope of the log-density, taken by differences."""
    source, interpolant = GaussianMixture(dimension=3, majority=0.7), Interpolant(scaling="ve", dimension=3.0)
    tau, mu = 0.4, np.ones(3)
    alpha = float(interpolant.alpha(tau))
    spread = alpha**2 + 0.25 * tau**2

    def log_density(x: FloatArray) -> float:
        modes = [
            w * math.exp(-np.square(x - s * tau * mu).sum() / (2 * spread)) for w, s in ((0.7, 1), (0.3, -1))
        ]
        return math.log(sum(modes))

    slope = [(log_density(STATE + e) - log_density(STATE - e)) / 2e-5 for e in 1e-5 * np.eye(3)]
    posterior = source.denoise(STATE, tau, interpolant)
    assert posterior.noise == pytest.approx(-alpha * np.array(slope), abs=1e-8)


# --- one dimension for all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vp uniform", "ve uniform", "vp dilated", "ve dilated"])
def test_projection_moves_as_in_all_dimensions(kind: str) -> None:
    source, d = GaussianMixture(dimension=12), 12
    mu = np.where(np.arange(d) % 3 == 0, -1.0, 1.0)
    grid = _grid(kind, 6, d)
    samples = source.sample(grid, np.random.default_rng(3), 50, mu)
    start = np.random.default_rng(3).standard_normal((50, d))
    m, gain = start @ mu / d, 1.0
    for now, after in itertools.pairwise(grid.sigmas):
        m = mixture_step(m, now, after, d, 0.8, 0.25)
        gain *= float(perpendicular_gain(now, after, 0.25))
    np.testing.assert_allclose(samples @ mu / d, m, rtol=1e-12, atol=1e-14)
    across = start - np.outer(start @ mu / d, mu)
    np.testing.assert_allclose(samples - np.outer(samples @ mu / d, mu), math.sqrt(gain) * across, atol=1e-13)


def test_simulation_shows_what_samples_show() -> None:
    source, grid = GaussianMixture(dimension=50), dilated_grid(20, 50.0)
    samples = source.sample(grid, 0, 20_000)
    outcome = source.simulate(grid)
    m = samples.mean(axis=-1)
    within = np.square(samples - m[:, None]).sum(axis=-1).mean() / 49
    assert (m > 0).mean() == pytest.approx(outcome.majority, abs=4 * math.sqrt(0.8 * 0.2 / 20_000))
    assert within == pytest.approx(outcome.within_variance, rel=0.01)
    assert m[m > 0].mean() == pytest.approx(outcome.mode_mean, abs=2e-3)
    assert 50 * m[m > 0].var() == pytest.approx(outcome.mu_direction_variance, rel=0.1)


def test_many_small_steps_return_the_source() -> None:
    outcome = GaussianMixture(dimension=100).simulate(dilated_grid(1000, 100.0), 4001)
    assert outcome.smooth_majority == pytest.approx(0.8, abs=5e-4)
    assert outcome.within_variance == pytest.approx(0.25, rel=6e-3)
    assert outcome.mode_mean == pytest.approx(1.0, abs=1e-3)
    assert outcome.mu_direction_variance == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("scaling", ["vp", "ve"])
def test_euler_is_ddim_on_the_linear_path(scaling: Scaling) -> None:
    source, interpolant = GaussianMixture(dimension=1e4), Interpolant(scaling=scaling, dimension=1e4)
    times = dilated_times(20, 1e4, scaling=scaling)
    (m, within), ddim = mixture_euler(source, interpolant, times), source.simulate(interpolant.grid(times))
    assert (m > 0.0).mean() == ddim.majority
    assert float(positive_fraction(m)) == pytest.approx(ddim.smooth_majority, abs=5e-5)
    assert within == pytest.approx(ddim.within_variance, rel=1e-9)
    assert m[m > 0.0].mean() == pytest.approx(ddim.mode_mean, rel=1e-12)


def test_euler_fails_on_the_exploding_sqrt_path() -> None:
    found = {}
    for d in (1e4, 1e8):
        interpolant = Interpolant(scaling="ve", path="sqrt", dimension=d)
        times = dilated_times(20, d, scaling="ve", path="sqrt")
        source = GaussianMixture(dimension=d)
        _, within = mixture_euler(source, interpolant, times, 101)
        found[d] = within, source.simulate(interpolant.grid(times), 101).within_variance
    assert found[1e4] == pytest.approx((27.95, 0.1508), rel=3e-4)
    assert found[1e8] == pytest.approx((2.8e5, 0.1503), rel=0.015)


# --- what steps are worth in high dimension --------------------------------------------------------------------------

TABLE = {
    "vp uniform": [(0.83315, 0.21553), (0.99949, 0.21553), (1.0, 0.21553), (1.0, 0.21553)],
    "ve uniform": [(0.80720, 0.10223), (0.80716, 2.23e-3), (0.80716, 2.26e-5), (0.80716, 2.26e-9)],
    "vp dilated": [(0.81911, 0.20430), (0.81728, 0.18740), (0.81718, 0.18576), (0.81717, 0.18558)],
    "ve dilated": [(0.81002, 0.14910), (0.81446, 0.15151), (0.81489, 0.15051), (0.81494, 0.15032)],
}


@pytest.mark.parametrize("kind", TABLE)
def test_twenty_steps_in_any_dimension(kind: str) -> None:
    for dimension, (majority, within) in zip((1e2, 1e4, 1e6, 1e10), TABLE[kind], strict=True):
        outcome = GaussianMixture(dimension=dimension).simulate(_grid(kind, 20, dimension))
        assert outcome.majority == pytest.approx(majority, abs=5e-5)  # the count moves in steps of 5e-5
        assert outcome.smooth_majority == pytest.approx(majority, abs=2e-5)
        assert outcome.within_variance == pytest.approx(within, rel=2.5e-3 if within < 0.01 else 5e-5)


@pytest.mark.parametrize(
    ("n", "vp", "ve"),
    [
        (10, (0.83608, 0.13661), (0.83252, 0.08907)),
        (40, (0.80840, 0.21563), (0.80714, 0.19256)),
        (80, (0.80418, 0.23220), (0.80348, 0.21741)),
        (160, (0.80210, 0.24094), (0.80172, 0.23152)),
    ],
)
def test_dilated_steps_converge_at_a_fixed_rate(
    n: int, vp: tuple[float, float], ve: tuple[float, float]
) -> None:
    source = GaussianMixture(dimension=1e6)
    for kind, expected in (("vp dilated", vp), ("ve dilated", ve)):
        outcome = source.simulate(_grid(kind, n, 1e6), 1001)
        assert (outcome.smooth_majority, outcome.within_variance) == pytest.approx(expected, abs=2e-5)
        assert abs(outcome.smooth_majority - 0.8) < 0.4 / n  # 1/N, whatever d


@pytest.mark.parametrize(("dimension", "steps"), [(1e2, 33), (1e3, 94), (1e4, 290), (1e5, 909)])
def test_uniform_preserving_steps_must_grow_like_the_square_root(dimension: float, steps: int) -> None:
    for n, enough in ((steps - 1, False), (steps, True)):
        m = quantile_start(4001, dimension)
        for now, after in itertools.pairwise(uniform_grid(n, dimension).sigmas):
            m = mixture_step(m, now, after, dimension, 0.8, 0.25)
        assert bool(abs((m > 0).mean() - 0.8) < 0.02) is enough


@pytest.mark.parametrize(
    ("dimension", "steps"), [(1e2, 160), (1e3, 482), (1e4, 1503), (1e5, 4730), (1e6, 14936)]
)
def test_uniform_exploding_steps_must_grow_like_the_square_root(dimension: float, steps: int) -> None:
    for n, enough in ((steps - 1, False), (steps, True)):
        sigmas = uniform_grid(n, dimension, "ve").sigma_array
        within = float(perpendicular_gain(sigmas[:-1], sigmas[1:], 0.25).prod())
        assert (abs(within / 0.25 - 1) < 0.1) is enough


@pytest.mark.parametrize(("kind", "n"), [("vp dilated", 60), ("ve dilated", 130)])
def test_dilated_steps_need_not_grow(kind: str, n: int) -> None:
    for dimension in (1e2, 1e3, 1e4, 1e6, 1e8, 1e10):
        outcome = GaussianMixture(dimension=dimension).simulate(_grid(kind, n, dimension), 101)
        assert outcome.smooth_majority == pytest.approx(0.8, abs=0.02)
        assert outcome.within_variance == pytest.approx(0.25, rel=0.1)


def test_dilated_steps_err_in_inverse_proportion_to_their_number() -> None:
    for kind, floor in (("vp dilated", 0.25), ("ve dilated", 0.25 * 9 / 9.25)):
        for dimension in (1e8, 1e10):
            source = GaussianMixture(dimension=dimension)
            within = [source.simulate(_grid(kind, n, dimension), 11).within_variance for n in (100, 200)]
            assert (floor - within[1]) / (floor - within[0]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("scaling", "plain", "expected"), [("vp", 0.18558, 0.1951), ("ve", 0.1503, 0.1995)])
def test_tangent_in_the_second_phase(scaling: Scaling, plain: float, expected: float) -> None:
    source = GaussianMixture(dimension=1e8)
    tangent = source.simulate(dilated_tangent_grid(20, 1e8, 0.25, scaling=scaling))
    dilated = source.simulate(dilated_grid(20, 1e8, scaling=scaling))
    assert tangent.within_variance == pytest.approx(expected, abs=5e-5)
    assert dilated.within_variance == pytest.approx(plain, abs=5e-5)
    assert tangent.smooth_majority == pytest.approx(dilated.smooth_majority, abs=1e-4)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_limits_of_the_first_phase() -> None:
    assert [phase_one_majority(0.8, kappa) for kappa in (1.0, 2.0, 3.0, 5.0)] == pytest.approx(
        [0.83972456, 0.80224564, 0.80006902, 0.80000001], abs=5e-9
    )
    vp = [dilated_majority(0.8, n) for n in (1, 2, 5, 10, 20, 50)]
    assert vp == pytest.approx([0.97888, 0.90162, 0.83605, 0.81718, 0.80842, 0.80336], abs=1e-5)
    ve = [dilated_majority(0.8, n, scaling="ve") for n in (2, 5, 10, 20, 50)]
    assert ve == pytest.approx([0.90202, 0.83264, 0.81495, 0.80716, 0.80279], abs=2.5e-5)
    assert dilated_majority(0.8, 3000) == pytest.approx(phase_one_majority(0.8), abs=1e-4)


@pytest.mark.parametrize("scaling", ["vp", "ve"])
def test_dilated_steps_approach_their_limit(scaling: Scaling) -> None:
    outcome = GaussianMixture(dimension=1e12).simulate(dilated_grid(20, 1e12, scaling=scaling))
    assert outcome.smooth_majority == pytest.approx(dilated_majority(0.8, 10, scaling=scaling), abs=2e-5)
    assert outcome.within_variance == pytest.approx(
        dilated_within_variance(0.25, 10, scaling=scaling), rel=1e-4
    )


def test_exploding_dilation_leaves_a_bias() -> None:
    """Its first phase ends at kappa with the variance of the noise alone, whatever the number of steps."""
    for kappa in (3.0, 5.0):
        floor = 0.25 * kappa**2 / (kappa**2 + 0.25)
        assert dilated_within_variance(0.25, 20_000, kappa, "ve") == pytest.approx(floor, rel=1e-3)
        assert dilated_within_variance(0.25, 20_000, kappa, "vp") == pytest.approx(0.25, rel=1e-3)


def test_exploding_uniform_steps_collapse_the_modes() -> None:
    for n in (5, 20):
        outcome = GaussianMixture(dimension=1e8).simulate(uniform_grid(n, 1e8, "ve"), 101)
        ratio = outcome.within_variance / uniform_ve_within_variance(0.25, n, 1e8)
        assert ratio == pytest.approx(1.0, abs=1e-5)


def test_tangent_grid_reaches_its_bound() -> None:
    assert tangent_within_variance(0.25, 10) == pytest.approx(0.19514, abs=5e-6)
    outcome = GaussianMixture(dimension=100).simulate(schedules.grid("tangent", 10, gamma=0.5), 101)
    assert outcome.within_variance == pytest.approx(tangent_within_variance(0.25, 10), rel=1e-12)
    for grid in (uniform_grid(10, 100.0), dilated_grid(10, 100.0), schedules.grid("tangent", 10, gamma=0.7)):
        assert GaussianMixture(dimension=100).simulate(grid, 101).within_variance < outcome.within_variance


def test_one_step_goes_to_the_mean() -> None:
    one = Grid(sigmas=(math.inf, 0.0))
    outcome = GaussianMixture(dimension=100).simulate(one)
    assert (outcome.majority, outcome.smooth_majority, outcome.within_variance) == (1.0, 1.0, 0.0)
    assert outcome.mode_mean == pytest.approx(0.6)
    assert (
        GaussianMixture(dimension=100, majority=0.5).simulate(dilated_grid(4, 100.0)).smooth_majority == 0.5
    )


def test_import_is_light() -> None:
    modules = "schedrl.sources.mixture, schedrl.sources.curie_weiss, schedrl.sources.interpolants"
    check = f"import sys; import {modules}; print({{'scipy', 'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"dimension": 0.5},
        {"dimension": 1e13},
        {"dimension": math.nan},
        {"majority": 0.4},
        {"majority": 1.0},
        {"variance": 0.0},
        {"variance": -1.0},
        {"variance": math.inf},
        {"mean": 1.0},
    ],
)
def test_bad_mixtures(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        GaussianMixture.model_validate({"dimension": 100, **fields})


def test_bad_states() -> None:
    source, vp = GaussianMixture(dimension=3), Interpolant()
    with pytest.raises(SchedrlError, match=r"field 'x': .* dimension = 3 \(got shape \(2,\)\)"):
        source.denoise([0.0, 1.0], 0.5, vp)
    with pytest.raises(SchedrlError, match="field 'x': must be finite"):
        source.denoise([0.0, 1.0, math.nan], 0.5, vp)
    with pytest.raises(SchedrlError, match=r"field 'tau': must lie in \[0, 1\] \(got 1.5\)"):
        source.denoise(STATE, 1.5, vp)
    with pytest.raises(
        SchedrlError, match="field 'mu': must have dimension = 3 entries and that squared length"
    ):
        source.denoise(STATE, 0.5, vp, [1.0, 1.0, 2.0])
    with pytest.raises(
        SchedrlError, match=r"field 'interpolant': must have the mixture's dimension = 3 \(got 5\)"
    ):
        source.denoise(STATE, 0.5, Interpolant(scaling="ve", dimension=5.0))
    with pytest.raises(SchedrlError, match="field 'dimension': must be whole"):
        GaussianMixture(dimension=2.5).sample(dilated_grid(4, 100.0), 0, 2)
    with pytest.raises(SchedrlError, match="field 'count'"):
        source.simulate(dilated_grid(4, 100.0), 1)
