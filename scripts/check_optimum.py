"""Compare the best grids for a Gaussian source with every other law, on a thousand random spectra.

For each sampler, number of steps and pair of end points the excess of the best grid's divergence over that of another
law between the same ends, relative to the law's, must not exceed 1e-9. Prints a line per sampler and law; exits with 1
if one fails.

    .venv/bin/python scripts/check_optimum.py [number of spectra]
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict

import numpy as np

from schedrl import schedules
from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian import laws
from schedrl.sources.gaussian.objective import kl_of_levels
from schedrl.sources.gaussian.optimum import best_sigmas
from schedrl.sources.gaussian.recursions import SamplerName
from schedrl.sources.gaussian.spectrum_families import LogUniformSpectrum

SAMPLERS: tuple[SamplerName, ...] = ("ddim", "ddpm", "ddpm-large", "heun")
STEPS = (2, 3, 5, 10, 20)
TOLERANCE = 1e-9
ROUNDING = 1e-20  # nats: two grids that meet a source exactly differ by rounding only
Worst = dict[tuple[str, str], tuple[float, int]]


def spectra(count: int) -> tuple[FloatArray, FloatArray]:
    """1 to 64 eigenvalues over up to six decades, from one seed."""
    family = LogUniformSpectrum(eigenvalues=1, max_eigenvalues=64, decades=6.0, scale=(0.01, 10.0))
    return family.draw(np.random.default_rng(2024).random((count, family.num_uniforms)))


def spectral_laws(
    eigenvalues: FloatArray, weights: FloatArray, n: int, sampler: SamplerName, first: float
) -> dict[str, FloatArray]:
    """Laws that know the spectrum, from ``first`` to 0."""
    best, u = laws.best_gamma(eigenvalues, n, sampler, weights, first), even_fractions(n)
    return {
        "tangent, γ*": tangent_sigmas(u, laws.gamma_star(eigenvalues, weights)[:, None], first),
        "tangent, best γ": tangent_sigmas(u, best[:, None], first),
        "geodesic": laws.geodesic_sigmas(eigenvalues, n, weights, first),
    }


def compare(eigenvalues: FloatArray, weights: FloatArray, n: int, sampler: SamplerName, worst: Worst) -> None:
    """Update the worst excesses with one number of steps."""

    def loss(sigmas: FloatArray) -> FloatArray:
        return kl_of_levels(eigenvalues, sigmas, sampler, weights=weights)

    def note(law: str, best: FloatArray, other: FloatArray) -> None:
        with np.errstate(invalid="ignore"):
            excess = np.where(
                best <= other + ROUNDING, np.minimum((best - other) / other, 0.0), best / other - 1.0
            )
        excess = np.where(np.isinf(other), -1.0, excess)  # one step from infinity loses everything
        before, count = worst[sampler, law]
        worst[sampler, law] = max(before, float(excess.max())), count + len(excess)

    known: dict[tuple[float, float], FloatArray] = {}

    def best(first: float, last: float) -> FloatArray:
        if (first, last) not in known:
            known[first, last] = loss(best_sigmas(eigenvalues, n, sampler, weights, first, last))
        return known[first, last]

    first = 80.0 if sampler == "heun" else np.inf
    for law, sigmas in spectral_laws(eigenvalues, weights, n, sampler, first).items():
        note(law, best(first, 0.0), loss(sigmas))
    for name in schedules.grid_names():
        # The tangent grid starts at infinity, where Heun's sampler cannot.
        options = {"sigma_max": 80.0} if (name, sampler) == ("tangent", "heun") else {}
        levels = schedules.grid(name, n, **options).sigma_array
        other = loss(np.tile(levels, (len(eigenvalues), 1)))
        note(name, best(float(levels[0]), float(levels[-1])), other)


def check(count: int) -> bool:
    """Compare, print, and say whether all is well."""
    eigenvalues, weights = spectra(count)
    worst: Worst = defaultdict(lambda: (-np.inf, 0))
    print(f"{count} spectra, N = {', '.join(map(str, STEPS))}; excess of the best grid over each law\n")
    print(f"{'sampler':12}{'law':18}{'worst excess':>14}{'comparisons':>13}")
    for sampler in SAMPLERS:
        begin = time.perf_counter()
        for place, n in enumerate(STEPS):
            rows = slice(place, None, len(STEPS))  # each spectrum with one number of steps
            compare(eigenvalues[rows], weights[rows], n, sampler, worst)
        seconds = time.perf_counter() - begin
        for (which, law), (excess, number) in worst.items():
            if which == sampler:
                print(f"{sampler:12}{law:18}{excess:14.2e}{number:13d}")
        print(f"{sampler:12}{'':18}{seconds:12.1f} s")
    return all(excess <= TOLERANCE for excess, _ in worst.values())


if __name__ == "__main__":
    sys.exit(0 if check(int(sys.argv[1]) if len(sys.argv) > 1 else 1000) else 1)
