"""Tune AVA-DSC's constants by CMA-ES in an environment of the action kind dsc, at the cost of PPO's training there.

    .venv/bin/python scripts/tune_ava_dsc.py                       # schedrl/DigitsDSC-v0, prints the agent's file
    .venv/bin/python scripts/tune_ava_dsc.py -o agents/ava-dsc-tuned.toml

Searched are the logs of K at the start, α, γ and λ, and η of K with its sign: positive is the equation's rule,
negative the prose's. Every generation is one population of as many runs as PPO's updates have: half as many points, on
the same two seeds each, ranked by their mean return. The mean of the last generations is the answer.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import cma
import numpy as np

from schedrl.environments.registration import training_variant
from schedrl.environments.training.actions import DSCAction
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.policies.agents import AVADSCAgent
from schedrl.policies.policy import AVADSCPolicy
from schedrl.policies.ppo import ppo_spec

RATE = 50.0
"""Change of K per unit of gradient norm at which the searched number for η is 1."""

SEEDS = 2
"""Episodes by which a point is ranked."""


def agent_at(point: np.ndarray[Any, Any], action: DSCAction) -> AVADSCAgent:
    """The constants at a point of the unit box."""
    ranges = (action.gain, action.alpha, action.gamma, action.boost)
    values = [
        math.exp(math.log(each.minimum) + share * math.log(each.maximum / each.minimum))
        for each, share in zip(ranges, np.clip(point[:4], 0.0, 1.0), strict=True)
    ]
    gain, alpha, gamma, boost = (
        min(max(value, each.minimum), each.maximum) for value, each in zip(values, ranges, strict=True)
    )
    signed = RATE * (2.0 * float(np.clip(point[4], 0.0, 1.0)) - 1.0)
    return AVADSCAgent(
        name="ava-dsc-tuned", rule="equation" if signed >= 0.0 else "prose", rate=abs(signed),
        beta_init=action.beta_init, initial_gain=gain, minimum=action.gain.minimum, maximum=action.gain.maximum,
        alpha=alpha, gamma=gamma, boost=boost,
    )  # fmt: skip


def point_of(action: DSCAction) -> list[float]:
    """Where the environment starts, with K left alone."""
    ranges = (action.gain, action.alpha, action.gamma, action.boost)
    return [math.log(r.initial / r.minimum) / math.log(r.maximum / r.minimum) for r in ranges] + [0.5]


def returns(env: TrainingVectorEnv, points: list[AVADSCAgent], seed: int) -> np.ndarray[Any, Any]:
    """Mean return of each agent's episodes, on the same seeds for all."""
    seeds = [seed + place for place in range(SEEDS) for _ in points]
    agents = points * SEEDS
    observation, _ = env.reset(seed=seeds)
    policy, state = AVADSCPolicy(agents, env.variant), None
    start, open_runs = np.ones(len(agents), dtype=np.bool_), np.ones(len(agents), dtype=np.bool_)
    total = np.zeros(len(agents))
    for _ in range(env.variant.episode.phases):
        actions, state = policy.predict(observation, state, start)
        observation, reward, start, _, _ = env.step(actions)
        total += np.where(open_runs, reward, 0.0)
        open_runs &= ~start
    means: np.ndarray[Any, Any] = total.reshape(SEEDS, -1).mean(axis=0)
    return means


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--env", default="schedrl/DigitsDSC-v0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="agent file to write")
    options = parser.parse_args()
    variant, spec = training_variant(options.env, {"test_bound": None}), ppo_spec(options.env)
    if not isinstance(variant.action, DSCAction):
        parser.error(f"--env: its action kind must be 'dsc' (got '{variant.action.kind}')")
    runs = spec.num_envs
    generations = -(-spec.total_timesteps // (runs * variant.episode_steps))
    env = TrainingVectorEnv(runs, variant=variant)
    settings = {"popsize": runs // SEEDS, "bounds": [0.0, 1.0], "seed": options.seed + 1, "verbose": -9}
    strategy = cma.CMAEvolutionStrategy(point_of(variant.action), 0.2, {**settings, "maxiter": generations})
    means = []
    for generation in range(generations):
        points = strategy.ask()
        agents = [agent_at(np.asarray(point), variant.action) for point in points]
        earned = returns(env, agents, options.seed + SEEDS * generation)
        strategy.tell(points, (-earned).tolist())
        means.append(np.asarray(strategy.mean))
        print(
            f"generation {generation + 1}/{generations}: mean return {earned.mean():.4f}, best {earned.max():.4f}"
        )
    found = agent_at(np.mean(means[-max(1, generations // 8) :], axis=0), variant.action)
    steps = generations * runs * variant.optimizer_steps
    lines = [
        'name = "ava-dsc-tuned"',
        'kind = "ava-dsc"',
        f'description = "AVA and DSC: constants tuned by CMA-ES in {variant.id}, {generations * runs} training runs"',
        f"search_steps = {steps}",
        f'rule = "{found.rule}"',
        *(
            f"{name} = {getattr(found, name):.6g}"
            for name in ("rate", "initial_gain", "alpha", "gamma", "boost")
        ),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
