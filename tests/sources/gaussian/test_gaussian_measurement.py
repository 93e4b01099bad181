"""A spectrum measured in blocks is that of all images at once, and its doubts are numbers that react."""

from __future__ import annotations

import numpy as np
import pytest

from schedrl.errors import SchedrlError
from schedrl.schedules import grid
from schedrl.sources import Gaussian
from schedrl.sources.gaussian.measurement import SpectrumMeasurement, SpectrumMeter


def measured(
    images: np.ndarray, block: int = 97, full: int = 3072, floor: float = 1e-3
) -> SpectrumMeasurement:
    meter = SpectrumMeter(images.shape[1:], full)
    for begin in range(0, len(images), block):
        meter.update(images[begin : begin + block])
    return meter.measure(floor)


def smooth(count: int, side: int, seed: int = 0, *, heavy: bool = False) -> np.ndarray:
    """Images with correlated neighbours; with ``heavy`` each has a contrast of its own."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, 1, side, side))
    if heavy:
        noise *= np.exp(rng.standard_normal((count, 1, 1, 1)))
    for axis in (2, 3):
        noise = noise + np.roll(noise, 1, axis) + 0.5 * np.roll(noise, 2, axis)
    return 0.05 * noise + 0.3


@pytest.mark.parametrize("block", [1, 64, 1000])
@pytest.mark.parametrize("count", [40, 900])
def test_blocks_do_not_matter(count: int, block: int) -> None:
    images = smooth(count, 8)
    flat = images.reshape(count, -1)
    expected = np.sort(np.linalg.eigvalsh(np.cov(flat.T)))[::-1]
    found = measured(images, block).eigenvalues
    np.testing.assert_allclose(found, expected[expected >= 1e-6], rtol=1e-8)
    assert len(found) == min(64, count - 1)


def test_a_part_of_the_coefficients_keeps_the_sum_and_nearly_the_best_grid() -> None:
    images = smooth(4000, 12)
    whole, part = measured(images), measured(images, full=72)
    assert whole.approximate == 0.0
    assert 0.0 < part.approximate < 0.1
    assert 0.0 < part.residual_correlation < 0.2
    np.testing.assert_allclose(part.eigenvalues.sum(), whole.eigenvalues.sum(), rtol=1e-4)
    # What it is for: the grid found on the approximate spectrum is nearly as good on the true one.
    true, rough = Gaussian(whole.eigenvalues), Gaussian(part.eigenvalues)
    for steps in (5, 20):
        best = true.kl(true.best_grid(steps))
        assert best <= true.kl(rough.best_grid(steps)) < 1.2 * best < 0.3 * true.kl(grid("karras", steps))


def test_floor_leaves_out_directions_and_says_their_share() -> None:
    rng = np.random.default_rng(0)
    images = (rng.standard_normal((5000, 4)) * [1.0, 0.5, 0.05, 0.04]).reshape(-1, 1, 2, 2)
    found = measured(images, floor=0.2)
    assert len(found.eigenvalues) == 2
    assert found.below_floor == pytest.approx((0.05**2 + 0.04**2) / (1.25 + 0.05**2 + 0.04**2), rel=0.1)


def test_kurtosis_tells_a_gaussian_from_contrasts() -> None:
    # Five standard errors of a Gaussian's kurtosis.
    assert np.abs(measured(smooth(2000, 6)).kurtosis - 3.0).max() < 5.0 * (24.0 / 2000) ** 0.5
    assert np.median(measured(smooth(2000, 6, heavy=True)).kurtosis) > 6.0


def test_more_images_than_are_kept_spread_over_all() -> None:
    # Only the second half has outliers; a sample of the first images alone would not know.
    images = smooth(9000, 4)
    images[4500:] = smooth(4500, 4, seed=1, heavy=True)
    assert np.median(measured(images).kurtosis) > 4.0


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (np.full((10, 1, 4, 4), 0.3), r"must vary by at least floor = 0.001 .*are they all the same"),
        (np.zeros((1, 1, 4, 4)), r"at least two \(got 1\)"),
        (np.full((3, 1, 4, 4), np.nan), "must be finite"),
    ],
)
def test_what_has_no_spectrum(images: np.ndarray, match: str) -> None:
    with pytest.raises(SchedrlError, match=match):
        measured(images)


def test_nothing_and_another_shape() -> None:
    with pytest.raises(SchedrlError, match="at least two"):
        SpectrumMeter((1, 2, 2)).measure(0.1)
    with pytest.raises(SchedrlError, match=r"must have the shape \[1, 2, 2\]"):
        SpectrumMeter((1, 2, 2)).update(np.zeros((3, 1, 4, 4)))
