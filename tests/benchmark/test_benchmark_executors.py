"""Executors: the same lines from each, and nothing lost when a worker dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from schedrl.benchmark.executors import Executor, InProcess, LocalProcesses, Runnable
from schedrl.benchmark.families import checked
from schedrl.benchmark.results import SamplingResult, TrainingResult
from schedrl.benchmark.store import Line, ResultStore, read_results
from schedrl.benchmark.tasks import Part, held_out_seeds, run_tasks
from schedrl.environments.registration import training_variant
from schedrl.errors import SchedrlError
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies import find
from tests.benchmark.jobs import job, run_jobs

ROOT = Path(__file__).parents[2]
MakeResult = Callable[..., TrainingResult]


def numbers(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """What may not depend on who measured, in an order of its own."""
    kept = [line.model_dump(exclude={"seconds", "created", "versions", "hardware"}) for line in lines]
    return sorted(kept, key=lambda line: (line["agent"], line.get("form", ""), line["seed"]))


def test_a_run_does_not_depend_on_its_executor(tiny: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    variant = training_variant("schedrl/DigitsKnots-v0", {**tiny, "episode.phases": 2})
    agents = {Path(name).name: find(name, variant.id) for name in (str(trained), "random", "ava-prose")}
    executors: list[Executor] = [InProcess(), LocalProcesses(2)]
    samples, found = SampleSpec(count=70, steps=2), []
    for place, executor in enumerate(executors):
        part = checked(Part(variant, agents, tuple(held_out_seeds(3)), ("exact",), samples))
        store = ResultStore(tmp_path / f"{place}.jsonl", TrainingResult)
        found.append(run_tasks(part.tasks, store, executor=executor))
    alone = ResultStore(tmp_path / "alone.jsonl", TrainingResult)
    for seed in held_out_seeds(3)[::-1]:
        run_tasks(checked(Part(variant, agents, (seed,), ("exact",), samples)).tasks, alone)
    assert len(found[0]) == 9
    assert numbers(found[0]) == numbers(found[1]) == numbers(alone.results)


def test_a_sampling_problem_does_not_depend_on_its_executor(
    source: str, make_sampling: Callable[..., Any], trained_sampling: Callable[[str], Path], tmp_path: Path
) -> None:
    variant = make_sampling(source)
    names = [str(trained_sampling(source)), "random", "grid-reference", "search-cma-es"]
    agents = {Path(name).name: find(name, variant.id) for name in names}
    seeds = held_out_seeds(18)
    whole = ResultStore(tmp_path / "whole.jsonl", SamplingResult)
    run_tasks(checked(Part(variant, agents, tuple(seeds))).tasks, whole)
    parts = ResultStore(tmp_path / "parts.jsonl", SamplingResult)
    for part in ([seeds[17], seeds[3]], seeds[5:6], seeds[::-1]):
        run_tasks(checked(Part(variant, agents, tuple(part))).tasks, parts)
    assert len(whole.results) == 72
    assert numbers(whole.results) == numbers(parts.results)


def test_a_dead_workers_task_is_run_again_and_no_other(tmp_path: Path, make_result: MakeResult) -> None:
    jobs = [
        job("die once" if seed in (1, 4) else "well", make_result("cosine", seed, 3.0), tmp_path)
        for seed in range(6)
    ]
    results = run_jobs(LocalProcesses(2), jobs, tmp_path / "results.jsonl")
    assert sorted(result.seed for result in results) == list(range(6))
    assert len(read_results(tmp_path / "results.jsonl", TrainingResult)) == 6
    runs = [line.rsplit(" ", 2)[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert {seed for seed in runs if runs.count(seed) == 2} == {"1", "4"}
    assert len(runs) == 8


def test_a_task_that_always_kills_its_worker_is_given_up(tmp_path: Path, make_result: MakeResult) -> None:
    jobs = [
        job("well", make_result("cosine", 0, 3.0), tmp_path),
        job("die", make_result("cosine", 1, 3.0), tmp_path),
    ]
    with pytest.raises(SchedrlError, match="die: the process that measured it died 3 times"):
        run_jobs(LocalProcesses(1), jobs, tmp_path / "results.jsonl")
    assert [result.seed for result in read_results(tmp_path / "results.jsonl", TrainingResult)] == [0]


def test_what_workers_say_is_passed_on(tmp_path: Path, make_result: MakeResult) -> None:
    for doing, kind, message in (("refuse", SchedrlError, "no such thing"), ("fail", RuntimeError, "a bug")):
        with pytest.raises(kind, match=message):
            run_jobs(
                LocalProcesses(1), [job(doing, make_result("cosine", 1, 3.0), tmp_path)], tmp_path / "r.jsonl"
            )


def test_at_least_one_process() -> None:
    with pytest.raises(SchedrlError, match="jobs: must be at least 1"):
        LocalProcesses(0)


def test_a_share_for_every_process() -> None:
    assert [LocalProcesses(4).size(count, 64) for count in (0, 1, 4, 20, 1000)] == [1, 1, 1, 5, 64]
    assert InProcess().size(20, 64) == 64


PARENT = """
import sys
from pathlib import Path
from tests.benchmark.jobs import job, run_jobs
from schedrl.benchmark.executors import LocalProcesses
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import read_results
if __name__ == "__main__":
    lines = read_results(Path("sample.jsonl"), TrainingResult)
    jobs = [job("sleep" if line.seed else "well", line, Path(".")) for line in lines]
    run_jobs(LocalProcesses(int(sys.argv[1])), jobs, Path("results.jsonl"))
"""


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGKILL, 2), (signal.SIGINT, 1), (signal.SIGTERM, 1)])
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signals")
def test_workers_end_with_their_parent(
    number: int, jobs: int, tmp_path: Path, make_result: MakeResult
) -> None:
    ResultStore(tmp_path / "sample.jsonl", TrainingResult).append(
        make_result("cosine", seed, 3.0) for seed in range(4)
    )
    (tmp_path / "parent.py").write_text(PARENT)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, "parent.py", str(jobs)],
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    log, end = tmp_path / "log", time.monotonic() + 90
    while not log.exists() or log.read_text().count("sleep") < jobs:
        assert time.monotonic() < end
        assert parent.poll() is None, parent.communicate()
        time.sleep(0.05)
    workers = {int(line.split()[-1]) for line in log.read_text().splitlines()}
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)  # as a terminal does
    else:
        parent.send_signal(number)
    parent.communicate(timeout=30)
    end = time.monotonic() + 20
    while alive := [pid for pid in workers if Path(f"/proc/{pid}/stat").exists() and not gone(pid)]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)
    assert [result.seed for result in read_results(tmp_path / "results.jsonl", TrainingResult)] == [0]


def gone(pid: int) -> bool:
    """Whether a process has ended, perhaps without being buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_task_is_plain_data(make_result: MakeResult, tmp_path: Path) -> None:
    task: Runnable = job("well", make_result("cosine", 0, 3.0), tmp_path)
    assert list(task.run()) == [make_result("cosine", 0, 3.0)]
