"""Sampling grids: which levels, and what they are worth on a source whose answer is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedrl import schedules
from schedrl.errors import SchedrlError
from schedrl.schedules import Grid
from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas

INF = float("inf")
LINEAR_SPECTRUM = np.array([4.0, 1.0, 0.25])
HARMONIC = 1.0 / np.arange(1, 65)
HARMONIC_SPECTRUM = HARMONIC * 0.25 / HARMONIC.mean()


def _ddim_variances(
    sigmas: tuple[float, ...], eigenvalues: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Output variances of DDIM on a Gaussian source: y' = y (λ + s s') / (λ + s²), from variance 1 + s²."""
    variance = np.full_like(eigenvalues, 1.0 + sigmas[0] ** 2)
    for now, after in itertools.pairwise(sigmas):
        variance *= ((eigenvalues + now * after) / (eigenvalues + now**2)) ** 2
    return variance


def _kl(sigmas: tuple[float, ...], eigenvalues: npt.NDArray[np.float64]) -> float:
    q = _ddim_variances(sigmas, eigenvalues) / (eigenvalues + sigmas[-1] ** 2)
    return float(0.5 * np.sum(1.0 / q - 1.0 + np.log(q)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2, 3, 10, 57])
@pytest.mark.parametrize("name", schedules.grid_names())
def test_every_grid_descends_to_zero_in_n_steps(name: str, n: int) -> None:
    grid = schedules.grid(name, n)
    assert grid.num_steps == n
    assert len(grid.sigmas) == n + 1
    assert grid.sigmas[-1] == 0.0
    assert (np.diff(grid.sigma_array) < 0).all()
    assert np.isfinite(grid.sigmas[1:]).all()
    assert grid.alphas_cumprod[-1] == 1.0
    assert grid == schedules.grid(name, n)
    assert hash(grid) == hash(schedules.grid(name, n))
    assert Grid.model_validate_json(grid.model_dump_json()) == grid
    assert Grid.model_validate(grid.model_dump()) == grid


def test_karras_levels() -> None:
    sigmas = schedules.grid("karras", 10).sigmas
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    assert sigmas == pytest.approx([(high + k / 9 * (low - high)) ** 7 for k in range(10)] + [0.0], rel=1e-12)
    assert sigmas[0] == 80.0
    assert sigmas[9] == 0.002
    open_ended = schedules.grid("karras", 8, rho=3.0, sigma_min=0.1, sigma_max=5.0, final_zero=False).sigmas
    low, high = 0.1 ** (1 / 3), 5 ** (1 / 3)
    assert open_ended == pytest.approx([(high + k / 8 * (low - high)) ** 3 for k in range(9)], rel=1e-12)
    assert schedules.grid("karras", 1).sigmas == (80.0, 0.0)


def test_log_uniform_levels_by_either_name() -> None:
    by_sigma = schedules.grid("exponential", 7, sigma_min=0.01, sigma_max=10.0).sigmas
    assert by_sigma == pytest.approx([10.0 * 0.001 ** (k / 6) for k in range(7)] + [0.0], rel=1e-12)
    by_logsnr = schedules.grid(
        "uniform-logsnr", 7, logsnr_min=-2 * math.log(10.0), logsnr_max=-2 * math.log(0.01)
    ).sigmas
    assert by_logsnr == pytest.approx(by_sigma, rel=1e-12)
    default = schedules.grid("uniform-logsnr", 4).logsnr
    assert default.tolist() == pytest.approx([-5.0, 1.1, 7.2, 13.3, INF], rel=1e-12)


def test_power_levels() -> None:
    assert schedules.grid("power-sigma", 4, rho=3.0, sigma_max=8.0).sigmas == (8.0, 3.375, 1.0, 0.125, 0.0)


