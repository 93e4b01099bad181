"""The optimizer of one network, its rate and its average weights, from a specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from schedrl.diffusion.dsc import DSC
from schedrl.diffusion.spec import OptimizerSpec

__all__ = ["ToldDSC", "average_decay", "last_rate", "make_optimizer", "set_rate"]


class ToldDSC(DSC):
    """DSC that is told the gradient's norm before clipping, which a population's boost reads, too."""

    norm: Tensor | None = None

    def _gradient_norm(self) -> float:
        return super()._gradient_norm() if self.norm is None else float(self.norm)


def make_optimizer(
    spec: OptimizerSpec, parameters: Sequence[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """PyTorch's Adam or AdamW, or DSC.

    Args:
        spec: Which, and its constants.
        parameters: What it moves.
        device: Where they are; on a GPU a step is one launch.
    """
    common: dict[str, Any] = {"lr": spec.learning_rate, "betas": spec.betas, "eps": spec.eps}
    fused = True if device.type == "cuda" else None
    if spec.name == "adam":
        return torch.optim.Adam(parameters, **common, fused=fused)
    if spec.dsc is None:
        return torch.optim.AdamW(parameters, **common, weight_decay=spec.weight_decay, fused=fused)
    dsc = spec.dsc
    return ToldDSC(
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
    told = optimizer.last_rate if isinstance(optimizer, DSC) else None
    return float(optimizer.param_groups[0]["lr"]) if told is None else told


def average_decay(longest: float, step: int) -> float:
    """Decay of the average weights after ``step`` steps; see :class:`schedrl.diffusion.spec.TrainingSpec`."""
    return min(longest, (1.0 + step) / (10.0 + step))
