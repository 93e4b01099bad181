"""What an agent sees of a Gaussian source, computed another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from schedrl.environments.sampling.gaussian_source import GaussianBatch, fast_angle
from schedrl.sources.gaussian.laws import gamma_star

SPECTRUM = np.array([[9.0, 2.0, 0.5, 0.01]])


def written(batch: GaussianBatch, state: Any, sigma: Any) -> Any:
    out = np.empty((3 * batch.quantiles + 2, len(sigma)), np.float32)
    batch.write_features(state, sigma, out)
    return out


def features(batch: GaussianBatch, state: Any, sigma: float) -> dict[str, Any]:
    k = batch.quantiles
    rows = written(batch, state, np.array([sigma]))[:, 0]
    return {
        "spectrum": rows[:k],
        "angle": rows[k : 2 * k],
        "deficit": rows[2 * k : 3 * k],
        "speed": rows[-2],
        "ahead": rows[-1],
    }


@pytest.mark.parametrize("sigma", [np.inf, 30.0, 1.0, 0.02, 0.0])
def test_features(sigma: float) -> None:
    batch = GaussianBatch(SPECTRUM, np.ones_like(SPECTRUM), "ddim", quantiles=4)
    lost = np.array([[0.9], [0.8], [0.95], [1.0]])
    shown = features(batch, (lost * _marginal(sigma),), sigma)
    gamma = float(gamma_star(SPECTRUM)[0])
    theta = np.arctan(sigma / gamma)
    phi = np.arctan(sigma / np.sqrt(SPECTRUM[0]))
    np.testing.assert_allclose(shown["spectrum"], 0.25 * np.log(SPECTRUM[0] / gamma**2), rtol=1e-5)
    np.testing.assert_allclose(shown["angle"], phi / (0.5 * np.pi), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shown["deficit"], np.log(lost[:, 0]), rtol=1e-4, atol=1e-6)

    def squared(at: float, root: float) -> float:
        """(dφ/dθ)² of one eigenvalue."""
        return float((root / gamma / (root**2 / gamma**2 * np.cos(at) ** 2 + np.sin(at) ** 2)) ** 2)

    roots = np.sqrt(SPECTRUM[0])
    weights = np.maximum(phi**2 - np.log(lost[:, 0]), 1e-6)
    here = np.average([squared(theta, root) for root in roots], weights=weights)
    assert shown["speed"] == pytest.approx(0.5 * np.log(here), rel=1e-4, abs=1e-5)
    if theta > 0.0:
        paths = [
            quad(squared, 0.0, theta, args=(root,), points=[min(root / gamma, theta)])[0] for root in roots
        ]
        ahead = np.average(np.array(paths) / theta, weights=weights)
    else:
        ahead = here
    assert shown["ahead"] == pytest.approx(0.5 * np.log(ahead), rel=1e-4, abs=1e-5)


def _marginal(sigma: float) -> Any:
    angle = np.arctan(sigma)
    return (np.cos(angle) ** 2 * SPECTRUM[0] + np.sin(angle) ** 2)[:, None]


def test_quantiles_of_many_and_of_few() -> None:
    many = np.sort(np.logspace(-2, 2, 64))[::-1][None]
    batch = GaussianBatch(many, np.ones_like(many), "ddim", quantiles=4)
    shown = features(batch, (np.ones((64, 1)),), np.inf)
    # 64 log-uniform values: the quantiles at 1/8, 3/8, 5/8, 7/8 of four decades.
    expected = 0.25 * np.log(10.0) * np.array([1.5, 0.5, -0.5, -1.5]) * 64 / 63
    np.testing.assert_allclose(shown["spectrum"], expected, atol=1e-5)
    two = np.array([[4.0, 1.0, 1.0, 1.0]])
    padded = GaussianBatch(two, np.array([[1.0, 1.0, 0.0, 0.0]]), "ddim", quantiles=4)
    alone = GaussianBatch(two[:, :2], np.ones((1, 2)), "ddim", quantiles=4)
    for name, values in features(padded, (np.ones((4, 1)),), 2.0).items():
        np.testing.assert_allclose(values, features(alone, (np.ones((2, 1)),), 2.0)[name], rtol=1e-6)


def test_padding_counts_for_nothing() -> None:
    spectrum, weights = np.array([[4.0, 0.3, 1.0, 1.0]]), np.array([[1.0, 1.0, 0.0, 0.0]])
    padded = GaussianBatch(spectrum, weights, "ddim")
    alone = GaussianBatch(spectrum[:, :2], weights[:, :2], "ddim")
    state = np.array([[3.0], [0.2], [0.5], [7.0]])
    zero = np.zeros(1)
    assert padded.error((state,), zero) == alone.error((state[:2],), zero)
    assert padded.deviation((state,), (2.0 * state,)) == pytest.approx(2.0 * np.log(2.0))


def test_taking_rows() -> None:
    rng = np.random.default_rng(0)
    spectra = -np.sort(-rng.uniform(0.1, 3.0, (5, 4)), axis=1)
    batch = GaussianBatch(spectra, np.ones_like(spectra), "ddim", quantiles=3)
    rows = np.array([3, 1, 3])
    fresh = GaussianBatch(spectra[rows], np.ones((3, 4)), "ddim", quantiles=3)
    taken, sigma = batch.take(rows), np.array([0.4, 3.0, np.inf])
    state = fresh.start(np.arange(3))
    np.testing.assert_array_equal(written(taken, state, sigma), written(fresh, state, sigma))
    taken.assign(np.array([0]), np.ones((1, 4)), np.ones((1, 4)))
    np.testing.assert_array_equal(batch.eigenvalues, spectra)


def test_a_geodesic_does_not_depend_on_whether_its_neighbours_are_alike() -> None:
    rng = np.random.default_rng(1)
    spectra = -np.sort(-rng.uniform(0.1, 3.0, (3, 6)), axis=1)
    counts = np.ones_like(spectra)
    together = GaussianBatch(spectra, counts, "ddim", quantiles=3).geodesic_angles()
    for row in range(3):
        part = slice(row, row + 1)
        alone = GaussianBatch(spectra[part], counts[part], "ddim", quantiles=3).geodesic_angles()
        np.testing.assert_allclose(alone[:, 0], together[:, row], rtol=1e-12)
    shared = GaussianBatch(spectra[:1], counts[:1], "ddim", quantiles=3, shared=True).geodesic_angles()
    assert np.abs(shared[:, 0] - together[:, 0]).max() > 1e-3, "of the whole spectrum, not of three quantiles"


@given(angle=st.floats(0.0, np.pi / 2))
def test_the_fast_angle(angle: float) -> None:
    made = fast_angle(np.array([np.cos(angle)], np.float32), np.array([max(np.sin(angle), 0.0)], np.float32))
    assert float(made[0]) == pytest.approx(angle, abs=3e-7)
