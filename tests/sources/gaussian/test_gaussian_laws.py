"""The laws: their ends, their limits, and what they are uniform in."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedrl import schedules
from schedrl.errors import SchedrlError
from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas
from schedrl.sources.gaussian import laws
from schedrl.sources.gaussian.divergences import bound_gap, kl
from schedrl.sources.gaussian.laws import ScaledLaw
from schedrl.sources.gaussian.recursions import SamplerName, output_variances
from tests.sources.oracles import best_bound_snr, geodesic_energies, tangent_on_schedule

FloatArray = npt.NDArray[np.float64]

INF = math.inf
LAWS: list[ScaledLaw] = [tangent_sigmas, laws.sine_sigmas, laws.cube_root_sigmas]
scales = st.floats(-6.0, 6.0).map(lambda e: 10.0**e)


@pytest.mark.parametrize("law", LAWS)
@given(scale=scales, n=st.integers(1, 200), first=st.one_of(st.just(INF), scales), last=st.floats(0.0, 0.9))
def test_laws_descend_between_their_exact_ends(
    law: ScaledLaw, scale: float, n: int, first: float, last: float
) -> None:
    bottom = 0.0 if math.isinf(first) else last * first
    u = even_fractions(n)
    sigmas = law(u, scale, first, bottom)
    assert sigmas.shape == (n + 1,)
    assert sigmas[0] == first
    assert sigmas[-1] == bottom
    assert np.isfinite(sigmas[1:]).all()
    if bottom == 0.0 and first / scale > 1e-3:
        assert (np.diff(sigmas) < 0.0).all()
    # One scale for both: units do not matter.
    np.testing.assert_allclose(law(u, 7.0 * scale, 7.0 * first, 7.0 * bottom), 7.0 * sigmas, rtol=1e-6)


def test_what_the_laws_are_uniform_in() -> None:
    from scipy.integrate import quad

    u = even_fractions(9)
    angles = np.arctan(tangent_sigmas(u, 0.7, 50.0, 0.01) / 0.7)
    np.testing.assert_allclose(np.diff(angles), (angles[-1] - angles[0]) / 9, rtol=1e-12)
    levels = laws.sine_sigmas(u, 0.7, 50.0, 0.01)
    sines = levels / np.hypot(0.7, levels)
    np.testing.assert_allclose(np.diff(sines), (sines[-1] - sines[0]) / 9, rtol=1e-12)
    angles = np.arctan(laws.cube_root_sigmas(u, 0.7, 50.0, 0.01) / 0.7)
    pieces = [
        quad(lambda a: math.tan(a) ** (1 / 3), low, high, epsabs=1e-13)[0]
        for low, high in zip(angles[1:], angles[:-1], strict=True)
    ]
    np.testing.assert_allclose(pieces, np.mean(pieces), rtol=1e-9)


def test_many_scales_at_once() -> None:
    gammas, ends = np.array([0.1, 1.0, 5.0]), (np.array([80.0, 10.0, 3.0]), np.array([0.0, 0.01, 0.1]))
    for law in LAWS:
        together = law(even_fractions(6), gammas[:, None], *(end[:, None] for end in ends))
        for row in range(3):
            alone = law(even_fractions(6), gammas[row], ends[0][row], ends[1][row])
            np.testing.assert_allclose(together[row], alone, rtol=1e-14)


@pytest.mark.parametrize("ends", [(INF, 0.0), (80.0, 0.002), (3.0, 0.0), (INF, 0.5)])
def test_the_geodesic_of_equal_eigenvalues_is_the_tangent_law(ends: tuple[float, float]) -> None:
    spectra = np.array([[4.0, 4.0, 1.0], [0.01, 0.01, 5.0]])
    weights = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 0.0]])
    geodesic = laws.geodesic_sigmas(spectra, 12, weights, *ends)
    tangent = tangent_sigmas(even_fractions(12), np.array([[2.0], [0.1]]), *ends)
    np.testing.assert_allclose(geodesic, tangent, rtol=1e-11)


@settings(max_examples=25)
@given(
    st.lists(st.floats(-6.0, 6.0), min_size=1, max_size=10),
    st.sampled_from([1, 2, 7, 50, 1000]),
    st.one_of(st.just(INF), st.floats(-2.0, 6.0).map(lambda e: 10.0**e)),
)
def test_geodesics_of_any_spectrum(exponents: list[float], n: int, first: float) -> None:
    sigmas = laws.geodesic_sigmas(10.0 ** np.array([exponents]), n, None, first)
    assert sigmas.shape == (1, n + 1)
    assert (np.diff(sigmas[0]) < 0.0).all()
    assert sigmas[0, 0] == first
    assert sigmas[0, -1] == 0.0
    assert np.isfinite(sigmas[0, 1:]).all()


def test_the_geodesic_has_the_least_energy() -> None:
    """By itself, among slight deformations, and by the energy of its own levels."""
    spectrum = np.array([4.0, 1.0, 0.1])
    n = 4000
    levels = laws.geodesic_sigmas(spectrum[None], n)[0]

    def energies(sigmas: FloatArray) -> FloatArray:
        angles = np.arctan(sigmas[:, None] / np.sqrt(spectrum))
        return np.asarray(n * (np.diff(angles, axis=0) ** 2).sum(axis=0))

    least = energies(levels)
    np.testing.assert_allclose(least, geodesic_energies(spectrum[None])[0], rtol=1e-5)
    u = np.arange(n, -1, -1) / n
    for frequency in (1, 2, 3):
        for size in (-0.05, 0.05):
            warped = np.interp(
                u + size / frequency * np.sin(np.pi * frequency * u), u[::-1], np.arctan(levels)[::-1]
            )
            assert (energies(np.tan(warped)) ** 2).sum() > (least**2).sum() * 1.0001


@pytest.mark.parametrize(
    ("sampler", "first"), [("ddim", INF), ("ddpm", INF), ("ddpm-large", 50.0), ("heun", 80.0)]
)
def test_the_best_scale_is_found_among_many(sampler: SamplerName, first: float) -> None:
    spectra = np.array([[4.0, 1.0, 0.1], [9.0, 0.01, 1.0]])
    weights = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    found = laws.best_gamma(spectra, 6, sampler, weights, first)

    def losses(gamma: FloatArray) -> FloatArray:
        """[2, P] from [2, P]."""
        variances = output_variances(
            spectra[:, None], tangent_sigmas(even_fractions(6), gamma[..., None], first), sampler
        )
        return kl(variances / spectra[:, None], weights=weights[:, None])

    scan = losses(np.exp(np.linspace(-6.0, 6.0, 4001))[None].repeat(2, axis=0)).min(axis=1)
    assert (losses(found[:, None])[:, 0] <= scan * (1.0 + 1e-12)).all()


def test_weights_are_multiplicities() -> None:
    twice, once = np.array([[4.0, 0.1, 0.1]]), np.array([[4.0, 0.1]])
    weights = np.array([[1.0, 2.0]])
    assert laws.gamma_star(twice) == pytest.approx(laws.gamma_star(once, weights), rel=1e-14)
    np.testing.assert_allclose(
        laws.geodesic_sigmas(twice, 5), laws.geodesic_sigmas(once, 5, weights), rtol=1e-11
    )


def test_heun_cannot_start_from_infinity() -> None:
    with pytest.raises(SchedrlError, match="'sigma_max': Heun's sampler needs a finite first level"):
        laws.best_gamma(np.ones((1, 1)), 3, "heun")
    with pytest.raises(SchedrlError, match="field 'n': must be a whole number"):
        tangent_on_schedule(schedules.get("cosine"), 0, 1.0)


def test_the_bound_is_least_for_its_own_law() -> None:
    spectrum = np.array([0.7])
    best = best_bound_snr(0.7, 6, 0.01, 100.0)
    least = bound_gap(spectrum, best)
    assert best[[0, -1]].tolist() == [0.01, 100.0]
    rng = np.random.default_rng(0)
    for _ in range(50):
        levels = np.sort(best * np.exp(np.append(0.0, np.append(rng.normal(0.0, 0.1, 5), 0.0))))
        assert bound_gap(spectrum, levels) > least
    # Many steps: N times the gap tends to a quarter of log² of the ratio.
    fine = bound_gap(spectrum, best_bound_snr(0.7, 10_000, 0.01, 100.0))
    assert 1e4 * float(fine) == pytest.approx(0.25 * math.log(71.0 / 1.007) ** 2, rel=1e-3)


@pytest.mark.parametrize("snr", [[1.0], [1.0, 1.0], [2.0, 1.0], [-1.0, 1.0], [1.0, INF]])
def test_bound_of_wrong_levels(snr: list[float]) -> None:
    with pytest.raises(SchedrlError, match="field 'snr'"):
        bound_gap(np.ones(1), np.array(snr))
