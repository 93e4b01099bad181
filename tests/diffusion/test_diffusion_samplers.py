"""Samplers on Gaussian data, where every step is linear and the output's variance is known exactly.

For data N(0, l) the exact denoiser is x0 = sqrt(a) l / (a l + 1 - a) z, with a the kept signal variance. A sampler is
then a linear map of its start and its noise; feeding ones gives its coefficients, their squares the variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from schedrl.diffusion.samplers import SamplerName, ddim, ddpm, heun, sample

SPECTRUM = (4.0, 1.0, 0.25)
N = 10


def gaussian(spectrum: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
    eigenvalues = torch.tensor(spectrum, dtype=torch.float64)

    def denoise(z: Tensor, logsnr: Tensor) -> Tensor:
        kept = torch.sigmoid(logsnr)
        return kept.sqrt() * eigenvalues / (kept * eigenvalues + 1.0 - kept) * z

    return denoise


def ones(spectrum: Sequence[float]) -> Tensor:
    return torch.ones(len(spectrum), dtype=torch.float64)


def sigmas_of(alphas_cumprod: Sequence[float]) -> list[float]:
    """Descending noise-to-signal ratios from rising or falling kept variances."""
    return sorted((math.sqrt((1.0 - a) / a) if a > 0.0 else math.inf for a in alphas_cumprod), reverse=True)


def ddpm_variance(
    spectrum: Sequence[float], sigmas: list[float], start: float, variance: Literal["small", "large"]
) -> np.ndarray:
    """Output variance from the response to the start and to each step's noise."""
    one, zero = ones(spectrum), torch.zeros(len(spectrum), dtype=torch.float64)
    steps = len(sigmas) - 1
    total = start * ddpm(gaussian(spectrum), one, sigmas, [zero] * steps, variance).square()
    for step in range(steps):
        noise = [one if k == step else zero for k in range(steps)]
        total += ddpm(gaussian(spectrum), zero, sigmas, noise, variance).square()
    return total.numpy()


# abar_k = cos^2(pi k / 20); the last is exactly 0, which a cosine in floating point is not.
COSINE = sigmas_of([math.cos(math.pi * k / 20) ** 2 for k in range(N)] + [0.0])
_RHO = [(0.002 ** (1 / 7) + i / 9 * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7 for i in range(10)]
KARRAS = [*reversed(_RHO), 0.0]
KARRAS_START = 6400.0 / 6401.0  # the state y = z / alpha starts with variance 80^2


def test_ddim_on_the_cosine_grid() -> None:
    z = ddim(gaussian(SPECTRUM), ones(SPECTRUM), COSINE)
    np.testing.assert_allclose(z.square(), [2.9314486677, 0.7805460698, 0.1832155417], rtol=1e-9)


def test_ddim_on_steps_of_the_linear_law() -> None:
    kept = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))[99::100]
    z = ddim(gaussian(SPECTRUM), ones(SPECTRUM), sigmas_of([1.0, *kept]))
    np.testing.assert_allclose(z.square(), [2.954754393, 0.6878533277, 0.1368665608], rtol=1e-9)


def test_ddpm_small() -> None:
    found = ddpm_variance(SPECTRUM, COSINE, 1.0, "small")
    np.testing.assert_allclose(found, [2.6959356001, 0.6791207513, 0.1510378465], rtol=1e-9)


def test_ddpm_large() -> None:
    # The closed form adds noise in the last step too; a sampler does not, because it would be seen.
    last_beta = 1.0 - math.cos(math.pi / 20) ** 2
    found = ddpm_variance(SPECTRUM, COSINE, 1.0, "large") + last_beta
    np.testing.assert_allclose(found, [3.3384911327, 1.0, 0.3004247301], rtol=1e-9)


def test_euler_is_ddim() -> None:
    z = ddim(gaussian(SPECTRUM), ones(SPECTRUM), KARRAS)
    expected = [2.3832377208, 0.5637004337, 0.1333805829]
    np.testing.assert_allclose(KARRAS_START * z.square(), expected, rtol=1e-9)


