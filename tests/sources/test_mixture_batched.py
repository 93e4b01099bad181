"""Batched steps of mixtures: as alone, monotone, and smooth in the levels of a grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from schedrl.schedules import Grid
from schedrl.sources.interpolants import Scaling, dilated_grid, uniform_grid
from schedrl.sources.mixture import (
    majority_of_grids,
    mixture_step,
    perpendicular_gain,
    quantile_start,
)
from schedrl.sources.scaling import positive_fraction


def _grid(kind: str, n: int, dimension: float) -> Grid:
    scaling: Scaling = "vp" if kind.startswith("vp") else "ve"
    return (uniform_grid if kind.endswith("uniform") else dilated_grid)(n, dimension, scaling=scaling)


def test_batch_is_its_members() -> None:
    dimension, majority, variance = (
        np.array([[10.0], [1e6]]),
        np.array([[0.6], [0.9]]),
        np.array([[0.5], [0.1]]),
    )
    m = quantile_start(9, dimension)
    sigma, after = np.array([[np.inf], [30.0]]), np.array([[2.0], [0.0]])
    together = mixture_step(m, sigma, after, dimension, majority, variance)
    gains = perpendicular_gain(sigma, after, variance)
    for b in range(2):
        alone = mixture_step(m[b], *(float(v[b, 0]) for v in (sigma, after, dimension, majority, variance)))
        np.testing.assert_array_equal(together[b], alone)
        assert gains[b, 0] == perpendicular_gain(*(float(v[b, 0]) for v in (sigma, after, variance)))
    sigmas = np.stack([uniform_grid(8, 100.0).sigma_array, dilated_grid(8, 100.0).sigma_array])
    both = majority_of_grids(sigmas, np.array([100.0, 100.0]), np.array([0.8, 0.7]), np.array([0.25, 0.5]))
    assert both[1] == majority_of_grids(sigmas[1], 100.0, 0.7, 0.5)


@pytest.mark.parametrize("count", [50, 2000])
def test_fraction_agrees_with_the_count(count: int) -> None:
    for d, kind in itertools.product(
        (10.0, 1e3, 1e8), ("vp uniform", "ve uniform", "vp dilated", "ve dilated")
    ):
        m, grid = quantile_start(count, d), _grid(kind, 8, d)
        for now, after in itertools.pairwise(grid.sigmas):
            m = mixture_step(m, now, after, d, 0.8, 0.25)
        assert (np.diff(m) >= -1e-12).all()
        assert float(positive_fraction(m)) == pytest.approx((m > 0).mean(), abs=1 / count)
        exact = float(majority_of_grids(grid.sigma_array, d, 0.8, 0.25))
        assert float(positive_fraction(m)) == pytest.approx(exact, abs=1 / count)


def test_fraction_of_a_grid_is_smooth_in_its_levels() -> None:
    """Second differences shrink with the square of the step; those of a count would not."""
    base = dilated_grid(10, 1e6).sigma_array
    moved = base[None, :].repeat(201, axis=0)
    moved[:, 3] *= np.linspace(0.9, 1.1, 201)
    p = majority_of_grids(moved, 1e6, 0.8, 0.25)
    assert np.abs(np.diff(p)).min() > 0
    assert np.abs(np.diff(p, 2)).max() < 1e-5


def test_fraction_without_a_crossing() -> None:
    assert positive_fraction(np.array([[1.0, 1.0 + 1e-16, 1.0]])) == 1.0
    assert positive_fraction(np.array([[-1.0, -1.0, -1.0]])) == 0.0
    rising = positive_fraction(np.linspace(-3, 3, 601)[:, None] + np.linspace(-1, 1, 11))
    assert (np.diff(rising) >= 0).all()
    assert np.diff(rising).max() < 0.02
    assert (rising.min(), rising.max()) == pytest.approx((0.0, 1.0), abs=1e-6)
