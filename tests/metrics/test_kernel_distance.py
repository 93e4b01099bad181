"""The kernel distance: by hand, without bias, and against other people's code."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from schedrl.errors import SchedrlError
from schedrl.metrics.distances import KID, polynomial_mmd2

Array = NDArray[np.float64]


def features(seed: int, count: int, dimension: int = 8, shift: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, dimension)) * np.logspace(-1, 1, dimension) + shift


def by_loops(x: Array, y: Array) -> float:
    def kernel(a: Array, b: Array) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_the_sum_over_pairs() -> None:
    x, y = features(0, 7, 3), features(1, 5, 3, 1.0)
    assert polynomial_mmd2(x, y) == pytest.approx(by_loops(x, y), rel=1e-10)
    assert polynomial_mmd2(x, y) == pytest.approx(polynomial_mmd2(y, x), rel=1e-10)


def test_no_bias() -> None:
    rng = np.random.default_rng(3)
    values = [polynomial_mmd2(*rng.standard_normal((2, 10, 4))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20
    assert min(values) < 0 < max(values)


def test_as_torchmetrics_computes_it() -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torchmetrics.image.kid")
    x, y = features(4, 60), features(5, 60, shift=0.3)
    wanted = float(theirs.poly_mmd(torch.from_numpy(x), torch.from_numpy(y)))
    assert polynomial_mmd2(x, y) == pytest.approx(wanted, rel=1e-4)


def test_as_torch_fidelity_computes_it() -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = features(6, 60), features(7, 60, shift=0.3)

    class SameDraws:
        """Draws what theirs draws, whose generator is NumPy's old one."""

        def __init__(self) -> None:
            self.state = np.random.RandomState(2020)

        def choice(self, side: Array, size: int, replace: bool) -> Array:
            return side[self.state.choice(len(side), size, replace=replace)]

    found = KID.between(x, y, SameDraws(), subsets=10, subset_size=20)  # type: ignore[arg-type]
    wanted = theirs.kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=10, kid_subset_size=20, rng_seed=2020,
        kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1,
        verbose=False,
    )  # fmt: skip
    assert found.value == pytest.approx(wanted["kernel_inception_distance_mean"], rel=1e-4)
    assert found.deviation == pytest.approx(wanted["kernel_inception_distance_std"], rel=1e-4)


def test_subsets_vary_about_the_whole() -> None:
    x, y = features(8, 400), features(9, 300, shift=0.3)
    found = KID.between(x, y, np.random.default_rng(0), subsets=200, subset_size=50)
    assert (found.subsets, found.subset_size, found.samples, found.reference_samples) == (200, 50, 400, 300)
    assert found.value == pytest.approx(polynomial_mmd2(x, y), abs=4 * found.deviation / np.sqrt(200))
    again = KID.between(x, y, np.random.default_rng(0), subsets=200, subset_size=50)
    assert found == again
    # All there are of both: one subset says it all.
    whole = KID.between(x[:300], y, np.random.default_rng(0))
    assert (whole.subsets, whole.subset_size, whole.deviation) == (1, 300, 0.0)
    assert whole.value == pytest.approx(polynomial_mmd2(x[:300], y), rel=1e-9)


def test_bad_input() -> None:
    with pytest.raises(SchedrlError, match=r"at least 2 samples \(got 1 and 3\)"):
        polynomial_mmd2(np.zeros((1, 2)), np.zeros((3, 2)))
    with pytest.raises(SchedrlError, match=r"dimensions must agree \(got shapes \(4, 3\) and \(3, 2\)\)"):
        polynomial_mmd2(np.zeros((4, 3)), np.zeros((3, 2)))
    with pytest.raises(SchedrlError, match=r"got 0 subsets of 1000"):
        KID.between(np.zeros((4, 3)), np.zeros((4, 3)), np.random.default_rng(0), subsets=0)
