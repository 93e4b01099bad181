"""Who measures: this process, processes of this machine, or a Ray cluster (:mod:`schedrl.benchmark.executors_ray`).

A benchmark is cut into tasks, plain data that any process can run. What a task measures is a function of the task
alone, and the numbers of a run do not depend on the other runs in it, so every executor gives the same lines except
for times, versions and hardware. (To the last bit with the CPU kernel; networks that PyTorch trains differ in the last
digits when others are trained beside them.)
"""

from __future__ import annotations

import math
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from schedrl.benchmark.store import Line
from schedrl.errors import SchedrlError

__all__ = ["Begin", "Executor", "InProcess", "LocalProcesses", "Task"]


class Task(Protocol):
    """Some runs of one agent in one environment. It can be pickled."""

    @property
    def doing(self) -> str:
        """What it measures, for people."""

    def run(self) -> Sequence[Line]:
        """Measure.

        Raises:
            SchedrlError: It cannot be measured.
        """


Begin = Callable[[Task], None]
"""Told of every task when it is begun."""


class Executor(Protocol):
    """Runs tasks."""

    def size(self, count: int, most: int) -> int:
        """How much of a row a task should measure.

        Args:
            count: Pieces of the row that are missing.
            most: Pieces that can be measured side by side.
        """

    def run(self, tasks: Iterable[Task], begin: Begin) -> Iterator[Sequence[Line]]:
        """What each task measured, as tasks end; each is asked for when there is somebody to run it.

        Raises:
            SchedrlError: A task cannot be measured.
        """


class InProcess:
    """One task after the other, here."""

    def size(self, count: int, most: int) -> int:
        """As much as can be measured side by side."""
        return most

    def run(self, tasks: Iterable[Task], begin: Begin) -> Iterator[Sequence[Line]]:
        """Run tasks in their order."""
        for task in tasks:
            begin(task)
            yield task.run()


class LocalProcesses:
    """Several processes of this machine.

    A process that dies (killed, or out of memory) is replaced and its task run again, while the others go on. Workers
    end with the process that started them, however that ends. They are started afresh, so a script that uses this
    keeps what it does behind ``if __name__ == "__main__":``.

    Args:
        jobs: Number of processes; they share the machine's threads.

    Raises:
        SchedrlError: ``jobs`` is below 1.
    """

    TRIES = 3
    """Times that a task may cost its process before it is given up."""

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise SchedrlError(f"jobs: must be at least 1 (got {jobs})")
        self.jobs = jobs

    def size(self, count: int, most: int) -> int:
        """A share for every process."""
        return max(1, min(most, math.ceil(count / self.jobs)))

    def run(self, tasks: Iterable[Task], begin: Begin) -> Iterator[Sequence[Line]]:
        """Run tasks side by side."""
        todo, again = iter(tasks), deque[_Try]()
        workers: list[_Worker] = []
        try:
            while True:
                while (idle := next((w for w in workers if w.at is None), None)) or len(workers) < self.jobs:
                    upcoming = again.popleft() if again else next((_Try(task) for task in todo), None)
                    if upcoming is None:
                        break
                    if idle is None:
                        idle = _Worker.start(self.jobs)
                        workers.append(idle)
                    begin(upcoming.task)
                    idle.give(upcoming)
                busy = [worker for worker in workers if worker.at is not None]
                if not busy:
                    return
                wait([part for worker in busy for part in (worker.pipe, worker.process.sentinel)])
                for worker in busy:
                    if not (worker.pipe.poll() or not worker.process.is_alive()):
                        continue
                    attempt, worker.at = worker.at, None
                    assert attempt is not None
                    try:
                        outcome = worker.pipe.recv()
                    except (EOFError, OSError):
                        workers.remove(worker)
                        worker.end()
                        again.append(attempt.next(self.TRIES))
                        continue
                    yield _result(outcome)
        finally:
            for worker in workers:
                worker.end()


@dataclass(frozen=True)
class _Try:
    """A task, and how many processes it has cost."""

    task: Task
    lost: int = 0

    def next(self, tries: int) -> _Try:
        if self.lost + 1 == tries:
            raise SchedrlError(
                f"{self.task.doing}: the process that measured it died {tries} times; is there too little memory for "
                "so many jobs?"
            )
        return _Try(self.task, self.lost + 1)


@dataclass
class _Worker:
    """A process that runs tasks, and what it is at."""

    process: BaseProcess
    pipe: Connection[Any, Any]
    at: _Try | None = None

    @classmethod
    def start(cls, jobs: int) -> _Worker:
        import torch

        context = get_context("spawn")
        ours, theirs = context.Pipe()
        threads = max(1, torch.get_num_threads() // jobs)
        process = context.Process(target=_work, args=(theirs, threads), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()  # so that its end is noticed
        return cls(process, ours)

    def give(self, upcoming: _Try) -> None:
        self.at = upcoming
        with suppress(OSError):  # it has died; who waits for it will see
            self.pipe.send(upcoming.task)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started here never get Ctrl-C: who started them decides, and ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection[Any, Any], threads: int) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        try:
            outcome: tuple[str, Any] = ("done", task.run())
        except SchedrlError as error:
            outcome = ("refused", str(error))
        except Exception:
            outcome = ("failed", traceback.format_exc())
        pipe.send(outcome)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, in the middle of whatever it is at."""
    import os

    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _result(outcome: tuple[str, Any]) -> Sequence[Line]:
    kind, content = outcome
    if kind == "refused":
        raise SchedrlError(content)
    if kind == "failed":
        raise RuntimeError(f"a worker process failed:\n{content}")
    lines: Sequence[Line] = content
    return lines
