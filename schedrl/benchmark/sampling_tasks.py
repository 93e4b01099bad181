"""A comparison on sampling problems: which agents, on which held-out seeds; run so that nothing is measured twice."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from schedrl.benchmark.executors import Executor
from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.store import ResultStore
from schedrl.benchmark.tasks import Step, Work, run_work
from schedrl.benchmark.training_tasks import Entry
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import Agent, GridSearchAgent, default_agents
from schedrl.policies.grid_rules import OptimumRule
from schedrl.provenance import provenance
from schedrl.schedules.conversions import FloatArray

__all__ = [
    "NUM_SOURCES",
    "SamplingMeasurement",
    "SamplingPlan",
    "SolveTask",
    "default_entries",
    "make_sampling_plan",
    "measure",
    "run_sampling_plan",
    "sampling_work_of",
]

NUM_SOURCES = 256
"""Held-out sources of a comparison."""

_BLOCKS = 4
"""Blocks between two writes."""

_BLOCK = 16
"""Problems solved side by side: always those whose seeds have this quotient, all of them. Sums over a batch round
otherwise in another one, so a problem's last digits would depend on which others were left to measure."""


_LARGEST = 1e300
"""Greater errors, infinite ones too, are written as this: a result file holds numbers, and they can be added."""


@dataclass(frozen=True)
class SamplingMeasurement:
    """A row of the table to be.

    Attributes:
        entry: The agent.
        agent_hash: Hash of the agent.
        training_steps: Sampler steps that its training spent.
    """

    entry: Entry
    agent_hash: str
    training_steps: int


@dataclass(frozen=True)
class SamplingPlan:
    """What will be measured.

    Attributes:
        variant: The environment.
        seeds: Held-out seeds, a source each.
        rows: The agents.
    """

    variant: SamplingVariant
    seeds: list[int]
    rows: list[SamplingMeasurement]


def default_entries(variant: SamplingVariant, seeds: Sequence[int]) -> tuple[list[Entry], list[str]]:
    """Every agent of the catalogue that applies to the environment's sources, a shipped policy first.

    Args:
        variant: The environment.
        seeds: Of the problems that they are for.

    Returns:
        The agents, and what was left out that an installed package would bring, in words.
    """
    probe = _probe(variant, seeds)
    entries: list[Entry] = []
    notes = []
    for agent in default_agents(variant):
        try:
            _try(agent, probe)
        except SchedrlError as error:
            # It does not apply to these sources; searches apply to all.
            if agent.role == "searched":
                notes.append(f"left out {agent.name}: {error}")
            continue
        entries.append(Entry(agent.name, agent))
    return entries, notes


