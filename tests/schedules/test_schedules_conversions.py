"""The conversions, against exact rationals and high-precision decimals."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedrl.schedules import conversions as c


def _precise_logsnr(log_alpha_bar: float) -> float:
    with localcontext() as context:
        context.prec = 360
        value = Decimal(log_alpha_bar)
        return float(value - (1 - value.exp()).ln())


@pytest.mark.parametrize(
    "log_alpha_bar", [-1e-300, -1e-20, -1e-9, -0.1, -0.6931, -0.6932, -1.0, -30.0, -1000.0]
)
def test_logsnr_from_log_alpha_bar_keeps_every_digit(log_alpha_bar: float) -> None:
    expected = _precise_logsnr(log_alpha_bar)
    assert float(c.logsnr_from_log_alpha_bar(log_alpha_bar)) == pytest.approx(expected, rel=1e-14)


@given(st.floats(-700.0, 700.0))
def test_log_alpha_bar_round_trip(logsnr: float) -> None:
    back = c.logsnr_from_log_alpha_bar(c.log_alpha_bar_from_logsnr(logsnr))
    assert float(back) == pytest.approx(logsnr, rel=1e-13, abs=1e-13)


@given(st.floats(-700.0, 700.0))
def test_sigma_round_trip(logsnr: float) -> None:
    assert float(c.logsnr_from_sigma(c.sigma_from_logsnr(logsnr))) == pytest.approx(
        logsnr, rel=1e-13, abs=1e-13
    )


@given(st.floats(1e-6, 1.0 - 1e-6))
def test_every_route_to_the_noise_level_agrees(alpha_bar: float) -> None:
    logsnr = float(c.logsnr_from_alpha_bar(alpha_bar))
    assert float(c.alpha_bar_from_logsnr(logsnr)) == pytest.approx(alpha_bar, rel=1e-12)
    assert float(c.sigma_from_logsnr(logsnr)) == pytest.approx(((1 - alpha_bar) / alpha_bar) ** 0.5, rel=1e-9)
    assert float(c.logsnr_from_log_alpha_bar(np.log(alpha_bar))) == pytest.approx(logsnr, rel=1e-9, abs=1e-9)


def test_infinite_ends_map_to_infinite_ends() -> None:
    assert c.logsnr_from_sigma([np.inf, 0.0]).tolist() == [-np.inf, np.inf]
    assert c.sigma_from_logsnr([-np.inf, np.inf, -2000.0]).tolist() == [np.inf, 0.0, np.inf]
    assert c.log_alpha_bar_from_logsnr([-np.inf, np.inf]).tolist() == [-np.inf, 0.0]
    assert c.logsnr_from_log_alpha_bar([0.0, -np.inf]).tolist() == [np.inf, -np.inf]


@settings(deadline=None)
@given(
    st.lists(
        st.fractions(Fraction(1, 10**6), Fraction(999, 1000), max_denominator=10**6), min_size=1, max_size=30
    )
)
def test_betas_and_products_invert_each_other(betas: list[Fraction]) -> None:
    product, products = Fraction(1), []
    for beta in betas:
        product *= 1 - beta
        products.append(product)
    log_products = c.log_alpha_bar_from_betas([float(beta) for beta in betas])
    expected = [math.log(p.numerator) - math.log(p.denominator) for p in products]
    np.testing.assert_allclose(log_products, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        c.betas_from_log_alpha_bar(log_products), [float(beta) for beta in betas], rtol=1e-6
    )


def test_last_alpha_bar_may_be_zero() -> None:
    assert c.betas_from_log_alpha_bar([np.log(0.5), -np.inf]).tolist() == pytest.approx([0.5, 1.0])
