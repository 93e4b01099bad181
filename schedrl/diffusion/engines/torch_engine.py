"""The engine for GPUs, and for CPUs without a compiler: all runs side by side in PyTorch.

On a GPU a step is captured once as a CUDA graph and replayed: images, weights and optimizer state are on the device,
shapes are fixed, and a step costs one launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from schedrl.diffusion.engines.engine import Block, PopulationState
from schedrl.diffusion.optimizer import StepSize
from schedrl.diffusion.process import Inputs, training_inputs
from schedrl.diffusion.unet import UNet

_OVERHEAD = 2
"""Memory of a step relative to the tensors that autograd saves, which leaves room for gradients and workspaces."""

Step = Callable[[Block], tuple[Tensor, Tensor]]
"""``step(drawn) -> losses, norms`` for one step of a block (:meth:`Block.at`)."""


def bytes_per_image(network: UNet, image_shape: tuple[int, int, int]) -> int:
    """Bytes of one image's features in training of one run, from the tensors that autograd saves."""
    # By the storages themselves: on the meta device none has an address.
    parameters = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    images = 4  # more than one, so that constants count less
    x = torch.zeros(1, images, *image_shape, device=next(network.parameters()).device)
    level = x.new_zeros(1, images)
    around = ((x, level), (x, level)) if network.views > 1 else None
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(x, level, level, around)
    del output
    return _OVERHEAD * sum(saved.values()) // images


class TorchEngine:
    """Trains a population in PyTorch.

    Args:
        state: The population.
        budget: Bytes for features; runs and images beyond it are processed in turns.
    """

    name = "torch"

    def __init__(self, state: PopulationState, budget: int) -> None:
        self.state, self.device, self.budget = state, state.weights.device, budget
        channels, height, width = state.images.shape[1:]
        self._image_shape = (channels, height, width)
        self._bytes = bytes_per_image(state.network, self._image_shape)
        self._networks: dict[int, tuple[UNet, list[Tensor]]] = {}
        self._graphs: dict[tuple[int, int], Step] = {}

    def runs_at_once(self) -> int:
        return max(1, self.budget // (self._bytes * self.state.spec.batch_size))

    def working_bytes(self) -> int:
        at_once = min(self.runs_at_once(), len(self.state.weights))
        return at_once * self._bytes * self.state.spec.batch_size

    def train(self, rows: slice, block: Block) -> tuple[Tensor, Tensor]:
        runs, steps, _ = block.indices.shape
        network, parameters = self._network(runs)
        load_rows(parameters, self.state.weights[rows])
        take = self._captured(rows, block, network, parameters)
        losses, norms = (torch.empty(steps, runs, device=self.device) for _ in range(2))
        for step in range(steps):
            loss, norm = take(block.at(step))
            losses[step].copy_(loss)
            norms[step].copy_(norm)
        return losses, norms

    @torch.no_grad()
    def predict(self, rows: slice, inputs: Inputs) -> Tensor:
        runs, count = inputs.logsnr.shape
        network, parameters = self._network(runs)
        load_rows(parameters, self.state.average[rows])
        size = max(1, self.budget // (self._bytes * runs))
        parts = [slice(begin, begin + size) for begin in range(0, count, size)]
        return torch.cat([network.run(inputs.images(part)) for part in parts], dim=1)

    def _network(self, runs: int) -> tuple[UNet, list[Tensor]]:
        if runs not in self._networks:
            network = UNet(self.state.spec.network, self._image_shape, runs).to(self.device)
            self._networks[runs] = network, list(network.parameters())
        return self._networks[runs]

    def _captured(self, rows: slice, block: Block, network: UNet, parameters: list[Tensor]) -> Step:
        """The step of these runs: plain on a CPU, a captured graph on a GPU."""
        if self.device.type != "cuda":
            return lambda drawn: self._step(rows, network, parameters, drawn)
        key = (rows.start, rows.stop)
        if key not in self._graphs:
            self._graphs[key] = self._capture(rows, block, network, parameters)
        return self._graphs[key]

    def _step(
        self, rows: slice, network: UNet, parameters: list[Tensor], drawn: Block
    ) -> tuple[Tensor, Tensor]:
        """One optimizer step, without waiting for the device: losses and gradient norms ``[runs]``."""
        state = self.state
        images = state.images[drawn.indices]
        inputs, target = training_inputs(state.spec, images, drawn.noise, drawn.levels, drawn.log_beta)
        output = network.run(inputs)
        losses = (output - target).square().mean(dim=(2, 3, 4))
        weighted = losses if drawn.image_weights is None else losses * drawn.image_weights
        gradients = torch.autograd.grad(weighted.mean(dim=1).sum(), parameters)
        factor, boost = drawn.factor, drawn.boost
        size = None if factor is None or boost is None else StepSize(factor, boost)
        with torch.no_grad():
            norms = state.optimizer.step(torch.cat([g.flatten(1) for g in gradients], dim=1), rows, size)
            load_rows(parameters, state.weights[rows])
            steps = state.optimizer.steps[rows]
            decay = torch.clamp((1.0 + steps) / (10.0 + steps), max=state.spec.ema_decay)
            average, weights = state.average[rows], state.weights[rows]
            average.lerp_(weights, (1.0 - decay).to(weights.dtype).expand_as(weights))
        return losses.detach().mean(dim=1), norms

    def _capture(self, rows: slice, block: Block, network: UNet, parameters: list[Tensor]) -> Step:
        """Capture a step on the GPU, and undo the changes of the warm-up."""
        state = self.state
        fixed: dict[str, Any] = {
            name: None if t is None else t.clone() for name, t in vars(block.at(0)).items()
        }
        inputs = Block(**fixed)
        adam = state.optimizer
        changed = [t[rows] for t in (state.weights, state.average, adam.first, adam.second, adam.steps)]
        before = [tensor.clone() for tensor in changed]

        def take() -> tuple[Tensor, Tensor]:
            return self._step(rows, network, parameters, inputs)

        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries choose their algorithms and allocate before the capture
                take()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = take()
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        load_rows(parameters, state.weights[rows])

        def replay(drawn: Block) -> tuple[Tensor, Tensor]:
            for name, tensor in vars(drawn).items():
                if tensor is not None:
                    fixed[name].copy_(tensor)
            graph.replay()
            return outputs

        return replay


@torch.no_grad()
def load_rows(parameters: list[Tensor], rows: Tensor) -> None:
    """Copy the matrix ``[runs, parameters]`` into a network's parameters."""
    pieces = rows.split([p[0].numel() for p in parameters], dim=1)
    views = [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
    torch._foreach_copy_(parameters, views)
