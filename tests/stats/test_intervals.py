"""Interval statistics: exact values by another route, and coverage by simulation."""

from __future__ import annotations

import math
from statistics import mean as plain_mean
from statistics import stdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from schedrl.errors import SchedrlError
from schedrl.stats.intervals import (
    Interval,
    geometric_mean,
    interquartile_mean,
    mean,
    paired_difference,
)
from schedrl.stats.profiles import improvement

VALUES = [2.91, 2.89, 2.95, 2.90, 2.93, 2.88, 2.97, 2.92]


def test_mean_is_that_of_a_table_of_t() -> None:
    # t(0.975, 7) = 2.3646 in any printed table.
    reach = 2.364624 * stdev(VALUES) / math.sqrt(8)
    interval = mean(VALUES)
    assert interval.value == pytest.approx(plain_mean(VALUES), abs=1e-12)
    assert interval.low == pytest.approx(plain_mean(VALUES) - reach, abs=1e-7)
    assert interval.high == pytest.approx(plain_mean(VALUES) + reach, abs=1e-7)


def test_mean_agrees_with_scipy() -> None:
    low, high = stats.t.interval(0.9, 7, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    interval = mean(VALUES, level=0.9)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_mean_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for sample in rng.normal(3.0, 0.2, (4000, 6)):
        interval = mean(sample)
        hits += interval.low <= 3.0 <= interval.high
    # Standard error of the share is 0.0034.
    assert 0.936 < hits / 4000 < 0.964


def test_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    values = [100.0, 3.0, 1.0, 2.0, -50.0, 4.0, 5.0, 0.0]
    value = interquartile_mean(values).value
    assert value == plain_mean([1.0, 2.0, 3.0, 4.0])
    assert value == pytest.approx(stats.trim_mean(values, 0.25))


def test_interquartile_means_interval_is_that_of_a_trimmed_mean() -> None:
    # SciPy's one-sample trimmed t test inverts to the same interval: its p at either end is 5 %.
    interval = interquartile_mean(VALUES)
    for end in (interval.low, interval.high):
        shifted = np.array(VALUES) - end
        # Yuen's two-sample test against a sample without spread is the one-sample test.
        still = np.zeros(10**6)
        result = stats.ttest_ind(shifted, still, equal_var=False, trim=0.25)
        assert result.pvalue == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(
    "law", [stats.norm(), stats.expon(), stats.t(3)], ids=["normal", "exponential", "t3"]
)
@pytest.mark.parametrize("count", [10, 20])
def test_interquartile_mean_covers_as_often_as_it_says(law: Any, count: int) -> None:
    """The short form of scripts/check_intervals.py."""
    truth = 2.0 * integrate.quad(law.ppf, 0.25, 0.75)[0]
    hits = 0
    for sample in law.rvs((3000, count), random_state=np.random.default_rng(2)):
        interval = interquartile_mean(sample)
        hits += interval.low <= truth <= interval.high
    # Standard error of the share is 0.004; over 40000 samples it is 0.931 to 0.953.
    assert 0.92 < hits / 3000 < 0.965


def test_pairing_removes_what_seeds_have_in_common() -> None:
    rng = np.random.default_rng(3)
    luck = rng.normal(0.0, 1.0, 20)
    ours, theirs = luck + rng.normal(0.0, 0.01, 20), luck + 0.05 + rng.normal(0.0, 0.01, 20)
    paired = paired_difference(theirs, ours)
    expected = stats.ttest_rel(theirs, ours).confidence_interval(0.95)
    assert (paired.low, paired.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert paired.excludes_zero
    assert mean(ours).half_width > 20 * paired.half_width


def test_probability_of_improvement_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(0.5, 1.0, 15), rng.normal(0.0, 1.0, 12)
    interval = improvement([first], [second], rng, resamples=10_000)
    assert interval.value == pytest.approx(stats.mannwhitneyu(first, second).statistic / (15 * 12))
    assert 0.0 <= interval.low < interval.value < interval.high <= 1.0


def test_probability_of_improvement_resamples_both_sides() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(0.3, 1.0, 10), rng.normal(0.0, 1.0, 10)
    slow = []
    for _ in range(4000):
        left = first[rng.integers(10, size=10)]
        right = second[rng.integers(10, size=10)]
        slow.append(np.mean([(a > b) + 0.5 * (a == b) for a in left for b in right]))
    interval = improvement([first], [second], np.random.default_rng(6), resamples=10_000)
    assert (interval.low, interval.high) == pytest.approx(
        np.quantile(slow, [0.025, 0.975]).tolist(), abs=0.03
    )


def test_ties_count_half() -> None:
    assert improvement([[1.0, 1.0]], [[1.0, 1.0]], np.random.default_rng(0)).value == 0.5


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_every_interval_holds_its_estimate(values: list[float]) -> None:
    interval = mean(values)
    assert interval.low <= interval.value <= interval.high
    middle = interquartile_mean(values)
    assert middle.low <= middle.value <= middle.high
    assert min(values) - 1e-9 <= middle.value <= max(values) + 1e-9


def test_one_value_bounds_nothing() -> None:
    assert mean([2.0]) == Interval(2.0, -math.inf, math.inf)
    assert interquartile_mean([2.0]) == Interval(2.0, -math.inf, math.inf)
    assert not mean([2.0]).excludes_zero
    assert improvement([[2.0]], [[1.0]], np.random.default_rng(0)) == Interval(1.0, 0.0, 1.0)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, math.nan], [math.inf]])
def test_what_cannot_be_averaged_is_refused(values: list[float]) -> None:
    with pytest.raises(SchedrlError, match="values: "):
        mean(values)


def test_pairs_must_match() -> None:
    with pytest.raises(SchedrlError, match="one value per seed, 2"):
        paired_difference([1.0, 2.0], [1.0])


def test_formats() -> None:
    interval = Interval(-0.01234, -0.02, -0.005)
    assert f"{interval:+.3f}" == "-0.012 [-0.020, -0.005]"
    assert interval.plus_minus("+.4f") == "-0.0123 ± 0.0075"
    assert str(Interval(1.0, 0.5, 1.5)) == "1.0000 [0.5000, 1.5000]"
    assert interval.excludes_zero
    assert not Interval(0.1, 0.0, 0.2).excludes_zero


def test_geometric_mean() -> None:
    rng = np.random.default_rng(0)
    ratios = [0.5, 2.0, 4.0, 1.0]
    interval = geometric_mean(ratios, rng)
    assert interval.value == pytest.approx(math.sqrt(2.0))
    assert min(ratios) <= interval.low < interval.value < interval.high <= max(ratios)
    scaled = geometric_mean([10.0 * ratio for ratio in ratios], np.random.default_rng(0))
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx(
        (10.0 * interval.value, 10.0 * interval.low, 10.0 * interval.high)
    )
    assert geometric_mean([3.0], rng).low == 0.0
    assert math.isinf(geometric_mean([3.0], rng).high)


def test_geometric_mean_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for logs in rng.normal(0.0, 0.5, (200, 40)):
        interval = geometric_mean(np.exp(logs), rng)
        hits += interval.low <= 1.0 <= interval.high
    # A percentile bootstrap of 40 values covers about 93 %; the share's standard error is 0.018.
    assert 0.87 < hits / 200 < 0.99


def test_what_has_no_geometric_mean() -> None:
    for values in ([1.0, 0.0], [1.0, -1.0]):
        with pytest.raises(SchedrlError, match="must be positive"):
            geometric_mean(values, np.random.default_rng(0))
