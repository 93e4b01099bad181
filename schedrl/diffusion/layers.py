"""Layers of many networks at once, and the operations they are made of.

Every parameter has a leading axis of independent runs. A layer owns parameters and their initial distribution; it
computes by a handful of operations, which every engine provides in its own layout. :class:`GroupedOperations` runs them
in PyTorch; :class:`schedrl.diffusion.engines.tape.Tape` records them for the CPU kernel.
"""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

F = TypeVar("F")
"""Features of all runs, in the engine's layout."""


class Operations(Protocol[F]):
    """The operations. Parameters have a leading axis of runs; each engine has its own layout of features."""

    def embed(self, level: F, frequencies: Tensor) -> F:
        """Sines, then cosines, of a number per image (log-SNR, log β) times each frequency; a vector per image."""

    def linear(self, x: F, weight: Tensor, bias: Tensor) -> F:
        """Map a vector per image; weight ``[runs, in, out]``, bias ``[runs, 1, out]``."""

    def convolve(self, x: F, weight: Tensor, bias: Tensor | None) -> F:
        """Convolve with "same" padding; weight ``[runs, out, in, k, k]`` with odd k, bias ``[runs, out]`` or none."""

    def norm_silu(
        self, x: F, weight: Tensor, bias: Tensor, num_groups: int, scale_shift: F | None = None
    ) -> F:
        """Normalise in groups, apply ``weight`` and ``bias`` ``[runs, channels]``, modulate, and apply SiLU.

        ``scale_shift`` is a vector per image, the scales before the shifts: ``h * (1 + scale) + shift``.
        """

    def silu(self, x: F) -> F:
        """x times its sigmoid."""

    def halve(self, x: F) -> F:
        """Means of 2 x 2 pixels."""

    def double(self, x: F) -> F:
        """Every pixel as 2 x 2 pixels."""

    def join(self, x: F, y: F) -> F:
        """The channels of both, run by run."""

    def add(self, x: F, y: F) -> F:
        """The sum."""


class GroupedOperations:
    """All runs in the channels of one tensor, with grouped convolutions; the groups never mix.

    Feature maps are ``[batch, runs * channels, H, W]`` in channels-last memory, vectors ``[runs, batch, width]``. On a
    GPU, and on a CPU without the kernel, launching an operation costs more than the arithmetic of one small network;
    a population is fast because its runs share the launch.
    """

    def __init__(self, num_runs: int) -> None:
        self.num_runs = num_runs

    def embed(self, level: Tensor, frequencies: Tensor) -> Tensor:
        angles = level[..., None] * frequencies.to(level.device)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.baddbmm(bias, x, weight)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding, shift = weight.shape[-1] // 2, None if bias is None else bias.flatten()
        return functional.conv2d(x, weight.flatten(0, 1), shift, padding=padding, groups=self.num_runs)

    def norm_silu(
        self, x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, scale_shift: Tensor | None = None
    ) -> Tensor:
        h = functional.group_norm(x, self.num_runs * num_groups, weight.flatten(), bias.flatten())
        return functional.silu(h if scale_shift is None else modulate(h, scale_shift))

    def silu(self, x: Tensor) -> Tensor:
        return functional.silu(x)

    def halve(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2)

    def double(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        return join_channels(x, y, self.num_runs)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


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


def to_channels(x: Tensor) -> Tensor:
    """``[runs, batch, C, H, W]`` to ``[batch, runs * C, H, W]`` in channels-last memory."""
    runs, batch, channels, height, width = x.shape
    return x.permute(1, 3, 4, 0, 2).reshape(batch, height, width, runs * channels).permute(0, 3, 1, 2)


def from_channels(x: Tensor, num_runs: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.reshape(batch, num_runs, channels // num_runs, height, width).transpose(0, 1)


def join_channels(x: Tensor, y: Tensor, num_runs: int) -> Tensor:
    """Concatenate two feature maps run by run."""
    joined = torch.cat([x.unflatten(1, (num_runs, -1)), y.unflatten(1, (num_runs, -1))], dim=2)
    return joined.flatten(1, 2).contiguous(memory_format=torch.channels_last)


class StackedLayer(nn.Module):
    """A layer that records the initial distribution of its parameters instead of drawing from it.

    So one run can be initialised again from its own random stream while the others continue to train.

    Attributes:
        initial: Mean and standard deviation of each parameter's normal distribution, by name.
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
        return ops.convolve(x, self.weight, self.bias)


class StackedGroupNorm(StackedLayer):
    """Group normalisation with ``num_groups`` groups per run, modulation by ``scale_shift`` if given, and SiLU."""

    weight: Tensor
    bias: Tensor

    def __init__(self, num_runs: int, channels: int, num_groups: int) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.add("weight", (num_runs, channels), mean=1.0)
        self.add("bias", (num_runs, channels))

    def forward(self, ops: Operations[F], x: F, scale_shift: F | None = None) -> F:
        return ops.norm_silu(x, self.weight, self.bias, self.num_groups, scale_shift)
