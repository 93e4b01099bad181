"""The engine on a Ray cluster; skipped where Ray is not installed."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from schedrl.benchmark.executors import InProcess
from schedrl.benchmark.executors_ray import Ray
from schedrl.benchmark.families import checked
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import ResultStore, read_results
from schedrl.benchmark.tasks import Part, held_out_seeds, run_tasks
from schedrl.benchmark.training_family import TrainingTask
from schedrl.environments.registration import training_variant
from schedrl.errors import SchedrlError
from schedrl.policies import find
from tests.benchmark.jobs import job, run_jobs

ROOT = Path(__file__).parents[2]


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SchedrlError, match=r"ray: is not installed; pip install 'schedrl\[ray\]'"):
        Ray()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes on this machine."""
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        # Workers find the package, and the tasks below, where this process does.
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before


@dataclass(frozen=True)
class Killed(TrainingTask):
    """A task whose worker is killed in the middle, once."""

    folder: Path = Path()
    fatal: int = 0

    most: ClassVar[int] = 1

    def run(self) -> list[TrainingResult]:
        (seed,) = self.seeds
        with (self.folder / "log").open("a") as log:
            log.write(f"{seed}\n")
        lines = super().run()
        mark = self.folder / "killed"
        if seed == self.fatal and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return lines


@pytest.mark.filterwarnings("ignore")  # Ray leaves sockets and files to the garbage collector
def test_a_killed_worker_costs_its_own_run_only(cluster: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    variant = training_variant("schedrl/DigitsKnots-v0", tiny)
    agents = {name: find(name, variant.id) for name in ("cosine", "random")}
    tasks = checked(Part(variant, agents, tuple(held_out_seeds(3)), ("exact",))).tasks
    here = run_tasks(tasks, ResultStore(tmp_path / "here.jsonl", TrainingResult), executor=InProcess())
    killed = [Killed(**vars(task), folder=tmp_path, fatal=1_000_001) for task in tasks]
    path = tmp_path / "there.jsonl"
    there = run_tasks(killed, ResultStore(path, TrainingResult), executor=Ray(cluster.address))
    times = {"seconds", "created", "versions", "hardware"}

    def numbers(results: list[TrainingResult]) -> list[dict[str, Any]]:
        kept = [result.model_dump(exclude=times) for result in results]
        return sorted(kept, key=lambda line: (line["agent"], line["seed"]))

    assert numbers(there) == numbers(here)
    assert len(read_results(path, TrainingResult)) == 6
    begun = (tmp_path / "log").read_text().split()
    assert sorted(begun) == sorted(["1000000", "1000001", "1000002"] * 2 + ["1000001"])


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_measured_is_one_line(
    cluster: Any, make_result: Callable[..., TrainingResult], tmp_path: Path
) -> None:
    with pytest.raises(SchedrlError, match=r"^no such thing$"):
        run_jobs(
            Ray(cluster.address),
            [job("refuse", make_result("cosine", 1, 3.0), tmp_path)],
            tmp_path / "r.jsonl",
        )
