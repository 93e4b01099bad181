"""Who computes: the engines that train a population, and the rule by which one is chosen.

On a CPU the kernel (:mod:`schedrl.diffusion.native_engine`) replays the recorded network run by run. Everywhere else,
and where there is no C++ compiler or a network has a layer that the kernel has no operation for, PyTorch trains the
runs side by side (:mod:`schedrl.diffusion.torch_engine`). ``SCHEDRL_ENGINE=native`` or ``torch`` forces one.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from schedrl.diffusion.inputs import Inputs
from schedrl.diffusion.optimizer import StackedAdam
from schedrl.diffusion.spec import TrainingSpec
from schedrl.diffusion.tape import Program, Tape
from schedrl.diffusion.unet import UNet
from schedrl.errors import SchedrlError

__all__ = ["MEMORY_BUDGET", "Block", "Engine", "EngineName", "Trained", "choose", "memory_budget", "record"]

EngineName = Literal["auto", "native", "torch"]

MEMORY_BUDGET = 2 * 2**30
"""Bytes for features, gradients and random numbers on a CPU. Weights and optimizer state are held beside them."""

log = logging.getLogger("schedrl")


@dataclass(frozen=True)
class Block:
    """What the next steps of some runs need.

    Attributes:
        indices: ``[runs, steps, batch]`` int64, training images.
        levels: ``[runs, steps, batch, views]`` float32, clipped log-SNR of the images and of their neighbours.
        noise: ``[runs, steps, batch, C, H, W]`` float32.
        log_beta: ``[runs, steps, batch]`` float32, which β modulation reads; absent without it.
        factor: ``[runs, steps]`` float64, DSC's factor of the learning rate; absent without DSC, as is the next.
        boost: ``[runs]`` float64, DSC's λ.
        image_weights: ``[runs, steps, batch]`` float32, weights of the images' losses; 1 when absent.
    """

    indices: Tensor
    levels: Tensor
    noise: Tensor
    log_beta: Tensor | None = None
    factor: Tensor | None = None
    boost: Tensor | None = None
    image_weights: Tensor | None = None


@dataclass(frozen=True)
class Trained:
    """What a population consists of; engines change it in place.

    Attributes:
        spec: How each run is trained.
        network: The module, of one run: the description that engines work from.
        images: Training images ``[n, C, H, W]``.
        weights: ``[runs, parameters]``.
        average: ``[runs, parameters]``, the averaged weights.
        optimizer: Its state, row by row.
    """

    spec: TrainingSpec
    network: UNet
    images: Tensor
    weights: Tensor
    average: Tensor
    optimizer: StackedAdam


class Engine(Protocol):
    """Trains and evaluates some of a population's runs."""

    name: str

    def runs_at_once(self) -> int:
        """How many runs' features fit into the memory budget side by side."""

    def working_bytes(self) -> int:
        """Bytes of features and gradients while it trains."""

    def train(self, rows: slice, block: Block) -> tuple[Tensor, Tensor]:
        """Take the block's steps in the runs ``rows``; losses and gradient norms ``[steps, runs]``."""

    def predict(self, rows: slice, inputs: Inputs) -> Tensor:
        """The averaged networks' outputs for the images of ``rows``, their levels clipped."""


def wanted_engine(engine: EngineName) -> EngineName:
    """The engine that is asked for: by argument, else by ``SCHEDRL_ENGINE``, else automatically.

    Raises:
        SchedrlError: The variable names no engine.
    """
    if engine != "auto":
        return engine
    names: dict[str, EngineName] = {"": "auto", "auto": "auto", "native": "native", "torch": "torch"}
    asked = os.environ.get("SCHEDRL_ENGINE", "")
    if asked not in names:
        raise SchedrlError(f"SCHEDRL_ENGINE: must be auto, native or torch (got '{asked}')")
    return names[asked]


def choose(state: Trained, engine: EngineName = "auto", budget: int | None = None) -> Engine:
    """The engine for a population.

    Args:
        state: The population.
        engine: A choice, or ``"auto"``: the rule of this module.
        budget: Bytes; :func:`memory_budget` when absent.

    Raises:
        SchedrlError: The kernel is asked for and cannot be had.
    """
    from schedrl.diffusion.native import KernelUnavailableError
    from schedrl.diffusion.tape import NotRecordableError
    from schedrl.diffusion.torch_engine import TorchEngine

    device = state.weights.device
    budget = memory_budget(device) if budget is None else budget
    wanted = wanted_engine(engine)
    if wanted == "torch" or (wanted == "auto" and device.type != "cpu"):
        return TorchEngine(state, budget)
    if device.type != "cpu":
        raise SchedrlError(f"engine: 'native' runs on a CPU only (the device is '{device}')")
    try:
        from schedrl.diffusion.native_engine import NativeEngine

        return NativeEngine(state)
    except (KernelUnavailableError, NotRecordableError) as error:
        if wanted == "native":
            raise SchedrlError(f"engine: 'native' cannot be used here: {error}") from None
        log.warning("training in PyTorch, several times slower than the CPU kernel: %s", error)
        return TorchEngine(state, budget)


def memory_budget(device: torch.device) -> int:
    """:data:`MEMORY_BUDGET` on a CPU, half of what is free on a GPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) // 2
    return MEMORY_BUDGET


def record(network: UNet, image_shape: tuple[int, int, int], lanes: int, *, alone: bool = False) -> Program:
    """Write a network of one run down for micro-batches of ``lanes`` images.

    Args:
        network: The network.
        image_shape: ``(C, H, W)``.
        lanes: Images in a micro-batch.
        alone: A network with MSFI is shown t alone, which then stands in for its neighbours.
    """
    parameters = list(network.parameters())
    ends = np.cumsum([parameter[0].numel() for parameter in parameters]).tolist()
    places = {id(parameter): place for parameter, place in zip(parameters, [0, *ends], strict=False)}
    tape = Tape(places, lanes, image_shape, views=1 if alone else network.views)
    log_beta = None if network.modulation is None else tape.log_beta
    return tape.finish(network.features(tape, tape.views, log_beta))
