"""Learning a training schedule for given images, within a budget of minutes; an interrupted job continues.

PPO learns on a small proxy of the images. What it learned is compared with hand-made schedules on held-out images, and
written as a schedule file for other tools.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from schedrl.benchmark.families import checked
from schedrl.benchmark.manifest import write_manifests
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import RESULTS, ResultStore
from schedrl.benchmark.tasks import Part, Step, held_out_seeds, run_tasks
from schedrl.data import AnyData
from schedrl.environments.registration import register
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec
from schedrl.export import Provenance, ScheduleFile
from schedrl.files import dump_json, ensure_folder, read_model, write_text
from schedrl.jobs.proxy import Proxy, make_proxy
from schedrl.policies.agents import Agent, TrainedAgent, catalogue
from schedrl.policies.ppo_training import (
    Listener,
    TrainingRequest,
    begin_or_resume,
    check_folder,
    request_for,
)
from schedrl.provenance import provenance
from schedrl.schedules import Grid, PiecewiseLogSNR, from_dict

JOB, AGENT, LEARNED = "learn.json", "agent", "learned"

BASELINES = ("cosine", "linear", "uniform", "tangent-0.1", "tangent-0.2", "tangent-0.3")
"""Hand-made schedules that the learned one is compared with."""

_RUNS_SIDE_BY_SIDE = 16
_LEAST_UPDATES = 5
_MOST_RUNS = 1600
_SHARE = 0.7
"""Share of the budget for learning; the rest is for measuring."""

_STEPS = 20
"""N of the grid in the schedule file, the schedule's quantiles; `schedrl schedule design` places better steps."""


class LearningRequest(Spec):
    """What to learn.

    Attributes:
        data: The images.
        minutes: Budget for learning and comparing.
        runs: Training runs to learn from; what the budget allows when absent.
        steps: Optimizer steps of a run.
        proxy: Largest side of the small images, in pixels.
        seeds: Number of held-out seeds of the comparison.
        seed: Seed of the learning.
    """

    data: AnyData
    minutes: Annotated[float, Field(gt=0.0)] = 10.0
    runs: Annotated[int, Field(ge=_RUNS_SIDE_BY_SIDE, le=10**9)] | None = None
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    proxy: Annotated[int, Field(ge=4, le=64)] = 16
    seeds: Annotated[int, Field(ge=2, le=100_000)] = 10
    seed: Annotated[int, Field(ge=0)] = 0


class _Kept(Proxy):
    """Contents of ``learn.json``: the request, and what the first start made of it."""

    format: Literal[1] = 1
    request: LearningRequest
    runs: int


@dataclass(frozen=True)
class LearningJob:
    """A job that has been prepared.

    Attributes:
        request: What to learn.
        folder: Where everything goes.
        proxy: The small images.
        variant: The environment that the agent learns in.
        training: The training of the agent.
    """

    request: LearningRequest
    folder: Path
    proxy: Proxy
    variant: TrainingVariant
    training: TrainingRequest


def prepare(request: LearningRequest, folder: Path) -> LearningJob:
    """Make the proxy and the environment, and turn the budget into a number of runs, or read them from the folder.

    Raises:
        SchedrlError: The images cannot be read or are too few, the budget is too small, or the folder holds another
            job.
    """
    ensure_folder(folder, "--folder")
    kept = _read(folder, request)
    proxy: Proxy = kept or make_proxy(request.data, folder, request.proxy)
    variant = own_variant(proxy, request.steps)
    register(variant)
    if kept is None:
        kept = _Kept(**dict(proxy), request=request, runs=request.runs or _affordable(variant, request))
        write_text(folder / JOB, dump_json(kept.model_dump(mode="json")))
    training = request_for(
        variant.id,
        request.seed,
        total_timesteps=kept.runs,
        num_envs=_RUNS_SIDE_BY_SIDE,
        learning_rate=3e-3,
        log_std_init=-1.0,
    )
    check_folder(training, folder / AGENT)
    return LearningJob(request, folder, proxy, variant, training)


def own_variant(proxy: Proxy, steps: int) -> TrainingVariant:
    """The environment for a proxy: one action sets the shares of training noise in twelve cells of log-SNR."""
    ends = {"logsnr_max": 12.0, "logsnr_min": -6.0, "levels": 18}
    fields: dict[str, Any] = {
        "id": "own/Knots-v0",
        "description": f"{proxy.count} own images, averaged to {proxy.size} pixels",
        "data": proxy.data.model_dump(mode="json"),
        "training": {
            "batch_size": 32,
            "ema_decay": 0.95,
            "optimizer": {"name": "adam", "learning_rate": 5e-3},
            "network": {
                "channels": (8, 16) if proxy.size <= 8 else (16, 32), "embedding": 32, "groups": 4,
            },
        },
        "bound": {**ends, "images": 100},
        "test_bound": ends,
        "action": {
            "kind": "knots", "bins": 12, "scale": 2.0, "reference": {"name": "tangent", "gamma": 0.2},
        },
        "episode": {"phases": 1, "steps_per_phase": steps},
    }  # fmt: skip
    return TrainingVariant.model_validate(fields)


