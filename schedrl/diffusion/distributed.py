"""Several processes that train one network: who takes which images, and how gradients meet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from schedrl.errors import SchedrlError

__all__ = ["Processes", "joined"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Its number.
        count: How many there are.
        device: Where it computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes and talks."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """The images of a batch that are this process's.

        Examples:
            >>> [Processes(rank, 3, torch.device("cpu")).share(8) for rank in range(3)]
            [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(batch * self.rank // self.count, batch * (self.rank + 1) // self.count)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined(device: str, backend: str | None = None) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started; alone without it.

    Args:
        device: ``"cpu"``, or ``"cuda"`` for each process's own GPU.
        backend: Of torch.distributed; gloo on CPUs and NCCL on GPUs when absent.

    Raises:
        SchedrlError: The device cannot be used, or the processes do not find each other.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if count > 1 and device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SchedrlError(f"device: '{device}' cannot be used here ({reason}); 'cpu' always can") from None
    if count == 1:
        yield Processes(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    try:
        distributed.init_process_group(backend or ("nccl" if place.type == "cuda" else "gloo"))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SchedrlError(f"torchrun: the {count} processes do not find each other ({reason})") from None
    try:
        yield Processes(rank, count, place)
    finally:
        distributed.destroy_process_group()
