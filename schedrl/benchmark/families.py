"""What a family of environments brings to benchmarks; the two adapters by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from schedrl.benchmark.sampling_family import SamplingFamily
from schedrl.benchmark.summary import Summary
from schedrl.benchmark.tasks import Part, Task
from schedrl.benchmark.training_family import TrainingFamily
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import Agent, Form

__all__ = ["FAMILIES", "Family", "checked"]


class Family(Protocol):
    """A family of environments in benchmarks. Arguments are of the family's own types."""

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
        """Agents of a benchmark that names none, by label, and notes on what was left out."""

    def task(
        self,
        variant: Any,
        label: str,
        agent: Agent,
        form: Form,
        *,
        seeds: Sequence[int] = (),
        device: str = "cpu",
    ) -> Task:
        """One row, checked before any work."""

    def checked(self, part: Part) -> Part:
        """The part with a task for every row, everything checked that can be before any work."""

    def summarise(self, results: Any, reference: str | None = None, notes: Sequence[str] = ()) -> Summary:
        """The table."""

    def amount(self, variant: Any, runs: int) -> str:
        """Number of runs, in words."""


FAMILIES: dict[str, Family] = {family.name: family for family in (TrainingFamily(), SamplingFamily())}


def checked(part: Part) -> Part:
    """The part with a task for every row.

    Raises:
        SchedrlError: Something in it cannot be measured, or has to be searched for first.
    """
    return FAMILIES[part.variant.family].checked(part)
