"""Tasks on a Ray cluster. Needs the extra ``ray``."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from types import ModuleType
from typing import Any

from schedrl.benchmark.executors import Runnable
from schedrl.benchmark.store import Line
from schedrl.errors import SchedrlError


class Ray:
    """A Ray cluster: the one at an address, or one of this machine for as long as it takes.

    A task is a single run, or the least that can be measured alone. Ray runs it again, elsewhere if need be, when its
    worker or node dies. Nodes need the same package, and see the same files under the same paths: image sets, and the
    folders of trained agents.

    Args:
        address: Of the cluster; when absent, what Ray's own ``RAY_ADDRESS`` says, else a new one.
        gpus: Share of a GPU that a task takes.
    """

    TRIES = 3
    """Times that a task may cost its worker before it is given up."""

    def __init__(self, address: str | None = None, *, gpus: float = 0.0) -> None:
        _ray()
        self.address, self.gpus = address, gpus

    def size(self, count: int, most: int) -> int:
        return 1

    def run(self, tasks: Iterable[Runnable]) -> Generator[Sequence[Line]]:
        ray = _ray()
        own = not ray.is_initialized()
        if own:
            _connect(ray, self.address)
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=self.TRIES - 1)(_run)
        # A few more than run at once: workers need not wait, and little is queued when this process ends.
        room = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        todo, running = iter(tasks), dict[Any, Runnable]()
        try:
            while True:
                while len(running) < room and (task := next(todo, None)) is not None:
                    running[remote.remote(task)] = task
                if not running:
                    return
                ended, _ = ray.wait(list(running), num_returns=1)
                for reference in ended:
                    yield _lines(ray, reference, running.pop(reference))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            if own:
                ray.shutdown()


def _run(task: Runnable) -> Sequence[Line]:
    return task.run()


def _lines(ray: ModuleType, reference: Any, task: Runnable) -> Sequence[Line]:
    try:
        lines: Sequence[Line] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SchedrlError):
            raise SchedrlError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError as error:
        raise SchedrlError(f"{task.doing}: Ray gave up: {_short(error)}") from None
    return lines


def _connect(ray: ModuleType, address: str | None) -> None:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("SCHEDRL_") or name in ("PYTHONPATH", "XDG_CACHE_HOME")
    }
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": kept})
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SchedrlError(f"ray: no cluster at '{address or 'this machine'}': {_short(error)}") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise SchedrlError("ray: is not installed; pip install 'schedrl[ray]'") from None
    module: ModuleType = ray
    return module