def test_heun_on_karras_grid() -> None:
    z = heun(gaussian(SPECTRUM), ones(SPECTRUM), KARRAS)
    expected = [5.2156964465, 1.3816416702, 0.3718536018]
    np.testing.assert_allclose(KARRAS_START * z.square(), expected, rtol=1e-9)


def test_tangent_grid_of_one_eigenvalue() -> None:
    grid = [math.inf, *(math.sqrt(2.5) * math.tan(math.pi * k / 14) for k in range(6, -1, -1))]
    z = ddim(gaussian([2.5]), ones([2.5]), grid)
    assert float(z.square()) == pytest.approx(1.75208459242, rel=1e-11)
    assert float(z.square()) == pytest.approx(2.5 * math.cos(math.pi / 14) ** 14, rel=1e-12)


@pytest.mark.parametrize("first", [math.inf, 7.0])
def test_one_step_is_the_denoiser(first: float) -> None:
    denoise, z = gaussian(SPECTRUM), ones(SPECTRUM)
    expected = denoise(z, torch.tensor(-2.0 * math.log(first), dtype=torch.float64))
    torch.testing.assert_close(ddim(denoise, z, [first, 0.0]), expected)
    for variance in ("small", "large"):
        torch.testing.assert_close(ddpm(denoise, z, [first, 0.0], [100.0 * z], variance), expected)
    if first < math.inf:
        torch.testing.assert_close(heun(denoise, z, [first, 0.0]), expected)
    else:
        assert not expected.any()  # pure noise says nothing: the mean


@st.composite
def grids(draw: st.DrawFn, *, infinite: bool = True) -> list[float]:
    """Descending ratios; the last 0 or small, the first infinite or large."""
    steps = draw(st.lists(st.floats(0.1, 2.0), min_size=1, max_size=8))
    inner = np.exp(3.0 - np.cumsum(steps)).tolist()
    first = draw(st.sampled_from([math.inf, 50.0] if infinite else [50.0, 30.0]))
    last = draw(st.sampled_from([[], [0.0]]))
    return [first, *inner, *last]


def end_scale(grid: list[float]) -> float:
    """alpha at the end: samplers return z, the closed forms below give y = z / alpha."""
    return 1.0 / math.sqrt(1.0 + grid[-1] ** 2)


@given(grids(), st.floats(0.01, 50.0))
def test_ddim_closed_form(grid: list[float], eigenvalue: float) -> None:
    # (2.2): (l + r_0^2) V_N / (l + r_N^2) prod cos^2(phi_k - phi_{k-1}), phi = atan(r / sqrt(l)), started from N(0, 1).
    phi = np.arctan(np.array(grid) / math.sqrt(eigenvalue))
    first = 1.0 if math.isinf(grid[0]) else (1.0 + grid[0] ** 2) / (eigenvalue + grid[0] ** 2)
    expected = (eigenvalue + grid[-1] ** 2) * first * np.prod(np.cos(np.diff(phi)) ** 2)
    y = ddim(gaussian([eigenvalue]), ones([eigenvalue]), grid) / end_scale(grid)
    assert float(y.square()) == pytest.approx(float(expected), rel=1e-10, abs=1e-14)


@given(grids(infinite=False), st.floats(0.01, 50.0))
def test_ddpm_closed_sum(grid: list[float], eigenvalue: float) -> None:
    # (2.3): (l + R_0)^2 [V_N / (l + R_N)^2 + sum n_k / (l + R_{k-1})^2], with R = r^2.
    squares = np.square(grid)
    before, after = squares[:-1], squares[1:]
    start = (1.0 + before[0]) / (eigenvalue + before[0]) ** 2
    noise: dict[Literal["small", "large"], np.ndarray] = {
        "small": after * (before - after) / before,
        "large": (before - after) * (1.0 + after) / (1.0 + before),
    }
    for variance, added in noise.items():
        if grid[-1] == 0.0:
            added[-1] = 0.0
        total = (eigenvalue + squares[-1]) ** 2 * (start + np.sum(added / (eigenvalue + after) ** 2))
        found = ddpm_variance([eigenvalue], grid, 1.0, variance)[0] / end_scale(grid) ** 2
        assert found == pytest.approx(total, rel=1e-8), variance


