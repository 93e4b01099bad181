"""A comparison: which agents, in which forms, on which seeds; run so that nothing is measured twice."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from schedrl import data
from schedrl.benchmark.evaluation import MAX_RUNS, RunResult, chunks, evaluate
from schedrl.benchmark.executors import Executor
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import ResultStore
from schedrl.benchmark.tasks import Step, Work, run_work
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import MissingDataError, SchedrlError
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import Agent, Form, default_agents
from schedrl.provenance import provenance

__all__ = [
    "Entry",
    "MeasureTask",
    "Measurement",
    "Plan",
    "default_entries",
    "make_plan",
    "measure",
    "measurement",
    "run_plan",
    "work_of",
]


@dataclass(frozen=True)
class Entry:
    """An agent in a comparison.

    Attributes:
        label: Its name in the table.
        agent: What it is.
    """

    label: str
    agent: Agent


@dataclass(frozen=True)
class Measurement:
    """A row of the table to be: an entry in one form.

    Attributes:
        entry: The agent.
        form: How it is measured.
        variant: The environment in which.
        agent_hash: Hash of the agent.
        search_steps: What finding it cost, in optimizer steps.
    """

    entry: Entry
    form: Form
    variant: TrainingVariant
    agent_hash: str
    search_steps: int


@dataclass(frozen=True)
class Plan:
    """What will be measured.

    Attributes:
        variant: The environment that the comparison is about.
        seeds: Held-out seeds.
        measurements: The rows.
        notes: What was left out, and why, for people.
        samples: What is drawn from every trained network and measured; None draws nothing.
    """

    variant: TrainingVariant
    seeds: list[int]
    measurements: list[Measurement]
    notes: list[str] = field(default_factory=list)
    samples: SampleSpec | None = None


def make_plan(
    variant: TrainingVariant,
    entries: Sequence[Entry],
    seeds: Sequence[int],
    forms: Sequence[Form],
    samples: SampleSpec | None = None,
) -> Plan:
    """Check everything that can be checked before any work, and lay the work out.

    Args:
        variant: The environment.
        entries: The agents.
        seeds: Held-out seeds.
        forms: Forms asked for; an agent without an exact form acts in any case.
        samples: What to draw from every trained network and measure.

    Raises:
        SchedrlError: Data is missing, samples cannot be measured, an agent's files are damaged or do not fit, two rows
            share a label, a seed was used in training, there is no test bound, or nothing is left to measure.
    """
    if (problem := data.missing(variant.data)) is not None:
        raise MissingDataError(problem)
    if samples is not None:
        from schedrl.benchmark.samples import resolved

        samples = resolved(samples, variant.data)
    # "ppo" stands for the policy that is shipped for the environment.
    entries = [Entry(entry.label, entry.agent.resolved(variant.id)) for entry in entries]
    labels = [entry.label for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise SchedrlError(f"two agents are called '{label}'; name one of them: other-name=FOLDER")
    measurements: list[Measurement] = []
    skipped: dict[str, list[str]] = {}
    for entry in entries:
        offered = entry.agent.forms
        for form in offered if len(offered) == 1 else [form for form in offered if form in forms]:
            try:
                measurements.append(measurement(entry, form, variant, seeds))
            except SchedrlError as error:
                # A hand-made law that the actions cannot express has its exact form; anything else is a mistake.
                if len(offered) == 1 or form == "exact":
                    raise
                skipped.setdefault(_reason(str(error), entry), []).append(entry.label)
    notes = [f"no form `action` for {', '.join(names)}: {reason}" for reason, names in skipped.items()]
    if not measurements:
        raise SchedrlError("; ".join(["nothing to measure", *notes]))
    return Plan(variant, list(seeds), measurements, notes, samples)


def run_plan(
    plan: Plan,
    store: ResultStore[TrainingResult],
    *,
    device: str = "cpu",
    listen: Callable[[Step], None] | None = None,
    executor: Executor | None = None,
) -> list[TrainingResult]:
    """Measure what the store does not hold yet.

    Args:
        plan: The work.
        store: Where results go, as they come.
        device: Torch device of the networks.
        listen: Told of every step.
        executor: Who measures; this process when absent.

    Returns:
        The plan's results, measured now or earlier.
    """
    return run_work(work_of(plan, device), store, executor=executor, listen=listen)


def work_of(plan: Plan, device: str = "cpu") -> list[Work]:
    """A plan's rows as something to be done."""
    return [
        Work(
            {seed: _key(row, plan, seed) for seed in plan.seeds},
            partial(MeasureTask, row, plan.variant, device, plan.samples),
            MAX_RUNS,
        )
        for row in plan.measurements
    ]


