"""Gradient and Hessian of every sampler's divergence against differences, and values against the recursion."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from schedrl.errors import SchedrlError
from schedrl.sources.gaussian.divergences import Direction
from schedrl.sources.gaussian.objective import kl_derivatives, kl_of_levels, log_ratio
from schedrl.sources.gaussian.recursions import SamplerName, Start, output_variances

FloatArray = npt.NDArray[np.float64]

INF = math.inf
SAMPLERS: tuple[SamplerName, ...] = ("ddim", "ddpm", "ddpm-large", "heun")
ENDS = list(itertools.product((None, INF), (0.0, 0.02)))
CASES = [
    (sampler, start, first, last)
    for sampler, start, (first, last) in itertools.product(SAMPLERS, get_args(Start), ENDS)
    if not (sampler == "heun" and first == INF)
]


def _problem(first: float | None, last: float, seed: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    spectra = 10.0 ** rng.uniform(-3.0, 2.0, (6, 5))
    weights = rng.integers(0, 4, spectra.shape).astype(float)
    weights[:, 0] = 1.0
    sigmas = np.exp(np.sort(rng.uniform(-3.0, 3.0, (6, 7)), axis=1)[:, ::-1])
    if first is not None:
        sigmas[:, 0] = first
    sigmas[:, -1] = last
    return spectra, weights, sigmas


@pytest.mark.parametrize(("sampler", "start", "first", "last"), CASES)
def test_values_are_those_of_the_recursion(
    sampler: SamplerName, start: Start, first: float | None, last: float
) -> None:
    spectra, _, sigmas = _problem(first, last)
    ratio = output_variances(spectra, sigmas, sampler, start) / (spectra + last**2)
    np.testing.assert_allclose(np.exp(log_ratio(spectra, sigmas, sampler, start)), ratio, rtol=1e-13)


@pytest.mark.parametrize("direction", get_args(Direction))
@pytest.mark.parametrize(("sampler", "start", "first", "last"), CASES)
def test_derivatives_are_those_of_differences(
    sampler: SamplerName, start: Start, first: float | None, last: float, direction: Direction
) -> None:
    spectra, weights, sigmas = _problem(first, last)
    value, gradient, hessian = kl_derivatives(spectra, sigmas, sampler, direction, start, weights)
    np.testing.assert_array_equal(value, kl_of_levels(spectra, sigmas, sampler, direction, start, weights))
    np.testing.assert_allclose(hessian, hessian.transpose(0, 2, 1), rtol=1e-10, atol=1e-12 * hessian.max())
    step = 1e-4
    for level in range(1 if first == INF else 0, 6):
        values, gradients = [], []
        for shift in (-2.0, -1.0, 1.0, 2.0):
            moved = sigmas.copy()
            moved[:, level] *= math.exp(shift * step)
            found = kl_derivatives(spectra, moved, sampler, direction, start, weights)
            values.append(found[0])
            gradients.append(found[1])
        scale = np.abs(gradient).max(axis=1) + value
        slope = (values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * step)
        np.testing.assert_allclose((slope - gradient[:, level]) / scale, 0.0, atol=1e-9)
        bend = (gradients[0] - 8.0 * gradients[1] + 8.0 * gradients[2] - gradients[3]) / (12.0 * step)
        scale = np.abs(hessian).max(axis=(1, 2)) + value
        np.testing.assert_allclose((bend - hessian[:, level]) / scale[:, None], 0.0, atol=1e-9)
    if first == INF:
        assert not gradient[:, 0].any()
        assert not hessian[:, 0].any()


def _exactly(values: list[float]) -> list[Any]:
    """Numbers for arithmetic with forty digits."""
    from decimal import Decimal

    return [Decimal(value) for value in values]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nearly_perfect_samplers_keep_their_digits(sampler: SamplerName) -> None:
    """log q of many fine steps, against the same recursion in fifty-digit arithmetic."""
    from decimal import Decimal, localcontext

    levels = np.geomspace(3.0, 0.5, 201)
    spectrum = np.array([2.0, 0.3])
    ours = log_ratio(spectrum[None], levels[None], sampler, "exact")[0]
    with localcontext() as context:
        context.prec = 50
        for eigenvalue, found in zip(_exactly([2.0, 0.3]), ours.tolist(), strict=True):
            variance = eigenvalue + Decimal(levels[0]) ** 2
            for now, after in itertools.pairwise(_exactly(levels.tolist())):
                exact, exact_next = eigenvalue + now**2, eigenvalue + after**2
                euler = (eigenvalue + now * after) / exact
                noise = Decimal(0)
                if sampler == "heun":
                    half = (after - now) / 2
                    euler = 1 + half * (now / exact + after / exact_next * euler)
                elif sampler != "ddim":
                    euler = exact_next / exact
                    gap = now**2 - after**2
                    small, large = after**2 * gap / now**2, gap * (1 + after**2) / (1 + now**2)
                    noise = small if sampler == "ddpm" else large
                variance = euler**2 * variance + noise
            expected = float((variance / (eigenvalue + Decimal(levels[-1]) ** 2)).ln())
            assert found == pytest.approx(expected, rel=1e-12)
            assert abs(found) < 0.02


def test_ratios_far_below_one_keep_their_digits() -> None:
    spectra, sigmas = np.array([[1e-8, 1e8]]), np.array([[INF, 1e4, 1e-4, 0.0], [INF, 3.0, 1.0, 0.0]])
    for sampler in ("ddim", "ddpm", "ddpm-large"):
        ratio = output_variances(spectra, sigmas, sampler) / spectra
        found = log_ratio(np.repeat(spectra, 2, axis=0), sigmas, sampler)
        assert found.shape == (2, 2)
        np.testing.assert_allclose(found, np.log(ratio), rtol=1e-12)
    assert log_ratio(np.ones((1, 1)), np.array([[INF, 0.0]]), "ddim")[0, 0] == -INF


def test_wrong_names() -> None:
    spectra, sigmas = np.ones((1, 1)), np.array([[INF, 1.0, 0.0]])
    with pytest.raises(SchedrlError, match="'ddpm-exact' has no error that depends on the levels"):
        log_ratio(spectra, sigmas, "ddpm-exact")
    with pytest.raises(SchedrlError, match="unknown sampler 'euler'"):
        log_ratio(spectra, sigmas, "euler")  # type: ignore[arg-type]
    with pytest.raises(SchedrlError, match="unknown start 'x'"):
        log_ratio(spectra, sigmas, "ddim", "x")  # type: ignore[arg-type]
    with pytest.raises(SchedrlError, match="Heun's sampler needs a finite first level"):
        log_ratio(spectra, sigmas, "heun")
