"""Training of one network, as large as the device holds, with the process, loss and random numbers of a population.

It uses what PyTorch offers for a single large network: mixed precision, channels-last memory, compilation, and
data-parallel processes. A run has the images, levels and noise of a population's run with the same seed.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from schedrl.diffusion.distributed import Processes
from schedrl.diffusion.engines.torch_engine import load_rows
from schedrl.diffusion.layers import StackedConv2d
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.optimizer import UnclippedDSC, average_decay, last_rate, make_optimizer, set_rate
from schedrl.diffusion.prediction import NetworkPredictor
from schedrl.diffusion.process import training_inputs, with_neighbours
from schedrl.diffusion.run_stream import RunStream
from schedrl.diffusion.training_spec import TrainingSpec
from schedrl.diffusion.unet import UNet, check_size
from schedrl.errors import SchedrlError

_EVERYWHERE = slice(None)

_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""What the optimizers keep of every parameter."""


@dataclass(frozen=True)
class Tuning:
    """Options of the arithmetic.

    Attributes:
        precision: ``"fp32"``, or ``"bf16"`` for autocast to bfloat16; weights and moments stay float32.
        compile: Compile the network with ``torch.compile``.
        channels_last: Store kernels, like features, with channels innermost.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    channels_last: bool = False


@dataclass(frozen=True)
class StepRecord:
    """Measurements of some steps, on the device.

    Attributes:
        loss: ``[steps]``, training loss of the global batch.
        gradient_norm: ``[steps]``, before clipping.
    """

    loss: Tensor
    gradient_norm: Tensor


@dataclass(frozen=True)
class _Drawn:
    """One step's numbers for this process, and the state of the stream after them."""

    indices: Tensor
    levels: Tensor
    noise: Tensor
    log_beta: Tensor | None
    betas: Tensor | None
    mean_beta: float
    stream: dict[str, Any]


