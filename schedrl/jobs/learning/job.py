"""The learning of a schedule for given images, within a budget of minutes; a run that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from schedrl.benchmark.families import checked
from schedrl.benchmark.manifest import write_manifests
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import RESULTS, ResultStore
from schedrl.benchmark.tasks import Part, Step, held_out_seeds, run_tasks
from schedrl.data import AnyData
from schedrl.data.own import Npz
from schedrl.environments.registration import register
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec
from schedrl.files import dump_json, ensure_folder, write_text
from schedrl.jobs.learning.proxy import Proxy, make_proxy
from schedrl.policies.agents import Agent, TrainedAgent, catalogue
from schedrl.policies.training import (
    REQUEST,
    Listener,
    TrainingRequest,
    read_request,
    request_for,
    resume,
    train,
)
from schedrl.schedules import PiecewiseLogSNR, from_dict

__all__ = [
    "BASELINES",
    "LearningJob",
    "Request",
    "comparison_of",
    "learned_law",
    "measure_job",
    "prepare",
    "train_job",
]

JOB, AGENT, LEARNED = "learn.json", "agent", "learned"

BASELINES = ("cosine", "linear", "uniform", "tangent-0.1", "tangent-0.2", "tangent-0.3")
"""Hand-made laws that the learned one is compared with."""

_RUNS_SIDE_BY_SIDE = 16
_LEAST_UPDATES = 5
_MOST_RUNS = 1600
_SHARE = 0.7
"""Of the budget that goes into learning; the rest measures."""


class Request(Spec):
    """What is asked for.

    Attributes:
        data: The images.
        minutes: Budget for learning and comparing.
        runs: Training runs to learn from; as many as fit the budget when absent.
        steps: Optimizer steps of a run.
        proxy: Largest side of the small images that it learns on.
        seeds: Held-out seeds of the comparison.
        seed: Of the learning.
    """

    data: AnyData
    minutes: Annotated[float, Field(gt=0.0)] = 10.0
    runs: Annotated[int, Field(ge=_RUNS_SIDE_BY_SIDE)] | None = None
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    proxy: Annotated[int, Field(ge=4, le=64)] = 16
    seeds: Annotated[int, Field(ge=2)] = 10
    seed: Annotated[int, Field(ge=0)] = 0


class _Kept(Spec):
    """Contents of ``learn.json``: what was asked for and what the first start made of it."""

    format: Literal[1] = 1
    request: Request
    data: Npz
    size: int
    factor: int
    count: int
    runs: int


@dataclass(frozen=True)
class LearningJob:
    """A learning that has been prepared.

    Attributes:
        request: What is asked for.
        folder: Where everything goes.
        proxy: The small images.
        variant: The environment that the agent learns in.
        training: The training of the agent.
    """

    request: Request
    folder: Path
    proxy: Proxy
    variant: TrainingVariant
    training: TrainingRequest


def prepare(request: Request, folder: Path) -> LearningJob:
    """Make the proxy and the environment, and cut the budget into runs; what is there already is kept.

    Raises:
        SchedrlError: The images cannot be read or are too few, the budget is too small, or the folder holds another
            learning.
    """
    ensure_folder(folder, "--folder")
    kept = _read(folder, request)
    proxy = (
        make_proxy(request.data, folder, request.proxy)
        if kept is None
        else Proxy(kept.data, kept.size, kept.factor, kept.count)
    )
    variant = own_variant(proxy, request.steps)
    register(variant)
    if kept is None:
        runs = request.runs or _affordable(variant, request)
        kept = _Kept(
            request=request,
            data=proxy.data,
            size=proxy.size,
            factor=proxy.factor,
            count=proxy.count,
            runs=runs,
        )
        write_text(folder / JOB, dump_json(kept.model_dump(mode="json")))
    training = request_for(
        variant.id,
        request.seed,
        total_timesteps=kept.runs,
        num_envs=_RUNS_SIDE_BY_SIDE,
        learning_rate=3e-3,
        log_std_init=-1.0,
    )
    agent = folder / AGENT
    if (agent / REQUEST).is_file() and read_request(agent) != training:
        raise SchedrlError(f"{agent}: holds another training; give another --folder, or delete it")
    return LearningJob(request, folder, proxy, variant, training)


def own_variant(proxy: Proxy, steps: int) -> TrainingVariant:
    """The environment in which a schedule for a proxy is learned: all shares of ten cells of log-SNR, at once."""
    channels = (8, 16) if proxy.size <= 8 else (16, 32)
    ends = {"logsnr_max": 12.0, "logsnr_min": -6.0, "levels": 18}
    return TrainingVariant.model_validate(
        {
            "id": "own/Knots-v0",
            "description": f"{proxy.count} own images, averaged to {proxy.size} pixels",
            "data": proxy.data.model_dump(mode="json"),
            "training": {
                "batch_size": 32,
                "ema_decay": 0.95,
                "optimizer": {"name": "adam", "learning_rate": 5e-3},
                "network": {"channels": channels, "embedding": 32, "groups": 4},
            },
            "bound": {**ends, "images": 100},
            "test_bound": ends,
            "action": {
                "kind": "knots",
                "bins": 12,
                "scale": 2.0,
                "reference": {"name": "tangent", "gamma": 0.2},
            },
            "episode": {"phases": 1, "steps_per_phase": steps},
        }
    )


def train_job(job: LearningJob, listen: Listener | None = None) -> TrainedAgent:
    """Learn, or go on with a learning that was interrupted."""
    folder = job.folder / AGENT
    if (folder / REQUEST).is_file():
        resume(folder, listen=listen)
    else:
        train(job.training, folder, listen)
    return TrainedAgent(name="ppo", path=str(folder))


def comparison_of(job: LearningJob, learned: TrainedAgent | None = None) -> Part:
    """The benchmark on images and seeds that the learning did not see; without the agent, what can be checked."""
    own: dict[str, Agent] = {} if learned is None else {LEARNED: learned}
    agents = {**own, **{name: catalogue()[name] for name in BASELINES}}
    seeds = tuple(held_out_seeds(job.request.seeds))
    return checked(
        Part(job.variant, agents, seeds, ("exact",), reference=None if learned is None else LEARNED)
    )


def measure_job(
    job: LearningJob, learned: TrainedAgent, listen: Callable[[Step], None] | None = None
) -> list[TrainingResult]:
    """Compare, and leave the results where ``schedrl report`` finds them."""
    part, path = comparison_of(job, learned), job.folder / RESULTS
    write_manifests(job.folder, [part], path)
    return run_tasks(part.tasks, ResultStore(path, TrainingResult), listen=listen)


def learned_law(
    job: LearningJob, results: Sequence[TrainingResult], *, shift: bool = True
) -> PiecewiseLogSNR:
    """What was learned, as a law for the given images.

    Args:
        job: The learning.
        results: Of its comparison.
        shift: Move the law from the proxy's size to the images' own, :attr:`Proxy.logsnr_shift`.
    """
    law = from_dict(next(result.schedule[0] for result in results if result.agent == LEARNED))
    assert isinstance(law, PiecewiseLogSNR)
    moved = np.array(law.logsnr_values) + (job.proxy.logsnr_shift if shift else 0.0)
    return PiecewiseLogSNR(u=law.u, logsnr=tuple(moved.tolist()))


def _affordable(variant: TrainingVariant, request: Request) -> int:
    """Runs that the budget has room for, in whole updates."""
    from schedrl.jobs.cost import training_cost

    side_by_side = _RUNS_SIDE_BY_SIDE
    each = training_cost(variant, side_by_side).episode_seconds / side_by_side
    comparing = each * request.seeds * (1 + len(BASELINES))
    seconds = min(_SHARE * 60.0 * request.minutes, 60.0 * request.minutes - comparing)
    updates = int(seconds / (each * side_by_side))
    if updates < _LEAST_UPDATES:
        needed = max(
            _LEAST_UPDATES * each * side_by_side / _SHARE, comparing + _LEAST_UPDATES * each * side_by_side
        )
        raise SchedrlError(
            f"--budget: {request.minutes:g} minutes are too few; a run takes {each:.1f} s here, and at least "
            f"{_LEAST_UPDATES * side_by_side} to learn from and the comparison take {needed / 60.0:.0f} minutes; "
            "fewer --steps or a smaller --proxy make it cheaper"
        )
    return min(updates * side_by_side, _MOST_RUNS)


def _read(folder: Path, request: Request) -> _Kept | None:
    path = folder / JOB
    try:
        kept = _Kept.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        raise SchedrlError(f"{path}: is damaged: {' '.join(str(error).split())[:160]}") from None
    if kept.request != request:
        changed = [n for n in Request.model_fields if getattr(kept.request, n) != getattr(request, n)]
        raise SchedrlError(
            f"{folder}: holds another learning (other {', '.join(changed)}); give another --folder, or delete it"
        )
    return kept