def train_job(job: LearningJob, listen: Listener | None = None) -> TrainedAgent:
    """Learn, or continue a learning that was interrupted."""
    folder = begin_or_resume(job.training, job.folder / AGENT, listen)
    return TrainedAgent(name="ppo", path=str(folder))


def benchmark_of(job: LearningJob, learned: TrainedAgent | None = None) -> Part:
    """The benchmark on images and seeds that were not used in learning; without the agent, what can be checked."""
    own: dict[str, Agent] = {} if learned is None else {LEARNED: learned}
    agents = {**own, **{name: catalogue()[name] for name in BASELINES}}
    seeds = tuple(held_out_seeds(job.request.seeds))
    return checked(
        Part(job.variant, agents, seeds, ("exact",), reference=None if learned is None else LEARNED)
    )


def measure_job(
    job: LearningJob, learned: TrainedAgent, listen: Callable[[Step], None] | None = None
) -> list[TrainingResult]:
    """Run the benchmark, and leave its results where ``schedrl report`` finds them."""
    part, path = benchmark_of(job, learned), job.folder / RESULTS
    write_manifests(job.folder, [part], path)
    return run_tasks(part.tasks, ResultStore(path, TrainingResult), listen=listen)


def learned_schedule(
    job: LearningJob, results: Sequence[TrainingResult], *, shift: bool = True
) -> PiecewiseLogSNR:
    """What was learned, as a schedule for the given images.

    Args:
        job: The job.
        results: Results of its benchmark.
        shift: Shift the schedule from the proxy's size to that of the images, :attr:`Proxy.logsnr_shift`.
    """
    schedule = from_dict(next(result.schedule[0] for result in results if result.agent == LEARNED))
    assert isinstance(schedule, PiecewiseLogSNR)
    moved = np.array(schedule.logsnr_values) + (job.proxy.logsnr_shift if shift else 0.0)
    return PiecewiseLogSNR(u=schedule.u, logsnr=tuple(moved.tolist()))


def write_schedule(
    job: LearningJob, results: Sequence[TrainingResult], path: Path, *, shift: bool = True
) -> Path:
    """Write the learned schedule as a file, with a grid of its quantiles; see :func:`learned_schedule`."""
    schedule = learned_schedule(job, results, shift=shift)
    logsnr = schedule.logsnr(np.arange(_STEPS, 0, -1) / _STEPS)
    known = provenance("cpu")
    moved = job.proxy.logsnr_shift if shift else 0.0
    origin = Provenance(
        method=f"learned by PPO from {job.training.spec.total_timesteps} training runs",
        data=f"{job.proxy.count} images averaged to {job.proxy.size} pixels, log-SNR moved by {moved:+.3f}",
        count=job.proxy.count,
        versions=known["versions"],
        revision=known["revision"],
    )
    sigmas = (*np.exp(-0.5 * logsnr).tolist(), 0.0)
    ScheduleFile.of(Grid(sigmas=sigmas), "ddim", origin, schedule).write(path)
    return path


def _affordable(variant: TrainingVariant, request: LearningRequest) -> int:
    """Number of runs that the budget pays for, in whole updates."""
    from schedrl.jobs.cost import training_cost

    update = training_cost(variant, _RUNS_SIDE_BY_SIDE).episode_seconds
    each = update / _RUNS_SIDE_BY_SIDE
    comparing = each * request.seeds * (1 + len(BASELINES))
    seconds = min(_SHARE * 60.0 * request.minutes, 60.0 * request.minutes - comparing)
    updates = int(seconds / update)
    if updates < _LEAST_UPDATES:
        needed = max(_LEAST_UPDATES * update / _SHARE, comparing + _LEAST_UPDATES * update)
        raise SchedrlError(
            f"--budget: {request.minutes:g} minutes are too few. A run takes {each:.1f} s here; at least "
            f"{_LEAST_UPDATES * _RUNS_SIDE_BY_SIDE} runs to learn from, and the comparison, take {needed / 60.0:.0f} "
            "minutes. Fewer --steps or a smaller --proxy take less time"
        )
    return min(updates * _RUNS_SIDE_BY_SIDE, _MOST_RUNS)


def _read(folder: Path, request: LearningRequest) -> _Kept | None:
    if not os.path.exists(folder / JOB):
        return None
    kept = read_model(folder / JOB, _Kept, "job")
    if kept.request != request:
        fields = LearningRequest.model_fields
        changed = [name for name in fields if getattr(kept.request, name) != getattr(request, name)]
        raise SchedrlError(
            f"{folder}: holds another job (other {', '.join(changed)}); give another --folder, or delete it"
        )
    return kept
