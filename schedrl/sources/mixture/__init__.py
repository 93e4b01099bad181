"""The two-mode Gaussian mixture in any dimension."""

from schedrl.sources.mixture.batched import (
    majority_fraction,
    mixture_step,
    perpendicular_gain,
    quantile_start,
)

__all__ = ["majority_fraction", "mixture_step", "perpendicular_gain", "quantile_start"]
