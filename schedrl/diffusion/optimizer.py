"""The optimizers that a training specification names: for a population, and for a single network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from schedrl.diffusion.dsc import DSC
from schedrl.diffusion.training_spec import OptimizerSpec


@dataclass(frozen=True)
class StepSize:
    """DSC's factors of the learning rate in one step.

    Attributes:
        factor: ``[runs]`` float64, exp(−γ β); 1 where each image's loss is weighted instead.
        boost: ``[runs]`` float64, λ.
    """

    factor: Tensor
    boost: Tensor

    def scale(self, norms: Tensor, max_factor: float) -> Tensor:
        """η_t / η ``[runs]`` float64 at gradient norms ``[runs]``; NaN norms give NaN."""
        # With λ = 0 even an infinite norm must not boost.
        boosted = torch.where(self.boost > 0.0, self.boost * norms.double(), 0.0)
        return self.factor * (1.0 + boosted).clamp(max=max_factor)


class StackedAdam:
    """Adam, AdamW or DSC on a matrix ``[runs, parameters]``.

    Equal to :class:`torch.optim.Adam`, :class:`torch.optim.AdamW` and :class:`schedrl.diffusion.DSC` run by run. Those
    have one step count per tensor; here every row has its own, so that one run can be restarted.

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
        for tensor in (self.first, self.second, self.steps):
            tensor[run] = 0.0

    def step(self, gradient: Tensor, rows: slice = slice(None), size: StepSize | None = None) -> Tensor:
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
        rate = torch.full_like(correction_first, spec.learning_rate)
        if size is not None and spec.dsc is not None:
            rate = rate * size.scale(norms, spec.dsc.max_factor)[:, None]
        if spec.weight_decay:
            weights.mul_((1.0 - rate * spec.weight_decay).to(weights.dtype))
        denominator = (second.sqrt() / correction_second.to(gradient.dtype)).add_(spec.eps)
        change = first / denominator * (rate / correction_first).to(gradient.dtype)
        weights.sub_(change * gradient if spec.dsc is not None and spec.dsc.update == "printed" else change)
        return norms


class UnclippedDSC(DSC):
    """DSC whose boost reads the gradient norm before clipping, as a population's does; see :attr:`norm`."""

    norm: Tensor | None = None

    def _gradient_norm(self) -> float:
        return super()._gradient_norm() if self.norm is None else float(self.norm)


def make_optimizer(
    spec: OptimizerSpec, parameters: Sequence[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """PyTorch's Adam or AdamW, or DSC; fused on a GPU."""
    common: dict[str, Any] = {"lr": spec.learning_rate, "betas": spec.betas, "eps": spec.eps}
    fused = True if device.type == "cuda" else None
    if spec.name == "adam":
        return torch.optim.Adam(parameters, **common, fused=fused)
    if spec.dsc is None:
        return torch.optim.AdamW(parameters, **common, weight_decay=spec.weight_decay, fused=fused)
    dsc = spec.dsc
    return UnclippedDSC(
        parameters, **common, weight_decay=spec.weight_decay, gamma=dsc.gamma, boost=dsc.boost, update=dsc.update,
        per_sample=dsc.per_sample, max_factor=dsc.max_factor,
    )  # fmt: skip


def set_rate(optimizer: torch.optim.Optimizer, spec: OptimizerSpec, step: int, warmup: int) -> None:
    """Set the rate of the step after ``step`` others: linear over the first ``warmup``, then constant."""
    share = min(1.0, (step + 1) / warmup) if warmup else 1.0
    for group in optimizer.param_groups:
        group["lr"] = spec.learning_rate * share


def last_rate(optimizer: torch.optim.Optimizer) -> float:
    """The rate of the last step, DSC's factors included."""
    rate = optimizer.last_rate if isinstance(optimizer, DSC) else None
    return float(optimizer.param_groups[0]["lr"]) if rate is None else rate


def average_decay(longest: float, step: int) -> float:
    """Decay of the average weights after ``step`` steps; see :class:`schedrl.diffusion.training_spec.TrainingSpec`."""
    return min(longest, (1.0 + step) / (10.0 + step))
