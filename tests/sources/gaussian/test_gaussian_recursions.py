"""Identities of the recursions, and the same steps written out another way."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedrl.errors import SchedrlError
from schedrl.sources.gaussian.divergences import kl, kl_from_log, kl_slopes, w2_squared
from schedrl.sources.gaussian.recursions import (
    SamplerName,
    Start,
    exact_variance,
    output_variances,
    transition,
    variance_trajectory,
)
from tests.sources.oracles import closed_form_ddim, closed_form_ddpm, euler_vp_variances

FloatArray = npt.NDArray[np.float64]

INF = math.inf
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
STARTS: tuple[Start, ...] = get_args(Start)

spectra = st.lists(st.floats(-6.0, 6.0), min_size=1, max_size=8).map(lambda e: 10.0 ** np.array(e))


@st.composite
def levels(draw: st.DrawFn, most: int = 40, finite: bool = False) -> FloatArray:
    """Descending, any first level and perhaps 0 as the last."""
    n = draw(st.one_of(st.integers(1, most), st.sampled_from([300, 1000])))
    seed = draw(st.integers(0, 2**32 - 1))
    exponents = np.random.default_rng(seed).uniform(-4.0, 4.0, n + 1)
    sigmas = np.sort(10.0**exponents)[::-1].copy()
    if not finite and draw(st.booleans()):
        sigmas[0] = INF
    if draw(st.booleans()):
        sigmas[-1] = 0.0
    return sigmas


@settings(max_examples=40)
@given(spectra, levels(), st.sampled_from(STARTS))
def test_recursion_and_closed_form_agree(spectrum: FloatArray, sigmas: FloatArray, start: Start) -> None:
    target = spectrum + sigmas[-1] ** 2
    by_steps = output_variances(spectrum, sigmas, "ddim", start) / target
    # A cosine near 90 degrees has absolute accuracy only.
    closed = closed_form_ddim(spectrum, sigmas, start) / target
    np.testing.assert_allclose(by_steps, closed, rtol=1e-12, atol=1e-13)
    for sampler in ("ddpm", "ddpm-large", "ddpm-exact"):
        by_steps = output_variances(spectrum, sigmas, sampler, start)
        closed = closed_form_ddpm(spectrum, sigmas, sampler, start)
        np.testing.assert_allclose(by_steps, closed, rtol=1e-12, atol=1e-300)


@settings(max_examples=40)
@given(spectra, levels())
def test_the_exact_noise_returns_the_source(spectrum: FloatArray, sigmas: FloatArray) -> None:
    variances = output_variances(spectrum, sigmas, "ddpm-exact", "exact")
    np.testing.assert_allclose(variances, spectrum + sigmas[-1] ** 2, rtol=1e-12)


@settings(max_examples=40)
@given(levels())
def test_the_large_noise_is_exact_for_white_data(sigmas: FloatArray) -> None:
    variances = output_variances(np.ones(1), sigmas, "ddpm-large")
    np.testing.assert_allclose(variances, 1.0 + sigmas[-1] ** 2, rtol=1e-12)


@settings(max_examples=40)
@given(spectra, levels(finite=True))
def test_ddim_is_euler_in_sigma(spectrum: FloatArray, sigmas: FloatArray) -> None:
    variance = spectrum + sigmas[0] ** 2
    for now, after in itertools.pairwise(sigmas):
        # dy/dσ = (y - E[x0|y]) / σ
        variance = variance * (1.0 + (after - now) / now * (1.0 - spectrum / (spectrum + now**2))) ** 2
    by_steps = output_variances(spectrum, sigmas, "ddim", "exact")
    # Written this way a step to 0 from far above cancels in the reference.
    np.testing.assert_allclose(by_steps, variance, rtol=1e-6, atol=1e-8 * (spectrum.max() + sigmas[-1] ** 2))


def _textbook_step(
    covariance: FloatArray, source: FloatArray, abar: float, abar_next: float, sampler: SamplerName
) -> FloatArray:
    """One step of the full covariance, in the notation of the samplers' own papers."""
    identity = np.eye(len(source))
    marginal = abar * source + (1.0 - abar) * identity
    denoiser = math.sqrt(abar) * source @ np.linalg.inv(marginal)
    if sampler in ("ddim", "heun"):
        epsilon = (identity - math.sqrt(abar) * denoiser) / math.sqrt(1.0 - abar)
        step = math.sqrt(abar_next) * denoiser + math.sqrt(1.0 - abar_next) * epsilon
        if sampler == "heun" and abar_next < 1.0:  # EDM's algorithm 1 in y = x / sqrt(abar)
            now, after = (math.sqrt((1.0 - a) / a) for a in (abar, abar_next))
            slope = now * np.linalg.inv(source + now**2 * identity)
            euler = identity + (after - now) * slope
            slope_next = after * np.linalg.inv(source + after**2 * identity) @ euler
            step = identity + 0.5 * (after - now) * (slope + slope_next)
            step = step * math.sqrt(abar_next / abar)
        return np.asarray(step @ covariance @ step.T)
    alpha, beta = abar / abar_next, 1.0 - abar / abar_next
    # DDPM (arXiv 2006.11239), equation 7.
    on_data = math.sqrt(abar_next) * beta / (1.0 - abar)
    mean = on_data * denoiser + math.sqrt(alpha) * (1.0 - abar_next) / (1.0 - abar) * identity
    small = beta * (1.0 - abar_next) / (1.0 - abar)
    noise = (beta if sampler == "ddpm-large" else small) * identity
    if sampler == "ddpm-exact":
        posterior = source - denoiser @ marginal @ denoiser.T
        noise = noise + on_data**2 * posterior
    return np.asarray(mean @ covariance @ mean.T + noise)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_full_covariance_through_textbook_steps(sampler: SamplerName) -> None:
    rng = np.random.default_rng(3)
    spectrum = np.array([4.0, 1.7, 1.0, 0.3, 0.08])
    basis, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    source = basis @ np.diag(spectrum) @ basis.T
    sigmas = np.array([30.0, 9.0, 4.0, 1.5, 0.7, 0.2, 0.0])
    covariance = np.eye(5)
    abar = 1.0 / (1.0 + sigmas**2)
    for now, after in itertools.pairwise(abar.tolist()):
        covariance = _textbook_step(covariance, source, now, after, sampler)
    rotated = basis.T @ covariance @ basis
    variances = output_variances(spectrum, sigmas, sampler)
    np.testing.assert_allclose(np.diag(rotated), variances, rtol=1e-13)
    np.testing.assert_allclose(rotated - np.diag(np.diag(rotated)), 0.0, atol=1e-14)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_have_the_variances(sampler: SamplerName) -> None:
    rng = np.random.default_rng(11)
    spectrum = np.array([3.0, 0.2])
    sigmas = np.array([20.0, 5.0, 2.0, 0.8, 0.3, 0.0])
    count = 200_000
    x = rng.normal(size=(count, 2))
    for now, after in itertools.pairwise(sigmas):
        a, s = 1.0 / math.hypot(1.0, now), now / math.hypot(1.0, now)
        a_next, s_next = 1.0 / math.hypot(1.0, after), after / math.hypot(1.0, after)

        def denoise(y: FloatArray, sigma: float) -> FloatArray:
            return np.asarray(y * spectrum / (spectrum + sigma**2))

        clean = denoise(x / a, now)
        epsilon = (x - a * clean) / s
        if sampler in ("ddim", "heun"):
            x_next = a_next * clean + s_next * epsilon
            if sampler == "heun" and after > 0.0:
                y, y_next = x / a, x_next / a_next
                slope_next = (y_next - denoise(y_next, after)) / after
                x_next = a_next * (y + (after - now) * 0.5 * (epsilon + slope_next))
            x = x_next
            continue
        beta = 1.0 - (a / a_next) ** 2
        mean = a_next * beta / s**2 * clean + (a / a_next) * s_next**2 / s**2 * x
        variance = np.full(2, beta if sampler == "ddpm-large" else beta * s_next**2 / s**2)
        if sampler == "ddpm-exact":
            variance += (a_next * beta / s**2) ** 2 * spectrum * now**2 / (spectrum + now**2)
        x = mean + np.sqrt(variance) * rng.normal(size=x.shape)
    expected = output_variances(spectrum, sigmas, sampler)
    # The sample variance of a Gaussian has the relative error sqrt(2 / count).
    assert np.abs(x.var(axis=0) / expected - 1.0).max() < 4.5 * math.sqrt(2.0 / count)


