"""Tasks for engines that do what their name says. Little is imported here: every worker process imports it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schedrl.benchmark.executors import Executor
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import ResultStore
from schedrl.benchmark.tasks import Work, run_work
from schedrl.errors import SchedrlError


@dataclass(frozen=True)
class Job:
    """A task that does what its name says, in files that tests can see."""

    doing: str
    result: TrainingResult
    folder: Path

    def run(self) -> list[TrainingResult]:
        with (self.folder / "log").open("a") as log:
            log.write(f"{self.doing} {self.result.seed} {os.getpid()}\n")
        once = self.folder / f"{self.result.seed}"
        if self.doing == "refuse":
            raise SchedrlError("no such thing")
        if self.doing == "fail":
            raise KeyError("a bug")
        if self.doing == "die" or (self.doing == "die once" and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.doing == "sleep":
            time.sleep(60)
        return [self.result]


def run_jobs(engine: Executor, jobs: Sequence[Job], path: Path) -> list[TrainingResult]:
    rows = [Work({job.result.seed: job.result.key}, lambda _, job=job: job, 1) for job in jobs]  # type: ignore[misc]
    return run_work(rows, ResultStore(path, TrainingResult), executor=engine)
