"""The forward SDE: closed forms against recursions, quadrature and simulation."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedrl import schedules
from schedrl.errors import SchedrlError
from schedrl.schedules import AVA, VPSDE, BetaRate, ForwardSDE, LinearRate, ScheduleRate
from schedrl.schedules.conversions import FloatArray

DRIFTS: tuple[Literal["vp", "printed"], ...] = ("vp", "printed")
RATES: list[AVA | LinearRate | ScheduleRate] = [
    AVA(), AVA(K=3.0, alpha=1e-3), LinearRate(), ScheduleRate(schedule=schedules.get("linear")),
]  # fmt: skip
times = st.floats(0.0, 1.0)


def euler_moments(sde: ForwardSDE, num_steps: int) -> tuple[float, float]:
    """Mean factor and variance of the scheme itself, by its recursion."""
    mean, variance = float(sde.mean_factor(0.0)), float(sde.variance(0.0))
    pull = {"vp": 0.5, "printed": 1.0}[sde.drift]
    for i in range(num_steps):
        amount = float(sde.rate.rate(i / num_steps)) / num_steps
        mean *= 1.0 - pull * amount
        variance = (1.0 - pull * amount) ** 2 * variance + amount
    return mean, variance


def euler_maruyama(
    sde: ForwardSDE, x0: FloatArray, num_steps: int, rng: np.random.Generator, until: float = 1.0
) -> FloatArray:
    """Simulate paths from ``x0`` in equal steps of time; a schedule with noise at t = 0 begins there exactly."""
    noise = np.sqrt(sde.variance(0.0)) * rng.standard_normal(x0.shape) if sde.variance(0.0) > 0.0 else 0.0
    x = x0 * sde.mean_factor(0.0) + noise
    pull = 0.5 if sde.drift == "vp" else 1.0
    for amount in sde.rate.rate(until * np.arange(num_steps) / num_steps) * (until / num_steps):
        x = x - pull * amount * x + np.sqrt(amount) * rng.standard_normal(x.shape)
    return np.asarray(x)


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("rate", [AVA(K=2.0, beta_init=0.5), LinearRate(beta_max=3.0)])
def test_euler_converges_to_the_law_at_first_order(
    drift: Literal["vp", "printed"], rate: AVA | LinearRate
) -> None:
    sde = ForwardSDE(rate=rate, drift=drift)
    exact = np.array([sde.mean_factor(1.0), sde.variance(1.0)])
    coarse, fine = (np.abs(np.array(euler_moments(sde, n)) - exact) for n in (400, 800))
    assert fine.max() < 2e-3
    np.testing.assert_allclose(coarse / fine, 2.0, rtol=0.02)


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("rate", RATES, ids=lambda rate: rate.name)
def test_simulation_has_the_exact_moments(
    drift: Literal["vp", "printed"], rate: AVA | LinearRate | ScheduleRate
) -> None:
    sde, paths = ForwardSDE(rate=rate, drift=drift), 20_000
    x = euler_maruyama(sde, np.full(paths, 1.5), 200, np.random.default_rng(0), until=0.3)
    mean, variance = 1.5 * float(sde.mean_factor(0.3)), float(sde.variance(0.3))
    # Five standard errors, and the scheme's own error of first order.
    assert abs(x.mean() - mean) < 5.0 * np.sqrt(variance / paths) + 5e-3
    assert abs(x.var() - variance) < 5.0 * variance * np.sqrt(2.0 / paths) + 1e-2


def test_printed_noise_ends_with_variance_one_half() -> None:
    printed, vp = (ForwardSDE(rate=AVA(), drift=drift) for drift in ("printed", "vp"))
    assert float(printed.variance(1.0)) == pytest.approx(0.5, abs=1e-9)
    assert float(vp.variance(1.0)) == pytest.approx(1.0, abs=2e-5)
    assert (printed.stationary_variance, vp.stationary_variance) == (0.5, 1.0)
    x = euler_maruyama(
        printed, np.random.default_rng(1).standard_normal(20_000), 400, np.random.default_rng(2)
    )
    assert x.var() == pytest.approx(0.5, abs=0.03)  # data of variance 1, and a scheme of 400 steps


@given(t=times, gain=st.floats(0.0, 1e3), alpha=st.floats(1e-12, 50.0), start=st.floats(1e-3, 5.0))
@settings(max_examples=60)
def test_avas_integral_is_the_integral_of_its_rate(t: float, gain: float, alpha: float, start: float) -> None:
    law = AVA(beta_init=start, K=gain, alpha=alpha)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    area = 0.5 * t * float(weights @ law.rate(0.5 * t * (nodes + 1.0)))
    assert float(law.integral(t)) == pytest.approx(area, rel=1e-12, abs=1e-300)


def test_avas_integral_keeps_its_digits() -> None:
    law = AVA(beta_init=1e-300, K=1.0, alpha=1e-9)
    # B = α t² / 2 to first order; the plain formula has no digit left here.
    assert float(law.integral(1.0)) == pytest.approx(0.5e-9, rel=1e-9)
    at_one = AVA(beta_init=1e-300, K=1.0, alpha=1.0).integral(np.array([1.0 - 1e-12, 1.0]))
    np.testing.assert_allclose(at_one, np.exp(-1.0), rtol=1e-11)  # both branches


@given(t=times, drift=st.sampled_from(DRIFTS))
@settings(max_examples=50)
def test_the_parts_belong_together(t: float, drift: Literal["vp", "printed"]) -> None:
    sde = ForwardSDE(rate=AVA(), drift=drift)
    signal, noise = sde.alpha_bar(t), sde.variance(t)
    np.testing.assert_allclose(sde.mean_factor(t) ** 2, signal, rtol=1e-14)
    np.testing.assert_allclose(signal + noise / sde.stationary_variance, 1.0, rtol=1e-14)
    if noise > 1e-300:
        np.testing.assert_allclose(sde.logsnr(t), np.log(signal) - np.log(noise), rtol=1e-9, atol=1e-9)


def test_values_by_hand() -> None:
    rate = LinearRate(beta_min=1.0, beta_max=3.0)  # B(1) = 2
    vp, printed = ForwardSDE(rate=rate), ForwardSDE(rate=rate, drift="printed")
    assert float(vp.mean_factor(1.0)) == pytest.approx(np.exp(-1.0), rel=1e-15)
    assert float(vp.variance(1.0)) == pytest.approx(1.0 - np.exp(-2.0), rel=1e-15)
    assert float(printed.mean_factor(1.0)) == pytest.approx(np.exp(-2.0), rel=1e-15)
    assert float(printed.variance(1.0)) == pytest.approx(0.5 * (1.0 - np.exp(-4.0)), rel=1e-15)
    assert vp.logsnr(0.0) == np.inf
    # A tiny variance keeps its digits.
    assert float(vp.variance(1e-18)) == pytest.approx(1e-18, rel=1e-14)
    assert float(printed.variance(1e-18)) == pytest.approx(1e-18, rel=1e-14)


@pytest.mark.parametrize("name", ["linear", "cosine", "tangent", "ve", "edm", "printed-linear", "vp"])
def test_any_schedule_is_followed(name: str) -> None:
    schedule, t = schedules.get(name), np.linspace(0.0, 1.0, 101)
    sde = ForwardSDE.of(schedule)
    assert sde == ForwardSDE.of(name)
    np.testing.assert_allclose(sde.logsnr(t), schedule.logsnr(t), atol=1e-7)
    rates = sde.rate.rate(t)
    assert rates.shape == t.shape
    assert (rates >= 0.0).all()


def test_closed_forms_are_kept() -> None:
    assert ForwardSDE.of(AVA(K=3.0)).rate == AVA(K=3.0)
    assert ForwardSDE.of(VPSDE(epsilon=0.0)).rate == LinearRate()
    t = np.linspace(0.01, 0.99, 9)
    closed, read = LinearRate(), ScheduleRate(schedule=VPSDE(epsilon=0.0))
    rates: list[BetaRate] = [closed, read]
    first, second = (rate.rate(t) for rate in rates)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    # AVA's discrete steps approach its continuous law.
    ava = ForwardSDE(rate=AVA())
    np.testing.assert_allclose(
        ava.log_alpha_bar(np.arange(1, 4001) / 4000), AVA().log_alphas_cumprod(4000), rtol=2e-2, atol=1e-4
    )


@pytest.mark.parametrize("sde", [ForwardSDE(rate=rate, drift=drift) for rate in RATES for drift in DRIFTS])
def test_json_round_trip(sde: ForwardSDE) -> None:
    assert ForwardSDE.model_validate_json(sde.model_dump_json()) == sde
    assert hash(sde) == hash(sde.model_copy())


def test_errors_name_the_field() -> None:
    sde = ForwardSDE()
    for bad in (-0.1, 1.5, np.nan):
        with pytest.raises(SchedrlError, match=r"field 't': must lie in \[0, 1\]"):
            sde.variance(bad)
    with pytest.raises(ValueError, match="greater than beta_min"):
        LinearRate(beta_min=2.0, beta_max=1.0)
