"""Training of many independent diffusion networks at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.diffusion.optimizer import StackedAdam
from schedrl.diffusion.process import alpha_sigma, to_epsilon, training_target
from schedrl.diffusion.spec import LOGSNR_LIMIT, TrainingSpec
from schedrl.diffusion.streams import RunStream
from schedrl.diffusion.unet import UNet
from schedrl.errors import SchedrlError

__all__ = ["NoiseLaw", "PhaseRecord", "Population"]

_BLOCK = 25
"""Optimizer steps whose random numbers are drawn ahead; bounds memory, changes no number."""


@dataclass(frozen=True)
class NoiseLaw:
    """The training noise of every run, as the quantile function of its log-SNR.

    Attributes:
        quantiles: ``[runs, points]`` float64, log-SNR at equally spaced u from 0 to 1.
        discrete: The points are the T steps of a discrete schedule, drawn with equal chance; otherwise the law is
            continuous and linear between the points.
    """

    quantiles: NDArray[np.float64]
    discrete: bool = False

    def tensor(self, device: torch.device) -> Tensor:
        """The table on a device, in float32, clipped to what the network distinguishes."""
        return torch.from_numpy(self.quantiles.clip(-LOGSNR_LIMIT, LOGSNR_LIMIT).astype(np.float32)).to(
            device
        )

    def at(self, table: Tensor, u: Tensor) -> Tensor:
        """Log-SNR ``[runs, batch]`` at the uniform numbers ``u`` ``[runs, batch]``."""
        points = table.shape[1]
        if self.discrete:
            return table.gather(1, (u * points).long().clamp_(max=points - 1))
        place = u * (points - 1)
        left = place.long().clamp_(max=points - 2)
        low, high = table.gather(1, left), table.gather(1, left + 1)
        return torch.lerp(low, high, place - left)


@dataclass(frozen=True)
class PhaseRecord:
    """What one call of :meth:`Population.train` saw.

    Attributes:
        loss: ``[steps, runs]`` float32, training loss under the schedule in force.
        gradient_norm: ``[steps, runs]`` float32.
    """

    loss: NDArray[np.float32]
    gradient_norm: NDArray[np.float32]


def usable_device(device: str | torch.device) -> torch.device:
    """The device, after something was put there.

    Raises:
        SchedrlError: There is no such device here.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SchedrlError(f"device: '{device}' cannot be used here ({reason}); 'cpu' always can") from None