@dataclass(frozen=True)
class MeasureTask:
    """Some runs of a row.

    Attributes:
        row: The row.
        variant: The environment that the comparison is about.
        device: Torch device of the networks.
        samples: What to draw and measure.
        seeds: One run each.
    """

    row: Measurement
    variant: TrainingVariant
    device: str
    samples: SampleSpec | None
    seeds: Sequence[int]

    @property
    def doing(self) -> str:
        """The row's name."""
        return f"{self.row.entry.label} ({self.row.form})"

    def run(self) -> list[TrainingResult]:
        """Train and measure."""
        return measure(self.row, self.variant, self.seeds, device=self.device, samples=self.samples)


def measurement(entry: Entry, form: Form, variant: TrainingVariant, seeds: Sequence[int] = ()) -> Measurement:
    """Check that an agent can be measured, and lay it out.

    Args:
        entry: The agent.
        form: How.
        variant: The environment that it is about.
        seeds: Must not have been used in training the agent.

    Raises:
        SchedrlError: It cannot act there, its files are damaged, or a seed is not held out.
    """
    if variant.test_bound is None:
        raise SchedrlError(f"{variant.id}: has no test_bound, by which agents are measured")
    measured = entry.agent.measured_in(variant, form)
    entry.agent.policy(measured)  # complains if it cannot act there
    entry.agent.check_held_out(seeds, entry.label)
    return Measurement(entry, form, measured, entry.agent.definition_hash(), entry.agent.search_cost)


def measure(
    row: Measurement,
    variant: TrainingVariant,
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    samples: SampleSpec | None = None,
) -> list[TrainingResult]:
    """Run a row's episodes.

    Args:
        row: What to measure.
        variant: The environment that it is about.
        seeds: One episode each.
        device: Torch device of the networks.
        samples: What to draw from every trained network and measure.
    """
    runs = [
        run
        for part in chunks(seeds)
        for run in evaluate(
            row.entry.agent.policy(row.variant, part),
            row.variant,
            part,
            device=device,
            samples=samples,
        )
    ]
    return [_as_result(row, variant, run, device) for run in runs]


def _key(row: Measurement, plan: Plan, seed: int) -> Hashable:
    variant = plan.variant
    return row.entry.label, row.agent_hash, row.form, variant.id, variant.fingerprint(), plan.samples, seed


def _as_result(row: Measurement, variant: TrainingVariant, run: RunResult, device: str) -> TrainingResult:
    fields: dict[str, Any] = {
        "agent": row.entry.label,
        "kind": row.entry.agent.kind,
        "agent_hash": row.agent_hash,
        "form": row.form,
        "env_id": variant.id,
        "fingerprint": variant.fingerprint(),
        "protocol": row.variant.protocol_fingerprint(),
        "reward": variant.reward.kind,
        "seed": run.seed,
        "test_bound": run.test_bound,
        "bound": run.bound,
        "return": run.episode_return,
        "diverged": run.diverged,
        "optimizer_steps": run.optimizer_steps,
        "search_steps": row.search_steps,
        "seconds": round(run.seconds, 3),
        "schedule": run.schedule,
        "test_bins": run.test_bins,
        "quality": run.quality,
        **provenance(device),
    }
    return TrainingResult.model_validate(fields)


def _reason(text: str, entry: Entry) -> str:
    """A message without the agent's own name, so that agents left out for one reason share a note."""
    head, separator, _ = text.partition(", not schedule ")
    return head if separator else text.replace(f"agent '{entry.agent.name}'", "it")


def default_entries(variant: TrainingVariant, shipped_label: str = "ppo") -> list[Entry]:
    """Every agent of the catalogue, and the policy that is shipped for the environment, if there is one that fits.

    Searches are left out: each costs as much as a training. A comparison that wants them names them.

    Args:
        variant: The environment.
        shipped_label: What to call the shipped policy.
    """
    return [
        Entry(shipped_label if agent.role == "learned" else agent.name, agent)
        for agent in default_agents(variant)
    ]
