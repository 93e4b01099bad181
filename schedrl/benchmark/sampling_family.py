"""Benchmarks in sampling environments: an agent places the steps of a sampler on sources that it has not seen.

Every agent places the same number of steps on the same held-out sources. Ratios of errors are averaged geometrically,
with bootstrap intervals over sources. What a search spent on each source, and what a policy's training spent once, are
columns beside them.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.sampling_summary import SamplingSummary, summarise_sampling
from schedrl.benchmark.tasks import FIRST_SEED, Part, Task
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.variants import of_family
from schedrl.errors import SchedrlError
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import Agent, Form, default_agents
from schedrl.policies.grid_rules import OptimumRule
from schedrl.provenance import provenance

_BLOCK = 16
"""Problems solved side by side: always those whose seeds have the same quotient by this number, all of them. Sums over
a batch round differently in another batch, so a problem's last digits would depend on which others were missing."""

_LARGEST = 1e300
"""Greater errors, infinite ones too, are written as this: a result file holds numbers, and they can be added."""


@dataclass(frozen=True)
class SamplingTask(Task):
    """One agent on some sampling problems."""

    variant: SamplingVariant

    block: ClassVar[int] = _BLOCK
    most: ClassVar[int] = 4

    def run(self) -> list[SamplingResult]:
        wanted, solved = set(self.seeds), dict[int, SamplingResult]()
        for block in dict.fromkeys(seed // _BLOCK for seed in self.seeds):
            solved |= self._solve(block, wanted)
        return [solved[seed] for seed in self.seeds]

    def _solve(self, block: int, wanted: Container[int]) -> dict[int, SamplingResult]:
        """Solve a whole block; the results of those of its problems that are asked for."""
        seeds = _seeds(block)
        if self.variant.source.runs_network:  # slow, and the sums of a row do not depend on the others
            seeds = [seed for seed in seeds if seed in wanted]
        problems = SamplingProblems.drawn(self.variant, seeds)
        best = _optima_of(self.variant, block)
        solution = self.agent.solve(problems, seeds)
        error, reference = problems.error(solution.sigmas), problems.error(problems.reference())
        parts = problems.parts(solution.sigmas)
        shared: dict[str, Any] = {
            **self.identity(),
            "training_steps": self.cost,
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


class SamplingFamily:
    """The adapter of :mod:`schedrl.environments.sampling`."""

    name = "sampling"
    num_seeds = 256
    result = SamplingResult

    def overrides(
        self,
        variant: SamplingVariant,
        *,
        optimizer_steps: int | None,
        sampler_steps: int | None,
        reference: str | None,
        quality: SampleSpec | None,
    ) -> dict[str, Any]:
        if reference is not None:
            raise SchedrlError("reference: sampling agents are compared with the optimum and the learned one")
        for option, value in (("quality", quality), ("budget.optimizer_steps", optimizer_steps)):
            if value is not None:
                raise SchedrlError(f"{option}: nothing is trained in {variant.id}")
        return (
            {} if sampler_steps is None else {"steps": {"minimum": sampler_steps, "maximum": sampler_steps}}
        )

    def default_agents(
        self, variant: SamplingVariant, seeds: Sequence[int]
    ) -> tuple[dict[str, Agent], tuple[str, ...]]:
        probe = _probe(variant, tuple(seeds))
        agents: dict[str, Agent] = {}
        notes = []
        for agent in default_agents(variant):
            try:
                probe.error(agent.cheapest().solve(probe).sigmas)
            except SchedrlError as error:
                if agent.role == "searched":  # a search applies to all sources
                    notes.append(f"left out {agent.name}: {error}")
                continue
            agents[agent.name] = agent
        return agents, tuple(notes)

    def prepared(self, part: Part) -> Part:
        return part

    def task(self, part: Part, label: str, agent: Agent, form: Form) -> SamplingTask:
        variant = of_family(part.variant, SamplingVariant)
        try:
            probe = _probe(variant, part.seeds)
            probe.error(agent.cheapest().solve(probe).sigmas)
        except SchedrlError as error:
            if str(error).startswith("agent "):
                raise
            raise SchedrlError(f"agent '{label}': {error}") from None
        agent.check_held_out(part.seeds, label)
        return SamplingTask(
            label, agent, variant, part.seeds, agent.definition_hash()[:16], agent.search_cost
        )

    def summarise(
        self, results: Sequence[SamplingResult], reference: str | None = None, notes: Sequence[str] = ()
    ) -> SamplingSummary:
        return summarise_sampling(results)

    def amount(self, variant: SamplingVariant, runs: int) -> str:
        return f"{runs} sources"


@lru_cache(maxsize=4)
def _probe(variant: SamplingVariant, seeds: tuple[int, ...]) -> SamplingProblems:
    """A few of the problems, such that what applies to them applies to all: the least N, an odd and an even one."""
    variant = variant.model_copy(update={"source": variant.source.probe(variant.sampler)})
    blocks = dict.fromkeys(seed // _BLOCK for seed in seeds or (FIRST_SEED,))
    problems = SamplingProblems.drawn(variant, [seed for block in blocks for seed in _seeds(block)])
    odd = problems.total % 2
    return problems.take(np.unique([problems.total.argmin(), odd.argmin(), odd.argmax()]))


def _seeds(block: int) -> list[int]:
    return list(range(block * _BLOCK, (block + 1) * _BLOCK))


@lru_cache(maxsize=64)
def _optima_of(variant: SamplingVariant, block: int) -> list[float | None]:
    """The least error of each problem of a block, where it is known."""
    problems = SamplingProblems.drawn(variant, _seeds(block))
    if not problems.batch.knows_optimum:
        # The optimum of the Gaussian that stands for a network's data is not the network's.
        return [None] * len(problems)
    try:
        grids = OptimumRule().grids(problems)
    except SchedrlError:
        return [None] * len(problems)
    return [_finite(error) for error in problems.error(grids).tolist()]


def _finite(error: float) -> float:
    """An error as it is written down; a grid that leaves nothing of a direction has an infinite one."""
    return float(min(error, _LARGEST))
