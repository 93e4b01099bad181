"""Named laws against published end points and against their formulas written out another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from schedrl import schedules


def _logit(alpha_bar: float) -> float:
    return math.log(alpha_bar / (1.0 - alpha_bar))


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("linear", 9.21, -10.12),
        ("scaled-linear", 7.07, -5.36),
        # Printed as 10.10 where it is tabulated; improved DDPM's first beta, 4.1284e-5, gives 10.095.
        ("cosine", 10.095, -19.84),
        ("sigmoid", 8.11, -15.02),
    ],
)
def test_first_and_last_of_a_thousand_steps(name: str, first: float, last: float) -> None:
    logsnr = schedules.get(name).logsnr_steps(1000)
    assert logsnr[[0, -1]].tolist() == pytest.approx([first, last], abs=0.0051)


@pytest.mark.parametrize(
    ("name", "first", "last", "tolerance"),
    [
        ("vp", 13.8, -10.05, 0.05),
        ("ve", 7.8, -9.2, 0.05),
        ("karras", 12.4, -8.8, 0.05),
        ("uniform", 13.3, -5.0, 1e-12),
        ("linear", 9.21, -10.12, 0.006),
        ("scaled-linear", 7.07, -5.36, 0.006),
    ],
)
def test_ends_of_the_continuous_law(name: str, first: float, last: float, tolerance: float) -> None:
    assert schedules.get(name).logsnr([0.0, 1.0]).tolist() == pytest.approx([first, last], abs=tolerance)


def _cosine(u: float) -> float:
    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return _logit(f(u) / f(0.0))


def _sigmoid(u: float) -> float:
    def v(t: float) -> float:
        return 1.0 / (1.0 + math.exp(-(t * 6.0 - 3.0)))

    return _logit((v(1.0) - v(u)) / (v(1.0) - v(0.0)))


def _sigmoid_tempered(u: float) -> float:
    def v(t: float) -> float:
        return 1.0 / (1.0 + math.exp(-(t * 3.0 + 0.0) / 0.7))

    return _logit((v(1.0) - v(u)) / (v(1.0) - v(0.0)))


def _vp(u: float) -> float:
    t = 1e-5 + u * (1.0 - 1e-5)
    return -2.0 * math.log(math.sqrt(math.exp(0.5 * 19.9 * t**2 + 0.1 * t) - 1.0))


def _karras(u: float) -> float:
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    return -2.0 * math.log((high + (1.0 - u) * (low - high)) ** 7)


def _laplace(u: float) -> float:
    return 0.3 - 0.5 * math.copysign(1.0, 0.5 - u) * math.log(1.0 - 2.0 * abs(0.5 - u))


FORMULAS: list[tuple[str, dict[str, float], Callable[[float], float]]] = [
    ("cosine", {}, _cosine),
    ("cosine", {"s": 0.0}, lambda u: -2.0 * math.log(math.tan(math.pi * u / 2))),
    ("sigmoid", {}, _sigmoid),
    ("sigmoid", {"start": 0.0, "end": 3.0, "tau": 0.7}, _sigmoid_tempered),
    ("vp", {}, _vp),
    ("ve", {}, lambda u: -2.0 * math.log(0.02 * (100.0 / 0.02) ** u)),
    ("karras", {}, _karras),
    ("edm", {}, lambda u: -2.0 * NormalDist(-1.2, 1.2).inv_cdf(u)),
    ("laplace", {"mean": 0.3}, _laplace),
    ("tangent", {"gamma": 0.3}, lambda u: -2.0 * math.log(0.3 * math.tan(math.pi * u / 2))),
    ("uniform", {"logsnr_min": -6.0, "logsnr_max": 8.0}, lambda u: 8.0 - 14.0 * u),
]


@pytest.mark.parametrize(
    ("name", "params", "formula"), FORMULAS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(FORMULAS)]
)
def test_formula_written_out(name: str, params: dict[str, float], formula: Callable[[float], float]) -> None:
    u = np.linspace(0.002, 0.998, 83)
    expected = [formula(float(x)) for x in u]
    np.testing.assert_allclose(schedules.get(name, **params).logsnr(u), expected, rtol=1e-9, atol=1e-9)
    # The discrete steps are the same law at i/T, except a capped last one.
    steps = schedules.get(name, **params).logsnr_steps(50)[:49]
    np.testing.assert_allclose(steps, [formula(i / 50) for i in range(1, 50)], rtol=1e-9, atol=1e-9)


def test_cosine_betas_are_improved_ddpms() -> None:
    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [min(1.0 - f((i + 1) / 1000) / f(i / 1000), 0.999) for i in range(1000)]
    betas = schedules.get("cosine").betas(1000)
    np.testing.assert_allclose(betas, expected, rtol=1e-10, atol=1e-15)
    assert (betas == 0.999).sum() == 1


@pytest.mark.parametrize("num_steps", [20, 100, 1000])
def test_linear_products_in_exact_fractions(num_steps: int) -> None:
    first, last = Fraction(1, 10_000), Fraction(2, 100)
    scale = Fraction(1000, num_steps)
    product, expected = 1.0, []
    for i in range(num_steps):
        beta = (first + (last - first) * Fraction(i, num_steps - 1)) * scale
        product *= float(1 - min(beta, Fraction(999, 1000)))
        expected.append(product)
    np.testing.assert_allclose(schedules.get("linear").alphas_cumprod(num_steps), expected, rtol=1e-11)


def test_linear_at_a_hundred_steps_still_ends_in_noise() -> None:
    assert math.sqrt(schedules.get("linear").alphas_cumprod(100)[-1]) < 0.01  # 0.60 without the factor 1000/T


@pytest.mark.parametrize("name", ["linear", "scaled-linear"])
def test_linear_laws_are_rescaled(name: str) -> None:
    law = schedules.get(name)
    for num_steps in (100, 250, 4000):
        assert law.log_alphas_cumprod(num_steps)[-1] == pytest.approx(
            law.log_alphas_cumprod(1000)[-1], rel=0.1
        )


def test_scaled_linear_betas() -> None:
    betas = schedules.get("scaled-linear").betas(1000)
    expected = [
        (math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / 999) ** 2 for i in range(1000)
    ]
    np.testing.assert_allclose(betas, expected, rtol=1e-12)


def test_single_step_ends_in_noise() -> None:
    assert schedules.get("linear").betas(1).tolist() == [0.999]
    assert schedules.get("cosine").betas(1).tolist() == [0.999]
    assert schedules.get("ava").betas(1).tolist() == [0.999]
    assert schedules.get("uniform").alphas_cumprod(1)[0] == pytest.approx(1 / (1 + math.exp(5.0)))


def test_printed_linear_is_a_factorial() -> None:
    """Π (1 - i/T) over i < T is (T-1)! / T^(T-1); the last beta is capped."""
    log_alpha_bar = schedules.get("printed-linear").log_alphas_cumprod(1000)
    expected = math.lgamma(1000) - 999 * math.log(1000) + math.log(0.001)
    assert log_alpha_bar[-1] == pytest.approx(expected, rel=1e-12)
    assert log_alpha_bar[-1] < -1000
    exact = Fraction(1)
    for i in range(1, 6):
        exact *= 1 - Fraction(i, 1000)
    assert math.exp(log_alpha_bar[4]) == pytest.approx(float(exact), rel=1e-13)
    assert schedules.get("printed-linear").alphas_cumprod(1000)[-1] == 0.0


def test_ava_is_its_rate_divided_by_the_number_of_steps() -> None:
    law = schedules.AVA(beta_init=0.2, K=30.0, alpha=3.0)
    expected = [(0.2 + 30.0 * (1.0 - math.exp(-3.0 * i / 400))) / 400 for i in range(1, 401)]
    np.testing.assert_allclose(law.betas(400), expected, rtol=1e-12)
    assert law.rate([0.0, 1.0]).tolist() == pytest.approx([0.2, 0.2 + 30.0 * (1 - math.exp(-3.0))])


@pytest.mark.parametrize("num_steps", [2, 100, 250, 1000, 4000])
def test_ava_defaults_end_in_noise(num_steps: int) -> None:
    assert schedules.get("ava").alphas_cumprod(num_steps)[-1] < 1e-4


def test_ava_keeps_its_law_when_the_number_of_steps_changes() -> None:
    law = schedules.get("ava")
    limit = -0.1 - 20.0 * (1.0 - (1.0 - math.exp(-2.0)) / 2.0)
    errors = [abs(law.log_alphas_cumprod(n)[-1] - limit) for n in (250, 1000, 4000)]
    assert errors[2] < 0.05
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.1)


def test_ava_betas_are_capped() -> None:
    assert schedules.get("ava", K=1e6).betas(1000)[-1] == 0.999


@pytest.mark.parametrize("gamma", [0.1, 0.3, 1.0, 7.0])
def test_tangent_is_a_shifted_cosine(gamma: float) -> None:
    u = np.linspace(0.01, 0.99, 99)
    cosine = schedules.get("cosine", s=0.0).logsnr(u)
    tangent = schedules.get("tangent", gamma=gamma).logsnr(u)
    np.testing.assert_allclose(tangent, cosine - 2.0 * math.log(gamma), rtol=1e-12, atol=1e-12)
    alpha_bar = np.cos(np.pi * u / 2) ** 2 / (
        np.cos(np.pi * u / 2) ** 2 + gamma**2 * np.sin(np.pi * u / 2) ** 2
    )
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(-tangent)), alpha_bar, rtol=1e-12)


def test_tangent_one_is_the_cosine_law_in_every_step() -> None:
    np.testing.assert_allclose(
        schedules.get("tangent").betas(1000), schedules.get("cosine", s=0.0).betas(1000), rtol=1e-9
    )


def test_beta_laws_interpolate_log_alpha_bar_between_native_steps() -> None:
    law = schedules.get("linear")
    log_alpha_bar = law.log_alphas_cumprod(1000)
    np.testing.assert_allclose(law.logsnr([0.0, 1.0]), law.logsnr_steps(1000)[[0, -1]], rtol=1e-12)
    between = 0.25 * log_alpha_bar[400] + 0.75 * log_alpha_bar[401]
    expected = between - math.log(1.0 - math.exp(between))
    assert float(law.logsnr(400.75 / 999)) == pytest.approx(expected, rel=1e-11)


def test_neither_end_loses_precision() -> None:
    # At λ = 40, 1 - ᾱ is 4e-18: ᾱ itself is 1 in float64.
    law = schedules.get("tangent", gamma=math.exp(-20.0))
    expected = 40.0 - 2.0 * math.log(math.tan(math.pi / 8))
    assert law.logsnr_steps(4)[0] == pytest.approx(expected, rel=1e-13)
    assert law.betas(4)[0] == pytest.approx(math.exp(-expected), rel=1e-12)
    assert schedules.get("printed-linear").logsnr_steps(1000)[-1] == pytest.approx(-1002.53, abs=0.01)
