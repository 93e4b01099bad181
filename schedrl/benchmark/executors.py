"""What runs tasks: this process, processes of this machine, or a Ray cluster (:mod:`schedrl.benchmark.executors_ray`).

A benchmark is cut into tasks, plain data that any process can run. What a task measures is a function of the task
alone, and the numbers of a run do not depend on the other runs in it, so every executor gives the same lines except
for times, versions and hardware. (To the last bit with the CPU kernel; networks that PyTorch trains differ in the last
digits when others are trained beside them.)
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Protocol

from schedrl.benchmark.store import Line
from schedrl.errors import SchedrlError


class Runnable(Protocol):
    """Work that any process can do: it can be pickled."""

    @property
    def doing(self) -> str:
        """What it does, for people."""

    def run(self) -> Sequence[Line]:
        """Do it. Raises :class:`SchedrlError` where it cannot be done."""


class Executor(Protocol):
    """Runs tasks."""

    def size(self, count: int, most: int) -> int:
        """Number of pieces of a row that one task should measure.

        Args:
            count: Pieces of the row that are missing.
            most: Pieces that can be measured side by side.
        """

    def run(self, tasks: Iterable[Runnable]) -> Generator[Sequence[Line]]:
        """Results of each task, in the order in which tasks end; a task is taken when a worker is free for it."""


class InProcess:
    """One task after the other, in this process."""

    def size(self, count: int, most: int) -> int:
        return most

    def run(self, tasks: Iterable[Runnable]) -> Generator[Sequence[Line]]:
        for task in tasks:
            yield task.run()


class LocalProcesses:
    """Several processes of this machine.

    A process that dies (killed, or out of memory) is replaced and its task run again, while the others go on. Workers
    end with the process that started them, however it ends. They are spawned, so a script that uses this class keeps
    its own work behind ``if __name__ == "__main__":``.

    Args:
        jobs: Number of processes; they share the machine's threads.
    """

    TRIES = 3
    """Number of processes that a task may cost before it is given up."""

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise SchedrlError(f"jobs: must be at least 1 (got {jobs})")
        self.jobs = jobs

    def size(self, count: int, most: int) -> int:
        """An equal share for every process."""
        return max(1, min(most, math.ceil(count / self.jobs)))

    def run(self, tasks: Iterable[Runnable]) -> Generator[Sequence[Line]]:
        todo, again = iter(tasks), deque[tuple[Runnable, int]]()
        workers = [_Worker(self.jobs) for _ in range(self.jobs)]
        idle, running = list(workers), dict[Future[Sequence[Line]], tuple[_Worker, Runnable, int]]()
        try:
            while True:
                while idle:
                    task, lost = again.popleft() if again else (next(todo, None), 0)
                    if task is None:
                        break
                    worker = idle.pop()
                    running[worker.submit(task)] = worker, task, lost
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    worker, task, lost = running.pop(future)
                    idle.append(worker)
                    try:
                        lines = future.result()
                    except BrokenProcessPool:
                        if lost + 1 == self.TRIES:
                            raise SchedrlError(
                                f"{task.doing}: the process that measured it died {self.TRIES} times; is there too "
                                "little memory for so many jobs?"
                            ) from None
                        again.append((task, lost + 1))
                        continue
                    except SchedrlError:
                        raise
                    except Exception as error:
                        raise RuntimeError(f"{task.doing}: failed in its process: {error!r}") from error
                    yield lines
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """A pool of one process. In a pool of several, a process that dies would take the tasks of the others with it."""

    def __init__(self, jobs: int) -> None:
        import torch

        self._threads = max(1, torch.get_num_threads() // jobs)
        self._pool = self._fresh()

    def _fresh(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, get_context("spawn"), _prepare, (self._threads,))

    def submit(self, task: Runnable) -> Future[Sequence[Line]]:
        with _without_interrupts():  # the process starts with its first task
            try:
                return self._pool.submit(task.run)
            except BrokenProcessPool:
                self._pool = self._fresh()
                return self._pool.submit(task.run)

    def end(self) -> None:
        """End the process, in the middle of a task too."""
        for process in list((self._pool._processes or {}).values()):  # Python 3.14 has kill_workers()
            process.kill()
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started here never get Ctrl-C: the process that started them ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """End this process when its parent has ended, in the middle of a task too."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
