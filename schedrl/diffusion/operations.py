"""What layers of a network are made of: a handful of operations, which every engine provides in its own layout.

A network is written once, as a module whose layers call these operations. :class:`GroupedOperations` carries them out
in PyTorch; :class:`schedrl.diffusion.engines.tape.Tape` writes them down for the CPU kernel.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["GroupedOperations", "Operations", "from_channels", "join_channels", "modulate", "to_channels"]

F = TypeVar("F")
"""Features of all runs, in the engine's layout."""


class Operations(Protocol[F]):
    """The operations. Parameters have a leading axis of runs; features are the engine's own affair."""

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
    """All runs side by side in the channels of one tensor: grouped convolutions serve all of them.

    Feature maps are ``[batch, runs * channels, H, W]`` in channels-last memory, vectors ``[runs, batch, width]``. On a
    GPU, and on a CPU without the kernel, launching an operation costs more than the arithmetic of one small network;
    sharing the launch is what makes a population fast. The groups never mix.

    Args:
        num_runs: How many runs lie side by side.
    """

    def __init__(self, num_runs: int) -> None:
        self.num_runs = num_runs

    def embed(self, level: Tensor, frequencies: Tensor) -> Tensor:
        """See :class:`Operations`."""
        angles = level[..., None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """See :class:`Operations`."""
        return torch.baddbmm(bias, x, weight)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`Operations`."""
        padding, shift = weight.shape[-1] // 2, None if bias is None else bias.flatten()
        return functional.conv2d(x, weight.flatten(0, 1), shift, padding=padding, groups=self.num_runs)

    def norm_silu(
        self, x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, scale_shift: Tensor | None = None
    ) -> Tensor:
        """See :class:`Operations`."""
        h = functional.group_norm(x, self.num_runs * num_groups, weight.flatten(), bias.flatten())
        return functional.silu(h if scale_shift is None else modulate(h, scale_shift))

    def silu(self, x: Tensor) -> Tensor:
        """See :class:`Operations`."""
        return functional.silu(x)

    def halve(self, x: Tensor) -> Tensor:
        """See :class:`Operations`."""
        return functional.avg_pool2d(x, 2)

    def double(self, x: Tensor) -> Tensor:
        """See :class:`Operations`."""
        return functional.interpolate(x, scale_factor=2.0)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """See :class:`Operations`."""
        return join_channels(x, y, self.num_runs)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """See :class:`Operations`."""
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
    """Inverse of :func:`to_channels`."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, num_runs, channels // num_runs, height, width).transpose(0, 1)


def join_channels(x: Tensor, y: Tensor, num_runs: int) -> Tensor:
    """Concatenate two feature maps run by run."""
    joined = torch.cat([x.unflatten(1, (num_runs, -1)), y.unflatten(1, (num_runs, -1))], dim=2)
    return joined.flatten(1, 2).contiguous(memory_format=torch.channels_last)
