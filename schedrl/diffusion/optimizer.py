"""Adam over a population: one row of parameters per run, each with its own step count."""

from __future__ import annotations

import torch
from torch import Tensor

from schedrl.diffusion.spec import OptimizerSpec

__all__ = ["StackedAdam"]


class StackedAdam:
    """Adam or AdamW on a matrix ``[runs, parameters]``.

    Equal to :class:`torch.optim.Adam` and :class:`torch.optim.AdamW` run by run. Those keep one step count for a
    whole tensor; here a run may be restarted while its neighbours go on, so every row has its own.

    Args:
        spec: Constants.
        weights: The matrix that steps update in place.
    """

    def __init__(self, spec: OptimizerSpec, weights: Tensor) -> None:
        self.spec, self.weights = spec, weights
        self.first = torch.zeros_like(weights)
        self.second = torch.zeros_like(weights)
        self.steps = torch.zeros(len(weights), 1, dtype=torch.float64, device=weights.device)

    def reset(self, run: int) -> None:
        """Forget run ``run``'s moments."""
        for tensor in (self.first, self.second, self.steps):
            tensor[run] = 0.0

    def step(self, gradient: Tensor, rows: slice = slice(None)) -> Tensor:
        """Take one step along ``gradient`` ``[runs, parameters]`` in the runs ``rows``.

        Returns:
            Each run's gradient norm before clipping, ``[runs]``.
        """
        norms: Tensor = gradient.norm(dim=1)
        spec = self.spec
        if spec.max_gradient_norm is not None:
            gradient = gradient * (spec.max_gradient_norm / (norms + 1e-6)).clamp(max=1.0)[:, None]
        weights, first, second, steps = (t[rows] for t in (self.weights, self.first, self.second, self.steps))
        decay_first, decay_second = spec.betas
        steps += 1.0
        first.lerp_(gradient, 1.0 - decay_first)
        second.mul_(decay_second).addcmul_(gradient, gradient, value=1.0 - decay_second)
        correction_first = 1.0 - decay_first**steps
        correction_second = (1.0 - decay_second**steps).sqrt()
        size = (spec.learning_rate / correction_first).to(gradient.dtype)
        if spec.name == "adamw" and spec.weight_decay:
            weights.mul_(1.0 - spec.learning_rate * spec.weight_decay)
        denominator = (second.sqrt() / correction_second.to(gradient.dtype)).add_(spec.eps)
        weights.sub_(first / denominator * size)
        return norms
