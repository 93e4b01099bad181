#!/usr/bin/env python
"""Environment steps per second of ``schedrl/GaussianSampling-v0``: thousands at once, one at a time, and PPO's share.

Four measurements, repeated in turn so that a busy machine slows all of them alike; medians are printed:

- ``vector``: the vector environment with ``--num-envs`` runs;
- ``single``: ``gymnasium.make`` of it, 64 of them in Gymnasium's ``SyncVectorEnv``;
- ``plain``: the same environment written the plain way, one source at a time in NumPy (:class:`PlainEnv` below), 64 of
  them in Gymnasium's ``SyncVectorEnv``. Its rewards and observations are checked against the vector environment's;
- ``training``: PPO as ``schedrl train`` runs it, and the share of its time that is spent in the environment.

    scripts/bench_sampling.py                       # about a minute
    scripts/bench_sampling.py --json benchmarks/results/sampling-speed.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv

import schedrl  # noqa: F401 (registers the environments)
from schedrl.environments.registration import sampling_variant

ENV = "schedrl/GaussianSampling-v0"
SYNC = 64


class PlainEnv(gym.Env[Any, Any]):
    """The environment as one would write it first: one source, a handful of NumPy calls per step.

    It checks actions and fills the last info as the other one does.
    """

    def __init__(self) -> None:
        variant = sampling_variant(ENV)
        assert variant.source.kind == "gaussian"
        self.family, self.steps, self.scale = (
            variant.source.spectrum,
            variant.steps.maximum,
            variant.action.scale,
        )
        self.predicts = variant.reward.needs_prediction
        self.observation_space, self.action_space = variant.observation_space(), variant.action_space()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Draw a source."""
        super().reset(seed=seed)
        uniforms = self.np_random.random((1, self.family.num_uniforms))
        return self.begin(self.family.draw(uniforms)[0][0]), {}

    def begin(self, spectrum: Any) -> Any:
        """Start on a given spectrum."""
        self.spectrum = spectrum
        self.gamma = (spectrum.sum() / (1.0 / spectrum).sum()) ** 0.25
        self.variance, self.place, self.sigma, self.left = np.ones_like(spectrum), 1.0, np.inf, self.steps
        self.expected = self.reference = self.predict()
        self.levels = [self.sigma]
        return self.observe()

    def move(self, variance: Any, sigma: float, after: float) -> Any:
        """DDIM's exact effect on the variances."""
        now, then = np.arctan(sigma), np.arctan(after)
        kept = np.cos(now) * np.cos(then) * self.spectrum + np.sin(now) * np.sin(then)
        return variance * (kept / (np.cos(now) ** 2 * self.spectrum + np.sin(now) ** 2)) ** 2

    def predict(self) -> float:
        """Log of the divergence if the tangent law takes the rest."""
        variance, place, sigma = self.variance, self.place, self.sigma
        for left in range(self.left, 0, -1):
            place *= (left - 1) / left
            after = self.gamma * np.tan(0.5 * np.pi * place)
            variance, sigma = self.move(variance, sigma, after), after
        log = np.log(variance / self.spectrum)
        return float(np.log(0.5 * np.sum(np.exp(-log) - 1.0 + log)))

    def observe(self) -> Any:
        """What :meth:`GaussianBatch.write_features` shows, after the progress."""
        theta = np.arctan(self.sigma / self.gamma)
        root = np.sqrt(self.spectrum)
        angle = np.arctan(self.sigma / root)
        marginal = np.cos(np.arctan(self.sigma)) ** 2 * self.spectrum + np.sin(np.arctan(self.sigma)) ** 2
        deficit = np.log(self.variance / marginal)
        ratio = root / self.gamma
        speed = ratio / (ratio**2 * np.cos(theta) ** 2 + np.sin(theta) ** 2)
        weight = np.maximum(angle**2 - deficit, 1e-6)
        twice = 0.25 * np.sin(2.0 * angle)
        path = (0.5 * angle + twice) / ratio + (0.5 * angle - twice) * ratio
        here = 0.5 * np.log((weight * speed**2).sum() / weight.sum())
        ahead = 0.5 * np.log((weight * path).sum() / weight.sum() / theta) if theta > 0.0 else here
        progress = [self.left / self.steps, np.log(max(self.left, 1e-9)) / 3.0, self.place]
        shown = [
            progress,
            0.25 * np.log(self.spectrum / self.gamma**2),
            angle / (0.5 * np.pi),
            deficit,
            [here, ahead],
        ]
        return np.concatenate(shown).clip(-5.0, 5.0).astype(np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one sampler step."""
        action = np.asarray(action)
        if action.shape != (1,) or not np.isfinite(action).all() or (np.abs(action) > 1.0).any():
            raise ValueError(f"action: must be one number in [-1, 1] (got {action})")
        others = (self.left - 1) * np.exp(-self.scale * float(action[0]))
        self.place *= others / (1.0 + others)
        after = self.gamma * np.tan(0.5 * np.pi * self.place)
        self.variance, self.sigma = self.move(self.variance, self.sigma, after), after
        self.levels.append(after)
        self.left -= 1
        before = self.expected
        if self.predicts or self.left == 0:
            self.expected = self.predict()
        info = self.outcome() if self.left == 0 else {}
        return self.observe(), before - self.expected, self.left == 0, False, info

    def outcome(self) -> dict[str, Any]:
        """The last info."""
        ratio = self.variance / self.spectrum
        return {
            "error": np.exp(self.expected),
            "reference_error": np.exp(self.reference),
            "kl": np.exp(self.expected),
            "reverse_kl": 0.5 * np.sum(ratio - 1.0 - np.log(ratio)),
            "num_steps": self.steps,
            "sigmas": np.array(self.levels),
        }


def check_the_plain_environment() -> float:
    """Largest difference of observations and rewards between the two, on one episode of the same sources."""
    vector = gym.make_vec(ENV, num_envs=8)
    seen, _ = vector.reset(seed=0)
    spectra = vector.unwrapped.runs.batch.eigenvalues.copy()  # type: ignore[attr-defined]
    plain = [PlainEnv() for _ in spectra]
    worst = max(
        float(np.abs(env.begin(s) - row).max()) for env, s, row in zip(plain, spectra, seen, strict=True)
    )
    rng = np.random.default_rng(0)
    for _ in range(plain[0].steps):
        actions = rng.uniform(-0.3, 0.3, (len(plain), 1)).astype(np.float32)
        seen, rewards, ended, _, infos = vector.step(actions)
        rows = infos["final_obs"] if ended.all() else seen
        for env, action, row, reward in zip(plain, actions, rows, rewards, strict=True):
            observation, earned, *_ = env.step(action)
            worst = max(worst, float(np.abs(observation - row).max()), abs(earned - float(reward)))
    return worst


def steps_per_second(env: Any, num_envs: int, seconds: float) -> float:
    """Whole episodes with random actions for a while, resets included."""
    rng = np.random.default_rng(0)
    actions = [rng.uniform(-0.2, 0.2, (num_envs, 1)).astype(np.float32) for _ in range(10)]
    taken, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for action in actions:
            env.step(action)
        taken += len(actions) * num_envs
    return taken / (time.perf_counter() - began)


def environment_share(updates: int) -> float:
    """Share of PPO's training time that is spent in the environment's own step."""
    import torch

    from schedrl.policies.ppo import build, make_training_env, ppo_spec

    torch.set_num_threads(1)  # the claim is about one core
    spec = ppo_spec(ENV)
    env = make_training_env(ENV, spec, 0)
    vector = env.get_attr("unwrapped", 0)[0]
    spent, step = [0.0], vector.step

    def timed(actions: Any) -> Any:
        began = time.perf_counter()
        outcome = step(actions)
        spent[0] += time.perf_counter() - began
        return outcome

    vector.step = timed
    model = build(env, spec, 0)
    began = time.perf_counter()
    model.learn(updates * spec.num_envs * vector.variant.episode_steps)
    return spent[0] / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-envs", type=int, default=4096, help="runs of the vector environment [4096]")
    parser.add_argument("--repeats", type=int, default=5, help="repeats, whose medians are printed [5]")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a measurement [2]")
    parser.add_argument("--updates", type=int, default=6, help="PPO updates for its share of the time [6]")
    parser.add_argument("--json", type=Path, help="append a line of results to this file")
    arguments = parser.parse_args()

    from schedrl.provenance import hardware, software

    difference = check_the_plain_environment()
    assert difference < 1e-4, f"the plain environment differs by {difference}"
    vector = gym.make_vec(ENV, num_envs=arguments.num_envs)
    single = SyncVectorEnv([lambda: gym.make(ENV) for _ in range(SYNC)])
    plain = SyncVectorEnv([PlainEnv for _ in range(SYNC)])
    measured: dict[str, list[float]] = {"vector": [], "single": [], "plain": []}
    contestants: list[tuple[str, Any, int]] = [
        ("vector", vector, arguments.num_envs),
        ("single", single, SYNC),
        ("plain", plain, SYNC),
    ]
    for _, env, count in contestants:
        env.reset(seed=0)
        steps_per_second(env, count, 0.2)
    for _ in range(arguments.repeats):
        for name, env, count in contestants:
            measured[name].append(steps_per_second(env, count, arguments.seconds))
    over_single, over_plain = (
        float(np.median([many / one for many, one in zip(measured["vector"], measured[name], strict=True)]))
        for name in ("single", "plain")
    )
    share = environment_share(arguments.updates)
    row = {
        "benchmark": "sampling",
        "env_id": ENV,
        "num_envs": arguments.num_envs,
        "vector_steps_per_second": round(float(np.median(measured["vector"]))),
        "vector_best": round(max(measured["vector"])),
        "plain_steps_per_second": round(float(np.median(measured["plain"]))),
        "single_steps_per_second": round(float(np.median(measured["single"]))),
        "times_single": round(over_single, 1),
        "times_plain": round(over_plain, 1),
        "environment_share_of_ppo": round(share, 4),
        "difference": difference,
        "threads": 1,
        "hardware": hardware("cpu"),
        "versions": software(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    report: list[tuple[str, Callable[[], str]]] = [
        (f"vector of {arguments.num_envs}", lambda: f"{row['vector_steps_per_second']:>12,} steps/s"),
        (f"plain, SyncVectorEnv of {SYNC}", lambda: f"{row['plain_steps_per_second']:>12,} steps/s"),
        (f"single, SyncVectorEnv of {SYNC}", lambda: f"{row['single_steps_per_second']:>12,} steps/s"),
        ("vector over plain", lambda: f"{row['times_plain']:>12} times"),
        ("vector over single", lambda: f"{row['times_single']:>12} times"),
        ("environment's share of PPO", lambda: f"{100.0 * share:>12.1f} %"),
    ]
    for label, text in report:
        print(f"{label:30} {text()}")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with arguments.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