@settings(max_examples=50)
@given(spectra, levels(finite=True), st.sampled_from(SAMPLERS), st.sampled_from(STARTS))
def test_twelve_decades_stay_finite(
    spectrum: FloatArray, sigmas: FloatArray, sampler: SamplerName, start: Start
) -> None:
    variances = output_variances(spectrum, sigmas, sampler, start)
    assert np.isfinite(variances).all()
    assert (variances >= 0.0).all()
    for direction in ("forward", "reverse"):
        value = kl(variances / (spectrum + sigmas[-1] ** 2), direction)
        assert value >= 0.0
        assert np.isfinite(value) or (variances == 0.0).any()


def test_axes_broadcast_and_trajectories_end_in_the_output() -> None:
    rng = np.random.default_rng(0)
    spectrum = rng.uniform(0.1, 3.0, (4, 1, 3))
    sigmas = np.sort(rng.uniform(0.01, 9.0, (5, 8)), axis=1)[:, ::-1]
    for sampler in SAMPLERS:
        whole = output_variances(spectrum, sigmas, sampler)
        assert whole.shape == (4, 5, 3)
        one = output_variances(spectrum[2, 0], sigmas[3], sampler)
        np.testing.assert_allclose(whole[2, 3], one, rtol=1e-14)
        path = variance_trajectory(spectrum[2, 0], sigmas[3], sampler)
        assert path.shape == (8, 3)
        np.testing.assert_allclose(path[-1] * (1.0 + sigmas[3, -1] ** 2), one, rtol=1e-14)
    exact = exact_variance(spectrum[2, 0], sigmas[3, 2:3])
    np.testing.assert_allclose(
        exact, (spectrum[2, 0] + sigmas[3, 2] ** 2) / (1.0 + sigmas[3, 2] ** 2), rtol=1e-14
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_to_the_same_level_does_nothing(sampler: SamplerName) -> None:
    spectrum = np.array([[3.0, 0.2]])
    for level in (0.0, 1e-3, 7.0):
        gain, noise = transition(spectrum, np.array([[level]]), np.array([[level]]), sampler)
        np.testing.assert_allclose(gain, 1.0, rtol=1e-15)
        assert noise is None or not noise.any()


def test_wrong_names_and_endless_heun() -> None:
    one, sigmas = np.ones(1), np.array([INF, 1.0, 0.0])
    with pytest.raises(SchedrlError, match=r"unknown sampler 'ddmp'; did you mean 'ddpm'\?"):
        output_variances(one, sigmas, "ddmp")  # type: ignore[arg-type]
    with pytest.raises(SchedrlError, match="unknown start 'vq'"):
        output_variances(one, sigmas, "ddim", "vq")  # type: ignore[arg-type]
    with pytest.raises(SchedrlError, match="needs a finite first level"):
        output_variances(one, sigmas, "heun")
    with pytest.raises(SchedrlError, match="unknown direction"):
        kl(one, "back")  # type: ignore[arg-type]
    with pytest.raises(SchedrlError, match="unknown direction"):
        kl_from_log(one, "back")  # type: ignore[arg-type]
    with pytest.raises(SchedrlError, match="unknown ancestral sampler 'ddim'"):
        closed_form_ddpm(one, sigmas, "ddim")
    with pytest.raises(SchedrlError, match="start below t = 1"):
        euler_vp_variances(one, np.array([0.0, 1.0]), np.array([INF, 0.0]), np.array([1.0, 0.0]))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_tiny_divergences_keep_their_digits(direction: str) -> None:
    for exponent in (3, 10, 17, 24):
        x = 2.0**-exponent
        sign = -1.0 if direction == "forward" else 1.0
        expected = sum((sign * x) ** j / math.factorial(j) for j in range(2, 12)) / 2.0
        assert kl_from_log(np.array([x]), direction) == pytest.approx(expected, rel=1e-14)  # type: ignore[arg-type]
    # 1 + 2^-33 is exact in float64.
    value = float(kl(np.array([1.0 + 2.0**-33]), direction))  # type: ignore[arg-type]
    assert value == pytest.approx(2.0**-68, rel=1e-9)


def test_divergence_of_lost_variance() -> None:
    assert kl(np.array([0.0, 1.0])) == INF
    assert kl(np.array([0.0]), "reverse") == INF
    assert kl(np.array([0.0, 1.0]), weights=np.array([0.0, 1.0])) == 0.0
    for tiny in (5e-324, 1e-310, 1e-200):
        assert np.isfinite(kl(np.array([tiny] * 1000)))
    assert w2_squared(np.array([0.0, 1.0]), np.array([3.0, 1.0])) == 3.0
    assert w2_squared(np.array([0.0, 4.0]), np.array([3.0, 1.0]), np.array([0.0, 2.0])) == 2.0


@given(st.floats(-20.0, 20.0), st.sampled_from(["forward", "reverse"]))
def test_slopes_of_the_divergence(x: float, direction: str) -> None:
    step = 1e-5
    low, middle, high = (
        float(kl_from_log(np.array([x + shift]), direction))  # type: ignore[arg-type]
        for shift in (-step, 0.0, step)
    )
    first, second = kl_slopes(np.array([x]), direction)  # type: ignore[arg-type]
    assert first[0] == pytest.approx((high - low) / (2.0 * step), rel=1e-5, abs=1e-9)
    assert second[0] == pytest.approx(
        (high - 2.0 * middle + low) / step**2, rel=1e-3, abs=1e-3 * (1.0 + middle)
    )


def test_weights_are_multiplicities() -> None:
    q = np.array([0.5, 1.3])
    assert kl(q, weights=np.array([3.0, 1.0])) == pytest.approx(float(kl(np.array([0.5, 0.5, 0.5, 1.3]))))
