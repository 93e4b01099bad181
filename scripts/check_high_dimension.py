#!/usr/bin/env python
"""Print what N sampling steps are worth on a two-mode mixture in d dimensions, and how N must grow with d.

Three tables for p = 0.8 and a variance of 0.25 within the modes, uniform against dilated steps (Aranguri, Biroli,
Mézard & Vanden-Eijnden, arXiv 2501.00988):

1. Weight of the larger mode and variance within the modes at 20 steps.
2. The same at d = 1e6 for more and more steps.
3. The fewest steps that find each of the two, and the exponent a of N ~ d^a fitted to them.

Everything is exact (no Monte Carlo). Takes about a minute on one core: .venv/bin/python scripts/check_high_dimension.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from schedrl.schedules import Grid
from schedrl.sources.interpolants import dilated_grid, dilated_tangent_grid, uniform_grid
from schedrl.sources.mixture import majority_of_grids, perpendicular_gain

MAJORITY, VARIANCE = 0.8, 0.25
DIMENSIONS = (1e2, 1e3, 1e4, 1e5, 1e6)
LAWS: dict[str, Callable[[int, float], Grid]] = {
    "VP uniform": lambda n, d: uniform_grid(n, d, "vp"),
    "VE uniform": lambda n, d: uniform_grid(n, d, "ve"),
    "VP dilated": lambda n, d: dilated_grid(n, d, scaling="vp"),
    "VE dilated": lambda n, d: dilated_grid(n, d, scaling="ve"),
    "VP dilated, tangent": lambda n, d: dilated_tangent_grid(n, d, VARIANCE, scaling="vp"),
    "VE dilated, tangent": lambda n, d: dilated_tangent_grid(n, d, VARIANCE, scaling="ve"),
}


def majority(grid: Grid, dimension: float) -> float:
    """Weight of the larger mode."""
    return float(majority_of_grids(grid.sigma_array, dimension, MAJORITY, VARIANCE))


def within_variance(grid: Grid) -> float:
    """Variance within the modes, across their axis."""
    sigmas = grid.sigma_array
    return float(perpendicular_gain(sigmas[:-1], sigmas[1:], VARIANCE).prod())


def cell(grid: Grid, dimension: float) -> str:
    """Both numbers, for a table."""
    return f"{majority(grid, dimension):.5f} / {within_variance(grid):<10.5g}"


def fewest_steps(good: Callable[[int], bool], unit: int) -> int:
    """Smallest multiple of ``unit`` that is good; whatever is good stays so with more steps."""
    high = unit
    while not good(high):
        high *= 2
    low = high // 2  # not good, or 0 halves of a unit
    while high - low > unit:
        middle = (low + high) // (2 * unit) * unit
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


def exponent(steps: list[int]) -> float:
    """Slope of log N against log d."""
    return float(np.polyfit(np.log(DIMENSIONS), np.log(steps), 1)[0])


def print_counts(title: str, good: Callable[[Grid, float], bool]) -> None:
    """One table of fewest steps."""
    print(f"\n{title}\n{'':24}" + "".join(f"{d:>9.0e}" for d in DIMENSIONS) + "   exponent")
    for name, law in LAWS.items():
        unit = 1 if "uniform" in name else 2
        steps = [fewest_steps(lambda n, d=d, law=law: good(law(n, d), d), unit) for d in DIMENSIONS]  # type: ignore[misc]
        print(f"{name:24}" + "".join(f"{n:9}" for n in steps) + f"{exponent(steps):11.3f}")


def main() -> None:
    """Print the tables."""
    print("Weight of the larger mode (0.8) / variance within the modes (0.25) at 20 steps")
    print(f"{'d':10}" + "".join(f"{name:24}" for name in LAWS))
    for dimension in (1e2, 1e4, 1e6, 1e8, 1e10, 1e12):
        print(
            f"{dimension:<10.0e}"
            + "".join(f"{cell(law(20, dimension), dimension):24}" for law in LAWS.values())
        )

    print(f"\nThe same at d = 1e6\n{'N':10}" + "".join(f"{name:24}" for name in LAWS))
    for n in (10, 20, 40, 80, 160):
        print(f"{n:<10}" + "".join(f"{cell(law(n, 1e6), 1e6):24}" for law in LAWS.values()))

    print_counts(
        "Fewest steps to a weight within 0.02 of p", lambda grid, d: abs(majority(grid, d) - MAJORITY) < 0.02
    )
    print_counts(
        "Fewest steps to a variance within 10 %",
        lambda grid, d: abs(within_variance(grid) / VARIANCE - 1) < 0.1,
    )
    print_counts(
        "Fewest steps to both",
        lambda grid, d: (
            abs(within_variance(grid) / VARIANCE - 1) < 0.1 and abs(majority(grid, d) - MAJORITY) < 0.02
        ),
    )


if __name__ == "__main__":
    main()
