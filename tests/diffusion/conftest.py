"""A U-Net of plain torch functions, written from the description: what every stacked network is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from schedrl.diffusion.training_spec import UNetSpec

PlainNetwork = Callable[[dict[str, Tensor], UNetSpec, Tensor, Tensor], Tensor]


def _linear(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return functional.linear(x, p[f"{name}.weight"].T, p[f"{name}.bias"][0])


def _conv(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = p[f"{name}.weight"]
    return functional.conv2d(x, weight, p[f"{name}.bias"], padding=weight.shape[-1] // 2)


def _norm(p: dict[str, Tensor], name: str, x: Tensor, groups: int) -> Tensor:
    return functional.group_norm(x, groups, p[f"{name}.weight"], p[f"{name}.bias"])


def _block(p: dict[str, Tensor], name: str, x: Tensor, embedding: Tensor, groups: int) -> Tensor:
    h = _conv(p, f"{name}.conv_in", functional.silu(_norm(p, f"{name}.norm_in", x, groups)))
    scale, shift = _linear(p, f"{name}.modulation", embedding).chunk(2, dim=1)
    h = _norm(p, f"{name}.norm_out", h, groups) * (1 + scale[..., None, None]) + shift[..., None, None]
    skip = _conv(p, f"{name}.skip", x) if f"{name}.skip.weight" in p else x
    return skip + _conv(p, f"{name}.conv_out", functional.silu(h))


def plain_unet(p: dict[str, Tensor], spec: UNetSpec, x: Tensor, logsnr: Tensor) -> Tensor:
    """One network on images ``[batch, C, H, W]`` at ``logsnr`` ``[batch]``; ``p`` holds one run's parameters."""
    frequencies = torch.exp(torch.linspace(math.log(0.05), 0.0, spec.embedding // 2))
    angles = logsnr.clamp(-20, 20)[:, None] * frequencies
    embedding = functional.silu(_linear(p, "embedding.hidden", torch.cat([angles.sin(), angles.cos()], 1)))
    embedding = functional.silu(_linear(p, "embedding.out", embedding))
    h, skips = _conv(p, "stem", x), []
    for i in range(len(spec.channels)):
        h = _block(p, f"down.{i}", functional.avg_pool2d(h, 2) if i else h, embedding, spec.groups)
        skips.append(h)
    h = _block(p, "middle", h, embedding, spec.groups)
    for i in range(len(spec.channels)):
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3) if i else h
        h = _block(p, f"up.{i}", torch.cat([h, skips.pop()], 1), embedding, spec.groups)
    return _conv(p, "head", functional.silu(_norm(p, "norm", h, spec.groups)))


@pytest.fixture
def plain() -> PlainNetwork:
    """The reference network."""
    return plain_unet
