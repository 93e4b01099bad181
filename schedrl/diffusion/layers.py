"""Layers of many networks at once: every parameter has a leading axis of independent runs.

Features of all runs lie side by side in the channel axis, ``[batch, runs * channels, height, width]`` in
channels-last memory, so that one grouped operation serves every run. On a CPU the launch of an operation costs more
than the arithmetic of one small network; sharing it is what makes a population fast. The groups never mix: a run's
output depends on its own parameters and input only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["StackedConv2d", "StackedGroupNorm", "StackedLayer", "StackedLinear", "modulate"]


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
    """``num_runs`` linear maps; input ``[runs, batch, in]``, output ``[runs, batch, out]``."""

    weight: Tensor
    bias: Tensor

    def __init__(self, num_runs: int, in_features: int, out_features: int, *, zero: bool = False) -> None:
        super().__init__()
        self.add("weight", (num_runs, in_features, out_features), std=0.0 if zero else in_features**-0.5)
        self.add("bias", (num_runs, 1, out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Apply run ``i``'s map to ``x[i]``."""
        return torch.baddbmm(self.bias, x, self.weight)


class StackedConv2d(StackedLayer):
    """``num_runs`` convolutions with "same" padding; input ``[batch, runs * in, H, W]``."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self, num_runs: int, in_channels: int, out_channels: int, kernel_size: int = 3, *, zero: bool = False
    ) -> None:
        super().__init__()
        self.num_runs, self.kernel_size = num_runs, kernel_size
        std = 0.0 if zero else 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.add("weight", (num_runs, out_channels, in_channels, kernel_size, kernel_size), std=std)
        self.add("bias", (num_runs, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each run's channels with its own kernel."""
        return functional.conv2d(
            x,
            self.weight.flatten(0, 1),
            self.bias.flatten(),
            padding=self.kernel_size // 2,
            groups=self.num_runs,
        )


class StackedGroupNorm(StackedLayer):
    """Group normalisation of every run's channels in ``num_groups`` groups a run."""

    weight: Tensor
    bias: Tensor

    def __init__(self, num_runs: int, channels: int, num_groups: int) -> None:
        super().__init__()
        self.num_groups = num_runs * num_groups
        self.add("weight", (num_runs, channels), mean=1.0)
        self.add("bias", (num_runs, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` ``[batch, runs * channels, H, W]``."""
        return functional.group_norm(x, self.num_groups, self.weight.flatten(), self.bias.flatten())


def modulate(x: Tensor, scale_shift: Tensor) -> Tensor:
    """Feature-wise affine map: ``x * (1 + scale) + shift``.

    Args:
        x: Features ``[batch, runs * channels, H, W]``.
        scale_shift: ``[runs, batch, 2 * channels]``, the scales first.
    """
    scale, shift = (
        part.transpose(0, 1).flatten(1)[:, :, None, None] for part in scale_shift.chunk(2, dim=-1)
    )
    return torch.addcmul(x + shift, x, scale)
