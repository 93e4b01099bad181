"""Choice of device, memory budget and engine.

On a CPU the kernel (:mod:`schedrl.diffusion.engines.native_engine`) replays the recorded network run by run. On other
devices, without a C++ compiler, or for a network with a layer that the kernel does not support, PyTorch trains the runs
side by side (:mod:`schedrl.diffusion.engines.torch_engine`). ``SCHEDRL_ENGINE=native`` or ``torch`` forces one.
"""

from __future__ import annotations

import logging
import os
from typing import Literal, get_args

import torch

from schedrl.diffusion.engines.engine import Engine, PopulationState
from schedrl.diffusion.engines.native_engine import KernelUnavailableError, NativeEngine
from schedrl.diffusion.engines.tape import NotRecordableError
from schedrl.diffusion.engines.torch_engine import TorchEngine
from schedrl.errors import SchedrlError

EngineName = Literal["auto", "native", "torch"]

MEMORY_BUDGET = 2 * 2**30
"""Bytes for features, gradients and random numbers on a CPU; weights and optimizer state come on top."""

log = logging.getLogger("schedrl")


def usable_device(device: str | torch.device) -> torch.device:
    """The device, after a tensor was put there."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SchedrlError(f"device: '{device}' cannot be used here ({reason}); 'cpu' always can") from None


def memory_budget(device: torch.device) -> int:
    """:data:`MEMORY_BUDGET` on a CPU, half of the free memory on a GPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) // 2
    return MEMORY_BUDGET


def choose(state: PopulationState, engine: EngineName, budget: int) -> Engine:
    """The engine for a population.

    Args:
        state: The population.
        engine: A choice; with ``"auto"`` that of ``SCHEDRL_ENGINE``, else the rule of this module.
        budget: Bytes.
    """
    device = state.weights.device
    wanted = os.environ.get("SCHEDRL_ENGINE") or "auto" if engine == "auto" else engine
    if wanted not in get_args(EngineName):
        raise SchedrlError(f"SCHEDRL_ENGINE: must be auto, native or torch (got '{wanted}')")
    if wanted == "torch" or (wanted == "auto" and device.type != "cpu"):
        return TorchEngine(state, budget)
    if device.type != "cpu":
        raise SchedrlError(f"engine: 'native' runs on a CPU only (the device is '{device}')")
    try:
        return NativeEngine(state)
    except (KernelUnavailableError, NotRecordableError) as error:
        if wanted == "native":
            raise SchedrlError(f"engine: 'native' cannot be used here: {error}") from None
        log.warning("training in PyTorch, several times slower than the CPU kernel: %s", error)
        return TorchEngine(state, budget)
