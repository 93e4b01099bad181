"""The two-mode Gaussian mixture in any dimension."""

from schedrl.sources.mixture.batched import (
    majority_fraction,
    majority_of_grids,
    mixture_step,
    perpendicular_gain,
    quantile_start,
)
from schedrl.sources.mixture.law import GaussianMixture, MixtureOutcome, MixturePosterior

__all__ = [
    "GaussianMixture",
    "MixtureOutcome",
    "MixturePosterior",
    "majority_fraction",
    "majority_of_grids",
    "mixture_step",
    "perpendicular_gain",
    "quantile_start",
]
