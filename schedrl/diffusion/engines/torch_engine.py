"""The engine for GPUs, and for CPUs without a compiler: all runs side by side in PyTorch.

On a GPU a step is captured once as a CUDA graph and replayed: images, weights and optimizer state are on the device,
shapes are fixed, and a step costs one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from schedrl.diffusion.engines.engine import Block, PopulationState
from schedrl.diffusion.optimizer import StepSize
from schedrl.diffusion.process import Inputs, training_inputs
from schedrl.diffusion.unet import UNet

__all__ = ["TorchEngine", "bytes_per_image", "load_rows"]

_OVERHEAD = 2
"""Memory of a step relative to the tensors that autograd saves, which leaves room for gradients and workspaces."""

Drawn = Sequence[Tensor | None]
"""One step of a block: indices, levels, noise; log β, DSC's factor, boost and image weights if present."""

Step = Callable[[Drawn], tuple[Tensor, Tensor]]
"""``step(drawn) -> losses, norms``."""


def drawn_for(block: Block, step: int) -> Drawn:
    """The block's numbers for one step."""
    by_step = (
        block.indices, block.levels, block.noise, block.log_beta, block.factor, block.image_weights,
    )  # fmt: skip
    *parts, weights = (None if t is None else t[:, step] for t in by_step)
    return *parts, block.boost, weights


def bytes_per_image(network: UNet, image_shape: tuple[int, int, int]) -> int:
    """Bytes of one image's features in training of one run, from the tensors that autograd saves."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
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
        self._graphs: dict[tuple[int, int], _Graph] = {}

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
            loss, norm = take(drawn_for(block, step))
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
        self, rows: slice, network: UNet, parameters: list[Tensor], drawn: Drawn
    ) -> tuple[Tensor, Tensor]:
        """One optimizer step, without waiting for the device: losses and gradient norms ``[runs]``."""
        state = self.state
        indices, levels, noise, log_beta, factor, boost, image_weights = drawn
        assert indices is not None
        assert levels is not None
        assert noise is not None
        inputs, target = training_inputs(state.spec, state.images[indices], noise, levels, log_beta)
        output = network.run(inputs)
        losses = (output - target).square().mean(dim=(2, 3, 4))
        weighted = losses if image_weights is None else losses * image_weights
        gradients = torch.autograd.grad(weighted.mean(dim=1).sum(), parameters)
        size = None if factor is None or boost is None else StepSize(factor, boost)
        with torch.no_grad():
            norms = state.optimizer.step(torch.cat([g.flatten(1) for g in gradients], dim=1), rows, size)
            load_rows(parameters, state.weights[rows])
            steps = state.optimizer.steps[rows]
            decay = torch.clamp((1.0 + steps) / (10.0 + steps), max=state.spec.ema_decay)
            average, weights = state.average[rows], state.weights[rows]
            average.lerp_(weights, (1.0 - decay).to(weights.dtype).expand_as(weights))
        return losses.detach().mean(dim=1), norms

    def _capture(self, rows: slice, block: Block, network: UNet, parameters: list[Tensor]) -> _Graph:
        """Capture a step on the GPU, and undo the changes of the warm-up."""
        state = self.state
        inputs = tuple(None if t is None else t.clone() for t in drawn_for(block, 0))
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
        return _Graph(graph, inputs, outputs)


class _Graph:
    """A captured step: copies the inputs into place, replays the graph, and returns its outputs."""

    def __init__(self, graph: torch.cuda.CUDAGraph, inputs: Drawn, outputs: tuple[Tensor, Tensor]) -> None:
        self._graph, self._inputs, self._outputs = graph, inputs, outputs

    def __call__(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        for place, tensor in zip(self._inputs, drawn, strict=True):
            if place is not None and tensor is not None:
                place.copy_(tensor)
        self._graph.replay()
        return self._outputs


@torch.no_grad()
def load_rows(parameters: list[Tensor], rows: Tensor) -> None:
    """Copy the matrix ``[runs, parameters]`` into a network's parameters."""
    pieces = rows.split([p[0].numel() for p in parameters], dim=1)
    views = [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
    torch._foreach_copy_(parameters, views)
