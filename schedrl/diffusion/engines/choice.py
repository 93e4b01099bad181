"""Who computes: the engines that train a population, and the rule by which one is chosen.

On a CPU the kernel (:mod:`schedrl.diffusion.engines.native_engine`) replays the recorded network run by run. Everywhere
else, and where there is no C++ compiler or a network has a layer that the kernel has no operation for, PyTorch trains
the runs side by side (:mod:`schedrl.diffusion.engines.torch_engine`).
``SCHEDRL_ENGINE=native`` or ``torch`` forces one.
"""

from __future__ import annotations

import logging
import os
from typing import Literal

import torch

from schedrl.diffusion.engines.engine import Engine, PopulationState
from schedrl.errors import SchedrlError

__all__ = ["MEMORY_BUDGET", "EngineName", "choose", "memory_budget", "wanted_engine"]

EngineName = Literal["auto", "native", "torch"]

MEMORY_BUDGET = 2 * 2**30
"""Bytes for features, gradients and random numbers on a CPU. Weights and optimizer state are held beside them."""

log = logging.getLogger("schedrl")


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


def choose(state: PopulationState, engine: EngineName = "auto", budget: int | None = None) -> Engine:
    """The engine for a population.

    Args:
        state: The population.
        engine: A choice, or ``"auto"``: the rule of this module.
        budget: Bytes; :func:`memory_budget` when absent.

    Raises:
        SchedrlError: The kernel is asked for and cannot be had.
    """
    from schedrl.diffusion.engines.native_engine import KernelUnavailableError
    from schedrl.diffusion.engines.tape import NotRecordableError
    from schedrl.diffusion.engines.torch_engine import TorchEngine

    device = state.weights.device
    budget = memory_budget(device) if budget is None else budget
    wanted = wanted_engine(engine)
    if wanted == "torch" or (wanted == "auto" and device.type != "cpu"):
        return TorchEngine(state, budget)
    if device.type != "cpu":
        raise SchedrlError(f"engine: 'native' runs on a CPU only (the device is '{device}')")
    try:
        from schedrl.diffusion.engines.native_engine import NativeEngine

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
