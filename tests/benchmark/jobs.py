"""Tasks for executors that do what their name says. Little is imported here: every worker process imports it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from schedrl.benchmark.executors import Executor
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import ResultStore
from schedrl.benchmark.tasks import Task, run_tasks
from schedrl.errors import SchedrlError
from schedrl.policies.agents import RandomAgent


@dataclass(frozen=True)
class Job(Task):
    """A task that does what its label says, in files that tests can see."""

    result: TrainingResult | None = None
    folder: Path = Path()

    most: ClassVar[int] = 1

    def keys(self) -> dict[int, Hashable]:
        assert self.result is not None
        return {self.result.seed: self.result.key}

    def on(self, seeds: Sequence[int]) -> Self:
        return self

    def run(self) -> list[TrainingResult]:
        assert self.result is not None
        with (self.folder / "log").open("a") as log:
            log.write(f"{self.label} {self.result.seed} {os.getpid()}\n")
        once = self.folder / f"{self.result.seed}"
        if self.label == "refuse":
            raise SchedrlError("no such thing")
        if self.label == "fail":
            raise KeyError("a bug")
        if self.label == "die" or (self.label == "die once" and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.label == "sleep":
            time.sleep(60)
        return [self.result]


def job(label: str, result: TrainingResult, folder: Path) -> Job:
    variant: Any = None
    return Job(
        label, RandomAgent(name="random"), variant, (result.seed,), "", 0, result=result, folder=folder
    )


def run_jobs(executor: Executor, jobs: Sequence[Job], path: Path) -> list[TrainingResult]:
    return run_tasks(jobs, ResultStore(path, TrainingResult), executor=executor)
