"""Benchmarks in training environments: an agent decides what a network trains on, and its test bound is measured.

Every agent trains networks on the same data with the same number of optimizer steps, from the same seeds, none of
which was used to train an agent. What counts is the bound on *test* images, which no agent is rewarded for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from schedrl import data
from schedrl.benchmark.evaluation import MAX_RUNS, chunks, evaluate
from schedrl.benchmark.results import RowKey, TrainingResult
from schedrl.benchmark.tasks import Part, Task
from schedrl.benchmark.training_summary import TrainingSummary, summarise_training
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import of_family
from schedrl.errors import SchedrlError
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.metrics.population_samples import resolved
from schedrl.policies.agents import Agent, Form, default_agents
from schedrl.provenance import provenance


@dataclass(frozen=True)
class TrainingTask(Task):
    """One agent in one form in a training environment.

    Attributes:
        form: How the agent is measured.
        samples: What to draw from every trained network and measure.
        device: Torch device of the networks.
    """

    variant: TrainingVariant
    form: Form = "exact"
    samples: SampleSpec | None = None
    device: str = "cpu"

    most: ClassVar[int] = MAX_RUNS

    @property
    def doing(self) -> str:
        return f"{self.label} ({self.form})"

    @property
    def row(self) -> RowKey:
        return self.label, self.agent_hash, self.form, self.samples

    @property
    def measured(self) -> TrainingVariant:
        """The environment in which the agent acts."""
        return self.agent.measured_in(self.variant, self.form)

    def run(self) -> list[TrainingResult]:
        measured = self.measured
        episodes = [
            episode
            for part in chunks(self.seeds)
            for episode in evaluate(
                self.agent.policy(measured, part), measured, part, device=self.device, samples=self.samples
            )
        ]
        shared: dict[str, Any] = {
            **self.identity(),
            "form": self.form,
            "protocol": measured.protocol_fingerprint(),
            "reward": self.variant.reward.kind,
            "search_steps": self.cost,
            **provenance(self.device),
        }
        return [
            TrainingResult.model_validate(
                {**episode.model_dump(by_alias=True), "seconds": round(episode.seconds, 3), **shared}
            )
            for episode in episodes
        ]


class TrainingFamily:
    """The adapter of :mod:`schedrl.environments.training`."""

    name = "training"
    num_seeds = 20
    result = TrainingResult

    def overrides(
        self,
        variant: TrainingVariant,
        *,
        optimizer_steps: int | None,
        sampler_steps: int | None,
        reference: str | None,
        quality: SampleSpec | None,
    ) -> dict[str, Any]:
        if sampler_steps is not None:
            raise SchedrlError(f"budget.sampler_steps: there is no sampler in {variant.id}")
        if optimizer_steps is None:
            return {}
        phases = variant.episode.phases
        if optimizer_steps % phases:
            raise SchedrlError(
                f"budget.optimizer_steps: must be a multiple of the {phases} phases of {variant.id} "
                f"(got {optimizer_steps})"
            )
        return {"episode.steps_per_phase": optimizer_steps // phases}

    def default_agents(
        self, variant: TrainingVariant, seeds: Sequence[int]
    ) -> tuple[dict[str, Agent], tuple[str, ...]]:
        return {agent.name: agent for agent in default_agents(variant)}, ()

    def prepared(self, part: Part) -> Part:
        variant = of_family(part.variant, TrainingVariant)
        data.ensure(variant.data)
        return part if part.samples is None else replace(part, samples=resolved(part.samples, variant.data))

    def task(self, part: Part, label: str, agent: Agent, form: Form) -> TrainingTask:
        variant = of_family(part.variant, TrainingVariant)
        if variant.test_bound is None:
            raise SchedrlError(f"{variant.id}: has no test_bound, by which agents are measured")
        agent.policy(agent.measured_in(variant, form))  # raises if it cannot act there
        agent.check_held_out(part.seeds, label)
        digest, cost = agent.definition_hash(), agent.search_cost
        return TrainingTask(label, agent, variant, part.seeds, digest, cost, form, part.samples, part.device)

    def summarise(
        self, results: Sequence[TrainingResult], reference: str | None = None, notes: Sequence[str] = ()
    ) -> TrainingSummary:
        return summarise_training(results, reference, notes)

    def amount(self, variant: TrainingVariant, runs: int) -> str:
        return f"{runs} runs of {variant.optimizer_steps} optimizer steps"