@given(grids(infinite=False), st.floats(0.01, 50.0))
def test_heun_recursion(grid: list[float], eigenvalue: float) -> None:
    # (2.5), with a(r) = r / (l + r^2).
    y = math.sqrt(1.0 + grid[0] ** 2)
    for here, there in pairwise(grid):
        h, a, b = there - here, here / (eigenvalue + here**2), there / (eigenvalue + there**2)
        y *= 1.0 + h * a if there == 0.0 else 1.0 + 0.5 * h * (a + b * (1.0 + h * a))
    found = heun(gaussian([eigenvalue]), ones([eigenvalue]), grid) / end_scale(grid)
    assert float(found) == pytest.approx(y, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (heun, 2)])
def test_order_of_convergence(sampler: Callable[..., Tensor], order: int) -> None:
    eigenvalue, first, last = 0.7, 20.0, 0.05
    # Exact: y(r) is proportional to sqrt(l + r^2); z = y / sqrt(1 + r^2).
    exact = math.sqrt((eigenvalue + last**2) / (eigenvalue + first**2) * (1 + first**2) / (1 + last**2))

    def error(steps: int) -> float:
        grid = np.geomspace(first, last, steps + 1).tolist()
        return abs(float(sampler(gaussian([eigenvalue]), ones([eigenvalue]), grid)) - exact)

    assert error(100) / error(200) == pytest.approx(2.0**order, rel=0.05)


@pytest.mark.parametrize(
    ("name", "last", "evaluations"),
    [
        ("ddim", 0.0, 5),
        ("ddpm", 0.0, 5),
        ("heun", 0.0, 9),
        ("ddim", 0.1, 5),
        ("ddpm", 0.1, 5),
        ("heun", 0.1, 10),
    ],
)
def test_sample_counts_and_repeats(name: SamplerName, last: float, evaluations: int) -> None:
    levels: list[float] = []

    def denoise(z: Tensor, logsnr: Tensor) -> Tensor:
        assert z.shape == (2, 1, 4, 4)
        assert z.dtype == logsnr.dtype == torch.float32
        assert logsnr.shape == ()
        levels.append(float(logsnr))
        return 0.5 * z

    grid = [80.0, 20.0, 5.0, 2.0, 0.5, last]

    def run(seed: int) -> Tensor:
        return sample(name, denoise, (2, 1, 4, 4), grid, torch.Generator().manual_seed(seed))

    first = run(3)
    assert len(levels) == evaluations
    allowed = [-2.0 * math.log(r) for r in grid if r > 0.0]
    assert all(min(abs(level - other) for other in allowed) < 1e-5 for level in levels)
    assert torch.equal(first, run(3))
    assert not torch.equal(first, run(4))


def test_ddpm_noise_is_used_where_it_should_be() -> None:
    grid = [math.inf, 3.0, 1.0, 0.0]
    zero = torch.zeros(1, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)

    def nothing(z: Tensor, logsnr: Tensor) -> Tensor:
        return torch.zeros_like(z)

    # With the estimate 0 the last step forgets all; before it, the posterior deviations remain.
    assert not ddpm(nothing, one, grid, [one] * 3).any()
    reached = ddpm(nothing, zero, grid[:-1], [zero, one])
    r2, s2 = 9.0, 1.0
    posterior = (1.0 - (1.0 + s2) / (1.0 + r2)) * (s2 / (1.0 + s2)) / (r2 / (1.0 + r2))
    assert float(reached.square()) == pytest.approx(posterior, rel=1e-12)
