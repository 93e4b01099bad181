"""Episodes of a policy on given seeds, many at once."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from schedrl.benchmark.results import Episode, Quality
from schedrl.environments.training.actions import ChoiceAction
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.rendering import sample_images
from schedrl.environments.training.runs import TrainingRuns
from schedrl.environments.training.variant import TrainingVariant
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.metrics.population_samples import population_quality, resolved
from schedrl.policies.policy import Policy, State
from schedrl.schedules import Schedule

MAX_RUNS = 64
"""Most runs trained side by side; bounds memory."""


def chunks(seeds: Sequence[int]) -> list[list[int]]:
    """Seeds in groups that are trained side by side."""
    return [list(seeds[begin : begin + MAX_RUNS]) for begin in range(0, len(seeds), MAX_RUNS)]


def evaluate(
    policy: Policy,
    variant: TrainingVariant,
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    samples: SampleSpec | None = None,
) -> list[Episode]:
    """One episode per seed, the policy acting without exploration.

    Every run has its own seed, so the results are independent draws; two policies on the same seeds are pairs. The
    policy's ``state`` is handed back to it, and ``episode_start`` says where an episode begins, as in SB3's
    ``evaluate_policy``.

    Args:
        policy: Anything with SB3's ``predict``.
        variant: The environment.
        seeds: Seeds of ``reset``.
        device: Torch device of the networks.
        samples: Also draw samples from every network and measure them.

    Returns:
        One result per seed, in order.
    """
    asked = None if samples is None else resolved(samples, variant.data)
    return [result for part in chunks(seeds) for result in _evaluate(policy, variant, part, device, asked)]


def _evaluate(
    policy: Policy, variant: TrainingVariant, seeds: list[int], device: str, samples: SampleSpec | None
) -> list[Episode]:
    qualities: dict[int, Quality] = {}

    def at_end(runs: TrainingRuns, survivors: NDArray[np.bool_]) -> None:
        if samples is not None:
            rows = [run for run in np.flatnonzero(survivors).tolist() if run not in qualities]
            limits = variant.test_bound or variant.bound
            found = population_quality(runs.population, variant.data, limits, samples, seeds, rows)
            qualities.update({run: Quality.of(samples, quality) for run, quality in found.items()})

    env = TrainingVectorEnv(len(seeds), variant=variant, timing=True, device=device, at_end=at_end)
    results: dict[int, Episode] = {}
    earned = np.zeros(len(seeds))
    with closing(_steps(env, policy, seeds)) as steps:
        while len(results) < len(seeds):
            reward, ended, infos = next(steps)
            # A run that diverged early goes on with further episodes; only its first counts.
            open_runs = np.array([run not in results for run in range(len(seeds))])
            earned += np.where(open_runs, reward, 0.0)
            for run in np.flatnonzero(ended & open_runs).tolist():
                schedule = json.loads(env.schedule[run])
                results[run] = _result(seeds[run], float(earned[run]), infos["final_info"], run, schedule)
    if samples is not None:
        lost = Quality.of(samples, None)
        for run, result in results.items():
            quality = lost if result.diverged else qualities[run]
            results[run] = result.model_copy(update={"quality": quality})
    return [results[run] for run in range(len(seeds))]


def _steps(
    env: TrainingVectorEnv, policy: Policy, seeds: list[int]
) -> Generator[tuple[NDArray[Any], NDArray[np.bool_], dict[str, Any]]]:
    """Rewards, ends and infos of every step, without end; the environment is closed with the generator."""
    with closing(env):
        observation, _ = env.reset(seed=seeds)
        state: State | None = None
        start = np.ones(len(seeds), dtype=np.bool_)
        while True:
            action, state = policy.predict(observation, state=state, episode_start=start, deterministic=True)
            observation, reward, start, _, infos = env.step(action)
            yield reward, start, infos


def picture(policy: Policy, variant: TrainingVariant, seed: int, *, device: str = "cpu") -> NDArray[np.uint8]:
    """The picture of one episode at its end, RGB ``[height, width, 3]``."""
    env = TrainingVectorEnv(
        1, variant=variant, render_mode="rgb_array", autoreset_mode=AutoresetMode.DISABLED, device=device
    )
    with closing(_steps(env, policy, [seed])) as steps:
        while not next(steps)[1][0]:
            pass
        frames = env.render()
    assert frames is not None
    drawn: NDArray[np.uint8] = frames[0]
    return drawn


def _result(
    seed: int, earned: float, final: dict[str, NDArray[Any]], run: int, schedule: list[dict[str, Any]]
) -> Episode:
    fields = {name: final[name][run].item() for name in ("bound", "diverged", "optimizer_steps", "seconds")}
    measured = "test_bound" in final
    fields |= {"test_bound": final["test_bound"][run].item() if measured else None}
    fields |= {"test_bins": final["test_bins"][run].tolist()} if measured else {}
    return Episode.model_validate({**fields, "seed": seed, "return": earned, "schedule": schedule})


def replay(
    variant: TrainingVariant,
    programs: Sequence[Sequence[Schedule]],
    seed: int,
    count: int,
    device: str = "cpu",
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Train one network per program and draw samples.

    Args:
        variant: The environment; its data, network, training and optimizer steps are used.
        programs: The schedule of every phase, per run. Numbers of phases may differ.
        seed: Seed of ``reset``, the same for all runs.
        count: Samples per run.
        device: Torch device of the networks.

    Returns:
        Samples ``[runs, count, C, H, W]`` in [−1, 1], from the same noise for every run, and validation bounds at the
        end ``[runs]``, bits/dim.
    """
    phases = math.lcm(*(len(program) for program in programs))
    chosen = [[program[phase * len(program) // phases] for phase in range(phases)] for program in programs]
    offered = list(dict.fromkeys(schedule for program in chosen for schedule in program))
    steps = {"phases": phases, "steps_per_phase": variant.optimizer_steps // phases}
    changed = {
        "action": ChoiceAction.of(*offered),
        "episode": variant.episode.model_copy(update=steps),
        "num_train_timesteps": variant.timesteps,
        "test_bound": None,
    }
    made = TrainingVariant(**{**dict(variant), **changed})
    with closing(
        TrainingVectorEnv(len(programs), variant=made, autoreset_mode=AutoresetMode.DISABLED, device=device)
    ) as env:
        env.reset(seed=[seed] * len(programs))
        for phase in range(phases):
            # Not by env.step(), which refuses to go on after one run has diverged.
            env.runs.walk(np.array([offered.index(program[phase]) for program in chosen]))
            env.runs.train_phase()
        return sample_images(env.runs, count), env.runs.current.copy()
