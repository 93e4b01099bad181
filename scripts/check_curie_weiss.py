#!/usr/bin/env python
"""Hold what the Curie-Weiss environment says of a grid against samples drawn with the exact denoiser.

The environment stands for a magnet by strata of spins, which is fast and good to a few percent. A policy could learn to
please the strata. Here its grid and the dilations are run on real samples. Takes about a minute on one core:

    .venv/bin/python scripts/check_curie_weiss.py
"""

from __future__ import annotations

import numpy as np

from schedrl.environments.registration import sampling_variant
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.policies import find
from schedrl.schedules import Grid
from schedrl.sources import CurieWeiss

ENV = "schedrl/CurieWeissSampling-v0"
SAMPLES = {100: 600, 1000: 100}
"""Samples drawn at each number of spins."""

SEED = 0


def main() -> None:
    """Print both errors of every agent."""
    print(
        f"{'d':>6} {'agent':14} {'error, strata':>14} {'error, samples':>15}   (n, p and variance of the samples)"
    )
    for dimension, count in SAMPLES.items():
        variant = sampling_variant(ENV, {"source.dimension": [dimension, dimension]})
        problems = SamplingProblems.drawn(variant, [1_000_000])
        magnet = CurieWeiss(dimension=dimension, beta=2.0, majority=0.8)
        share, width = magnet.positive_probability, 1.0 - magnet.magnetisation**2
        for name in ("ppo", "dilated-vp", "dilated-ve", "grid-reference"):
            sigmas = find(name, variant.id).solve(problems).sigmas
            grid = Grid(sigmas=tuple(sigmas[0].tolist()))
            found = magnet.simulate(grid, np.random.default_rng(SEED), count)
            error = abs(found.majority - share) / (1.0 - share) + abs(found.coordinate_variance / width - 1.0)
            print(
                f"{dimension:6d} {name:14} {float(problems.error(sigmas)[0]):14.3f} {error:15.3f}   "
                f"({count}, {found.majority:.3f}, {found.coordinate_variance:.4f})"
            )


if __name__ == "__main__":
    main()
