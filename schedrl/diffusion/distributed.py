"""Several processes that train one network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from schedrl.diffusion.engines.choice import usable_device
from schedrl.errors import SchedrlError

_PATIENCE = timedelta(hours=2)
"""Time that processes wait for each other, since only the first one measures, samples and saves."""


def leads() -> bool:
    """Whether this is the process that writes files and output, by ``torchrun``'s variables."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0.
        count: Number of processes.
        device: Its device.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes files and output."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This process's share of a batch.

        Examples:
            >>> [Processes(rank, 3, torch.device("cpu")).share(8) for rank in range(3)]
            [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(batch * self.rank // self.count, batch * (self.rank + 1) // self.count)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """If one process fails inside, all fail; otherwise they would wait for it.

        All processes must enter, and nothing inside may need the others.

        Raises:
            SchedrlError: Another process failed; its own error passes through.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        failed = None if self.count == 1 else self._first_failure(error)
        if error is not None:
            raise error
        if failed is not None:
            raise SchedrlError(failed)

    def agree(self, value: int, what: str) -> None:
        """Raise ``what`` in all processes unless all have the same ``value``."""
        if self.count == 1:
            return
        ends = torch.tensor([value, -value], dtype=torch.int64, device=self.device)
        distributed.all_reduce(ends, distributed.ReduceOp.MAX)
        if int(ends[0]) != -int(ends[1]):
            raise SchedrlError(what)

    def _first_failure(self, error: Exception | None) -> str | None:
        """The message of the first process that failed, if any."""
        text = b""
        if error is not None:
            said = str(error) if isinstance(error, SchedrlError) else f"{type(error).__name__}: {error}"
            text = (" ".join(said.split()) or "failed").encode()
        lengths = torch.zeros(self.count, dtype=torch.int64, device=self.device)
        lengths[self.rank] = len(text)
        distributed.all_reduce(lengths)
        failed = lengths.nonzero().flatten().tolist()
        if not failed:
            return None
        first = int(failed[0])
        # Plain bytes: the collectives for objects would pickle.
        letters = torch.zeros(int(lengths[first]), dtype=torch.uint8, device=self.device)
        if first == self.rank:
            letters.copy_(torch.tensor(list(text), dtype=torch.uint8))
        distributed.broadcast(letters, first)
        return f"process {first}: {bytes(letters.tolist()).decode()}"


@contextmanager
def joined(device: str, backend: str | None = None) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started; a single process without it.

    Args:
        device: ``"cpu"``, or ``"cuda"`` for each process's own GPU.
        backend: Backend of torch.distributed; gloo on CPUs and NCCL on GPUs when absent.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if count > 1 and device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    place = usable_device(device)
    if count == 1:
        yield Processes(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    try:
        distributed.init_process_group(
            backend or ("nccl" if place.type == "cuda" else "gloo"),
            timeout=_PATIENCE,
            device_id=place if place.type == "cuda" else None,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SchedrlError(f"torchrun: the {count} processes do not find each other ({reason})") from None
    try:
        yield Processes(rank, count, place)
    finally:
        distributed.destroy_process_group()
