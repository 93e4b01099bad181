"""Schedules of any shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedrl import schedules
from schedrl.errors import SchedrlError
from schedrl.schedules.continuous_laws import MIN_BIN_MASS

masses = st.lists(st.floats(0.001, 100.0), min_size=1, max_size=16)


@given(masses)
def test_density_gives_each_bin_its_mass(mass: list[float]) -> None:
    edges = np.linspace(12.0, -9.0, len(mass) + 1)
    law = schedules.PiecewiseLogSNR.from_density(edges, mass)
    np.testing.assert_allclose(np.diff(law.u), np.array(mass) / math.fsum(mass), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(law.logsnr(law.u), edges, atol=1e-12)
    np.testing.assert_allclose(law.fraction_above(edges), law.u, atol=1e-15)
    middles = 0.5 * (edges[1:] + edges[:-1])
    halfway = 0.5 * (np.array(law.u[1:]) + np.array(law.u[:-1]))
    np.testing.assert_allclose(law.fraction_above(middles), halfway, atol=1e-12)


def test_density_is_what_is_drawn() -> None:
    law = schedules.PiecewiseLogSNR.from_density([6.0, 2.0, 0.0, -8.0], [1.0, 5.0, 2.0])
    counts, _ = np.histogram(law.sample_logsnr(40_000, np.random.default_rng(1)), bins=[-8.0, 0.0, 2.0, 6.0])
    np.testing.assert_allclose(counts / 40_000, [2 / 8, 5 / 8, 1 / 8], atol=0.01)


def test_extreme_weights_keep_the_law_monotone() -> None:
    law = schedules.PiecewiseLogSNR.from_density([9.0, 3.0, 0.0, -9.0], np.array([0.0, 1e300, 1e-300]))
    assert law.u[0] == 0.0
    assert law.u[-1] == 1.0
    assert (np.diff(law.u) > 0.5 * MIN_BIN_MASS).all()
    assert np.diff(law.u)[1] == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(
    ("edges", "mass", "message"),
    [
        ([1.0, 0.0], [1.0, 1.0], r"field 'edges': must hold one more value than 'mass'.*\(2,\).*\(2,\)"),
        ([1.0], [], r"field 'edges'"),
        ([1.0, 0.0], [[1.0]], r"field 'edges'"),
        ([1.0, 0.0, -1.0], [1.0, -1.0], r"field 'mass'.*not negative.*\[1\.0, -1\.0\]"),
        ([1.0, 0.0, -1.0], [0.0, 0.0], r"field 'mass'.*not all zero"),
        ([1.0, 0.0, -1.0], [np.nan, 1.0], r"field 'mass'.*finite"),
        (
            [0.0, 1.0],
            [1.0],
            r"schedule 'piecewise': field 'logsnr': must strictly decrease, but logsnr\[0\] = 0",
        ),
        ([25.0, 1.0], [1.0], r"field 'logsnr\.0'.*less than or equal to 20 \(got 25\.0\)"),
    ],
)
def test_bad_densities_are_explained(edges: list[float], mass: list[float], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        schedules.PiecewiseLogSNR.from_density(edges, mass)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"u": (0.1, 1.0), "logsnr": (1.0, 0.0)},
            r"field 'u': must begin with 0 and end with 1 \(got \(0\.1,",
        ),
        (
            {"u": (0.0, 0.5, 0.5, 1.0), "logsnr": (3, 2, 1, 0)},
            r"field 'u': must strictly increase, but u\[1\]",
        ),
        ({"u": (0.0, 1.0), "logsnr": (3, 2, 1)}, r"field 'logsnr': must have as many values as u, 2"),
        ({"u": (0.0, 1.0), "logsnr": (1.0, 1.0)}, r"field 'logsnr': must strictly decrease"),
        ({"u": (0.0,), "logsnr": (1.0,)}, r"field 'u'.*at least 2"),
        ({"u": (0.0, 1.0)}, r"field 'logsnr': Field required"),
        ({"u": (0.0, 1.0), "logsnr": (np.inf, 0.0)}, r"field 'logsnr\.0'.*finite"),
    ],
)
def test_bad_pieces_are_explained(params: dict[str, object], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        schedules.get("piecewise", **params)


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 0.998), min_size=1, max_size=50))
def test_betas_come_back_as_given(betas: list[float]) -> None:
    law = schedules.get("betas", betas=betas)
    np.testing.assert_array_equal(law.betas(len(betas)), betas)
    # Twice as many steps pass through the same points; half of each step's decay lies in either half.
    log_alpha_bar = [math.fsum(math.log1p(-b) for b in betas[: i + 1]) for i in range(len(betas))]
    np.testing.assert_allclose(law.log_alphas_cumprod(2 * len(betas))[1::2], log_alpha_bar, rtol=1e-9)
    np.testing.assert_allclose(
        law.betas(2 * len(betas))[::2], 1.0 - np.sqrt(1.0 - np.array(betas)), rtol=1e-6, atol=1e-12
    )


def test_betas_accept_arrays_and_are_hashable() -> None:
    array = np.linspace(0.01, 0.2, 5)
    law = schedules.Betas(betas=array)  # type: ignore[arg-type]
    assert law.beta_values == tuple(array.tolist())
    assert law == schedules.Betas(betas=tuple(array.tolist()))
    assert hash(law) == hash(schedules.Betas(betas=tuple(array.tolist())))
    others: set[schedules.Schedule] = {schedules.BetaKnots(betas=law.beta_values, num_train_timesteps=5)}
    assert law not in others


def test_single_beta_is_a_constant_law() -> None:
    law = schedules.Betas(betas=(0.5,))
    assert law.logsnr([0.0, 0.5, 1.0]).tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-15)


@settings(deadline=None)
@given(st.lists(st.floats(1e-5, 0.99), min_size=1, max_size=10), st.integers(1, 20))
def test_knots_hold_for_their_share_of_the_steps(betas: list[float], share: int) -> None:
    total = share * len(betas)
    law = schedules.BetaKnots(betas=tuple(betas), num_train_timesteps=total)
    np.testing.assert_allclose(law.betas(total), np.repeat(betas, share), rtol=1e-7)
    end = share * math.fsum(math.log1p(-b) for b in betas)
    for num_steps in (2, total, 3 * total):
        if law.betas(num_steps).max() < 0.999:
            assert law.log_alphas_cumprod(num_steps)[-1] == pytest.approx(end, rel=1e-9)


def test_knots_whose_share_is_not_whole() -> None:
    """Three knots over ten steps last 10/3 each: step 4 is a third of the first, two of the second."""
    law = schedules.BetaKnots(betas=(0.1, 0.3, 0.6), num_train_timesteps=10)
    mixed = 1.0 - 0.9 ** (1 / 3) * 0.7 ** (2 / 3)
    mixed_later = 1.0 - 0.7 ** (2 / 3) * 0.4 ** (1 / 3)
    expected = [0.1] * 3 + [mixed] + [0.3] * 2 + [mixed_later] + [0.6] * 3
    np.testing.assert_allclose(law.betas(10), expected, rtol=1e-12)


def test_knots_that_are_linear_betas_follow_the_linear_law() -> None:
    knots = schedules.BetaKnots(betas=schedules.get("linear").betas(1000))  # type: ignore[arg-type]
    u = np.linspace(0.0, 1.0, 57)
    np.testing.assert_allclose(knots.logsnr(u), schedules.get("linear").logsnr(u), rtol=1e-9)


@pytest.mark.parametrize("name", ["betas", "beta-knots"])
@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ((0.1, 1.0), r"field 'betas\.1': Input should be less than 1 \(got 1\.0\)"),
        ((0.0,), r"field 'betas\.0': Input should be greater than 0 \(got 0\.0\)"),
        ((), r"field 'betas'.*at least 1"),
        ((float("nan"),), r"field 'betas\.0'.*nan"),
    ],
)
def test_bad_betas_are_explained(name: str, betas: tuple[float, ...], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        schedules.get(name, betas=betas)


def test_misspelt_fields_are_compared_to_what_a_user_writes() -> None:
    with pytest.raises(
        SchedrlError, match=r"unknown field 'beta'; did you mean 'betas'\? Known: betas, name$"
    ):
        schedules.get("betas", beta=(0.1,))
