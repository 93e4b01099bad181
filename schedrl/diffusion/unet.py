"""A compact U-Net conditioned on log-SNR, for one run or many."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from schedrl.diffusion.layers import StackedConv2d, StackedGroupNorm, StackedLayer, StackedLinear
from schedrl.diffusion.operations import GroupedOperations, Operations, from_channels, to_channels
from schedrl.diffusion.spec import LOGSNR_LIMIT, UNetSpec
from schedrl.errors import SchedrlError

__all__ = ["UNet"]

F = TypeVar("F")


class LogSNREmbedding(nn.Module):
    """Sinusoidal features of log-SNR and two linear maps: a vector of the given width per image."""

    frequencies: Tensor

    def __init__(self, num_runs: int, width: int) -> None:
        super().__init__()
        # Periods from 2 pi / 0.05 (one monotone sweep over the whole range) to 2 pi (neighbouring levels differ).
        frequencies = torch.logspace(math.log10(0.05), 0.0, width // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.hidden = StackedLinear(num_runs, width, width)
        self.out = StackedLinear(num_runs, width, width)

    def forward(self, ops: Operations[F], logsnr: F) -> F:
        hidden = ops.silu(self.hidden(ops, ops.embed(logsnr, self.frequencies)))
        return ops.silu(self.out(ops, hidden))


class ResidualBlock(nn.Module):
    """Normalise, convolve, modulate by the noise level, convolve; plus the input."""

    def __init__(self, num_runs: int, in_channels: int, out_channels: int, spec: UNetSpec) -> None:
        super().__init__()
        self.norm_in = StackedGroupNorm(num_runs, in_channels, spec.groups)
        self.conv_in = StackedConv2d(num_runs, in_channels, out_channels)
        self.modulation = StackedLinear(num_runs, spec.embedding, 2 * out_channels)
        self.norm_out = StackedGroupNorm(num_runs, out_channels, spec.groups)
        self.conv_out = StackedConv2d(num_runs, out_channels, out_channels, zero=True)
        same = in_channels == out_channels
        self.skip = None if same else StackedConv2d(num_runs, in_channels, out_channels, kernel_size=1)

    def forward(self, ops: Operations[F], x: F, embedding: F) -> F:
        h = self.conv_in(ops, self.norm_in(ops, x))
        h = self.conv_out(ops, self.norm_out(ops, h, self.modulation(ops, embedding)))
        return ops.add(x if self.skip is None else self.skip(ops, x), h)


class UNet(nn.Module):
    """U-Net of residual blocks, one per resolution on the way down and up, for ``num_runs`` independent runs.

    The output starts at zero. It estimates what ``prediction_type`` says (see :mod:`schedrl.diffusion.process`).

    Args:
        spec: Widths and depths.
        image_shape: ``(C, H, W)``; H and W divisible by ``2 ** (len(spec.channels) - 1)``.
        num_runs: How many independent networks lie in the channel axis.

    Raises:
        SchedrlError: The image cannot be halved often enough, or the groups do not divide a width.
    """

    def __init__(self, spec: UNetSpec, image_shape: tuple[int, int, int], num_runs: int = 1) -> None:
        super().__init__()
        image_channels, height, width = image_shape
        factor = 2 ** (len(spec.channels) - 1)
        if height % factor or width % factor:
            raise SchedrlError(
                f"network.channels: {len(spec.channels)} resolutions need images whose sides are multiples of "
                f"{factor}; these are {height}x{width}"
            )
        bad = [c for c in spec.channels if c % spec.groups]
        if bad:
            raise SchedrlError(
                f"network.groups: {spec.groups} does not divide the width {bad[0]} in network.channels"
            )
        self.num_runs = num_runs
        widths = spec.channels
        self.embedding = LogSNREmbedding(num_runs, spec.embedding)
        self.stem = StackedConv2d(num_runs, image_channels, widths[0])
        self.down = nn.ModuleList(
            ResidualBlock(num_runs, widths[max(i - 1, 0)], widths[i], spec) for i in range(len(widths))
        )
        self.middle = ResidualBlock(num_runs, widths[-1], widths[-1], spec)
        self.up = nn.ModuleList(
            ResidualBlock(num_runs, 2 * widths[i], widths[max(i - 1, 0)], spec)
            for i in reversed(range(len(widths)))
        )
        self.norm = StackedGroupNorm(num_runs, widths[0], spec.groups)
        self.head = StackedConv2d(num_runs, widths[0], image_channels, zero=True)

    def forward(self, x: Tensor, logsnr: Tensor) -> Tensor:
        """Run every network on its own images.

        Args:
            x: Noised images ``[runs, batch, C, H, W]``.
            logsnr: Their noise levels ``[runs, batch]``.

        Returns:
            The networks' outputs, shaped as ``x``.
        """
        logsnr = logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        out = self.features(GroupedOperations(self.num_runs), to_channels(x), logsnr)
        return from_channels(out, self.num_runs)

    def features(self, ops: Operations[F], x: F, logsnr: F) -> F:
        """The network itself, in an engine's operations and on its features; log-SNR must have been clipped."""
        embedding: F = self.embedding(ops, logsnr)
        h: F = self.stem(ops, x)
        skips: list[F] = []
        for i, block in enumerate(self.down):
            h = block(ops, ops.halve(h) if i else h, embedding)
            skips.append(h)
        h = self.middle(ops, h, embedding)
        for i, block in enumerate(self.up):
            if i:
                h = ops.double(h)
            h = block(ops, ops.join(h, skips.pop()), embedding)
        out: F = self.head(ops, self.norm(ops, h))
        return out

    def initial_moments(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of one run's starting parameters, in the order of ``parameters()``."""
        means, stds = [], []
        owners = {
            id(p): (layer, name)
            for layer in self.modules()
            for name, p in layer.named_parameters(recurse=False)
        }
        for parameter in self.parameters():
            layer, name = owners[id(parameter)]
            assert isinstance(layer, StackedLayer)
            mean, std = layer.initial[name]
            size = parameter[0].numel()
            means.append(torch.full((size,), mean))
            stds.append(torch.full((size,), std))
        return torch.cat(means), torch.cat(stds)
