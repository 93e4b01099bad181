"""The source as a value, its exact maps, image spectra, and families of spectra."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schedrl import schedules
from schedrl.errors import SchedrlError, parse
from schedrl.schedules import Grid
from schedrl.sources import Gaussian
from schedrl.sources.gaussian.spectrum_families import (
    AnySpectrumFamily,
    FixedSpectrum,
    LogUniformSpectrum,
    PowerLawSpectrum,
    SpectrumFamily,
)

INF = math.inf
SOURCE = Gaussian([4.0, 1.0, 0.25])
FAMILIES: list[SpectrumFamily] = [
    LogUniformSpectrum(),
    LogUniformSpectrum(eigenvalues=1, max_eigenvalues=5, decades=6.0),
    LogUniformSpectrum(eigenvalues=1),
    PowerLawSpectrum(),
    FixedSpectrum(values=(0.25, 4.0)),
]


def test_a_frozen_value_with_a_json_form() -> None:
    assert Gaussian(eigenvalues=[4, 1, 0.25]) == SOURCE == Gaussian(np.array([4.0, 1.0, 0.25]))
    assert hash(Gaussian([4.0, 1.0, 0.25])) == hash(SOURCE)
    assert Gaussian.model_validate_json(SOURCE.model_dump_json()) == SOURCE
    assert parse(Gaussian, {"eigenvalues": [1.0]}, "source") == Gaussian([1.0])
    with pytest.raises(ValidationError):
        SOURCE.eigenvalues = (1.0,)


@pytest.mark.parametrize("wrong", [[], [1.0, 0.0], [1.0, -1.0], [math.nan], [INF], [1e-13], "abc", 3.0])
def test_wrong_eigenvalues(wrong: Any) -> None:
    with pytest.raises(SchedrlError, match="Gaussian: field 'eigenvalues"):
        Gaussian(wrong)
    with pytest.raises(SchedrlError, match="source: field 'eigenvalues"):
        parse(Gaussian, {"eigenvalues": wrong}, "source")


def test_the_message_names_index_and_value() -> None:
    with pytest.raises(
        SchedrlError, match=r"'eigenvalues.1': must be a variance between 1e-12 and 1e12 \(got -1.0\)"
    ):
        parse(Gaussian, {"eigenvalues": [4.0, -1.0]}, "source")


def test_denoiser_and_flow() -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(400_000, 3)) * np.sqrt(SOURCE.spectrum)
    noisy = clean + 0.7 * rng.normal(size=clean.shape)
    # The denoiser is the regression of the data on the noisy data.
    slope = (clean * noisy).mean(axis=0) / (noisy**2).mean(axis=0)
    np.testing.assert_allclose(SOURCE.posterior_mean(np.ones(3), 0.7), slope, atol=0.01)
    there = SOURCE.flow(noisy, 0.7, 3.0)
    np.testing.assert_allclose(SOURCE.flow(there, 3.0, 0.7), noisy, rtol=1e-12)
    np.testing.assert_allclose(there.var(axis=0), SOURCE.spectrum + 9.0, rtol=0.01)
    # dy/dσ = (y - E[x0|y]) / σ
    y, step = np.array([1.0, -2.0, 0.5]), 1e-5
    rate = (SOURCE.flow(y, 0.7, 0.7 + step) - SOURCE.flow(y, 0.7, 0.7 - step)) / (2.0 * step)
    np.testing.assert_allclose(rate, (y - SOURCE.posterior_mean(y, 0.7)) / 0.7, rtol=1e-8)


def test_many_heun_steps_follow_the_flow() -> None:
    grid = schedules.grid("karras", 400, final_zero=False)
    assert SOURCE.kl(grid, "heun", start="exact") < 1e-7
    assert SOURCE.w2(grid, "heun", start="exact") < 1e-3
    assert SOURCE.kl(grid, "ddpm-exact", start="exact") < 1e-20


def test_wasserstein_distance() -> None:
    grid = SOURCE.tangent_grid(10)
    variances = SOURCE.output_variances(grid)
    expected = math.sqrt(float(((np.sqrt(variances) - np.sqrt(SOURCE.spectrum)) ** 2).sum()))
    assert SOURCE.w2(grid) == pytest.approx(expected, rel=1e-12)


def test_grids_are_ordered_by_what_they_know() -> None:
    source = Gaussian([9.0, 1.0, 0.01])
    grids = [
        source.tangent_grid(8, 1.0),
        source.tangent_grid(8),
        source.best_tangent_grid(8),
        source.geodesic_grid(8),
        source.best_grid(8),
    ]
    losses = [source.kl(grid) for grid in grids]
    assert losses == sorted(losses, reverse=True)
    assert all(isinstance(grid, Grid) and grid.num_steps == 8 for grid in grids)
    assert source.kl(source.best_grid(8, "ddpm"), "ddpm") < source.kl(grids[-1], "ddpm")
    assert source.geodesic_grid(4, 80.0, 0.002).sigmas[::4] == (80.0, 0.002)
    path = source.trajectory(grids[0])
    np.testing.assert_allclose(path[-1], source.output_variances(grids[0]), rtol=1e-14)


def test_wrong_arguments() -> None:
    grid = SOURCE.tangent_grid(3)
    with pytest.raises(SchedrlError, match="field 'y': must have 3 coordinates"):
        SOURCE.posterior_mean(np.ones(2), 1.0)
    with pytest.raises(SchedrlError, match="field 'sigma': must be a finite noise level"):
        SOURCE.posterior_mean(np.ones(3), INF)
    with pytest.raises(SchedrlError, match="field 'sigma_next'"):
        SOURCE.flow(np.ones(3), 1.0, -1.0)
    with pytest.raises(SchedrlError, match="field 'grid': must end at a positive level"):
        SOURCE.bound(grid)
    with pytest.raises(SchedrlError, match="field 'gamma'"):
        SOURCE.tangent_grid(3, gamma=0.0)
    with pytest.raises(SchedrlError, match="field 'sigma_max'"):
        SOURCE.geodesic_grid(3, 1.0, 2.0)
    with pytest.raises(SchedrlError, match="finite first level"):
        SOURCE.kl(grid, "heun")


def test_spectrum_of_images() -> None:
    rng = np.random.default_rng(0)
    images = np.tanh(rng.normal(size=(50, 1, 4, 4)) @ rng.normal(size=(4, 4))) + 0.3
    source = Gaussian.from_images(images.astype(np.float32), floor=1e-3)
    expected = np.linalg.svd((images - images.mean(axis=0)).reshape(50, 16), compute_uv=False) ** 2 / 49.0
    np.testing.assert_allclose(source.spectrum, expected, rtol=1e-4)
    # Fewer images than pixels: 9 directions at most.
    few = Gaussian.from_images(images[:10])
    centred = (images[:10] - images[:10].mean(axis=0)).reshape(10, 16)
    whole = np.linalg.eigvalsh(centred.T @ centred / 9.0)[::-1][:9]
    np.testing.assert_allclose(few.spectrum, whole, rtol=1e-9)
    assert len(Gaussian.from_images(images, floor=0.5).eigenvalues) < 16
    assert min(Gaussian.from_images(images, floor=0.5).eigenvalues) >= 0.25
    assert Gaussian.from_images(images, max_images=10) != source


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 4)), r"at least two images, \[n, ...\] \(got shape \[0, 4\]\)"),
        (np.zeros((1, 4)), "at least two images"),
        (np.zeros(4), "at least two images"),
        (np.zeros((3, 0)), "at least two images"),
        (np.ones((3, 4)), r"must vary by at least floor = 0.01 .* \(the largest standard deviation is 0\)"),
        (np.array([[0.0, 1.0], [0.0, math.nan]]), "must be finite, but pixel 1 of image 1 is nan"),
    ],
)
def test_images_without_a_spectrum(images: Any, message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        Gaussian.from_images(images)
    with pytest.raises(SchedrlError, match="field 'floor'"):
        Gaussian.from_images(np.eye(3), floor=0.0)
    with pytest.raises(SchedrlError, match="field 'max_images'"):
        Gaussian.from_images(np.eye(3), max_images=1)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.name}-{family.num_eigenvalues}")
@given(seed=st.integers(0, 1000), edge=st.sampled_from([None, 0.0, 1.0]))
def test_families_draw_descending_spectra(family: SpectrumFamily, seed: int, edge: float | None) -> None:
    u = np.random.default_rng(seed).random((7, family.num_uniforms))
    if edge is not None:
        u[:, : seed % (family.num_uniforms + 1)] = edge
    spectra, weights = family.draw(u)
    assert spectra.shape == weights.shape == (7, family.num_eigenvalues)
    assert set(np.unique(weights)) <= {0.0, 1.0}
    assert (weights[:, 0] == 1.0).all()
    assert (np.diff(weights) <= 0.0).all()
    assert (spectra[weights == 0.0] == 1.0).all()
    assert (np.diff(spectra)[weights[:, 1:] == 1.0] <= 1e-12).all()
    assert np.isfinite(spectra).all()
    assert (spectra > 0.0).all()
    # A row is a function of its own numbers.
    alone = family.draw(u[3:4])
    np.testing.assert_array_equal(alone[0][0], spectra[3])
    again = TypeAdapter(AnySpectrumFamily).validate_json(family.model_dump_json())
    assert again == family
    assert hash(again) == hash(family)


def test_log_uniform_spectra_span_what_was_drawn() -> None:
    family = LogUniformSpectrum(eigenvalues=2, max_eigenvalues=6, decades=4.0, scale=(0.5, 2.0))
    u = np.random.default_rng(0).random((2000, family.num_uniforms))
    spectra, weights = family.draw(u)
    counted = np.where(weights > 0.0, spectra, np.nan)
    highest, lowest = np.nanmax(counted, axis=1), np.nanmin(counted, axis=1)
    np.testing.assert_allclose(np.log10(highest / lowest), 4.0 * u[:, 1], atol=1e-9)
    middle = np.sqrt(highest * lowest)
    assert middle.min() > 0.5 - 1e-9
    assert middle.max() < 2.0 + 1e-9
    counts = np.bincount(weights.sum(axis=1).astype(int))
    assert counts[:2].tolist() == [0, 0]
    assert (counts[2:] > 300).all()


def test_power_law_spectra() -> None:
    family = PowerLawSpectrum(eigenvalues=10, exponent=(1.0, 2.0), scale=(0.25, 0.25))
    spectra, _ = family.draw(np.array([[0.5, 0.9]]))
    np.testing.assert_allclose(spectra[0] / spectra[0, 0], np.arange(1.0, 11.0) ** -1.5, rtol=1e-12)
    assert spectra.mean() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "log-uniform", "eigenvalues": 0}, "'family.eigenvalues'"),
        ({"name": "log-uniform", "max_eigenvalues": 3}, "must be at least eigenvalues = 8"),
        ({"name": "log-uniform", "decades": -1.0}, "'family.decades'"),
        ({"name": "log-uniform", "scale": [2.0, 1.0]}, "must be a range from low to high, but 2.0 > 1.0"),
        ({"name": "power-law", "exponent": [3.0, 1.0]}, "must be a range from low to high"),
        ({"name": "fixed", "values": []}, "'family.values'"),
        ({"name": "fixed", "values": [1.0, -1.0]}, "must be a variance between"),
        ({"name": "flat"}, "unknown name 'flat'"),
        ({"name": "power-law", "exponents": [1.0, 2.0]}, "unknown field 'family.exponents'"),
    ],
)
def test_wrong_families(fields: dict[str, Any], message: str) -> None:
    from schedrl.errors import Spec

    class Holder(Spec):
        family: AnySpectrumFamily

    Holder.model_rebuild(_types_namespace={"AnySpectrumFamily": AnySpectrumFamily})
    with pytest.raises(SchedrlError, match=message):
        parse(Holder, {"family": fields}, "holder")


def test_wrong_uniform_numbers() -> None:
    family = PowerLawSpectrum()
    with pytest.raises(SchedrlError, match=r"field 'u': must have shape \[B, 2\] \(got \[3, 1\]\)"):
        family.draw(np.zeros((3, 1)))
    with pytest.raises(SchedrlError, match=r"field 'u': must lie in \[0, 1\] \(got 1.5\)"):
        family.draw(np.array([[0.5, 1.5]]))


def test_importing_sources_needs_neither_torch_nor_scipy() -> None:
    code = "import sys, schedrl.sources; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
