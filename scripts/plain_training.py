"""One run as anyone would write it first: a plain U-Net, eager autograd, torch's fused Adam, averaged weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from schedrl.diffusion.training_spec import TrainingSpec, UNetSpec


class _Block(nn.Module):
    def __init__(self, ins: int, outs: int, spec: UNetSpec) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(spec.groups, ins), nn.GroupNorm(spec.groups, outs)
        self.conv_in = nn.Conv2d(ins, outs, 3, padding=1)
        self.conv_out = nn.Conv2d(outs, outs, 3, padding=1)
        self.modulation = nn.Linear(spec.embedding, 2 * outs)
        self.skip = nn.Identity() if ins == outs else nn.Conv2d(ins, outs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(functional.silu(self.norm_in(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.norm_out(h) * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.conv_out(functional.silu(h))
        return out


class PlainUNet(nn.Module):
    """The U-Net of :mod:`schedrl.diffusion.unet` for a single run, of torch's own layers."""

    frequencies: Tensor

    def __init__(self, spec: UNetSpec, image_channels: int) -> None:
        super().__init__()
        widths, width = spec.channels, spec.embedding
        self.register_buffer("frequencies", torch.logspace(math.log10(0.05), 0.0, width // 2))
        self.embedding = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.stem = nn.Conv2d(image_channels, widths[0], 3, padding=1)
        below = [widths[max(i - 1, 0)] for i in range(len(widths))]
        self.down = nn.ModuleList(_Block(ins, outs, spec) for ins, outs in zip(below, widths, strict=True))
        self.middle = _Block(widths[-1], widths[-1], spec)
        pairs = reversed(list(zip(widths, below, strict=True)))
        self.up = nn.ModuleList(_Block(2 * ins, outs, spec) for ins, outs in pairs)
        self.norm = nn.GroupNorm(spec.groups, widths[0])
        self.head = nn.Conv2d(widths[0], image_channels, 3, padding=1)

    def forward(self, x: Tensor, logsnr: Tensor) -> Tensor:
        """Estimate the noise in images ``[batch, C, H, W]`` at ``logsnr`` ``[batch]``."""
        angles = logsnr[:, None] * self.frequencies
        embedding = self.embedding(torch.cat([angles.sin(), angles.cos()], dim=1))
        h, skips = self.stem(x), []
        for i, block in enumerate(self.down):
            h = block(functional.avg_pool2d(h, 2) if i else h, embedding)
            skips.append(h)
        h = self.middle(h, embedding)
        for i, block in enumerate(self.up):
            h = functional.interpolate(h, scale_factor=2.0) if i else h
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        out: Tensor = self.head(functional.silu(self.norm(h)))
        return out


class PlainRun:
    """Trains one network.

    Args:
        spec: How.
        images: ``[n, C, H, W]``.
        seed: Of its random numbers.
    """

    def __init__(self, spec: TrainingSpec, images: Tensor, seed: int) -> None:
        device = images.device
        self.spec, self.images = spec, images
        self.generator = torch.Generator(device).manual_seed(seed)
        self.network = PlainUNet(spec.network, images.shape[1]).to(device)
        parameters = list(self.network.parameters())
        self.average = [parameter.detach().clone() for parameter in parameters]
        self.optimizer = torch.optim.Adam(parameters, lr=spec.optimizer.learning_rate, fused=True)

    def train(self, steps: int) -> None:
        """Take optimizer steps, uniform in log-SNR from 8 to −6."""
        size, device, generator = self.spec.batch_size, self.images.device, self.generator
        parameters = list(self.network.parameters())
        for _ in range(steps):
            x0 = self.images[torch.randint(len(self.images), (size,), generator=generator, device=device)]
            noise = torch.randn(x0.shape, generator=generator, device=device)
            logsnr = 8.0 - 14.0 * torch.rand(size, generator=generator, device=device)
            alpha, sigma = (torch.sigmoid(sign * logsnr).sqrt()[:, None, None, None] for sign in (1, -1))
            loss = functional.mse_loss(self.network(alpha * x0 + sigma * noise, logsnr), noise)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            torch._foreach_lerp_(self.average, [p.detach() for p in parameters], 1.0 - self.spec.ema_decay)

    @torch.no_grad()
    def predict_epsilon(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """Estimates for a population of one, as :class:`schedrl.metrics.variational_bound.Bound` asks for them."""
        output: Tensor = self.network(z[0], logsnr[0])
        return output[None]
