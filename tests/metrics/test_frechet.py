"""The Fréchet distance of feature sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from schedrl.errors import SchedrlError
from schedrl.metrics.distances import FeatureStatistics, frechet_distance

seeds = st.integers(0, 10_000)


def statistics(seed: int, count: int = 60, dimension: int = 4) -> FeatureStatistics:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dimension, dimension))
    return FeatureStatistics.of(
        rng.standard_normal((count, dimension)) @ mixing + rng.standard_normal(dimension)
    )


@given(seeds, seeds)
def test_symmetric_and_zero_on_itself(one: int, two: int) -> None:
    first, second = statistics(one), statistics(two)
    assert frechet_distance(first, second) == pytest.approx(
        frechet_distance(second, first), rel=1e-8, abs=1e-9
    )
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(first, second) >= 0.0


@given(seeds, seeds)
def test_as_the_matrix_root_has_it(one: int, two: int) -> None:
    first, second = statistics(one), statistics(two)
    root = np.real(linalg.sqrtm(first.covariance @ second.covariance))
    wanted = np.square(first.mean - second.mean).sum() + np.trace(
        first.covariance + second.covariance - 2.0 * root
    )
    assert frechet_distance(first, second) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_diagonal_by_hand() -> None:
    # Standard deviations 2 and 1 against 3 and 1, means 1 apart: 1 + (3 - 2)^2.
    first = FeatureStatistics(np.zeros(2), np.diag([4.0, 1.0]), 100)
    second = FeatureStatistics(np.array([1.0, 0.0]), np.diag([9.0, 1.0]), 100)
    assert frechet_distance(first, second) == pytest.approx(2.0, rel=1e-12)
    # A direction without any spread breaks nothing.
    flat = FeatureStatistics(np.zeros(2), np.diag([4.0, 0.0]), 100)
    assert frechet_distance(flat, first) == pytest.approx(1.0, rel=1e-12)


def test_the_bias_falls_with_the_number_of_samples() -> None:
    rng = np.random.default_rng(0)
    truth = FeatureStatistics(np.zeros(8), np.eye(8), 10**9)
    few, many = (
        np.mean([
            frechet_distance(FeatureStatistics.of(rng.standard_normal((count, 8))), truth) for _ in range(20)
        ])
        for count in (20, 2000)
    )  # fmt: skip
    assert few > 10.0 * many > 0.0


def test_bad_features() -> None:
    with pytest.raises(SchedrlError, match=r"4 dimensions need at least 5 samples \(got 4\)"):
        FeatureStatistics.of(np.zeros((4, 4)))
    with pytest.raises(SchedrlError, match="finite"):
        FeatureStatistics.of(np.full((9, 4), np.nan))
    with pytest.raises(SchedrlError, match=r"dimensions must agree \(got 4 and 3\)"):
        frechet_distance(statistics(0), statistics(0, dimension=3))


def test_as_torch_fidelity_and_torchmetrics_compute_it() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    metrics = pytest.importorskip("torchmetrics.image.fid")
    import torch

    first, second = statistics(1, dimension=8), statistics(2, count=80, dimension=8)
    found = frechet_distance(first, second)
    sides = [{"mu": side.mean, "sigma": side.covariance} for side in (first, second)]
    theirs = fidelity.fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(theirs, rel=1e-4)
    moments = [torch.from_numpy(part) for side in (first, second) for part in (side.mean, side.covariance)]
    assert found == pytest.approx(float(metrics._compute_fid(*moments)), rel=1e-4)
