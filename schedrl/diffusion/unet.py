"""A compact U-Net conditioned on log-SNR, for one run or many.

Multi-scale feature integration (MSFI; AKOD, section 3.2) joins features of three diffusion steps at the bottleneck. The
paper prints ``FFNet(W1 F(t) + W2 F(t−1) + W3 F(t+1))`` and says that the projections are concatenated; both are
available. F is the bottleneck feature of the shared encoder; the projections and the two layers of FFNet act on every
pixel of it. Their output is added to F(t) and starts at zero, as in residual blocks, so a network starts as the one
without MSFI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from schedrl.diffusion.layers import (
    GroupedOperations,
    Operations,
    StackedConv2d,
    StackedGroupNorm,
    StackedLayer,
    StackedLinear,
    from_channels,
    to_channels,
)
from schedrl.diffusion.process import Inputs, View
from schedrl.diffusion.training_spec import LOGSNR_LIMIT, MSFISpec, UNetSpec
from schedrl.errors import SchedrlError
from schedrl.provenance import require_memory

F = TypeVar("F")


class FeatureFusion(nn.Module):
    """The fusion module of ``num_runs`` networks: adds to F(t) a function of F(t), F(t−1) and F(t+1)."""

    def __init__(self, num_runs: int, channels: int, spec: MSFISpec) -> None:
        super().__init__()
        self.concat = spec.fuse == "concat"

        def projection() -> StackedConv2d:
            return StackedConv2d(num_runs, channels, channels, kernel_size=1, bias=False)

        self.w1, self.w2, self.w3 = projection(), projection(), projection()
        joined = 3 * channels if self.concat else channels
        self.hidden = StackedConv2d(num_runs, joined, channels, kernel_size=1)
        self.out = StackedConv2d(num_runs, channels, channels, kernel_size=1, zero=True)

    def forward(self, ops: Operations[F], now: F, less: F, more: F) -> F:
        """F(t), fused with F(t−1) (``less`` noise) and F(t+1) (``more`` noise)."""
        parts = self.w1(ops, now), self.w2(ops, less), self.w3(ops, more)
        meet = ops.join if self.concat else ops.add
        fused = ops.silu(self.hidden(ops, meet(meet(parts[0], parts[1]), parts[2])))
        return ops.add(now, self.out(ops, fused))


@dataclass(frozen=True)
class Encoded(Generic[F]):
    """Output of the encoder for one view.

    Attributes:
        feature: Bottleneck feature F(t).
        skips: Features at each resolution, for the decoder.
        embedding: Embedding of the noise level.
    """

    feature: F
    skips: tuple[F, ...]
    embedding: F


class LevelEmbedding(nn.Module):
    """Sinusoidal features of log-SNR, or of log β, and two linear maps: a vector of the given width per image."""

    frequencies: Tensor

    def __init__(self, num_runs: int, width: int) -> None:
        super().__init__()
        # Periods from 2 pi / 0.05 (one monotone sweep over the whole range) to 2 pi (neighbouring levels differ).
        # On the CPU where the parameters are on the meta device, which only counts them.
        frequencies = torch.logspace(math.log10(0.05), 0.0, width // 2, device="cpu")
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.hidden = StackedLinear(num_runs, width, width)
        self.out = StackedLinear(num_runs, width, width)

    def forward(self, ops: Operations[F], level: F) -> F:
        hidden = ops.silu(self.hidden(ops, ops.embed(level, self.frequencies)))
        return ops.silu(self.out(ops, hidden))


class BetaModulation(nn.Module):
    """AKOD's β modulation: scale and shift of the last normalisation from log β_t; the identity at the start."""

    def __init__(self, num_runs: int, channels: int, width: int) -> None:
        super().__init__()
        self.embedding = LevelEmbedding(num_runs, width)
        self.out = StackedLinear(num_runs, width, 2 * channels, zero=True)

    def forward(self, ops: Operations[F], log_beta: F) -> F:
        scale_shift: F = self.out(ops, self.embedding(ops, log_beta))
        return scale_shift


class ResidualBlock(nn.Module):
    """Normalise, convolve, modulate by the noise level, convolve; add the input."""

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