def make_sampling_plan(
    variant: SamplingVariant, entries: Sequence[Entry], seeds: Sequence[int]
) -> SamplingPlan:
    """Check everything that can be checked before any work, and lay the work out.

    Raises:
        SchedrlError: An agent does not apply to the sources, its files are damaged or do not fit, two rows share a
            label, or a seed was used in training.
    """
    labels = [entry.label for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise SchedrlError(f"two agents are called '{label}'; name one of them: other-name=FOLDER")
    if not entries:
        raise SchedrlError("nothing to measure")
    probe = _probe(variant, seeds)
    rows = []
    for entry in entries:
        entry = Entry(entry.label, entry.agent.resolved(variant.id))
        try:
            _try(entry.agent, probe)
        except SchedrlError as error:
            if str(error).startswith("agent "):
                raise
            raise SchedrlError(f"agent '{entry.label}': {error}") from None
        rows.append(_row(entry, seeds))
    return SamplingPlan(variant, list(seeds), rows)


def run_sampling_plan(
    plan: SamplingPlan,
    store: ResultStore[SamplingResult],
    listen: Callable[[Step], None] | None = None,
    executor: Executor | None = None,
) -> list[SamplingResult]:
    """Measure what the store does not hold yet.

    Args:
        plan: The work.
        store: Where results go, as they come.
        listen: Told of every step.
        executor: Who measures; this process when absent.

    Returns:
        The plan's results, measured now or earlier.
    """
    return run_work(sampling_work_of(plan), store, executor=executor, listen=listen)


def sampling_work_of(plan: SamplingPlan) -> list[Work]:
    """A plan's rows as something to be done."""
    return [
        Work(
            {seed: _key(row, plan.variant, seed) for seed in plan.seeds},
            partial(SolveTask, row, plan.variant),
            _BLOCKS,
            _BLOCK,
        )
        for row in plan.rows
    ]


@dataclass(frozen=True)
class SolveTask:
    """Some problems for an agent.

    Attributes:
        row: The agent.
        variant: The environment.
        seeds: A problem each.
    """

    row: SamplingMeasurement
    variant: SamplingVariant
    seeds: Sequence[int]

    @property
    def doing(self) -> str:
        """The agent's name."""
        return self.row.entry.label

    def run(self) -> list[SamplingResult]:
        """Solve the problems."""
        return measure(self.row, self.variant, self.seeds)


def optima(problems: SamplingProblems) -> list[float | None]:
    """The least error of each problem, where it is known."""
    if not problems.batch.knows_optimum:
        # The optimum of the Gaussian that stands for a network's data is not the network's.
        return [None] * len(problems)
    try:
        grids = OptimumRule().grids(problems)
    except SchedrlError:
        return [None] * len(problems)
    return [_finite(error) for error in problems.error(grids).tolist()]


def _probe(variant: SamplingVariant, seeds: Sequence[int]) -> SamplingProblems:
    """A few of the problems, such that what applies to them applies to all: the least N, an odd one, an even one."""
    variant = variant.model_copy(update={"source": variant.source.probe(variant.sampler)})
    blocks = dict.fromkeys(seed // _BLOCK for seed in seeds)
    problems = SamplingProblems.drawn(variant, [seed for block in blocks for seed in _seeds(block)])
    odd = problems.total % 2
    return problems.take(np.unique([problems.total.argmin(), odd.argmin(), odd.argmax()]))


def _try(agent: Agent, probe: SamplingProblems) -> None:
    """Make sure that an agent applies; a search is cut down to its least.

    Raises:
        SchedrlError: It does not.
    """
    if isinstance(agent, GridSearchAgent):
        least = {"evaluations": 1, "levels": 4}
        fields = type(agent.search).model_fields
        changes = {name: value for name, value in least.items() if name in fields}
        agent = agent.model_copy(update={"search": agent.search.model_copy(update=changes)})
    probe.error(agent.solve(probe).sigmas)


def _row(entry: Entry, seeds: Sequence[int]) -> SamplingMeasurement:
    entry.agent.check_held_out(seeds, entry.label)
    return SamplingMeasurement(entry, entry.agent.definition_hash()[:16], entry.agent.search_cost)


def measure(row: SamplingMeasurement, variant: SamplingVariant, seeds: Sequence[int]) -> list[SamplingResult]:
    """Let an agent solve some problems.

    Args:
        row: The agent.
        variant: The environment.
        seeds: A problem each.
    """
    solved: dict[int, SamplingResult] = {}
    wanted = set(seeds)
    for block in dict.fromkeys(seed // _BLOCK for seed in seeds):
        solved |= _measure_block(row, variant, block, wanted)
    return [solved[seed] for seed in seeds]


def _measure_block(
    row: SamplingMeasurement, variant: SamplingVariant, block: int, wanted: Container[int]
) -> dict[int, SamplingResult]:
    """Solve a whole block; of its problems, those that are asked for."""
    seeds = _seeds(block)
    if variant.source.runs_network:
        seeds = [seed for seed in seeds if seed in wanted]
    problems = SamplingProblems.drawn(variant, seeds)
    best = _optima_of(variant, block)
    solution = row.entry.agent.solve(problems, seeds)
    error, reference = problems.error(solution.sigmas), problems.error(problems.reference())
    parts: dict[str, FloatArray] = problems.parts(solution.sigmas)
    shared: dict[str, Any] = {
        "agent": row.entry.label,
        "kind": row.entry.agent.kind,
        "agent_hash": row.agent_hash,
        "env_id": problems.variant.id,
        "fingerprint": problems.variant.fingerprint(),
        "training_steps": row.training_steps,
        "seconds": round(solution.seconds / len(seeds), 6),
        **provenance(),
    }
    return {
        seed: SamplingResult(
            seed=seed,
            num_steps=int(problems.total[place]),
            error=_finite(error[place]),
            optimum=best[place],
            reference=_finite(reference[place]),
            parts={name: _finite(values[place]) for name, values in parts.items()},
            evaluations=int(solution.evaluations[place]),
            **shared,
        )
        for place, seed in enumerate(seeds)
        if seed in wanted
    }


def _seeds(block: int) -> list[int]:
    return list(range(block * _BLOCK, (block + 1) * _BLOCK))


@lru_cache(maxsize=64)
def _optima_of(variant: SamplingVariant, block: int) -> list[float | None]:
    """Least errors of a block, which every agent is compared with."""
    return optima(SamplingProblems.drawn(variant, _seeds(block)))


def _finite(error: float) -> float:
    """An error as it is written down; a grid that leaves nothing of a direction has an infinite one."""
    return float(min(error, _LARGEST))


def _key(row: SamplingMeasurement, variant: SamplingVariant, seed: int) -> tuple[str, str, str, str, int]:
    return row.entry.label, row.agent_hash, variant.id, variant.fingerprint(), seed
