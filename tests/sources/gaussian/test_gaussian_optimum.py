"""The best grid is a minimum, is the minimum that another optimiser finds, and no law beats it."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from schedrl import schedules
from schedrl.errors import SchedrlError
from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas
from schedrl.sources.gaussian import laws
from schedrl.sources.gaussian.divergences import Direction
from schedrl.sources.gaussian.objective import kl_derivatives, kl_of_levels
from schedrl.sources.gaussian.optimum import best_sigmas
from schedrl.sources.gaussian.recursions import SamplerName, Start
from schedrl.sources.gaussian.spectrum_families import LogUniformSpectrum

FloatArray = npt.NDArray[np.float64]

INF = math.inf
SAMPLERS: tuple[SamplerName, ...] = ("ddim", "ddpm", "ddpm-large", "heun")
SPECTRA = np.array([[4.0, 1.0, 0.1, 0.02], [30.0, 0.5, 0.3, 0.001], [1.0, 0.9, 0.8, 0.7]])


def _first(sampler: SamplerName) -> float:
    return 80.0 if sampler == "heun" else INF


@pytest.mark.parametrize("n", [2, 6])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_law_between_the_same_ends_is_better(sampler: SamplerName, n: int) -> None:
    family = LogUniformSpectrum(eigenvalues=1, max_eigenvalues=64, decades=6.0, scale=(0.01, 10.0))
    spectra, weights = family.draw(np.random.default_rng(n).random((8, family.num_uniforms)))

    def loss(sigmas: FloatArray) -> FloatArray:
        return kl_of_levels(spectra, sigmas, sampler, weights=weights)

    first = _first(sampler)
    best = loss(best_sigmas(spectra, n, sampler, weights, first))
    gamma = laws.best_gamma(spectra, n, sampler, weights, first)
    for others in (
        tangent_sigmas(even_fractions(n), laws.gamma_star(spectra, weights)[:, None], first),
        tangent_sigmas(even_fractions(n), gamma[:, None], first),
        laws.geodesic_sigmas(spectra, n, weights, first),
    ):
        assert (best <= loss(others) * (1.0 + 1e-9)).all()
    for name in schedules.grid_names():
        options: dict[str, Any] = {"sigma_max": 80.0} if (name, sampler) == ("tangent", "heun") else {}
        levels = schedules.grid(name, n, **options).sigma_array
        best = loss(best_sigmas(spectra, n, sampler, weights, float(levels[0]), float(levels[-1])))
        assert (best <= loss(np.tile(levels, (len(spectra), 1))) * (1.0 + 1e-9) + 1e-20).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("n", "last", "direction", "start"),
    [(4, 0.0, "forward", "vp"), (5, 0.01, "reverse", "exact"), (3, 0.0, "forward", "ve")],
)
def test_another_optimiser_finds_the_same(
    sampler: SamplerName, n: int, last: float, direction: Direction, start: Start
) -> None:
    from scipy.optimize import minimize

    first = _first(sampler)
    ours = best_sigmas(SPECTRA, n, sampler, None, first, last, direction, start)
    found = kl_of_levels(SPECTRA, ours, sampler, direction, start)
    rng = np.random.default_rng(1)
    for row, spectrum in enumerate(SPECTRA[:2]):

        def loss(shares: FloatArray, spectrum: FloatArray = spectrum) -> float:
            """Divergence from the shares that the steps have of atan r: no order to keep."""
            steps = np.exp(shares - shares.max())
            low, high = math.atan(last), math.atan(first)
            angles = high - (high - low) * np.cumsum(steps)[:-1] / steps.sum()
            sigmas = np.concatenate([[first], np.tan(angles), [last]])
            if not (np.diff(sigmas) < 0.0).all():
                return 1e6
            return float(kl_of_levels(spectrum[None], sigmas[None], sampler, direction, start)[0])

        theirs = min(
            float(minimize(loss, rng.normal(0.0, 1.5, n), method="BFGS", tol=1e-10).fun) for _ in range(2)
        )
        assert found[row] <= theirs * (1.0 + 1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_gradient_vanishes_and_the_curvature_does_not(sampler: SamplerName) -> None:
    rng = np.random.default_rng(0)
    spectra = 10.0 ** rng.uniform(-2.0, 1.0, (4, 16))
    for first in (_first(sampler), None):
        sigmas = best_sigmas(spectra, 6, sampler, None, first)
        value, gradient, hessian = kl_derivatives(spectra, sigmas, sampler)
        free = slice(0 if first is None else 1, None)
        assert np.abs(gradient[:, free] / value[:, None]).max() < 1e-5
        assert (np.linalg.eigvalsh(hessian[:, free, free]) > 0.0).all()


def test_a_free_first_level_is_at_least_as_good() -> None:
    for sampler in SAMPLERS:
        fixed = best_sigmas(SPECTRA, 4, sampler, None, _first(sampler), starts=3)
        free = best_sigmas(SPECTRA, 4, sampler, None, None, starts=3)
        assert (np.diff(free) < 0.0).all()
        losses = kl_of_levels(SPECTRA, fixed, sampler), kl_of_levels(SPECTRA, free, sampler)
        assert (losses[1] <= losses[0] * (1.0 + 1e-12)).all()
    one = best_sigmas(np.array([[0.05]]), 4, "ddim", None, None)
    assert np.isfinite(one[0, 0])
    assert kl_of_levels(np.array([[0.05]]), one, "ddim")[0] < 1e-12


def test_one_eigenvalue_is_the_tangent_law_also_at_many_steps() -> None:
    for n in (2, 3, 10, 60):
        for ends in ((INF, 0.0), (80.0, 0.002)):
            best = best_sigmas(np.array([[0.3], [5.0]]), n, "ddim", None, *ends, start="exact")
            tangent = tangent_sigmas(even_fractions(n), np.sqrt([[0.3], [5.0]]), *ends)
            np.testing.assert_allclose(best, tangent, rtol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_has_nothing_to_choose(sampler: SamplerName) -> None:
    np.testing.assert_array_equal(best_sigmas(SPECTRA, 1, sampler, None, 80.0), [[80.0, 0.0]] * 3)
    free = best_sigmas(SPECTRA, 1, sampler, None, None)
    assert free.shape == (3, 2)
    assert (free[:, 0] > 0.0).all()


def test_weights_count_and_padding_does_not() -> None:
    plain = best_sigmas(np.array([[4.0, 0.1, 0.1]]), 5)
    padded = best_sigmas(np.array([[4.0, 0.1, 1.0]]), 5, weights=np.array([[1.0, 2.0, 0.0]]))
    np.testing.assert_allclose(padded, plain, rtol=1e-6)


def test_many_steps_and_wide_spectra() -> None:
    spectra = np.array([[1e-6, 1e-3, 1.0, 1e6]])
    for n in (2, 40, 200):
        sigmas = best_sigmas(spectra, n, "ddim", starts=1)
        assert (np.diff(sigmas) < 0.0).all()
        geodesic = laws.geodesic_sigmas(spectra, n)
        assert kl_of_levels(spectra, sigmas, "ddim") <= kl_of_levels(spectra, geodesic, "ddim")


def test_sixty_four_eigenvalues_take_moments() -> None:
    spectrum = np.arange(1.0, 65.0)[None] ** -2.0
    best_sigmas(spectrum, 20)
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        best_sigmas(spectrum, 20)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "field 'n': must be a whole number of at least 1"),
        ({"eigenvalues": np.ones(3)}, r"field 'eigenvalues': must have shape \[B, E\] \(got \[3\]\)"),
        (
            {"eigenvalues": np.array([[1.0, -2.0]])},
            r"'eigenvalues': must be positive and finite \(got -2.0\)",
        ),
        ({"eigenvalues": np.array([[INF]])}, "must be positive and finite"),
        ({"weights": np.zeros((1, 2))}, "field 'weights'"),
        ({"sigma_max": 1.0, "sigma_min": 1.0}, "'sigma_max': must be greater than sigma_min = 1.0"),
        ({"sigma_min": -1.0}, "field 'sigma_min'"),
        ({"sampler": "heun"}, "'sigma_max': must be finite for Heun's sampler, or None to choose it"),
        ({"sampler": "ddpm-exact"}, "'ddpm-exact' makes no error that depends on the levels"),
        ({"sampler": "dimm"}, "unknown sampler 'dimm'"),
        ({"direction": "back"}, "unknown direction 'back'"),
        ({"start": "somewhere"}, "unknown start 'somewhere'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    given = {"eigenvalues": np.array([[1.0, 2.0]]), "n": 3, **arguments}
    with pytest.raises(SchedrlError, match=message):
        best_sigmas(**given)
