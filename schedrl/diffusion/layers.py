"""Layers of many networks at once: every parameter has a leading axis of independent runs.

A layer owns parameters and says how they start; what it does with features it says in the operations of
:mod:`schedrl.diffusion.operations`, so that one description serves every engine.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from schedrl.diffusion.operations import Operations

__all__ = ["StackedConv2d", "StackedGroupNorm", "StackedLayer", "StackedLinear"]

F = TypeVar("F")


class StackedLayer(nn.Module):
    """A layer that knows how its parameters start: normal numbers of a given mean and standard deviation.

    The start is described, not drawn, so that one run's row can be re-initialised from that run's own random
    stream while the others go on training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.initial: dict[str, tuple[float, float]] = {}

    def add(self, name: str, shape: tuple[int, ...], *, mean: float = 0.0, std: float = 0.0) -> None:
        """Create parameter ``name`` of ``shape`` (runs first) whose entries start as N(mean, std²)."""
        self.register_parameter(name, nn.Parameter(torch.full(shape, mean)))
        self.initial[name] = (mean, std)


class StackedLinear(StackedLayer):
    """``num_runs`` linear maps of a vector per image."""

    weight: Tensor
    bias: Tensor

    def __init__(self, num_runs: int, in_features: int, out_features: int, *, zero: bool = False) -> None:
        super().__init__()
        self.add("weight", (num_runs, in_features, out_features), std=0.0 if zero else in_features**-0.5)
        self.add("bias", (num_runs, 1, out_features))

    def forward(self, ops: Operations[F], x: F) -> F:
        """Apply each run's map."""
        return ops.linear(x, self.weight, self.bias)


class StackedConv2d(StackedLayer):
    """``num_runs`` convolutions with "same" padding."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        num_runs: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        zero: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        std = 0.0 if zero else 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.add("weight", (num_runs, out_channels, in_channels, kernel_size, kernel_size), std=std)
        if bias:
            self.add("bias", (num_runs, out_channels))
        else:
            self.bias = None

    def forward(self, ops: Operations[F], x: F) -> F:
        """Convolve each run's channels with its own kernel."""
        return ops.convolve(x, self.weight, self.bias)


class StackedGroupNorm(StackedLayer):
    """Group normalisation of every run's channels in ``num_groups`` groups a run, and the SiLU that follows it."""

    weight: Tensor
    bias: Tensor

    def __init__(self, num_runs: int, channels: int, num_groups: int) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.add("weight", (num_runs, channels), mean=1.0)
        self.add("bias", (num_runs, channels))

    def forward(self, ops: Operations[F], x: F, scale_shift: F | None = None) -> F:
        """Normalise ``x``, modulate it by ``scale_shift`` if there is one, and apply SiLU."""
        return ops.norm_silu(x, self.weight, self.bias, self.num_groups, scale_shift)
