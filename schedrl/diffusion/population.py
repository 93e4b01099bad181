"""Training of many independent diffusion networks at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.diffusion.ava import AVAController
from schedrl.diffusion.engines.choice import EngineName, choose, log, memory_budget, usable_device
from schedrl.diffusion.engines.engine import Block, PopulationState, record
from schedrl.diffusion.engines.torch_engine import load_rows
from schedrl.diffusion.noise import NoiseSampler, ScheduleNoise
from schedrl.diffusion.optimizer import StackedAdam, StepSize
from schedrl.diffusion.prediction import predict_epsilon
from schedrl.diffusion.process import Inputs, View, with_neighbours
from schedrl.diffusion.run_stream import RunStream
from schedrl.diffusion.training_spec import DSCCoefficients, TrainingSpec
from schedrl.diffusion.unet import UNet, check_size
from schedrl.errors import SchedrlError

_BLOCK = 25
"""Most optimizer steps whose random numbers are drawn ahead; changes no number."""

_DRAWN = 8
"""These random numbers may take one part in so many of the memory budget."""


@dataclass(frozen=True)
class PhaseRecord:
    """Measurements of one call of :meth:`Population.train`.

    Attributes:
        loss: ``[steps, runs]`` float32, training loss under the current schedule.
        gradient_norm: ``[steps, runs]`` float32.
        rate: ``[steps, runs]`` float64, the learning rate, with DSC's factors.
    """

    loss: NDArray[np.float32]
    gradient_norm: NDArray[np.float32]
    rate: NDArray[np.float64]

    @classmethod
    def joined(cls, records: Sequence[PhaseRecord]) -> PhaseRecord:
        return cls(
            *(
                np.concatenate([getattr(record, name) for record in records])
                for name in ("loss", "gradient_norm", "rate")
            )
        )


class Population:
    """``num_runs`` diffusion networks, each with its own weights, optimizer state, random stream and schedule.

    Every run must be started with :meth:`start` before it is trained. A run's numbers depend on its seed and its noise
    alone, to the bit: not on other runs, their restarts, or the division of the steps into calls. With the CPU kernel
    they do not depend on the size of the population or the run's place in it either; in PyTorch they do, in the last
    digits, as sums are divided into other blocks.

    A population whose features do not fit into the memory budget is trained in parts, with a warning in the log.

    Args:
        spec: How each run is trained.
        images: Training images ``[n, C, H, W]`` float32 in [−1, 1], shared by all runs.
        num_runs: Size of the population.
        device: Device of the weights.
        engine: See :mod:`schedrl.diffusion.engines.choice`.
        budget: Bytes for features and random numbers; ``engines.choice.memory_budget`` when absent.

    Examples:
        >>> spec = TrainingSpec(batch_size=2)
        >>> pair = Population(spec, np.zeros((4, 1, 8, 8), np.float32), num_runs=2)
        >>> for run in range(2):
        ...     pair.start(run, seed=run)
        >>> noise = ScheduleNoise(np.array([[8.0, -6.0], [4.0, -4.0]]))  # uniform in log-SNR, two ranges
        >>> pair.train(noise, num_steps=3).loss.shape
        (3, 2)
    """

    def __init__(
        self,
        spec: TrainingSpec,
        images: NDArray[np.float32],
        num_runs: int,
        device: str | torch.device = "cpu",
        *,
        engine: EngineName = "auto",
        budget: int | None = None,
    ) -> None:
        if num_runs < 1:
            raise SchedrlError(f"num_runs: must be at least 1 (got {num_runs})")
        self.spec, self.num_runs, self.device = spec, num_runs, usable_device(device)
        self.images = torch.from_numpy(np.array(images)).to(self.device)
        channels, height, width = images.shape[1:]
        self.image_shape: tuple[int, int, int] = (channels, height, width)
        check_size(spec.network, self.image_shape, num_runs, self.device)
        self.network = UNet(spec.network, self.image_shape)
        self._mean, self._std = (moments.numpy() for moments in self.network.initial_moments())
        self.num_parameters = self._mean.size
        self.weights = torch.zeros(num_runs, self.num_parameters, device=self.device)
        self.average = torch.zeros_like(self.weights)
        self.optimizer = StackedAdam(spec.optimizer, self.weights)
        self.streams: list[RunStream | None] = [None] * num_runs
        self._budget = memory_budget(self.device) if budget is None else budget
        state = PopulationState(spec, self.network, self.images, self.weights, self.average, self.optimizer)
        self.engine = choose(state, engine, self._budget)
        self._parts, self._block = self._cut()
        self._noise: NoiseSampler | None = None

    def start(self, run: int, seed: int) -> None:
        """Start, or restart, run ``run`` from ``seed``; the others are unchanged."""
        stream = RunStream(seed, len(self.images), self.spec.batch_size)
        row = self._mean + self._std * stream.initial_weights(self.num_parameters)
        self.streams[run] = stream
        self.weights[run] = torch.from_numpy(row).to(self.device)
        self.average[run] = self.weights[run]
        self.optimizer.reset(run)

    def train(
        self,
        noise: NoiseSampler,
        num_steps: int,
        coefficients: DSCCoefficients | None = None,
        chosen: NDArray[np.bool_] | None = None,
    ) -> PhaseRecord:
        """Take ``num_steps`` optimizer steps in every run, or in some.

        Args:
            noise: Noise levels of every run, with the schedule's β_t for DSC and β modulation.
            num_steps: Number of steps.
            coefficients: DSC's γ and λ of every run; those of the specification when absent.
            chosen: The runs to train, ``[runs]``; the record of the others is zero. All when absent.
        """
        if noise.num_runs != self.num_runs:
            raise SchedrlError(f"noise: must serve {self.num_runs} runs (got {noise.num_runs})")
        self._noise, size = noise, self._step_size(coefficients)
        losses, norms = (torch.zeros(num_steps, self.num_runs, device=self.device) for _ in range(2))
        factors = torch.ones(num_steps, self.num_runs, dtype=torch.float64, device=self.device)
        for rows in self._parts if chosen is None else self._parts_of(chosen):
            for begin in range(0, num_steps, self._block):
                steps = slice(begin, min(begin + self._block, num_steps))
                block = self._draw(rows, steps.stop - begin, noise, size)
                losses[steps, rows], norms[steps, rows] = self.engine.train(rows, block)
                if block.factor is not None:
                    factors[steps, rows] = block.factor.T
        if size is not None and self.spec.optimizer.dsc is not None:
            factors = StepSize(factors, size[1]).scale(norms, self.spec.optimizer.dsc.max_factor)
        rates = self.spec.optimizer.learning_rate * factors
        return PhaseRecord(losses.cpu().numpy(), norms.cpu().numpy(), rates.cpu().numpy())

    @torch.no_grad()
    def predict_epsilon(
        self, z: Tensor, logsnr: Tensor, earlier: View | None = None, following: Tensor | None = None
    ) -> Tensor:
        """The averaged networks' noise estimates.

        β modulation reads β_t of the schedule of the last training step; log β = 0 before the first.

        Args:
            z: Noised images ``[runs, batch, C, H, W]``.
            logsnr: Their log-SNR ``[runs, batch]``.
            earlier: For MSFI, a sampler's previous state and its levels ``[runs, batch]``.
            following: For MSFI, the sampler's next level ``[runs, batch]``.
        """
        parts = []
        for rows in self._parts:
            spot = None if earlier is None else (earlier[0][rows], earlier[1][rows])
            goal = None if following is None else following[rows]
            output = partial(self._output, rows)
            parts.append(predict_epsilon(output, self.spec, z[rows], logsnr[rows], spot, goal))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def averaged_network(self, rows: slice = slice(None)) -> UNet:
        """The averaged weights of some runs in a PyTorch module, on the population's device."""
        average = self.average[rows]
        network = UNet(self.spec.network, self.image_shape, len(average)).to(self.device)
        load_rows(list(network.parameters()), average)
        return network

    def log_beta_at(self, logsnr: Tensor, rows: slice = slice(None)) -> Tensor:
        """log β_t at log-SNR ``[runs, n]`` that β modulation reads; see :meth:`predict_epsilon`."""
        return torch.zeros_like(logsnr) if self._noise is None else self._noise.log_beta_at(rows, logsnr)

    def _output(self, rows: slice, inputs: Inputs) -> Tensor:
        if self.spec.network.modulation:
            inputs = replace(inputs, log_beta=self.log_beta_at(inputs.logsnr, rows))
        return self.engine.predict(rows, inputs)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to continue exactly: arrays, and the random streams as plain JSON."""
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in self._tensors().items()}
        return arrays, {"streams": [stream.state() if stream else None for stream in self.streams]}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name])))
        for run, state in enumerate(meta["streams"]):
            stream = None
            if state is not None:
                stream = RunStream(0, len(self.images), self.spec.batch_size)
                stream.restore(state)
            self.streams[run] = stream

    def _tensors(self) -> dict[str, Tensor]:
        optimizer = self.optimizer
        return {
            "weights": self.weights, "average": self.average, "first": optimizer.first, "second": optimizer.second,
            "steps": optimizer.steps,
        }  # fmt: skip

    def held_bytes(self) -> int:
        """Bytes of weights, average weights, optimizer state and images."""
        tensors = (self.weights, self.average, self.optimizer.first, self.optimizer.second, self.images)
        return sum(4 * tensor.numel() for tensor in tensors)

    def working_bytes(self) -> int:
        """Bytes of features, gradients and random numbers during training."""
        return self.engine.working_bytes() + self._block * self._drawn_bytes()

    def flops(self) -> int:
        """Floating-point operations of the matrix products in one step of one run, forward and backward."""
        return record(self.network, self.image_shape, 1).flops[1] * self.spec.batch_size

    @property
    def runs_at_once(self) -> int:
        """Runs that are trained together; fewer than ``num_runs`` if the memory budget is too small for all."""
        return int(self._parts[0].stop)

    def _step_size(self, coefficients: DSCCoefficients | None) -> tuple[Tensor, Tensor] | None:
        """γ and λ ``[runs]`` on the device, or None without DSC."""
        spec = self.spec.optimizer.dsc
        if spec is None:
            if coefficients is not None:
                raise SchedrlError(
                    f"coefficients: DSC's γ and λ need optimizer.name 'dsc' (got '{self.spec.optimizer.name}')"
                )
            return None
        if coefficients is None:
            ones = np.ones(self.num_runs)
            coefficients = DSCCoefficients(spec.gamma * ones, spec.boost * ones)
        gamma, boost = (
            torch.from_numpy(np.array(part, dtype=np.float64)).to(self.device)
            for part in (coefficients.gamma, coefficients.boost)
        )
        return gamma, boost

    def _with_step_size(
        self, block: Block, rows: slice, betas: Tensor, gamma: Tensor, boost: Tensor
    ) -> Block:
        """The block with DSC's part of the learning rate, from the β_t of its noise levels."""
        spec = self.spec.optimizer.dsc
        assert spec is not None
        gamma, boost = gamma[rows], boost[rows].contiguous()
        if spec.per_sample:
            weights = torch.exp(-gamma[:, None, None] * betas).float()
            ones = torch.ones(betas.shape[:2], dtype=torch.float64, device=self.device)
            return replace(block, factor=ones, boost=boost, image_weights=weights)
        # Rounded to float32, or the last digit would depend on where in a vector register a number happens to lie.
        factor = torch.exp(-gamma[:, None] * betas.mean(dim=2)).float().double()
        return replace(block, factor=factor, boost=boost)

    def _parts_of(self, chosen: NDArray[np.bool_]) -> list[slice]:
        """The parts without the runs that are not chosen: neighbours stay together."""
        pieces: list[slice] = []
        for part in self._parts:
            rows = part.start + np.flatnonzero(chosen[part])
            groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
            pieces += [slice(int(group[0]), int(group[-1]) + 1) for group in groups if len(group)]
        return pieces

    def _drawn_bytes(self) -> int:
        """Bytes of one step's random numbers."""
        at_once = min(self.engine.runs_at_once(), self.num_runs)
        return at_once * self.spec.batch_size * (4 * self.images[0].numel() + 12)

    def _cut(self) -> tuple[list[slice], int]:
        """Division of the work by the memory budget: runs trained together, and steps drawn ahead."""
        at_once = min(self.engine.runs_at_once(), self.num_runs)
        if at_once < self.num_runs:
            log.warning(
                "%d runs need more than the memory budget of %.1f GB: %d are trained at a time",
                self.num_runs, self._budget / 2**30, at_once,
            )  # fmt: skip
        block = max(1, min(_BLOCK, self._budget // _DRAWN // self._drawn_bytes()))
        return [
            slice(begin, min(begin + at_once, self.num_runs)) for begin in range(0, self.num_runs, at_once)
        ], block

    def _draw(
        self, rows: slice, num_steps: int, noise: NoiseSampler, size: tuple[Tensor, Tensor] | None
    ) -> Block:
        """The numbers for the next steps of some runs."""
        if None in self.streams:
            raise SchedrlError(f"run {self.streams.index(None)} was not started; call start(run, seed) first")
        streams = [stream for stream in self.streams[rows] if stream is not None]
        indices = torch.from_numpy(np.stack([stream.indices(num_steps) for stream in streams])).to(
            self.device
        )
        uniform = torch.from_numpy(np.stack([stream.levels(num_steps) for stream in streams])).to(self.device)
        normal = np.empty((*uniform.shape, *self.image_shape), dtype=np.float32)
        for stream, place in zip(streams, normal, strict=True):
            stream.fill_noise(place)
        levels = with_neighbours(self.spec.network.msfi, noise.logsnr(rows, indices, uniform), uniform)
        block = Block(indices, levels.contiguous(), torch.from_numpy(normal).to(self.device))
        if not self.spec.reads_betas:
            return block
        betas = noise.betas(rows, indices, uniform)
        if self.spec.network.modulation:
            block = replace(block, log_beta=betas.log().float())
        return block if size is None else self._with_step_size(block, rows, betas, *size)


class ControlledTraining:
    """A population whose noise AVA controls.

    Args:
        population: The runs, started.
        controller: For as many runs.
        every: Optimizer steps between two moves of K. Every step's norm enters τ; K moves by their root mean square,
            as in an environment's phases.
        timesteps: T of discrete training; continuous when absent.
    """

    def __init__(
        self, population: Population, controller: AVAController, every: int = 1, timesteps: int | None = None
    ) -> None:
        if controller.num_runs != population.num_runs:
            raise SchedrlError(
                f"controller: must have as many runs as the population, {population.num_runs} "
                f"(got {controller.num_runs})"
            )
        if every < 1:
            raise SchedrlError(f"every: must be at least 1 (got {every})")
        self.population, self.controller = population, controller
        self.every, self._timesteps = every, timesteps
        self._squares: list[NDArray[np.float64]] = []

    def train(self, num_steps: int) -> PhaseRecord:
        """Take ``num_steps`` optimizer steps in every run."""
        records = []
        while num_steps > 0:
            part = min(num_steps, self.every - len(self._squares))
            schedules, betas = self.controller.schedules(), self.population.spec.reads_betas
            noise = ScheduleNoise.of(schedules, self._timesteps, betas=betas)
            records.append(self.population.train(noise, part))
            for norms in records[-1].gradient_norm.astype(np.float64):
                self.controller.observe(norms)
                self._squares.append(np.square(norms))
            if len(self._squares) == self.every:
                self.controller.move(np.sqrt(np.mean(self._squares, axis=0)))
                self._squares = []
            num_steps -= part
        return PhaseRecord.joined(records)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to continue exactly: arrays, and plain JSON."""
        arrays, meta = self.population.state()
        arrays |= {f"ava.{name}": array for name, array in self.controller.state().items()}
        arrays["ava.squares"] = np.array(self._squares).reshape(-1, self.population.num_runs)
        return arrays, meta

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        self.population.restore(arrays, meta)
        own = {name.removeprefix("ava."): array for name, array in arrays.items() if name.startswith("ava.")}
        self._squares = list(np.array(own.pop("squares"), dtype=np.float64))
        self.controller.restore(own)