class Population:
    """``num_runs`` diffusion networks, each with its own weights, optimizer state, random stream and schedule.

    Every run must be started with :meth:`start` before it is trained. A run's numbers depend on its seed and its law
    alone; a neighbour, a restart next door or the way the steps are cut into calls changes no bit of them. The size
    of the population and a run's place in it do, in the last digits: sums are cut into other blocks.

    Args:
        spec: How each run is trained.
        images: Training images ``[n, C, H, W]`` float32 in [−1, 1], shared by all runs.
        num_runs: Size of the population.
        device: Where it lives.

    Raises:
        SchedrlError: The network does not fit the images.

    Examples:
        >>> spec = TrainingSpec(batch_size=2)
        >>> pair = Population(spec, np.zeros((4, 1, 8, 8), np.float32), num_runs=2)
        >>> for run in range(2):
        ...     pair.start(run, seed=run)
        >>> law = NoiseLaw(np.array([[8.0, -6.0], [4.0, -4.0]]))  # uniform in log-SNR, two ranges
        >>> pair.train(law, num_steps=3).loss.shape
        (3, 2)
    """

    def __init__(
        self,
        spec: TrainingSpec,
        images: NDArray[np.float32],
        num_runs: int,
        device: str | torch.device = "cpu",
    ) -> None:
        if num_runs < 1:
            raise SchedrlError(f"num_runs: must be at least 1 (got {num_runs})")
        self.spec, self.num_runs, self.device = spec, num_runs, usable_device(device)
        self.images = torch.from_numpy(np.array(images)).to(self.device)
        channels, height, width = images.shape[1:]
        self.image_shape: tuple[int, int, int] = (channels, height, width)
        self.network = UNet(spec.network, self.image_shape, num_runs).to(self.device)
        self._parameters: list[Tensor] = list(self.network.parameters())
        self._mean, self._std = (moments.numpy() for moments in self.network.initial_moments())
        self.num_parameters = self._mean.size
        self.weights = torch.zeros(num_runs, self.num_parameters, device=self.device)
        self.average = torch.zeros_like(self.weights)
        self.optimizer = StackedAdam(spec.optimizer, self.weights)
        self.streams: list[RunStream | None] = [None] * num_runs

    def start(self, run: int, seed: int) -> None:
        """Begin run ``run`` anew from ``seed``; the others are left as they are."""
        stream = RunStream(seed, len(self.images), self.spec.batch_size)
        row = self._mean + self._std * stream.initial_weights(self.num_parameters)
        self.streams[run] = stream
        self.weights[run] = torch.from_numpy(row).to(self.device)
        self.average[run] = self.weights[run]
        self.optimizer.reset(run)

    def train(self, law: NoiseLaw, num_steps: int) -> PhaseRecord:
        """Take ``num_steps`` optimizer steps in every run, its noise levels drawn from its row of ``law``."""
        table = law.tensor(self.device)
        losses, norms = [], []
        self._load(self.weights)
        for begin in range(0, num_steps, _BLOCK):
            block = min(_BLOCK, num_steps - begin)
            indices, levels, noise = self._draw(block)
            for step in range(block):
                logsnr = law.at(table, levels[:, step])
                loss = self._loss(self.images[indices[:, step]], logsnr, noise[:, step])
                loss.sum().backward()
                losses.append(loss.detach())
                norms.append(self._update())
        return PhaseRecord(torch.stack(losses).cpu().numpy(), torch.stack(norms).cpu().numpy())

    @torch.no_grad()
    def predict_epsilon(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """The averaged networks' noise estimates.

        Args:
            z: Noised images ``[runs, batch, C, H, W]``.
            logsnr: Their noise levels ``[runs, batch]``.
        """
        self._load(self.average)
        alpha, sigma = alpha_sigma(logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT), z.ndim)
        return to_epsilon(self.spec.prediction_type, self.network(z, logsnr), z, alpha, sigma)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to go on exactly: arrays, and the random streams as plain JSON."""
        arrays = {
            "weights": self.weights,
            "average": self.average,
            "first": self.optimizer.first,
            "second": self.optimizer.second,
            "steps": self.optimizer.steps,
        }
        streams = [stream.state() if stream else None for stream in self.streams]
        return {name: tensor.cpu().numpy().copy() for name, tensor in arrays.items()}, {"streams": streams}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        targets = {
            "weights": self.weights,
            "average": self.average,
            "first": self.optimizer.first,
            "second": self.optimizer.second,
            "steps": self.optimizer.steps,
        }
        for name, tensor in targets.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name])))
        for run, state in enumerate(meta["streams"]):
            stream = None
            if state is not None:
                stream = RunStream(0, len(self.images), self.spec.batch_size)
                stream.restore(state)
            self.streams[run] = stream

    def _draw(self, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Indices, uniform numbers and noise of the next steps, each ``[runs, num_steps, batch, ...]``."""
        streams = [stream for stream in self.streams if stream is not None]
        if len(streams) < self.num_runs:
            raise SchedrlError(f"run {self.streams.index(None)} was not started; call start(run, seed) first")
        indices = np.stack([stream.indices(num_steps) for stream in streams])
        levels = np.stack([stream.levels(num_steps) for stream in streams])
        noise = np.stack([stream.noise(num_steps, self.image_shape) for stream in streams])
        return tuple(torch.from_numpy(array).to(self.device) for array in (indices, levels, noise))  # type: ignore[return-value]

    def _loss(self, x0: Tensor, logsnr: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of each run's prediction, ``[runs]``."""
        alpha, sigma = alpha_sigma(logsnr, x0.ndim)
        output = self.network(alpha * x0 + sigma * noise, logsnr)
        target = training_target(self.spec.prediction_type, x0, noise, alpha, sigma)
        loss: Tensor = (output - target).square().mean(dim=(1, 2, 3, 4))
        return loss

    @torch.no_grad()
    def _update(self) -> Tensor:
        gradients = [p.grad.flatten(1) for p in self._parameters if p.grad is not None]
        norms = self.optimizer.step(torch.cat(gradients, dim=1))
        for parameter in self._parameters:
            parameter.grad = None
        self._load(self.weights)
        steps = self.optimizer.steps
        decay = torch.clamp((1.0 + steps) / (10.0 + steps), max=self.spec.ema_decay)
        self.average.lerp_(self.weights, (1.0 - decay).to(self.weights.dtype).expand_as(self.weights))
        return norms

    @torch.no_grad()
    def _load(self, rows: Tensor) -> None:
        """Copy the matrix ``[runs, parameters]`` into the network's parameters."""
        pieces = rows.split([p[0].numel() for p in self._parameters], dim=1)
        views = [piece.view_as(p) for piece, p in zip(pieces, self._parameters, strict=True)]
        torch._foreach_copy_(self._parameters, views)
