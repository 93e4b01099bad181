"""A compact U-Net conditioned on log-SNR, for one run or many."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from schedrl.diffusion.layers import StackedConv2d, StackedGroupNorm, StackedLayer, StackedLinear, modulate
from schedrl.diffusion.spec import LOGSNR_LIMIT, UNetSpec
from schedrl.errors import SchedrlError

__all__ = ["UNet"]


class LogSNREmbedding(nn.Module):
    """Sinusoidal features of log-SNR and two linear maps; ``[runs, batch]`` to ``[runs, batch, width]``."""

    frequencies: Tensor

    def __init__(self, num_runs: int, width: int) -> None:
        super().__init__()
        # Periods from 2 pi / 0.05 (one monotone sweep over the whole range) to 2 pi (neighbouring levels differ).
        frequencies = torch.logspace(math.log10(0.05), 0.0, width // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.hidden = StackedLinear(num_runs, width, width)
        self.out = StackedLinear(num_runs, width, width)

    def forward(self, logsnr: Tensor) -> Tensor:
        angles = logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)[..., None] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=-1)
        embedding: Tensor = functional.silu(self.out(functional.silu(self.hidden(features))))
        return embedding


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
        self.skip = (
            nn.Identity() if same else StackedConv2d(num_runs, in_channels, out_channels, kernel_size=1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(functional.silu(self.norm_in(x)))
        h = modulate(self.norm_out(h), self.modulation(embedding))
        out: Tensor = self.skip(x) + self.conv_out(functional.silu(h))
        return out


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
        embedding = self.embedding(logsnr)
        h = self.stem(to_channels(x))
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            h = block(functional.avg_pool2d(h, 2) if i else h, embedding)
            skips.append(h)
        h = self.middle(h, embedding)
        for i, block in enumerate(self.up):
            if i:
                h = functional.interpolate(h, scale_factor=2.0)
            h = block(join_channels(h, skips.pop(), self.num_runs), embedding)
        out: Tensor = self.head(functional.silu(self.norm(h)))
        return from_channels(out, self.num_runs)

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
