"""When a training run counts as diverged, and how such a run is reported."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from schedrl.diffusion.population import PhaseRecord
from schedrl.diffusion.process import alpha_sigma, to_epsilon
from schedrl.environments.training.variant import TrainingVariant
from schedrl.metrics.variational_bound import Bound, BoundValue


class DivergenceRule:
    """A run has diverged if a training loss is not finite, or if its mean ε error on the bound's grid is too large.

    The limit is ``episode.divergence_error``, in units of an untrained network's error where that exceeds 1.

    Args:
        variant: Sets the limit and the prediction type.
        bound: The validation bound.

    Attributes:
        untrained_mse: ε error of a network that outputs zero, ``[levels]``. The head of every network starts at zero,
            so every run begins with it.
        worst_error: The largest mean ε error of a run that has not diverged. A diverged run is reported with it.
        worst_bound: The bound at that error, bits/dim.
    """

    def __init__(self, variant: TrainingVariant, bound: Bound) -> None:
        def output_zero(z: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
            alpha, sigma = alpha_sigma(logsnr, z.ndim)
            return to_epsilon(variant.training.prediction_type, torch.zeros_like(z), z, alpha, sigma)

        self.untrained_mse: NDArray[np.float64] = bound.evaluate(output_zero, 1).mse[0]
        self.worst_error = variant.episode.divergence_error * max(1.0, float(self.untrained_mse.mean()))
        self.worst_bound = float(bound.bits_per_dim(np.full(variant.bound.levels, self.worst_error)))

    def diverged(self, record: PhaseRecord, value: BoundValue) -> NDArray[np.bool_]:
        """Which runs have diverged, ``[runs]``, by what they saw in training and the bound measured afterwards."""
        # An error that is not a number counts as too large.
        alive: NDArray[np.bool_] = value.mse.mean(axis=1) <= self.worst_error
        return ~(np.isfinite(record.loss).all(axis=0) & alive)
