"""What must hold for every schedule, whatever its parameters and number of steps."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedrl import schedules
from schedrl.errors import SchedrlError
from schedrl.schedules import LOGSNR_LIMIT, MAX_BETA, Schedule

STEPS = (1, 2, 100, 250, 1000, 4000)
U = np.linspace(0.0, 1.0, 1001)


def _ordered(low: float, high: float, gap: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(low, high), st.floats(low, high)).filter(lambda p: p[1] - p[0] > gap)


def _sigma_range() -> st.SearchStrategy[dict[str, float]]:
    return _ordered(-7.0, 7.0, 0.1).map(
        lambda p: {"sigma_min": float(np.exp(p[0])), "sigma_max": float(np.exp(p[1]))}
    )


def _piecewise() -> st.SearchStrategy[Schedule]:
    masses = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=12)
    return st.tuples(masses, _ordered(-19.0, 19.0, 1.0)).map(
        lambda m: schedules.PiecewiseLogSNR.from_density(np.linspace(m[1][1], m[1][0], len(m[0]) + 1), m[0])
    )


def _make(name: str, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Schedule]:
    return st.fixed_dictionaries(fields).map(lambda params: schedules.get(name, **params))


_BETA_ENDS = _ordered(1e-5, 0.05, 1e-4).map(lambda p: {"beta_start": p[0], "beta_end": p[1]})
_BETA_LIST = st.lists(st.floats(1e-5, 0.9999), min_size=1, max_size=40)

LAWS: dict[str, st.SearchStrategy[Schedule]] = {
    "linear": _BETA_ENDS.map(lambda p: schedules.get("linear", **p)),
    "scaled-linear": _BETA_ENDS.map(lambda p: schedules.get("scaled-linear", **p)),
    "cosine": _make("cosine", s=st.floats(0.0, 1.0)),
    "sigmoid": st.tuples(_ordered(-5.0, 5.0, 0.5), st.floats(0.1, 3.0)).map(
        lambda p: schedules.get("sigmoid", start=p[0][0], end=p[0][1], tau=p[1])
    ),
    "vp": st.tuples(_ordered(0.01, 50.0, 0.1), st.floats(0.0, 1e-2)).map(
        lambda p: schedules.get("vp", beta_min=p[0][0], beta_max=p[0][1], epsilon=p[1])
    ),
    "ve": _sigma_range().map(lambda p: schedules.get("ve", **p)),
    "karras": st.tuples(_sigma_range(), st.floats(0.5, 20.0)).map(
        lambda p: schedules.get("karras", rho=p[1], **p[0])
    ),
    "edm": _make("edm", mean=st.floats(-4.0, 4.0), std=st.floats(0.1, 4.0)),
    "laplace": _make("laplace", mean=st.floats(-8.0, 8.0), scale=st.floats(0.05, 5.0)),
    "tangent": _make("tangent", gamma=st.floats(-6.0, 6.0).map(lambda x: float(np.exp(x)))),
    "uniform": _ordered(-20.0, 20.0, 0.1).map(
        lambda p: schedules.get("uniform", logsnr_min=p[0], logsnr_max=p[1])
    ),
    "printed-linear": _make("printed-linear", num_train_timesteps=st.integers(1, 2000)),
    "ava": _make("ava", beta_init=st.floats(0.01, 5.0), K=st.floats(0.0, 1e4), alpha=st.floats(0.01, 50.0)),
    "piecewise": _piecewise(),
    "betas": _BETA_LIST.map(lambda b: schedules.Betas(betas=tuple(b))),
    "beta-knots": _BETA_LIST.map(lambda b: schedules.BetaKnots(betas=tuple(b))),
}
any_law = st.sampled_from(sorted(LAWS)).flatmap(lambda name: LAWS[name])
DEFAULTS = [
    schedules.get(name) for name in schedules.names() if name not in ("piecewise", "betas", "beta-knots")
]
quick = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def test_every_law_is_tested_here() -> None:
    assert set(LAWS) == set(schedules.names())


@quick
@given(any_law)
def test_continuous_law_is_finite_clipped_and_falling(schedule: Schedule) -> None:
    logsnr = schedule.logsnr(U)
    assert logsnr.dtype == np.float64
    assert logsnr.shape == U.shape
    assert np.isfinite(logsnr).all()
    assert np.abs(logsnr).max() <= LOGSNR_LIMIT
    assert (np.diff(logsnr) <= 1e-12).all()
    assert schedule.logsnr(U.reshape(7, 11, 13)).shape == (7, 11, 13)
    assert float(schedule.logsnr(0.5)) == pytest.approx(logsnr[500], rel=1e-12, abs=1e-12)


@quick
@given(any_law, st.sampled_from(STEPS))
def test_steps_are_consistent(schedule: Schedule, num_steps: int) -> None:
    betas = schedule.betas(num_steps)
    assert betas.shape == (num_steps,)
    assert betas.dtype == np.float64
    assert (betas > 0.0).all()
    assert (betas <= MAX_BETA).all()
    np.testing.assert_allclose(
        np.cumprod(1.0 - betas), schedule.alphas_cumprod(num_steps), rtol=1e-9, atol=1e-300
    )
    log_alpha_bar = schedule.log_alphas_cumprod(num_steps)
    assert np.isfinite(log_alpha_bar).all()
    assert (np.diff(log_alpha_bar) <= 0.0).all()
    np.testing.assert_allclose(np.exp(log_alpha_bar), schedule.alphas_cumprod(num_steps), rtol=1e-12)
    logsnr = schedule.logsnr_steps(num_steps)
    assert np.isfinite(logsnr).all()
    assert (np.diff(logsnr) <= 0.0).all()
    # λ and log ᾱ describe the same noise: log ᾱ - λ = log(1 - ᾱ), and ᾱ + (1 - ᾱ) = 1.
    np.testing.assert_allclose(np.exp(log_alpha_bar) + np.exp(log_alpha_bar - logsnr), 1.0, rtol=1e-12)


@quick
@given(any_law)
def test_json_hash_and_equality(schedule: Schedule) -> None:
    text = schedule.model_dump_json()
    again = schedules.from_json(text)
    assert type(again) is type(schedule)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert schedules.from_dict(schedule.model_dump()) == schedule
    assert again.model_dump_json() == text
    assert len({schedule, again}) == 1


@quick
@given(any_law, st.integers(0, 2**32 - 1))
def test_fraction_above_inverts_the_law(schedule: Schedule, seed: int) -> None:
    u = np.concatenate([np.random.default_rng(seed).random(64), [1e-6, 1e-4, 1 - 1e-4, 1 - 1e-6]])
    logsnr = schedule.logsnr(u)
    unclipped = np.abs(logsnr) < LOGSNR_LIMIT
    fraction = schedule.fraction_above(logsnr)[unclipped]
    # λ has a relative precision of 1e-15 or so; where the law is nearly flat that is a larger piece of u.
    slack = 1e-13
    low = schedule.fraction_above(logsnr + slack)[unclipped]
    high = schedule.fraction_above(logsnr - slack)[unclipped]
    assert (low <= u[unclipped] + 1e-12).all()
    assert (u[unclipped] - 1e-12 <= high).all()
    assert (low <= fraction).all()
    assert (fraction <= high).all()
    np.testing.assert_allclose(schedule.logsnr(fraction), logsnr[unclipped], atol=1e-9)
    levels = np.linspace(-25.0, 25.0, 501)
    fraction = schedule.fraction_above(levels)
    assert fraction[0] == 1.0
    assert fraction[-1] == 0.0
    if schedule.logsnr(0.0) > schedule.logsnr(1.0) + 1e-6:  # a single beta is a constant law
        assert float(schedule.fraction_above(schedule.logsnr(0.0))) < 1e-9
    assert (np.diff(fraction) <= 1e-12).all()


def test_fraction_above_counts_strictly_larger_draws_of_a_clipped_law() -> None:
    law = schedules.get("tangent", gamma=np.exp(-9.0))  # λ = 18 - 2 log tan(πu/2), clipped at 20 for small u
    clipped_until = 2 / np.pi * np.arctan(np.exp(-1.0))
    assert float(law.fraction_above(20.0)) == 0.0
    assert float(law.fraction_above(20.0 - 1e-9)) == pytest.approx(clipped_until, abs=1e-9)
    mirrored = schedules.get("tangent", gamma=np.exp(9.0))
    assert float(mirrored.fraction_above(-20.0)) == pytest.approx(1.0 - clipped_until, abs=1e-9)
    assert float(mirrored.fraction_above(-20.0 - 1e-9)) == 1.0


def test_fraction_above_of_a_beta_law_knows_that_draws_are_clipped() -> None:
    law = schedules.Betas(betas=(1e-12, 0.5, 0.9, 0.99, 0.999, 0.999, 0.999))  # λ from 28 to below -20
    assert law.fraction_above([20.0, 19.0, -20.0, -20.1]).tolist() == [
        0.0,
        pytest.approx(np.exp(-19.0) / np.log(2.0) / 6, rel=1e-3),
        pytest.approx(law.fraction_above(-19.999999), rel=1e-6),
        1.0,
    ]


@pytest.mark.parametrize("schedule", DEFAULTS, ids=lambda s: s.name)
def test_draws_follow_the_law(schedule: Schedule) -> None:
    n = 20_000
    draws = schedule.sample_logsnr(n, np.random.default_rng(7))
    assert draws.shape == (n,)
    quantiles = np.linspace(0.05, 0.95, 19)
    larger = (draws[:, None] > schedule.logsnr(quantiles)[None, :]).mean(axis=0)
    # Four standard errors of a binomial; where the law is clipped the quantiles coincide and say nothing.
    informative = np.abs(schedule.logsnr(quantiles)) < LOGSNR_LIMIT
    assert informative.any() or schedule.name == "printed-linear"
    assert np.abs(larger - quantiles)[informative].max(initial=0.0) < 4 * np.sqrt(0.25 / n)


@pytest.mark.parametrize("schedule", DEFAULTS, ids=lambda s: s.name)
def test_discrete_draws_are_uniform_over_the_steps(schedule: Schedule) -> None:
    steps = np.clip(schedule.logsnr_steps(10), -LOGSNR_LIMIT, LOGSNR_LIMIT)
    draws = schedule.sample_logsnr(10_000, np.random.default_rng(11), num_steps=10)
    levels, counts = np.unique(draws, return_counts=True)
    expected_levels, multiplicity = np.unique(steps, return_counts=True)
    np.testing.assert_array_equal(levels, expected_levels)
    assert np.abs(counts - 1000 * multiplicity).max() < 4 * np.sqrt(10_000 * 0.25)


def test_draws_depend_on_the_generator_alone() -> None:
    law = schedules.get("cosine")
    np.testing.assert_array_equal(law.sample_logsnr(5, 3), law.sample_logsnr(5, np.random.default_rng(3)))
    assert not np.array_equal(law.sample_logsnr(5, 3), law.sample_logsnr(5, 4))
    generator = np.random.default_rng(0)
    assert not np.array_equal(law.sample_logsnr(5, generator), law.sample_logsnr(5, generator))
    assert law.sample_logsnr(0, 0).shape == (0,)


def test_draws_of_any_schedule_use_the_same_uniform_numbers() -> None:
    """Two laws seeded alike must stay comparable: the same ranks, whatever the law."""
    ranks = [
        np.argsort(-schedules.get(name).sample_logsnr(50, 5)).tolist() for name in ("cosine", "edm", "ve")
    ]
    assert ranks[0] == ranks[1] == ranks[2]


def test_schedule_is_abstract_and_frozen() -> None:
    assert inspect.isabstract(Schedule)
    schedule = schedules.get("cosine")
    with pytest.raises(ValueError, match="frozen"):
        schedule.s = 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s: s.logsnr([0.0, 1.5]),
            r"field 'u': must lie in \[0, 1\] \(got 1\.5\)",
        ),
        (lambda s: s.logsnr(-0.25), r"field 'u'.*-0\.25"),
        (lambda s: s.logsnr(np.nan), r"field 'u'.*nan"),
        (lambda s: s.betas(0), r"field 'T': must be a whole number of at least 1 \(got 0\)"),
        (lambda s: s.alphas_cumprod(2.5), r"field 'T'.*2\.5"),
        (lambda s: s.logsnr_steps(True), r"field 'T'.*True"),
        (lambda s: s.log_alphas_cumprod("10"), r"field 'T'.*'10'"),
        (lambda s: s.sample_logsnr(-1, 0), r"field 'n'.*at least 0 \(got -1\)"),
        (lambda s: s.sample_logsnr(4, 0, num_steps=0), r"field 'num_steps'.*at least 1 \(got 0\)"),
    ],
)
def test_bad_arguments_are_explained(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SchedrlError, match=message):
        call(schedules.get("cosine"))


def test_numpy_integers_count() -> None:
    assert schedules.get("cosine").betas(np.int64(7)).shape == (7,)  # type: ignore[arg-type]
