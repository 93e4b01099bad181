"""Interface of the engines, which train a population's weights in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from schedrl.diffusion.engines.tape import Program, Tape
from schedrl.diffusion.optimizer import StackedAdam
from schedrl.diffusion.process import Inputs
from schedrl.diffusion.training_spec import TrainingSpec
from schedrl.diffusion.unet import UNet


@dataclass(frozen=True)
class Block:
    """Numbers for the next steps of some runs.

    Attributes:
        indices: ``[runs, steps, batch]`` int64, training images.
        levels: ``[runs, steps, batch, views]`` float32, clipped log-SNR of the images and their neighbours.
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

    def at(self, step: int) -> Block:
        """The numbers for one step, without the axis of steps."""
        parts = {name: t if name == "boost" or t is None else t[:, step] for name, t in vars(self).items()}
        return Block(**parts)


@dataclass(frozen=True)
class PopulationState:
    """A population's parts, which engines change in place.

    Attributes:
        spec: How each run is trained.
        network: The module for one run, as a description of the network.
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
        """Number of runs whose features fit into the memory budget together."""

    def working_bytes(self) -> int:
        """Bytes of features and gradients during training."""

    def train(self, rows: slice, block: Block) -> tuple[Tensor, Tensor]:
        """Take the block's steps in the runs ``rows``; losses and gradient norms ``[steps, runs]``."""

    def predict(self, rows: slice, inputs: Inputs) -> Tensor:
        """The averaged networks' outputs for the images of ``rows``, their levels clipped."""


def record(network: UNet, image_shape: tuple[int, int, int], lanes: int, *, alone: bool = False) -> Program:
    """Record a network of one run for micro-batches of ``lanes`` images of shape ``(C, H, W)``.

    With ``alone`` a network with MSFI reads t alone, which stands in for its neighbours.
    """
    parameters = list(network.parameters())
    ends = np.cumsum([parameter[0].numel() for parameter in parameters]).tolist()
    places = {id(parameter): place for parameter, place in zip(parameters, [0, *ends], strict=False)}
    tape = Tape(places, lanes, image_shape, views=1 if alone else network.views)
    log_beta = None if network.modulation is None else tape.log_beta
    return tape.finish(network.features(tape, tape.views, log_beta))
