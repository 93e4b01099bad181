"""What a family of environments brings to benchmarks; the two adapters by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from schedrl.benchmark.sampling_family import SamplingFamily
from schedrl.benchmark.summary import Summary
from schedrl.benchmark.tasks import Part, Task
from schedrl.benchmark.training_family import TrainingFamily
from schedrl.errors import SchedrlError
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import Agent, Form


class Family(Protocol):
    """A family of environments in benchmarks: its adapter. Arguments are of the family's own types.

    Attributes:
        name: The family's name in variants.
        num_seeds: Number of held-out seeds of a benchmark that gives none.
        result: Model of its result lines.
    """

    name: str
    num_seeds: int
    result: type[Any]

    def overrides(
        self,
        variant: Any,
        *,
        optimizer_steps: int | None,
        sampler_steps: int | None,
        reference: str | None,
        quality: SampleSpec | None,
    ) -> dict[str, Any]:
        """Overrides that give a run the cost asked for; raises for options that make no sense in the family."""

    def default_agents(self, variant: Any, seeds: Sequence[int]) -> tuple[dict[str, Agent], tuple[str, ...]]:
        """Agents of a benchmark that names none, by label, and notes on what an installed package would add."""

    def prepared(self, part: Part) -> Part:
        """The part with its images checked, and the features named by which samples are measured."""

    def task(self, part: Part, label: str, agent: Agent, form: Form) -> Task:
        """One row, checked before any work.

        Raises:
            SchedrlError: The agent does not apply there, its files are damaged, or a seed was used to find it.
        """

    def summarise(self, results: Any, reference: str | None = None, notes: Sequence[str] = ()) -> Summary:
        """The table."""

    def amount(self, variant: Any, runs: int) -> str:
        """Number of runs, in words."""


FAMILIES: dict[str, Family] = {family.name: family for family in (TrainingFamily(), SamplingFamily())}


def checked(part: Part) -> Part:
    """The part with a task for every row, and notes on forms that were left out.

    Raises:
        SchedrlError: Something in it cannot be measured, or has to be searched for first.
    """
    family = FAMILIES[part.variant.family]
    part = family.prepared(part)
    tasks: list[Task] = []
    skipped: dict[str, list[str]] = {}
    for label, named in part.agents.items():
        agent = named.resolved(part.variant.id)
        only = len(agent.forms) == 1
        for form in agent.forms if only else [form for form in agent.forms if form in part.forms]:
            try:
                tasks.append(family.task(part, label, agent, form))
            except SchedrlError as error:
                # A schedule that the actions cannot represent has its exact form; anything else is a mistake.
                if only or form == "exact":
                    raise
                skipped.setdefault(_reason(str(error), agent), []).append(label)
    notes = [f"no form `action` for {', '.join(names)}: {why}" for why, names in skipped.items()]
    own = {task.label: task.agent.unfinished for task in tasks}
    notes += [f"agent '{label}' {text}" for label, text in own.items() if text is not None]
    if not tasks:
        raise SchedrlError("; ".join(["nothing to measure", *notes]))
    return replace(part, tasks=tuple(tasks), notes=tuple(dict.fromkeys([*part.notes, *notes])))


def _reason(text: str, agent: Agent) -> str:
    """A message without the agent's own name, so that agents left out for one reason share a note."""
    head, separator, _ = text.partition(", not schedule ")
    return head if separator else text.replace(f"agent '{agent.name}'", "it")
