"""Any agent on sampling problems: the grid it gives each of them, and what it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.sampling.env import SamplingEnv, SamplingVectorEnv
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.runs import SamplingRuns
from schedrl.errors import SchedrlError
from schedrl.policies.agents import Agent, GridAgent, RandomAgent, SearchAgent
from schedrl.policies.baselines import Policy, State
from schedrl.policies.factory import make_policy
from schedrl.policies.plans import Plan
from schedrl.schedules.conversions import FloatArray

__all__ = ["GridPolicy", "Solution", "solve", "walk"]


@dataclass(frozen=True)
class Solution:
    """Grids for problems.

    Attributes:
        sigmas: ``[B, M + 1]`` descending; shorter grids repeat their last level.
        evaluations: Sampler runs spent on each source to find its grid, ``[B]``; 0 for closed forms and policies.
        seconds: Wall-clock time for all of them.
    """

    sigmas: FloatArray
    evaluations: NDArray[np.int64]
    seconds: float


def solve(agent: Agent, problems: SamplingProblems, seeds: Sequence[int] | None = None) -> Solution:
    """Let an agent place the steps of every problem.

    A problem's grid does not depend on which others are solved beside it.

    Args:
        agent: Any agent that is for sampling environments.
        problems: The problems.
        seeds: Of the agent's own random numbers, if it has any, one per problem; 0, 1, … when left out.

    Raises:
        SchedrlError: The agent does not apply to these sources.
    """
    began = time.perf_counter()
    none = np.zeros(len(problems), dtype=np.int64)
    if isinstance(agent, GridAgent):
        return Solution(agent.plan.grids(problems), none, time.perf_counter() - began)
    if isinstance(agent, SearchAgent | RandomAgent):
        rngs = [np.random.default_rng(seed) for seed in (range(len(problems)) if seeds is None else seeds)]
        if isinstance(agent, RandomAgent):
            actions = np.zeros((len(problems), problems.width - 1))
            for row, (n, rng) in enumerate(zip(problems.total.tolist(), rngs, strict=True)):
                actions[row, :n] = rng.uniform(-1.0, 1.0, n)
            return Solution(problems.placed(actions), none, time.perf_counter() - began)
        found = agent.search.find(problems, rngs)
        return Solution(found.sigmas, found.evaluations, time.perf_counter() - began)
    policy = make_policy(agent, problems.variant)
    began = time.perf_counter()
    return Solution(walk(policy, problems), none, time.perf_counter() - began)


def walk(policy: Policy, problems: SamplingProblems) -> FloatArray:
    """Grids ``[B, greatest N + 1]`` that a policy walks, acting without exploration."""
    runs = SamplingRuns(problems.variant, len(problems))
    runs.adopt(problems)
    state: State | None = None
    start = np.ones(len(problems), dtype=np.bool_)
    while runs.remaining.any():
        actions, state = policy.predict(runs.observe(), state=state, episode_start=start, deterministic=True)
        start = np.zeros(len(problems), dtype=np.bool_)
        runs.advance(np.asarray(actions)[:, 0].astype(np.float64))
    return runs.levels[:, : problems.width].copy()


class GridPolicy:
    """A plan as a policy in an environment, through its actions: SB3's ``predict``.

    It looks at the environment's sources, not at observations. Grids that start at a finite level begin at the
    environment's first level instead.

    Args:
        plan: How grids are found.
        env: The environment it acts in, single or vectorised.
    """

    def __init__(self, plan: Plan, env: SamplingVectorEnv | SamplingEnv) -> None:
        vector = env.vector if isinstance(env, SamplingEnv) else env
        self.plan, self.runs = plan, vector.runs
        self._targets = np.zeros_like(self.runs.levels)

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """Actions that step to the plan's next levels.

        Raises:
            SchedrlError: The plan does not apply to these sources.
        """
        runs = self.runs
        if len(np.atleast_2d(observation)) != runs.num_runs:
            raise SchedrlError(f"observation: one row per run is needed, {runs.num_runs}")
        fresh = np.flatnonzero(runs.remaining == runs.total)
        if len(fresh):
            problems = SamplingProblems(runs.variant, runs.batch, runs.total).take(fresh)
            grids = self.plan.grids(problems)
            self._targets[fresh] = 0.0
            self._targets[fresh, : grids.shape[1]] = grids
        taken = runs.total - runs.remaining
        wanted = self._targets[np.arange(runs.num_runs), np.minimum(taken + 1, runs.total)]
        actions = runs.variant.action.encode(runs.sigma, wanted, runs.remaining, runs.total, runs.batch)
        return (actions[0] if np.ndim(observation) == 1 else actions), None