class SingleTraining:
    """One network, its optimizer, average weights and random stream.

    Args:
        spec: How it is trained.
        images: Training images ``[n, C, H, W]`` float32 in [−1, 1].
        noise: Noise levels of one run; with β_t if DSC or β modulation reads them.
        seed: Of weights, batches and noise.
        processes: Those that train together and divide the batch.
        tuning: Options of the arithmetic.
        warmup: Steps over which the learning rate rises linearly to its full value; DSC's factors come on top.

    Examples:
        >>> noise = ScheduleNoise(np.array([[8.0, -6.0]]))
        >>> images = np.zeros((9, 1, 8, 8), np.float32)
        >>> one = SingleTraining(TrainingSpec(batch_size=4), images, noise, seed=0)
        >>> one.train(3).loss.shape, one.step
        (torch.Size([3]), 3)
    """

    def __init__(
        self,
        spec: TrainingSpec,
        images: NDArray[np.float32],
        noise: ScheduleNoise,
        seed: int,
        processes: Processes | None = None,
        tuning: Tuning | None = None,
        warmup: int = 0,
    ) -> None:
        self.spec, self.noise, self.tuning, self.warmup = spec, noise, tuning or Tuning(), warmup
        self.processes = processes or Processes(0, 1, torch.device("cpu"))
        self.device, self.step = self.processes.device, 0
        if self.processes.count > spec.batch_size:
            raise SchedrlError(
                f"batch_size: {self.processes.count} processes cannot share {spec.batch_size} images"
            )
        channels, height, width = images.shape[1:]
        self.image_shape: tuple[int, int, int] = (channels, height, width)
        self.images = torch.from_numpy(np.array(images)).to(self.device)
        check_size(spec.network, self.image_shape, 1, self.device)
        self.network = UNet(spec.network, self.image_shape)
        self._stream = RunStream(seed, len(images), spec.batch_size)
        self._begin()
        self.network.to(self.device)
        if self.tuning.channels_last:
            _channels_last(self.network)
        self.parameters = list(self.network.parameters())
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer = make_optimizer(spec.optimizer, self.parameters, self.device)
        self._ahead: Future[_Drawn] | None = None
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._stood = self._stream.snapshot()

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return last_rate(self.optimizer)

    def train(self, num_steps: int) -> StepRecord:
        """Take optimizer steps without waiting for the device."""
        losses, norms = (torch.zeros(num_steps, device=self.device) for _ in range(2))
        for step in range(num_steps):
            losses[step], norms[step] = self._take(self._next())
        return StepRecord(self.processes.total(losses), norms)

    def predictor(self) -> NetworkPredictor:
        """Predictions of the averaged weights; later training does not change them."""
        network = UNet(self.spec.network, self.image_shape).to(self.device)
        with torch.no_grad():
            torch._foreach_copy_(list(network.parameters()), self.average)
        log_beta = self.log_beta_at if self.spec.network.modulation else None
        return NetworkPredictor(network, self.spec, log_beta)

    def log_beta_at(self, logsnr: Tensor) -> Tensor:
        """log β_t of the schedule at log-SNR ``[1, n]``."""
        return self.noise.log_beta_at(_EVERYWHERE, logsnr)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to continue exactly: arrays, and plain JSON."""
        arrays: dict[str, NDArray[Any]] = {}
        for (name, parameter), average in zip(self.network.named_parameters(), self.average, strict=True):
            arrays[f"weights.{name}"] = _array(parameter)
            arrays[f"average.{name}"] = _array(average)
            for key, value in self.optimizer.state.get(parameter, {}).items():
                arrays[f"optimizer.{key}.{name}"] = _array(torch.as_tensor(value))
        stream = dict(self._stood)
        arrays["stream.queue"] = np.asarray(stream.pop("queue"), dtype=np.int64)
        return arrays, {"step": self.step, "stream": stream}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Continue from :meth:`state`, with any number of processes."""
        if self._ahead is not None:
            self._ahead.result()  # it must not draw from the stream that is set back here
        try:
            with torch.no_grad():
                for (name, parameter), average in zip(
                    self.network.named_parameters(), self.average, strict=True
                ):
                    parameter.copy_(torch.from_numpy(arrays[f"weights.{name}"]))
                    average.copy_(torch.from_numpy(arrays[f"average.{name}"]))
                    self._restore_moments(name, parameter, arrays)
            self._stream.restore({**meta["stream"], "queue": arrays["stream.queue"]})
            self.step = int(meta["step"])
        except (LookupError, ValueError, RuntimeError, TypeError, OverflowError) as error:
            raise SchedrlError(f"checkpoint: is that of another network or version ({error})") from None
        self._stood = self._stream.snapshot()
        self._ahead = None

    def _restore_moments(self, name: str, parameter: nn.Parameter, arrays: dict[str, NDArray[Any]]) -> None:
        moments: dict[str, Tensor] = {}
        for parts, array in ((key.split(".", 2), array) for key, array in arrays.items()):
            if parts[0] != "optimizer" or parts[2] != name:
                continue
            key = parts[1]
            if key == "step":
                # Only the fused optimizer keeps it on the device.
                fused = bool(self.optimizer.defaults.get("fused"))
                moments[key] = torch.tensor(float(array.item())).to(self.device if fused else "cpu")
            else:
                moments[key] = torch.empty_like(parameter).copy_(torch.from_numpy(array))
        if moments:
            if set(moments) != _MOMENTS:
                raise ValueError(f"the optimizer keeps {sorted(moments)} of {name}")
            self.optimizer.state[parameter] = moments

    def _begin(self) -> None:
        mean, std = (moments.numpy() for moments in self.network.initial_moments())
        row = torch.from_numpy(mean + std * self._stream.initial_weights(mean.size))
        load_rows(list(self.network.parameters()), row[None])

    @cached_property
    def _module(self) -> nn.Module:
        """The module for training, made at the first step, since making it takes all processes."""
        module: nn.Module = self.network
        if self.tuning.compile:
            module = cast("nn.Module", torch.compile(module))
        if self.processes.count > 1:
            places = [self.device] if self.device.type == "cuda" else None
            return DistributedDataParallel(module, device_ids=places)
        return module

    def _next(self) -> _Drawn:
        """This step's numbers; the next ones are drawn in a thread."""
        drawn = self._ahead.result() if self._ahead is not None else self._draw()
        self._ahead = self._pool.submit(self._draw)
        self._stood = drawn.stream
        return drawn

    def _draw(self) -> _Drawn:
        """Every process draws the whole batch's numbers and keeps its share, so the count of processes changes none."""
        stream, share = self._stream, self.processes.share(self.spec.batch_size)
        indices, uniform = (torch.from_numpy(part)[None] for part in (stream.indices(1), stream.levels(1)))
        noise = torch.from_numpy(stream.noise(1, self.image_shape)[0, share])
        levels = with_neighbours(
            self.spec.network.msfi, self.noise.logsnr(_EVERYWHERE, indices, uniform), uniform
        )[:, 0, share]
        betas = self.noise.betas(_EVERYWHERE, indices, uniform)[:, 0] if self.spec.reads_betas else None
        log_beta = (
            betas[:, share].log().float() if betas is not None and self.spec.network.modulation else None
        )
        return _Drawn(
            self._sent(indices[:, 0, share]), self._sent(levels), self._sent(noise[None]),
            None if log_beta is None else self._sent(log_beta),
            None if betas is None else self._sent(betas[:, share].float()),
            0.0 if betas is None else float(betas.mean()), stream.snapshot(),
        )  # fmt: skip

    def _sent(self, part: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return part.contiguous().pin_memory().to(self.device, non_blocking=True)
        return part

    def _take(self, drawn: _Drawn) -> tuple[Tensor, Tensor]:
        """One step; this process's part of the loss, and the gradient's norm."""
        spec = self.spec
        inputs, target = training_inputs(
            spec, self.images[drawn.indices], drawn.noise, drawn.levels, drawn.log_beta
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.tuning.precision == "bf16"):
            output = self._module(inputs.z, inputs.logsnr, inputs.log_beta, inputs.neighbours)
        losses = (output.float() - target).square().mean(dim=(2, 3, 4))
        weighted, dsc = losses, spec.optimizer.dsc
        if dsc is not None and dsc.per_sample and drawn.betas is not None:
            weighted = losses * torch.exp(-dsc.gamma * drawn.betas)
        # Processes average their gradients; shares of a batch may differ in size.
        (weighted.sum() * (self.processes.count / spec.batch_size)).backward()
        limit = spec.optimizer.max_gradient_norm
        norm = nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit)
        if isinstance(self.optimizer, UnclippedDSC):
            self.optimizer.set_noise_level(drawn.mean_beta)
            self.optimizer.norm = norm
        set_rate(self.optimizer, spec.optimizer, self.step, self.warmup)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            share = 1.0 - average_decay(spec.ema_decay, self.step)
            torch._foreach_lerp_(self.average, list[Tensor](self.parameters), share)
        return losses.detach().sum() / spec.batch_size, norm


def _channels_last(network: UNet) -> None:
    """Lay kernels out as features are, run axis aside."""
    for layer in network.modules():
        if isinstance(layer, StackedConv2d):
            with torch.no_grad():
                layer.weight.data = layer.weight.data[0].contiguous(memory_format=torch.channels_last)[None]


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
