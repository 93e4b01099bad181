"""Aggregates over environments: against rliable, by hand, and coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from schedrl.errors import SchedrlError
from schedrl.stats.intervals import interquartile_mean
from schedrl.stats.profiles import (
    Method,
    Statistic,
    aggregate,
    average,
    improvement,
    interquartile,
    optimality_gap,
    paired_aggregate,
    performance_profile,
)

Array = NDArray[np.float64]


def scores(seed: int, environments: int = 3, seeds: int = 10) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(rng.uniform(0.0, 1.0, (environments, 1)), 0.4, (environments, seeds))


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


# --- what others compute on the same numbers ---


def test_estimates_and_percentile_intervals_are_rliables() -> None:
    library = pytest.importorskip("rliable.library")
    metrics = pytest.importorskip("rliable.metrics")
    values = scores(0)
    np.random.seed(3)  # noqa: NPY002 - theirs draws from the global generator
    theirs, bounds = library.get_interval_estimates(
        {"ours": values.T},
        lambda x: np.array(
            [metrics.aggregate_iqm(x), metrics.aggregate_optimality_gap(x), metrics.aggregate_mean(x)]
        ),
        reps=4000,
    )
    statistics: list[Statistic] = [interquartile, optimality_gap(), average]
    for column, statistic in enumerate(statistics):
        found = aggregate(values, generator(), statistic, method="percentile", resamples=20_000)
        assert found.value == pytest.approx(theirs["ours"][column], rel=1e-12)
        # Quantiles of 4000 resamples are known to about a thirtieth of the interval.
        near = pytest.approx(bounds["ours"][:, column], abs=0.04 * 2.0 * found.half_width)
        assert [found.low, found.high] == near


def test_probability_of_improvement_is_rliables() -> None:
    library = pytest.importorskip("rliable.library")
    metrics = pytest.importorskip("rliable.metrics")
    first, second = scores(1), scores(2, seeds=8)
    np.random.seed(4)  # noqa: NPY002 - as above
    theirs, bounds = library.get_interval_estimates(
        {"x": [first.T, second.T]},
        lambda x, y: np.array([metrics.probability_of_improvement(x, y)]),
        reps=2000,
    )
    found = improvement(first, second, generator(), resamples=20_000)
    assert found.value == pytest.approx(theirs["x"][0], rel=1e-12)
    # Resampled values are multiples of 1/240; 2000 of them know a quantile to a few.
    np.testing.assert_allclose([found.low, found.high], bounds["x"][:, 0], atol=4.01 / 240.0)


def test_performance_profile_is_rliables() -> None:
    library = pytest.importorskip("rliable.library")
    values, thresholds = scores(5), np.linspace(-0.5, 1.5, 9)
    np.random.seed(6)  # noqa: NPY002 - as above
    shares, bounds = library.create_performance_profile({"x": values.T}, thresholds)
    found = performance_profile(values, thresholds, generator())
    np.testing.assert_allclose(found.share, shares["x"], rtol=1e-12)
    # Resampled shares are multiples of a thirtieth.
    np.testing.assert_allclose([found.low, found.high], bounds["x"], atol=1.01 / 30.0)


# --- by hand ---


def test_interquartile_mean_is_of_all_scores_together() -> None:
    values = scores(8, 4, 7)
    found = aggregate(values, generator()).value
    assert found == pytest.approx(stats.trim_mean(values, 0.25, axis=None), rel=1e-12)


@pytest.mark.parametrize("statistic", [average, interquartile, optimality_gap(0.6)])
def test_pseudo_values_give_the_variance_over_many_draws(statistic: Statistic) -> None:
    values = scores(9, 3, 400)
    drawn = np.stack([scores_like(values, seed) for seed in range(1500)])
    spread = statistic(drawn)[0].std()
    _, pseudo = statistic(values)
    claimed = math.sqrt(float((pseudo.var(axis=1, ddof=1) / 400).sum()))
    assert claimed == pytest.approx(spread, rel=0.08)  # a spread of 1500 draws is known to 2 %


def scores_like(values: Array, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return np.stack([row[rng.integers(len(row), size=len(row))] for row in values])


def test_a_reference_of_the_same_seeds_takes_their_luck_away() -> None:
    luck = scores(10)
    better = luck + 0.05 + 0.01 * scores(11)
    found = paired_aggregate(better, luck, generator(), average)
    assert found.value == pytest.approx(float((better - luck).mean()), rel=1e-12)
    assert found.excludes_zero
    assert aggregate(luck, generator(), average).half_width > 10.0 * found.half_width
    # Seeds that are not those of the reference leave it in.
    mixed = paired_aggregate(better, luck[:, ::-1], generator(), average)
    assert mixed.value == pytest.approx(found.value, rel=1e-9)
    assert mixed.half_width > 10.0 * found.half_width


def test_a_paired_mean_is_close_to_students_interval() -> None:
    first, second = scores(12, 1, 30), scores(13, 1, 30)
    exact = stats.ttest_rel(first[0], second[0]).confidence_interval(0.95)
    found = paired_aggregate(first, second, generator(), average)
    assert [found.low, found.high] == pytest.approx([exact.low, exact.high], rel=1e-12)
    # The studentised bootstrap, which knows nothing of t, agrees with it on noise that is normal.
    drawn = paired_aggregate(first, second, generator(), average, method="studentised", resamples=20_000)
    assert [drawn.low, drawn.high] == pytest.approx([exact.low, exact.high], abs=0.15 * drawn.half_width)


def test_the_mean_over_environments_of_unlike_spread() -> None:
    # Two environments are Welch's test of a sum: the sign of one turned, the difference of two means.
    values = scores(17, 2) * np.array([[1.0], [5.0]])
    exact = stats.ttest_ind(values[0], -values[1], equal_var=False).confidence_interval(0.95)
    found = aggregate(values, generator(), average)
    assert [found.low, found.high] == pytest.approx([0.5 * exact.low, 0.5 * exact.high], rel=1e-12)


def test_resamples_without_spread_do_not_stretch_the_interval() -> None:
    # Eight of ten scores reach the target: a tenth of all resamples hold nothing else.
    values = np.array([[2.0] * 8 + [0.5, 0.0]])
    found = aggregate(values, generator(), optimality_gap())
    assert found.value == pytest.approx(0.15)
    assert found.half_width < 2.0


def test_one_environment_has_the_interval_of_its_seeds() -> None:
    values = scores(18, 1)
    assert aggregate(values, generator()) == interquartile_mean(values[0])
    assert paired_aggregate(values, scores(19, 1), generator()) == interquartile_mean(
        values[0] - scores(19, 1)[0]
    )


def test_a_profile_falls_from_one_to_nothing_within_its_interval() -> None:
    profile = performance_profile(scores(14), np.linspace(-9.0, 9.0, 40), generator())
    share, low, high = (np.array(part) for part in (profile.share, profile.low, profile.high))
    assert share[0] == 1.0
    assert share[-1] == 0.0
    assert (np.diff(share) <= 0.0).all()
    assert (low <= share).all()
    assert (share <= high).all()


def test_little_to_go_by() -> None:
    alone = aggregate([[1.0], [2.0]], generator())
    assert (alone.value, alone.low, alone.high) == (1.5, -math.inf, math.inf)
    alike = aggregate(np.full((2, 10), 0.1), generator())
    assert alike.low == alike.value == alike.high == pytest.approx(0.1)
    assert improvement([[2.0]], [[1.0]], generator()).low == 0.0


@pytest.mark.parametrize("method", ["studentised", "percentile"])
def test_fixed_by_the_generator(method: Method) -> None:
    one, two, other = (
        aggregate(scores(15), np.random.default_rng(seed), method=method) for seed in (0, 0, 1)
    )
    assert one == two != other


def test_bad_input() -> None:
    with pytest.raises(SchedrlError, match=r"scores: must be a matrix \[environments, seeds\] \(got shape"):
        aggregate([1.0, 2.0], generator())
    with pytest.raises(SchedrlError, match=r"scores: every number must be finite \(got nan\)"):
        aggregate([[1.0, math.nan]], generator())
    with pytest.raises(
        SchedrlError, match=r"reference: must have the shape of scores, \(1, 2\) \(got \(1, 3\)"
    ):
        paired_aggregate([[1.0, 2.0]], [[1.0, 2.0, 3.0]], generator())
    with pytest.raises(SchedrlError, match=r"worse: must have as many environments as better, 1 \(got 2\)"):
        improvement([[1.0, 2.0]], [[1.0], [2.0]], generator())
    with pytest.raises(SchedrlError, match="thresholds: must be an ascending list"):
        performance_profile([[1.0, 2.0]], [1.0, 0.0], generator())
    with pytest.raises(SchedrlError, match="did you mean 'percentile'"):
        aggregate([[1.0, 2.0]], generator(), method="percentiles")  # type: ignore[arg-type]


# --- coverage ---


def test_the_default_covers_as_often_as_it_says_and_percentiles_do_not() -> None:
    """The short form of scripts/check_intervals.py: ten seeds in each of four environments that lie apart."""
    rng = np.random.default_rng(16)
    centres = np.array([0.0, 10.0, 20.0, 30.0])
    # The middle half of all scores is then the whole of the two environments between.
    hits = {"studentised": 0, "percentile": 0}
    for _ in range(600):
        values = rng.normal(centres[:, None], 1.0, (4, 10))
        for method in hits:
            found = aggregate(values, rng, method=method, resamples=400)  # type: ignore[arg-type]
            hits[method] += found.low <= 15.0 <= found.high
    # Standard error of a share is 0.009.
    assert 0.915 < hits["studentised"] / 600 < 0.975
    assert hits["percentile"] < hits["studentised"]
