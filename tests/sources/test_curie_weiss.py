"""The Curie-Weiss magnet: its law and denoiser by several routes, and what grids make of it."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError

from schedrl.errors import SchedrlError
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.curie_weiss import (
    CurieWeiss,
    CurieWeissOutcome,
    quadrature_mean,
    saddle_mean,
    spontaneous_magnetisation,
)
from schedrl.sources.curie_weiss_strata import strata_outcome, strata_start, strata_step, strata_weights
from schedrl.sources.interpolants import Scaling, dilated_grid, uniform_grid
from schedrl.sources.scaling import half_log_odds
from tests.sources.oracles import enumeration_mean, magnetisation_sum_mean

FIELD = float(half_log_odds(0.8))
G = np.array([0.3, -0.2, 0.1, 0.0, 0.5, -0.4])
MEAN = [0.36304386, 0.26364436, 0.32508693, 0.30541873, 0.40046103, 0.21717569]


def _grid(kind: str, n: int, dimension: float) -> Grid:
    scaling: Scaling = "vp" if kind.startswith("vp") else "ve"
    return (uniform_grid if kind.endswith("uniform") else dilated_grid)(n, dimension, scaling=scaling)


# --- the law ---------------------------------------------------------------------------------------------------------


def test_spontaneous_magnetisation() -> None:
    assert spontaneous_magnetisation(2.0) == pytest.approx(0.9575040241, abs=5e-11)
    assert spontaneous_magnetisation(1.1) == pytest.approx(0.5029405749, abs=5e-11)
    betas = np.array([0.3, 1.0, 1.0 + 1e-9, 1.001, 1.5, 5.0, 10.0])
    m = spontaneous_magnetisation(betas)
    np.testing.assert_allclose(np.tanh(betas * m), m, rtol=1e-9)
    assert (m[:2] == 0.0).all()
    assert (np.diff(m[1:]) > 0).all()
    assert m[3] == pytest.approx(math.sqrt(3 * 0.001), rel=1e-2)


@pytest.mark.parametrize(
    ("beta", "dimension", "probability", "magnetisation", "tolerance"),
    [
        (2.0, 100, 0.789855, 0.955526, 5e-7),
        (2.0, 1000, 0.790354, 0.957314, 5e-7),
        (1.1, 1000, 0.662612, 0.488034, 5e-7),
        (2.0, 10**9, 0.79040733, 0.9575040241, 5e-9),
        (1.1, 10**10, 0.66757194, 0.5029405749, 5e-8),
    ],
)
def test_law(beta: float, dimension: int, probability: float, magnetisation: float, tolerance: float) -> None:
    magnet = CurieWeiss(dimension=dimension, beta=beta, majority=0.8)
    assert magnet.positive_probability == pytest.approx(probability, abs=tolerance)
    assert magnet.mean_magnetisation == pytest.approx(magnetisation, abs=tolerance)


def test_limit_of_the_law() -> None:
    assert CurieWeiss(dimension=1, beta=2.0).limiting_probability == pytest.approx(0.79040733, abs=5e-9)
    assert CurieWeiss(dimension=1, beta=1.1).limiting_probability == pytest.approx(0.66757194, abs=5e-9)
    assert CurieWeiss(dimension=1, beta=0.9).limiting_probability == 0.5


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dimension", [1, 7, 10])
def test_law_by_enumeration(dimension: int, beta: float) -> None:
    total = np.array(list(itertools.product((-1.0, 1.0), repeat=dimension))).sum(axis=-1)
    weight = np.exp(beta * total**2 / (2 * dimension) + FIELD * total / dimension)
    weight /= weight.sum()
    magnet = CurieWeiss(dimension=dimension, beta=beta, majority=0.8)
    expected = weight[total > 0].sum() + 0.5 * weight[total == 0].sum()
    assert magnet.positive_probability == pytest.approx(expected, rel=1e-12)
    assert magnet.mean_magnetisation == pytest.approx((weight * np.abs(total)).sum() / dimension, rel=1e-12)
    assert CurieWeiss(dimension=dimension, beta=beta, majority=0.5).positive_probability == 0.5


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.1, 2.0, 6.0])
def test_selected_totals_stand_for_all(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    magnet = CurieWeiss(dimension=20_000, beta=beta)
    everything = magnet.positive_probability, magnet.mean_magnetisation
    monkeypatch.setattr("schedrl.sources.curie_weiss._MOST_SUMS", 1000)
    assert (magnet.positive_probability, magnet.mean_magnetisation) == pytest.approx(everything, rel=5e-5)


# --- the denoiser ----------------------------------------------------------------------------------------------------


def test_posterior_mean() -> None:
    assert enumeration_mean(G, 2.0, 0.1) == pytest.approx(MEAN, abs=5e-9)
    assert magnetisation_sum_mean(G, 2.0, 0.1) == pytest.approx(MEAN, abs=5e-9)
    assert quadrature_mean(G, 6.0, 2.0, 0.1) == pytest.approx(MEAN, abs=5e-9)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("dimension", [1, 2, 10])
def test_exact_denoisers_agree(dimension: int, beta: float, scale: float) -> None:
    g = scale * np.random.default_rng(0).standard_normal((4, dimension))
    expected = enumeration_mean(g, beta, FIELD)
    np.testing.assert_allclose(magnetisation_sum_mean(g, beta, FIELD), expected, atol=1e-13)
    np.testing.assert_allclose(quadrature_mean(g, dimension, beta, FIELD), expected, atol=1e-9)


@pytest.mark.parametrize("beta", [0.9, 1.1, 2.0])
def test_quadrature_agrees_with_the_sum_over_magnetisations(beta: float) -> None:
    g = 0.3 * np.random.default_rng(1).standard_normal((3, 150))
    expected = magnetisation_sum_mean(g, beta, FIELD)
    np.testing.assert_allclose(quadrature_mean(g, 150, beta, FIELD), expected, atol=1e-9)


def test_saddles_improve_with_dimension() -> None:
    rng = np.random.default_rng(2)
    worst = []
    for d in (50, 200, 1000, 4000):
        g = 0.05 * rng.standard_normal((4, d))
        worst.append(np.abs(saddle_mean(g, d, 2.0, FIELD) - quadrature_mean(g, d, 2.0, FIELD)).max())
    # Orders of magnitude as found in a probe of one draw: 5e-3, 1.4e-3, 3e-4, 2e-4.
    assert (np.array(worst) < np.array([1e-2, 3e-3, 6e-4, 4e-4])).all()
    assert worst[0] > 5 * worst[-1]


def test_weights_are_multiplicities() -> None:
    few, counts = np.array([-0.3, 0.1, 0.4]), np.array([20, 50, 30])
    weights = counts / counts.sum()
    many = np.repeat(few, counts)
    for method in (saddle_mean, quadrature_mean):
        np.testing.assert_allclose(
            np.repeat(method(few, 100, 2.0, FIELD, weights), counts),
            method(many, 100, 2.0, FIELD),
            atol=1e-12,
        )


def test_denoise_sees_the_noise_level() -> None:
    magnet, x = CurieWeiss(dimension=6, beta=2.0), np.array([0.3, -0.2, 0.1, 0.0, 0.5, -0.4])
    psi = math.atan(1.3)
    g = math.cos(psi) * x / math.sin(psi) ** 2
    expected = enumeration_mean(g, 2.0, FIELD)
    np.testing.assert_allclose(magnetisation_sum_mean(g, 2.0, FIELD), expected, atol=1e-9)
    np.testing.assert_allclose(magnet.denoise(x, 1.3), expected, atol=1e-9)
    np.testing.assert_allclose(magnet.denoise(x, 1.3, "quadrature"), expected, atol=1e-9)
    nothing = magnet.denoise(x, math.inf)
    np.testing.assert_allclose(nothing, nothing[0])
    total = np.array(list(itertools.product((-1.0, 1.0), repeat=6))).sum(axis=-1)
    weight = np.exp(2.0 * total**2 / 12 + FIELD * total / 6)
    assert nothing[0] == pytest.approx((weight * total).sum() / weight.sum() / 6, rel=1e-9)
    assert magnet.denoise(np.array([1, -1, 1, 1, -1, -1]), 1e-4) == pytest.approx([1, -1, 1, 1, -1, -1])


def test_denoiser_is_the_slope_of_the_density() -> None:
    """Tweedie: x + sin² ∇log p(x) = cos E[s | x], the slope taken by differences of the sum over spins."""
    magnet, x, sigma = CurieWeiss(dimension=5, beta=1.3), np.array([0.4, -0.1, 0.8, 0.2, -0.5]), 0.8
    cos, sin = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    spins = np.array(list(itertools.product((-1.0, 1.0), repeat=5)))
    total = spins.sum(axis=-1)
    prior = np.exp(1.3 * total**2 / 10 + FIELD * total / 5)

    def log_density(y: FloatArray) -> float:
        return math.log((prior * np.exp(-np.square(y - cos * spins).sum(axis=-1) / (2 * sin**2))).sum())

    slope = [(log_density(x + e) - log_density(x - e)) / 2e-5 for e in 1e-5 * np.eye(5)]
    assert cos * magnet.denoise(x, sigma) == pytest.approx(x + sin**2 * np.array(slope), abs=1e-8)


# --- what steps are worth --------------------------------------------------------------------------------------------

# Fraction of positive samples and variance of the coordinates within a sample at 20 steps, beta = 2: found with 2000
# samples at d = 100, 200 at d = 1000 and 400 at d = 1e4. A sample's variance varies by 0.04, 0.012 and 0.004.
TABLE = {
    "vp uniform": [(0.8220, 0.0830), (0.9000, 0.0766), (1.0000, 0.0775)],
    "ve uniform": [(0.7970, 0.0407), (0.7950, 0.0041), (0.7975, 0.00027)],
    "vp dilated": [(0.8080, 0.0768), (0.8050, 0.0643), (0.8075, 0.0651)],
    "ve dilated": [(0.7990, 0.0643), (0.8050, 0.0601), (0.8050, 0.0616)],
}


SAMPLES = {100: 400, 1000: 40, 10_000: 40}


@cache
def _simulated(kind: str, dimension: int) -> CurieWeissOutcome:
    return CurieWeiss(dimension=dimension).simulate(_grid(kind, 20, dimension), 5, SAMPLES[dimension])


@pytest.mark.parametrize("kind", TABLE)
def test_twenty_steps(kind: str) -> None:
    for dimension, (majority, variance), tolerance in zip(
        SAMPLES, TABLE[kind], (0.006, 0.006, 0.002), strict=True
    ):
        outcome = _simulated(kind, dimension)
        assert outcome.majority == pytest.approx(majority, abs=0.012 + 0.5 / SAMPLES[dimension])
        assert outcome.coordinate_variance == pytest.approx(variance, abs=tolerance)
        assert outcome.magnetisation == pytest.approx(0.96, abs=0.015)


@pytest.mark.parametrize("kind", TABLE)
def test_strata_stand_for_samples(kind: str) -> None:
    """The balance agrees to a stratum; the variance to 3 %, and to a further 1/d of what strata leave out."""
    for dimension, method in ((100, "quadrature"), (1000, "saddle"), (10_000, "saddle")):
        found, grid = _simulated(kind, dimension), _grid(kind, 20, dimension)
        x = strata_start(32, 32, float(dimension))
        for now, after in itertools.pairwise(grid.sigmas):
            x = strata_step(x, now, after, float(dimension), 2.0, 0.8, method)  # type: ignore[arg-type]
        majority, variance = strata_outcome(x)
        assert float(majority) == pytest.approx(found.majority, abs=1 / 32 + 0.5 / SAMPLES[dimension])
        assert float(variance) == pytest.approx(found.coordinate_variance, rel=0.06, abs=0.006)


def test_more_strata_change_little() -> None:
    for kind, dimension in itertools.product(TABLE, (100.0, 1e4, 1e9)):
        outcomes = []
        for samples, strata in ((32, 32), (150, 200)):
            x = strata_start(samples, strata, dimension)
            for now, after in itertools.pairwise(_grid(kind, 20, dimension).sigmas):
                x = strata_step(x, now, after, dimension, 2.0, 0.8)
            outcomes.append([float(part) for part in strata_outcome(x)])
        (majority, variance), (fine_majority, fine_variance) = outcomes
        assert majority == pytest.approx(fine_majority, abs=1 / 32)
        assert variance == pytest.approx(fine_variance, rel=0.05)


def test_dilated_strata_do_not_feel_the_dimension() -> None:
    def outcome(kind: str, dimension: float) -> tuple[float, float]:
        x = strata_start(64, 32, dimension)
        for now, after in itertools.pairwise(_grid(kind, 40, dimension).sigmas):
            x = strata_step(x, now, after, dimension, 2.0, 0.8)
        majority, variance = strata_outcome(x)
        return float(majority), float(variance)

    target = CurieWeiss(dimension=1).limiting_probability, 1 - float(spontaneous_magnetisation(2.0)) ** 2
    for kind in ("vp dilated", "ve dilated"):
        for dimension in (1e4, 1e7, 1e10):
            assert outcome(kind, dimension) == pytest.approx(target, abs=0.016)
    assert outcome("vp uniform", 1e7)[0] == 1.0
    assert outcome("ve uniform", 1e7)[1] < 1e-4


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["saddle", "quadrature"])
def test_batch_is_its_members(method: str) -> None:
    parameters = np.array([[np.inf, 3.0, 50.0, 1.5, 0.7], [20.0, 0.0, 300.0, 2.5, 0.9]]).T[:, :, None, None]
    sigma, after, dimension, beta, majority = parameters
    x = strata_start(5, 8, dimension)
    assert x.shape == (2, 5, 8)
    together = strata_step(x, sigma, after, dimension, beta, majority, method)  # type: ignore[arg-type]
    for b in range(2):
        a, z, d, t, p = (float(value[b, 0, 0]) for value in parameters)
        alone = strata_step(x[b], a, z, d, t, p, method)  # type: ignore[arg-type]
        np.testing.assert_allclose(together[b], alone, atol=1e-9)
    both = strata_outcome(together)
    assert [part.shape for part in both] == [(2,), (2,)]
    assert both[1][1] == pytest.approx(float(strata_outcome(together[1])[1]))


def test_strata_are_gaussian() -> None:
    x, weights = strata_start(7, 24, 1e12), strata_weights(7, 24)
    assert (np.diff(x, axis=-1) > 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0)
    np.testing.assert_allclose((weights * x).sum(axis=-1), 0.0, atol=2e-6)
    np.testing.assert_allclose((weights * x**2).sum(axis=-1), 1.0, rtol=1e-9)
    np.testing.assert_allclose((weights * x**4).sum(axis=-1), 3.0, rtol=0.03)
    with pytest.raises(ValueError, match="read-only"):
        weights[0] = 0.0


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"dimension": 0},
        {"dimension": 2.5},
        {"dimension": math.inf},
        {"beta": 0.0},
        {"beta": -1.0},
        {"beta": math.nan},
        {"beta": 11.0},
        {"majority": 0.3},
        {"majority": 1.0},
        {"field": 0.1},
    ],
)
def test_bad_magnets(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        CurieWeiss.model_validate({"dimension": 100, **fields})


def test_bad_arguments() -> None:
    magnet, x = CurieWeiss(dimension=600), np.zeros(600)
    with pytest.raises(SchedrlError, match="unknown method 'sadle'; did you mean 'saddle'"):
        magnet.denoise(x, 1.0, "sadle")  # type: ignore[arg-type]
    with pytest.raises(
        SchedrlError, match=r"field 'x': .* last axis of dimension = 600 \(got shape \(5,\)\)"
    ):
        magnet.denoise(np.zeros(5), 1.0)
    with pytest.raises(SchedrlError, match="field 'x': must be finite"):
        magnet.denoise(np.full(600, math.nan), 1.0)
    for sigma in (0.0, -1.0, math.nan):
        with pytest.raises(SchedrlError, match="field 'sigma': must be positive"):
            magnet.denoise(x, sigma)
    with pytest.raises(SchedrlError, match="field 'num_samples': must be a whole number of at least 2"):
        magnet.simulate(dilated_grid(4, 600.0), 0, 1)
    with pytest.raises(SchedrlError, match="field 'num_strata': must be a whole number of at least 4"):
        strata_start(4, 3, 100.0)


@pytest.mark.parametrize(("beta", "dimension"), [(0.9, 600), (1.05, 600), (2.0, 10)])
def test_saddles_need_two_modes(beta: float, dimension: int) -> None:
    magnet = CurieWeiss(dimension=dimension, beta=beta)
    with pytest.raises(SchedrlError, match="field 'method': 'saddle' needs two separate modes"):
        magnet.denoise(np.zeros(dimension), 1.0, "saddle")
    assert np.isfinite(magnet.denoise(np.zeros(dimension), 1.0)).all()