@pytest.mark.parametrize("gamma", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_tangent_levels(gamma: float, n: int) -> None:
    sigmas = schedules.grid("tangent", n, gamma=gamma).sigmas
    assert sigmas[0] == INF
    assert sigmas[1:-1] == pytest.approx(
        [gamma * math.tan(math.pi * (n - k) / (2 * n)) for k in range(1, n)], rel=1e-12
    )
    assert sigmas[-1] == 0.0


def test_tangent_with_finite_ends() -> None:
    sigmas = schedules.grid("tangent", 4, gamma=0.5, sigma_min=0.002, sigma_max=80.0).sigmas
    low, high = math.atan(0.002 / 0.5), math.atan(80.0 / 0.5)
    assert sigmas == pytest.approx([0.5 * math.tan(high + k / 4 * (low - high)) for k in range(5)], rel=1e-9)
    # Align Your Steps' closed form: n levels, then zero.
    ays = schedules.grid("tangent", 4, sigma_min=0.002, sigma_max=80.0, final_zero=True).sigmas
    low, high = math.atan(0.002), math.atan(80.0)
    assert ays == pytest.approx(
        [math.tan(k / 3 * low + (1 - k / 3) * high) for k in range(4)] + [0.0], rel=1e-9
    )
    one = schedules.grid("tangent", 1, sigma_min=0.002, sigma_max=80.0, final_zero=True).sigmas
    assert one == (80.0, 0.0)


def test_tangent_with_gamma_one_is_the_cosine_grid() -> None:
    grid = schedules.grid("tangent", 10)
    np.testing.assert_allclose(
        grid.alphas_cumprod, np.cos(np.pi * np.arange(10, -1, -1) / 20) ** 2, rtol=1e-12, atol=1e-30
    )


@pytest.mark.parametrize("schedule", ["cosine", "linear", "ava"])
def test_time_grids_land_on_their_steps(schedule: str) -> None:
    law = schedules.get(schedule)
    uniform = schedules.grid("uniform", 10, schedule=schedule)
    np.testing.assert_allclose(uniform.timesteps(law), np.arange(1000, -1, -100), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        uniform.alphas_cumprod[:-1], law.alphas_cumprod(1000)[[999 - 100 * k for k in range(10)]], rtol=1e-9
    )
    power = schedules.grid("power-t", 10, schedule=law, rho=2.0)
    np.testing.assert_allclose(
        power.timesteps(law), [10.0 * k**2 for k in range(10, -1, -1)], rtol=1e-9, atol=1e-9
    )
    assert schedules.grid("power-t", 6, schedule=schedule, rho=1.0).sigmas == (
        schedules.grid("uniform", 6, schedule=schedule).sigmas
    )


def test_uniform_defaults_to_the_cosine_schedule() -> None:
    assert schedules.grid("uniform", 5) == schedules.grid("uniform", 5, schedule=schedules.Cosine())


def test_timesteps_between_and_beyond_the_steps() -> None:
    law = schedules.Betas(betas=(0.5, 0.5))
    sigma = math.sqrt(1 / 0.5**1.25 - 1)  # ᾱ = 2^-1.25, a quarter of the way from step 1 to step 2
    steps = Grid(sigmas=(INF, 100.0, sigma, 1.0, math.sqrt(1 / 0.5**0.5 - 1), 0.0)).timesteps(law, 2)
    assert steps.tolist() == pytest.approx([2.0, 2.0, 1.25, 1.0, 0.5, 0.0], abs=1e-12)


# Check values: exact output variances and KL(source || output) of DDIM, computed for a Gaussian source by
# independent recursions.


def test_uniform_grid_on_ddpm_linear_gives_the_known_variances() -> None:
    grid = schedules.grid("uniform", 10, schedule="linear")
    variances = _ddim_variances(grid.sigmas, LINEAR_SPECTRUM)
    np.testing.assert_allclose(variances, [2.954754393, 0.6878533277, 0.1368665608], rtol=1e-9)
    assert _kl(grid.sigmas, LINEAR_SPECTRUM) == pytest.approx(0.177316203131, rel=1e-9)


@pytest.mark.parametrize(
    ("n", "rho", "kl"),
    [
        (5, 1.0, 120.275169),
        (5, 2.0, 11.384304),
        (5, 3.0, 11.035765),
        (10, 1.0, 19.214130),
        (10, 2.0, 2.516582),
        (10, 2.4836, 2.331940),
        (20, 1.0, 3.707108),
        (20, 3.0, 0.569333),
    ],
)
def test_power_time_grid_gives_the_known_divergence(n: int, rho: float, kl: float) -> None:
    grid = schedules.grid("power-t", n, schedule="linear", rho=rho)
    assert _kl(grid.sigmas, HARMONIC_SPECTRUM) == pytest.approx(kl, rel=1e-6)


@pytest.mark.parametrize(("n", "kl"), [(5, 56.871934), (10, 10.038417), (20, 1.975449)])
def test_karras_grid_gives_the_known_divergence(n: int, kl: float) -> None:
    ends = np.exp(-0.5 * schedules.get("linear").logsnr_steps(1000)[[0, -1]])
    grid = schedules.grid("karras", n, sigma_min=ends[0], sigma_max=ends[1])
    assert _kl(grid.sigmas, HARMONIC_SPECTRUM) == pytest.approx(kl, rel=1e-6)


@pytest.mark.parametrize(("n", "kl"), [(5, 6.509579), (10, 1.387804), (20, 0.325016)])
def test_tangent_grid_gives_the_known_divergence(n: int, kl: float) -> None:
    gamma = (HARMONIC_SPECTRUM.sum() / (1.0 / HARMONIC_SPECTRUM).sum()) ** 0.25
    assert gamma == pytest.approx(0.4013, abs=1e-4)
    sigma_max = math.exp(-0.5 * schedules.get("linear").logsnr_steps(1000)[-1])
    grid = schedules.grid("tangent", n, gamma=gamma, sigma_max=sigma_max)
    assert _kl(grid.sigmas, HARMONIC_SPECTRUM) == pytest.approx(kl, rel=1e-5)


@pytest.mark.parametrize(("n", "kl"), [(2, 0.806852819440), (3, 0.253662076508), (8, 0.026790309956)])
def test_tangent_grid_attains_the_optimum_of_one_eigenvalue(n: int, kl: float) -> None:
    # The first level is infinite; a start at 1e8 is the same to 1e-8.
    sigmas = (1e8, *schedules.grid("tangent", n, gamma=0.7).sigmas[1:])
    assert _kl(sigmas, np.array([0.49])) == pytest.approx(kl, rel=1e-6)


def test_variance_exploding_check_values() -> None:
    karras = schedules.grid("karras", 10).sigmas
    variances = 6400 / 6401 * _ddim_variances(karras, LINEAR_SPECTRUM)  # started from variance 80²
    np.testing.assert_allclose(variances, [2.3832377208, 0.5637004337, 0.1333805829], rtol=1e-9)


@pytest.mark.parametrize(
    "text", ['{"sigmas":["inf",2.5,0.0]}', '{"sigmas":[80.0,0.002]}', '{"sigmas":["inf",0.0]}']
)
def test_grid_json(text: str) -> None:
    grid = Grid.model_validate_json(text)
    assert grid.model_dump_json() == text
    assert grid.model_dump(mode="python")["sigmas"] == grid.sigmas


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20, unique=True), st.booleans(), st.booleans())
def test_any_descending_levels_make_a_grid(levels: list[float], infinite: bool, zero: bool) -> None:
    sigmas = (*([INF] if infinite else []), *sorted(levels, reverse=True), *([0.0] if zero else []))
    if len(sigmas) < 2:
        return
    grid = Grid(sigmas=sigmas)
    assert grid.sigmas == sigmas
    assert Grid.model_validate_json(grid.model_dump_json()) == grid
    assert (np.diff(grid.logsnr) >= 0).all()
    finite = [s for s in sigmas if 0 < s < INF]
    np.testing.assert_allclose(
        grid.alphas_cumprod[np.isfinite(grid.logsnr)], [1 / (1 + s * s) for s in finite], rtol=1e-10
    )
    assert grid.logsnr[0] == (-INF if infinite else -2 * math.log(sigmas[0]))
    steps = grid.timesteps(schedules.get("linear"))
    assert (np.diff(steps) <= 0).all()
    assert (steps >= 0).all()
    assert (steps <= 1000).all()


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ((1.0, 1.0, 0.0), r"must strictly decrease, but sigmas\[0\] = 1\.0 and sigmas\[1\] = 1\.0"),
        ((0.0, 1.0), r"must strictly decrease"),
        ((INF, INF, 0.0), r"must strictly decrease"),
        ((1.0, -1.0), r"greater than or equal to 0"),
        ((1.0, float("nan")), r"greater than or equal to 0"),
        ((1.0,), r"at least 2 items"),
        (("a", 0.0), r"valid number"),
    ],
)
def test_levels_that_are_no_grid(sigmas: tuple[float, ...], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        Grid(sigmas=sigmas)


@pytest.mark.parametrize(
    ("name", "n", "params", "message"),
    [
        ("karas", 3, {}, r"^unknown grid 'karas'; did you mean 'karras'\? Known: exponential, "),
        ("karras", 0, {}, r"field 'n': must be a whole number of at least 1 \(got 0\)"),
        ("karras", 2.0, {}, r"field 'n'.*\(got 2\.0\)"),
        ("karras", 3, {"roh": 7.0}, r"^grid 'karras': unknown field 'roh'; did you mean 'rho'\?"),
        ("karras", 3, {"sigma_min": 90.0}, r"field 'sigma_max': must be greater than sigma_min = 90\.0"),
        ("karras", 3, {"rho": -1.0}, r"grid 'karras': field 'rho'.*\(got -1\.0\)"),
        ("exponential", 3, {"sigma_min": 0.0}, r"field 'sigma_min'.*\(got 0\.0\)"),
        ("uniform-logsnr", 3, {"logsnr_max": -6.0}, r"field 'logsnr_max': must be greater than logsnr_min"),
        ("tangent", 3, {"gamma": 0.0}, r"field 'gamma'.*\(got 0\.0\)"),
        ("tangent", 3, {"final_zero": True}, r"field 'sigma_min': must be positive where final_zero is set"),
        (
            "tangent",
            3,
            {"sigma_min": 2.0, "sigma_max": 1.0},
            r"field 'sigma_max': must be greater than sigma_min",
        ),
        (
            "uniform",
            3,
            {"schedule": "cosin"},
            r"field 'schedule': unknown name 'cosin'; did you mean 'cosine'",
        ),
        ("power-t", 3, {"num_train_timesteps": 0}, r"field 'num_train_timesteps'"),
        ("power-sigma", 100_000, {"rho": 100.0}, r"grid 'power-sigma' with n=100000: field 'sigmas'"),
    ],
)
def test_bad_grids_are_explained(name: str, n: int, params: dict[str, object], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        schedules.grid(name, n, **params)


def test_bad_number_of_training_steps_is_explained() -> None:
    with pytest.raises(SchedrlError, match=r"field 'num_train_timesteps'.*\(got 0\)"):
        schedules.grid("karras", 3).timesteps(schedules.get("cosine"), 0)


@pytest.mark.parametrize("top", [3.0, 9.9e4, 1.1e5, 1e9, np.inf])
def test_tangent_levels_keep_their_digits_up_to_infinity(top: float) -> None:
    gamma, bottom = 0.3, 0.3e-3
    u = even_fractions(40)
    levels = tangent_sigmas(u, gamma, gamma * top, bottom)
    assert (levels[0], levels[-1]) == (gamma * top, bottom)
    first, last = np.arctan(np.longdouble(top)), np.arctan(np.longdouble(bottom / gamma))
    wide = np.linspace(np.longdouble(1), np.longdouble(0), 41)
    expected = gamma * np.tan(wide * first + (1 - wide) * last)
    np.testing.assert_allclose(levels[1:-1], expected[1:-1].astype(np.float64), rtol=1e-11)
