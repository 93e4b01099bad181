"""σ_local of noised images, against filtering x_t itself pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from schedrl.diffusion import local_variance
from schedrl.diffusion.local_variance import LocalDeviation, gaussian_blur, local_deviation


def direct_blur(image: np.ndarray, size: int) -> np.ndarray:
    """Gaussian filter of one image by explicit sums over a padded copy."""
    radius = size // 2
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2.0 * (size / 4.0) ** 2))
    kernel /= kernel.sum()
    padded = np.pad(image, radius, mode="reflect")
    height, width = image.shape
    return np.array(
        [[(kernel * padded[i : i + size, j : j + size]).sum() for j in range(width)] for i in range(height)]
    )


def direct_deviation(x: np.ndarray, noise: np.ndarray, log_alpha_bar: float, size: int) -> float:
    kept = math.exp(log_alpha_bar)
    noised = math.sqrt(kept) * x + math.sqrt(1.0 - kept) * noise
    values = []
    for image in noised.reshape(-1, *x.shape[2:]):
        variance = direct_blur(image**2, size) - direct_blur(image, size) ** 2
        values.append(np.sqrt(np.maximum(variance, 0.0)))
    return float(np.mean(values))


def pictures(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, shape).astype(np.float32), rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((3, 1, 8, 8), 7), ((2, 3, 4, 4), 3), ((2, 1, 7, 7), 7), ((1, 1, 12, 9), 7), ((2, 1, 3, 3), 3)],
)
def test_equals_filtering_the_noised_image(shape: tuple[int, ...], size: int) -> None:
    x, noise = pictures(shape)
    levels = np.array([0.0, -1e-9, -0.01, -math.log(2.0), -3.0, -40.0])
    found = LocalDeviation(x, noise).at(levels)
    expected = [direct_deviation(x.astype(np.float64), noise.astype(np.float64), v, size) for v in levels]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.shape == levels.shape


def test_blur_is_a_normalised_average() -> None:
    np.testing.assert_allclose(gaussian_blur(np.full((2, 8, 6), 3.0)), 3.0, rtol=1e-14)
    impulse = np.zeros((15, 15))
    impulse[7, 7] = 1.0
    blurred = gaussian_blur(impulse)
    assert blurred.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(blurred, direct_blur(impulse, 7), atol=1e-15)
    assert np.count_nonzero(blurred) == 49
    np.testing.assert_array_equal(gaussian_blur(np.ones((1, 1))), [[1.0]])
    np.testing.assert_allclose(gaussian_blur(np.array([[1.0, 2.0], [3.0, 4.0]])), [[1.0, 2.0], [3.0, 4.0]])


@given(st.floats(-50.0, 0.0))
def test_flat_images_show_the_noise_alone(log_alpha_bar: float) -> None:
    _, noise = pictures((2, 1, 8, 8))
    flat = np.full((2, 1, 8, 8), 0.25, dtype=np.float32)
    all_noise = LocalDeviation(flat, noise).at(np.array(-math.inf))
    expected = math.sqrt(-math.expm1(log_alpha_bar)) * float(all_noise)
    assert float(LocalDeviation(flat, noise).at(np.array(log_alpha_bar))) == pytest.approx(expected, abs=1e-7)


def test_shape_of_the_levels_is_kept() -> None:
    deviation = LocalDeviation(*pictures((2, 1, 8, 8)))
    assert deviation.at(np.zeros((4, 3))).shape == (4, 3)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 9, 12), (1, 1, 32, 32)])
def test_the_filter_is_scipys(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(1).standard_normal(shape)
    for each, found in zip(
        images.reshape(-1, *shape[2:]), gaussian_blur(images).reshape(-1, *shape[2:]), strict=True
    ):
        np.testing.assert_allclose(
            found, ndimage.gaussian_filter(each, sigma=1.75, radius=3, mode="mirror"), rtol=1e-12, atol=1e-14
        )


def test_runs_and_knots_at_once_are_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, noise = pictures((5, 1, 8, 8))
    levels = -np.random.default_rng(2).exponential(1.0, (10, 4))  # knots, runs
    deviation = LocalDeviation(x, noise)
    together = deviation.at(levels)
    alone = [[float(deviation.at(np.array(level))) for level in row] for row in levels]
    np.testing.assert_array_equal(together, alone)
    monkeypatch.setattr(local_variance, "_AT_ONCE", 1)  # cut as small as can be
    np.testing.assert_array_equal(deviation.at(levels), together)


def test_every_image_at_its_own_level(monkeypatch: pytest.MonkeyPatch) -> None:
    x, noise = pictures((4, 3, 8, 8))
    levels = -np.random.default_rng(3).exponential(1.0, (2, 4))  # runs, images
    found = LocalDeviation(x, noise).at_images(levels)
    for run in range(2):
        for image in range(4):
            own = direct_deviation(
                x[image : image + 1].astype(np.float64), noise[image : image + 1].astype(np.float64),
                float(levels[run, image]), 7,
            )  # fmt: skip
            assert found[run, image] == pytest.approx(own, rel=1e-9)
    monkeypatch.setattr(local_variance, "_AT_ONCE", 1)
    np.testing.assert_array_equal(LocalDeviation(x, noise).at_images(levels), found)
    same = np.full(4, -0.7)
    mean = LocalDeviation(x, noise).at(np.array(-0.7))
    assert LocalDeviation(x, noise).at_images(same).mean() == pytest.approx(float(mean), rel=1e-12)


@pytest.mark.parametrize(("shape", "size"), [((3, 1, 8, 8), 7), ((2, 3, 4, 9), 3), ((2, 1, 2, 2), 1)])
def test_torch_sees_the_same(shape: tuple[int, ...], size: int) -> None:
    x, noise = pictures(shape)
    noised = torch.from_numpy(
        math.sqrt(0.6) * x.astype(np.float64) + math.sqrt(0.4) * noise.astype(np.float64)
    )
    expected = LocalDeviation(x, noise).at_images(np.full(shape[0], math.log(0.6)))
    np.testing.assert_allclose(local_deviation(noised).numpy(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(local_deviation(noised.float()).numpy(), expected, rtol=1e-4, atol=1e-6)
