"""Every number that the theory's tables print, to the digits printed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from schedrl import schedules
from schedrl.schedules import Grid
from schedrl.schedules.continuous_laws import even_fractions, karras_sigmas, tangent_sigmas
from schedrl.sources import Gaussian
from schedrl.sources.gaussian import laws
from schedrl.sources.gaussian.divergences import Direction, bound_gap, continuous_bound, kl
from schedrl.sources.gaussian.recursions import SamplerName, Start, output_variances
from tests.sources.oracles import (
    best_rho,
    euler_vp_variances,
    geodesic_energies,
    power_time_sigmas,
    tangent_energies,
    tangent_on_schedule,
)

FloatArray = npt.NDArray[np.float64]

INF = math.inf
THREE = Gaussian([4.0, 1.0, 0.25])
SPECTRA = {
    "4,1,.25": np.array([4.0, 1.0, 0.25]),
    "4,1,.1": np.array([4.0, 1.0, 0.1]),
    "9,1,.01": np.array([9.0, 1.0, 0.01]),
    "k^-2": np.arange(1.0, 65.0) ** -2.0,
}
HARMONIC = 0.25 * (1.0 / np.arange(1.0, 65.0)) / (1.0 / np.arange(1.0, 65.0)).mean()
LINEAR = schedules.get("linear")


def _cosine(n: int) -> Grid:
    return Grid(sigmas=(INF, *(math.tan(math.pi * k / (2 * n)) for k in range(n - 1, 0, -1)), 0.0))


def _linear_hundreds() -> Grid:
    steps = np.sqrt(1.0 / LINEAR.alphas_cumprod(1000) - 1.0)
    return Grid(sigmas=(*steps[np.arange(999, 0, -100)].tolist(), 0.0))


@pytest.mark.parametrize(
    ("sampler", "grid", "start", "variances", "forward", "reverse"),
    [
        (
            "ddim",
            _cosine(10),
            "vp",
            [2.9314486677, 0.7805460698, 0.1832155417],
            0.070411850661,
            0.057813593654,
        ),
        (
            "ddpm",
            _cosine(10),
            "vp",
            [2.6959356001, 0.6791207513, 0.1510378465],
            0.162992786045,
            0.121345948278,
        ),
        ("ddpm-large", _cosine(10), "vp", [3.3384911327, 1.0, 0.3004247301], 0.016631083024, 0.016680396968),
        (
            "ddim",
            schedules.grid("karras", 10),
            "ve",
            [2.3832377208, 0.5637004337, 0.1333805829],
            0.303697808406,
            0.206176635750,
        ),
        (
            "heun",
            schedules.grid("karras", 10),
            "ve",
            [5.2156964465, 1.3816416702, 0.3718536018],
            0.074345022106,
            0.093645100078,
        ),
        (
            "ddim",
            _linear_hundreds(),
            "vp",
            [2.954754393, 0.6878533277, 0.1368665608],
            0.177316203131,
            0.126760562152,
        ),
    ],
)
def test_ten_steps(
    sampler: SamplerName, grid: Grid, start: Start, variances: list[float], forward: float, reverse: float
) -> None:
    assert THREE.output_variances(grid, sampler, start).tolist() == pytest.approx(variances, rel=6e-10)
    assert THREE.kl(grid, sampler, start=start) == pytest.approx(forward, abs=6e-13)
    assert THREE.kl(grid, sampler, "reverse", start) == pytest.approx(reverse, abs=6e-13)


def test_plain_euler_in_the_time_of_a_cosine_schedule() -> None:
    t = 0.98 * np.arange(10, -1, -1) / 10
    variances = euler_vp_variances(
        THREE.spectrum, np.cos(np.pi * t / 2) ** 2, np.pi * np.tan(np.pi * t / 2), t
    )
    assert variances.tolist() == pytest.approx([3.7668360249, 1.0, 0.2371909334], abs=6e-11)
    ratio = variances / THREE.spectrum
    assert float(kl(ratio)) == pytest.approx(0.001623953833, abs=6e-13)
    assert float(kl(ratio, "reverse")) == pytest.approx(0.001563588726, abs=6e-13)


def test_one_eigenvalue() -> None:
    source = Gaussian([2.5])
    assert source.output_variances(source.tangent_grid(7))[0] == pytest.approx(1.75208459242, abs=6e-12)
    for n, expected in [
        (2, 0.806852819440),
        (3, 0.253662076508),
        (5, 0.074951653277),
        (8, 0.026790309956),
    ]:
        for eigenvalue in (0.01, 1.0, 70.0):
            one = Gaussian([eigenvalue])
            assert one.kl(one.tangent_grid(n)) == pytest.approx(expected, abs=6e-13)
            assert one.kl(one.best_grid(n)) == pytest.approx(expected, abs=6e-13)


def test_align_your_steps_between_finite_ends() -> None:
    source = Gaussian([0.25])
    best = Grid(sigmas=tuple(tangent_sigmas(even_fractions(8), 0.5, 80.0, 0.002).tolist()))
    assert source.kl(best, start="exact") == pytest.approx(0.0260562674623, abs=6e-14)
    karras = schedules.grid("karras", 8, final_zero=False)
    assert source.kl(karras, start="exact") == pytest.approx(0.165217769401, abs=6e-13)


def test_a_wide_start_makes_up_for_losses() -> None:
    sigmas = tangent_sigmas(even_fractions(20), math.sqrt(0.05), 1.0)
    ratio = output_variances(np.array([0.05]), sigmas, "ddim") / 0.05
    assert ratio[0] == pytest.approx(1.7386, abs=6e-5)


@pytest.mark.parametrize(
    ("eigenvalue", "gamma", "ends", "expected"),
    [(4.0, 0.7, (80.0, 0.002), 3.81554458986), (0.1, 1.3, (10.0, 0.05), 3.88981774241)],
)
def test_energies_between_finite_ends(
    eigenvalue: float, gamma: float, ends: tuple[float, float], expected: float
) -> None:
    energies = tangent_energies(np.array([eigenvalue]), gamma, *ends)
    assert energies[0] == pytest.approx(expected, abs=6e-12)


@pytest.mark.parametrize(
    ("sampler", "power", "expected"),
    [
        ("ddim", 1, (-1.92805516, -3.39940025, -10.0422088)),
        ("ddpm", 1, (-5.32310534, -9.78168472, -29.92615657)),
        ("ddpm-large", 1, (-1.54335897, 0.0, 7.79663227)),
        ("heun", 2, (1.85869835, 4.96165445, 40.99606578)),
    ],
)
def test_leading_order_in_the_number_of_steps(
    sampler: SamplerName, power: int, expected: tuple[float, ...]
) -> None:
    """log q N^power on r(u) = 2 sinh 2u tends to the integrals of section 3.1."""
    spectrum, counts = np.array([4.0, 1.0, 0.1]), np.array([1000, 2000, 4000])
    scaled = []
    for n in counts:
        sigmas = 2.0 * np.sinh(2.0 * np.arange(n, -1, -1) / n)
        sigmas[-1] = 1e-12  # Heun's own last step, not Euler's
        log_q = np.log(output_variances(spectrum, sigmas, sampler, "exact") / spectrum)
        scaled.append(log_q * float(n) ** power)
    # Corrections are 1/N and, for DDPM, log(N)/N.
    terms = np.stack([np.ones(3), 1.0 / counts, np.log(counts) / counts], axis=1)
    limit = np.linalg.solve(terms, np.array(scaled))[0]
    np.testing.assert_allclose(limit, expected, rtol=1e-3, atol=1e-8)


# λ, γ*, limits of N² KL (cosine, tangent, geodesic)
LIMITS = [
    ("4,1,.25", 1.0, 6.2783, 6.2783, 5.9823),
    ("4,1,.1", 0.820549, 8.5043, 8.0474, 7.0268),
    ("9,1,.01", 0.560930, 44.5651, 26.4937, 11.5309),
    ("k^-2", 0.065332, 34081.6, 339.22, 190.48),
]


@pytest.mark.parametrize(("name", "gamma", "cosine", "tangent", "geodesic"), LIMITS)
def test_limits_of_many_steps(
    name: str, gamma: float, cosine: float, tangent: float, geodesic: float
) -> None:
    spectrum = SPECTRA[name]
    star = laws.gamma_star(spectrum)
    assert star == pytest.approx(gamma, abs=6e-7)
    digits = 6e-5 if cosine < 1000 else 6e-3
    by_law = [tangent_energies(spectrum, 1.0), tangent_energies(spectrum, float(star))]
    by_law.append(geodesic_energies(spectrum[None])[0])
    limits = [float((energies**2).sum() / 4.0) for energies in by_law]
    assert limits[0] == pytest.approx(cosine, abs=max(digits, 6e-7 * cosine + 0.05 * (cosine > 1000)))
    assert limits[1:] == pytest.approx([tangent, geodesic], abs=digits)


TABLE = [
    ("4,1,.25", 5, 0.328405541, 0.328405541, 1.0, 0.328405541, 0.307675057, 0.307473921),
    ("4,1,.25", 10, 0.070411851, 0.070411851, 1.0, 0.070411851, 0.066726690, 0.066723725),
    ("4,1,.1", 5, 0.491976379, 0.448471467, 0.81219, 0.448368413, 0.371522722, 0.370865321),
    ("4,1,.1", 10, 0.098945816, 0.092327136, 0.81673, 0.092323693, 0.079217366, 0.079206600),
    ("4,1,.1", 20, 0.022749800, 0.021412242, 0.81894, 0.021412115, 0.018572686, 0.018572446),
    ("9,1,.01", 10, 0.811882898, 0.370160794, 0.55493, 0.370038521, 0.134604934, 0.134489757),
    ("k^-2", 10, 1035.59244, 5.220828796, 0.07367, 5.041828223, 2.256750707, 2.234858047),
]


@pytest.mark.parametrize(
    ("name", "n", "cosine", "star", "gamma", "tangent", "geodesic", "optimum"),
    TABLE,
    ids=[f"{row[0]}-{row[1]}" for row in TABLE],
)
def test_table_of_laws(
    name: str,
    n: int,
    cosine: float,
    star: float,
    gamma: float,
    tangent: float,
    geodesic: float,
    optimum: float,
) -> None:
    source = Gaussian(SPECTRA[name])
    assert laws.best_gamma(source.spectrum[None], n)[0] == pytest.approx(gamma, abs=6e-6)
    assert source.kl(source.tangent_grid(n, 1.0)) == pytest.approx(cosine, rel=6e-9)
    grids = [source.tangent_grid(n), source.best_tangent_grid(n), source.best_grid(n)]
    assert [source.kl(grid) for grid in grids] == pytest.approx([star, tangent, optimum], abs=6e-10)
    # The table's quadrature has eight digits of the geodesic's; no grid is optimal there, so they show.
    assert source.kl(source.geodesic_grid(n)) == pytest.approx(geodesic, rel=1e-8)


def test_interior_levels() -> None:
    source = Gaussian([4.0, 1.0, 0.1])
    best, geodesic = source.best_grid(5).sigmas[1:-1], source.geodesic_grid(5).sigmas[1:-1]
    assert best[::-1] == pytest.approx([0.185615, 0.51866, 1.322516, 3.515208], abs=2e-6)
    assert geodesic[::-1] == pytest.approx([0.193296, 0.533694, 1.30922, 3.436849], abs=2e-6)


def test_geodesic_of_a_natural_spectrum_at_few_steps() -> None:
    source = Gaussian(SPECTRA["k^-2"])
    assert source.kl(source.geodesic_grid(5)) == pytest.approx(12.609, abs=6e-4)
    assert source.kl(source.best_grid(5)) == pytest.approx(11.238, abs=6e-4)


def test_ddpm_wants_the_sine_law() -> None:
    def loss(sigmas: FloatArray) -> float:
        return float(kl(output_variances(np.ones(1), sigmas, "ddpm", "exact")))

    assert loss(laws.sine_sigmas(even_fractions(40), 1.0, 20.0)) == pytest.approx(2.30016e-3, abs=6e-9)
    assert loss(tangent_sigmas(even_fractions(40), 1.0, 20.0)) == pytest.approx(3.00617e-3, abs=6e-9)
    assert loss(laws.sine_sigmas(even_fractions(10), 1.0, 20.0)) == pytest.approx(3.52175e-2, abs=6e-8)
    best = Gaussian([1.0]).best_grid(10, "ddpm", sigma_max=20.0, start="exact")
    assert loss(best.sigma_array) == pytest.approx(2.94193e-2, abs=6e-8)


def test_heun_wants_the_cube_root_law() -> None:
    def loss(sigmas: FloatArray) -> float:
        sigmas[-1] = 1e-12  # the table's last step is Heun's, too
        return float(kl(output_variances(np.ones(1), sigmas, "heun", "exact")))

    assert loss(laws.cube_root_sigmas(even_fractions(30), 1.0, 20.0)) == pytest.approx(5.6238e-6, abs=6e-11)
    assert loss(tangent_sigmas(even_fractions(30), 1.0, 20.0)) == pytest.approx(2.0394e-5, abs=6e-10)


def test_variational_bound() -> None:
    spectrum = np.array([4.0, 1.0, 0.1])
    levels = np.logspace(-3.0, 3.0, 1001)
    assert float(continuous_bound(spectrum, 1e-3, 1e3)) == pytest.approx(9.90654169420, abs=6e-12)
    assert float(bound_gap(spectrum, levels)) == pytest.approx(5.837116e-2, abs=6e-9)
    grid = Grid(sigmas=tuple((levels**-0.5).tolist()))
    source = Gaussian(spectrum)
    assert source.bound(grid) - source.bound_gap(grid) == pytest.approx(9.90654169420, abs=1e-11)
    # The same by Riemann's sum of the denoiser's error.
    error = (spectrum / (1.0 + np.multiply.outer(levels, spectrum))).sum(axis=1)
    assert source.bound(grid) == pytest.approx(0.5 * float((error[:-1] * np.diff(levels)).sum()), rel=1e-12)


ON_A_SCHEDULE = [
    (5, 120.275169, 11.384304, 11.035765, 2.6359, 10.805923, 56.871934, 0.4169, 6.494110, 6.509579),
    (10, 19.214130, 2.516582, 2.430724, 2.4836, 2.331940, 10.038417, 0.4088, 1.387140, 1.387804),
    (20, 3.707108, 0.587387, 0.569333, 2.4997, 0.546855, 1.975449, 0.4037, 0.325002, 0.325016),
]


@pytest.mark.parametrize("row", ON_A_SCHEDULE, ids=["5", "10", "20"])
def test_laws_on_ddpms_linear_schedule(row: tuple[float, ...]) -> None:
    n, uniform, quadratic, cubic, rho, power, karras, gamma, tangent, star = row
    steps, spectrum, source = int(n), HARMONIC[None], Gaussian(HARMONIC)

    def loss(sigmas: FloatArray) -> float:
        return source.kl(Grid(sigmas=tuple(sigmas.tolist())))

    def law(exponent: npt.ArrayLike) -> FloatArray:
        return power_time_sigmas(LINEAR, exponent, steps)

    assert [loss(law(e)) for e in (1.0, 2.0, 3.0)] == pytest.approx([uniform, quadratic, cubic], abs=6e-7)
    best = best_rho(law, spectrum)
    assert best[0] == pytest.approx(rho, abs=6e-5)
    assert loss(law(best[0])) == pytest.approx(power, abs=6e-7)
    first, last = np.exp(-0.5 * LINEAR.logsnr_steps(1000)[[0, -1]])
    inner = karras_sigmas(even_fractions(steps - 1), 7.0, last, first)
    assert loss(np.append(inner, 0.0)) == pytest.approx(karras, abs=6e-7)
    found = laws.best_gamma(spectrum, steps, sigma_max=last)
    assert found[0] == pytest.approx(gamma, abs=6e-5)
    on_schedule = tangent_on_schedule(LINEAR, steps, float(found[0]))
    assert source.kl(on_schedule) == pytest.approx(tangent, abs=6e-7)
    assert source.gamma_star == pytest.approx(0.4013, abs=6e-5)
    assert source.kl(tangent_on_schedule(LINEAR, steps, source.gamma_star)) == pytest.approx(star, abs=6e-7)


def test_quadratic_steps_on_whole_timesteps() -> None:
    sigmas = power_time_sigmas(LINEAR, 2.0, 10)
    timesteps = Grid(sigmas=tuple(sigmas.tolist())).timesteps(LINEAR)
    assert timesteps.round(9).tolist() == [1000, 810, 640, 490, 360, 250, 160, 90, 40, 10, 0]
    assert Gaussian(HARMONIC).kl(Grid(sigmas=tuple(sigmas.tolist()))) == pytest.approx(
        2.51658180359, abs=6e-12
    )


def test_power_law_in_sigma() -> None:
    spectrum = np.array([[0.25]])

    def law(exponent: npt.ArrayLike) -> FloatArray:
        return karras_sigmas(even_fractions(10), np.asarray(exponent, dtype=np.float64)[..., None], 80.0)

    def loss(sigmas: FloatArray, direction: Direction = "forward", start: Start = "exact") -> float:
        return float(kl(output_variances(spectrum[0], sigmas, "ddim", start) / spectrum[0], direction))

    best = best_rho(law, spectrum, start="exact")
    assert best[0] == pytest.approx(5.677, abs=6e-4)
    losses = [loss(law(best[0])), loss(law(7.0)), loss(tangent_sigmas(even_fractions(10), 0.5, 80.0))]
    assert losses == pytest.approx([0.154349, 0.171991, 0.016420], abs=6e-7)