def check_size(spec: UNetSpec, image_shape: tuple[int, int, int], runs: int, device: torch.device) -> None:
    """Raise, before any memory is taken, if the main memory cannot hold the weights of a training.

    These are the weights, their average and two moments of every run, and one more network. On the meta device, and on
    GPUs, whose memory torch counts, nothing is checked.
    """
    if device.type != "cpu":
        return
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in UNet(spec, image_shape).parameters())
    what = f"network: {runs} x {parameters:,} weights with their average and moments"
    require_memory(4.0 * (4 * runs + 1) * parameters, what, "lower network.channels or the number of runs")


class UNet(nn.Module):
    """U-Net of residual blocks, one per resolution on the way down and up, for ``num_runs`` independent runs.

    The output starts at zero. Its meaning is the ``prediction_type``'s (see :mod:`schedrl.diffusion.process`).

    Args:
        spec: Widths and depths.
        image_shape: ``(C, H, W)``; H and W divisible by ``2 ** (len(spec.channels) - 1)``.
        num_runs: Number of independent networks.
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
        self.embedding = LevelEmbedding(num_runs, spec.embedding)
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
        # Last, so that the other parameters of a run start alike with and without them.
        self.fusion = None if spec.msfi is None else FeatureFusion(num_runs, widths[-1], spec.msfi)
        self.modulation = BetaModulation(num_runs, widths[0], spec.embedding) if spec.modulation else None

    def forward(
        self,
        x: Tensor,
        logsnr: Tensor,
        log_beta: Tensor | None = None,
        neighbours: tuple[View, View] | None = None,
    ) -> Tensor:
        """Outputs ``[runs, batch, C, H, W]`` of every network for its own images; see :class:`Inputs`."""
        return self.run(Inputs(x, logsnr, log_beta, neighbours))

    def run(self, inputs: Inputs) -> Tensor:
        views = [(to_channels(z), logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)) for z, logsnr in inputs.views]
        out = self.features(GroupedOperations(self.num_runs), views, inputs.log_beta)
        return from_channels(out, self.num_runs)

    def features(self, ops: Operations[F], views: Sequence[tuple[F, F]], log_beta: F | None) -> F:
        """The network, in an engine's operations.

        Args:
            ops: The operations.
            views: Images and their clipped log-SNR: of t and, with MSFI, of t−1 and t+1.
            log_beta: log β_t, with β modulation.
        """
        encoded = self.encode(ops, *views[0])
        around = [self.encode(ops, *view).feature for view in views[1:]] if self.fusion is not None else []
        return self.decode(ops, encoded, around, log_beta)

    def encode(self, ops: Operations[F], x: F, logsnr: F) -> Encoded[F]:
        embedding: F = self.embedding(ops, logsnr)
        h: F = self.stem(ops, x)
        skips: list[F] = []
        for i, block in enumerate(self.down):
            h = block(ops, ops.halve(h) if i else h, embedding)
            skips.append(h)
        return Encoded(h, tuple(skips), embedding)

    def decode(self, ops: Operations[F], encoded: Encoded[F], around: Sequence[F], log_beta: F | None) -> F:
        """Decode.

        Args:
            ops: The operations.
            encoded: Encoding of t.
            around: Bottleneck features of t−1 and of t+1; that of t stands in for absent ones.
            log_beta: log β_t, with β modulation.
        """
        h, skips = encoded.feature, list(encoded.skips)
        if self.fusion is not None:
            less, more = around or (h, h)
            h = self.fusion(ops, h, less, more)
        h = self.middle(ops, h, encoded.embedding)
        for i, block in enumerate(self.up):
            if i:
                h = ops.double(h)
            h = block(ops, ops.join(h, skips.pop()), encoded.embedding)
        scale_shift = None
        if self.modulation is not None:
            if log_beta is None:
                raise SchedrlError("network.modulation: the network needs log β_t")
            scale_shift = self.modulation(ops, log_beta)
        out: F = self.head(ops, self.norm(ops, h, scale_shift))
        return out

    @property
    def views(self) -> int:
        """Number of views per training image: 3 with MSFI."""
        return 1 if self.fusion is None else 3

    def initial_moments(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of one run's initial parameters, in the order of ``parameters()``."""
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
