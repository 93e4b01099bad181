"""Multi-scale feature integration (paper B, section 3.2): features of three diffusion steps meet at the bottleneck.

The paper prints ``FFNet(W1 F(t) + W2 F(t−1) + W3 F(t+1))`` and says that the projections are concatenated; both can be
had. F is the bottleneck feature of the shared encoder, the projections and the two layers of FFNet act on every pixel
of it. What comes out is added to F(t) and starts at zero, as residual blocks do: a network begins as the one without.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from schedrl.diffusion.layers import StackedConv2d
from schedrl.diffusion.operations import Operations
from schedrl.diffusion.spec import MSFISpec

__all__ = ["FeatureFusion"]

F = TypeVar("F")


class FeatureFusion(nn.Module):
    """The fusion module of ``num_runs`` networks.

    Args:
        num_runs: How many.
        channels: Of the bottleneck feature.
        spec: How the projections meet.
    """

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
        """F(t) and what the three features together add to it.

        Args:
            ops: The engine's operations.
            now: F(t).
            less: F(t−1), with less noise.
            more: F(t+1), with more.
        """
        parts = self.w1(ops, now), self.w2(ops, less), self.w3(ops, more)
        meet = ops.join if self.concat else ops.add
        fused = ops.silu(self.hidden(ops, meet(meet(parts[0], parts[1]), parts[2])))
        return ops.add(now, self.out(ops, fused))
