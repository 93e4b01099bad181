"""A comparison as a file: which agents, in which environments, on which seeds, with which budget."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from schedrl.benchmark.sampling_tasks import NUM_SOURCES, SamplingPlan, make_sampling_plan
from schedrl.benchmark.searches import check_searches
from schedrl.benchmark.tasks import FIRST_SEED, NUM_SEEDS, held_out_seeds
from schedrl.benchmark.training_tasks import Entry, Plan, default_entries, make_plan
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import of_family
from schedrl.errors import SchedrlError, Spec, parse, unknown_name
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import Form, SequenceSearchAgent, find, slug

__all__ = [
    "AgentEntry",
    "Benchmark",
    "Budget",
    "EnvironmentEntry",
    "Part",
    "lay_out",
    "read_benchmark",
]

Ready = Callable[[str, dict[str, Any]], TrainingVariant | SamplingVariant]
"""The environment behind an id, changed as overrides say, its data at hand."""


class EnvironmentEntry(Spec):
    """An environment of a comparison; in a file its id alone will do.

    Attributes:
        id: Id of a registered one, or a variant's own ``.toml`` file.
        set: Fields to change, on top of the protocol's own.
    """

    id: str
    set: dict[str, Any] = Field(default_factory=dict)


class AgentEntry(Spec):
    """An agent of a comparison; in a file its name alone will do.

    Attributes:
        name: Of the catalogue, or a trained agent's folder, or a ``.toml`` file.
        label: What the table calls it; its own name when absent.
        origin: Written ``from``: the id of another environment, whose shipped policy acts here as it is.
        environments: Ids of those it takes part in; all when absent.
    """

    name: Annotated[str, Field(min_length=1)]
    label: Annotated[str, Field(min_length=1)] | None = None
    origin: Annotated[str | None, Field(alias="from")] = None
    environments: tuple[str, ...] | None = None


class Budget(Spec):
    """What a run may cost; what is left out is the environment's own.

    Attributes:
        optimizer_steps: Of a training run, over all its phases.
        sampler_steps: N, of a sampler.
    """

    optimizer_steps: Annotated[int, Field(ge=1)] | None = None
    sampler_steps: Annotated[int, Field(ge=1)] | None = None


def _named(field: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {field: value} if isinstance(value, str) else value)


class Benchmark(Spec):
    """Contents of a protocol file.

    Attributes:
        format: Version of the layout.
        description: What the comparison is for.
        environments: Where; all of one family.
        agents: Who; when absent every agent that fits each environment.
        seeds: Number of held-out seeds; when absent 20, or 256 sources of a sampling environment.
        first_seed: The others count up.
        forms: How hand-made laws are measured.
        reference: Label of the agent that the others are compared with; when absent the learned one, else the best.
        budget: What a run may cost.
        set: Fields to change in every environment.
        quality: Samples to draw from every trained network and measure; none when absent.
    """

    format: Literal[1] = 1
    description: str = ""
    environments: Annotated[tuple[Annotated[EnvironmentEntry, _named("id")], ...], Field(min_length=1)]
    agents: tuple[Annotated[AgentEntry, _named("name")], ...] | None = None
    seeds: Annotated[int, Field(ge=1)] | None = None
    first_seed: Annotated[int, Field(ge=0)] = FIRST_SEED
    forms: Annotated[tuple[Form, ...], Field(min_length=1)] = ("exact", "action")
    reference: str | None = None
    budget: Budget = Budget()
    set: dict[str, Any] = Field(default_factory=dict)
    quality: SampleSpec | None = None


@dataclass(frozen=True)
class Part:
    """A protocol in one of its environments, checked.

    Attributes:
        plan: What will be measured.
        overrides: Changes that made the plan's variant out of the registered one.
        reference: Label of the agent that the others are compared with.
        folder: Name of its own, for a protocol with several environments.
        notes: What was left out that an installed package would bring, for people.
        entries: The agents, searches included.
        searches: Labels of those that have to be searched for first, which the plan is without until then.
    """

    plan: Plan | SamplingPlan
    overrides: dict[str, Any]
    reference: str | None
    folder: str
    notes: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    searches: tuple[str, ...] = ()


def read_benchmark(path: Path) -> Benchmark:
    """Read a protocol file. Paths in it, ``./agent`` say, are seen from its own folder.

    Raises:
        SchedrlError: It cannot be read, or says something that is not allowed.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SchedrlError(f"protocol file {path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise SchedrlError(f"protocol file {path}: is not a TOML file: {error}") from None
    protocol = parse(Benchmark, content, f"protocol file {path}")
    environments = tuple(
        entry.model_copy(update={"id": _located(entry.id, path)}) for entry in protocol.environments
    )
    agents = protocol.agents and tuple(
        entry.model_copy(update={"name": _located(entry.name, path)}) for entry in protocol.agents
    )
    return protocol.model_copy(update={"environments": environments, "agents": agents})


def _located(name: str, file: Path) -> str:
    """A path as seen from the file's folder; a bare name is one of a catalogue, whatever lies beside the file."""
    beside = file.parent / name
    own = beside.is_file() if name.endswith(".toml") else "/" in name and (beside / "agent.json").is_file()
    return str(beside) if own else name


def lay_out(protocol: Benchmark, ready: Ready, prefix: str = "") -> list[Part]:
    """Check everything that can be checked before any work, in every environment.

    Args:
        protocol: The comparison.
        ready: Makes environments.
        prefix: Put before a field's name in messages.

    Raises:
        SchedrlError: Names the field, the value and what is allowed.
    """
    if protocol.agents is not None and not protocol.agents:
        raise SchedrlError(f"{prefix}agents: names at least one agent; `schedrl agents` lists them")
    places = [
        (entry, overrides, ready(entry.id, overrides))
        for entry in protocol.environments
        for overrides in [_overrides(protocol, entry, ready, prefix)]
    ]
    if len({variant.family for _, _, variant in places}) > 1:
        families = ", ".join(f"{variant.id} ({variant.family})" for _, _, variant in places)
        raise SchedrlError(f"{prefix}environments: all of one family are needed (got {families})")
    known = {name for entry, _, variant in places for name in (entry.id, variant.id)}
    for agent in protocol.agents or ():
        for name in agent.environments or ():
            if name not in known:
                raise unknown_name(f"environment of agent '{agent.name}'", name, known)
    made: list[Part] = []
    names: list[str] = []
    for entry, overrides, variant in places:
        names.append(slug(variant.id))
        number = names.count(names[-1])
        folder = names[-1] if number == 1 else f"{names[-1]}-{number}"
        made.append(_comparison(protocol, entry, variant, overrides, folder, prefix))
    labels = [item.label for comparison in made for item in comparison.entries]
    if protocol.reference is not None and protocol.reference not in labels:
        raise SchedrlError(f"{prefix}reference: '{protocol.reference}' is not among the agents")
    return made


def _overrides(protocol: Benchmark, entry: EnvironmentEntry, ready: Ready, prefix: str) -> dict[str, Any]:
    overrides = {**protocol.set, **entry.set}
    budget = protocol.budget
    if budget == Budget():
        return overrides
    variant = ready(entry.id, overrides)
    if isinstance(variant, SamplingVariant):
        if budget.optimizer_steps is not None:
            raise SchedrlError(f"{prefix}budget.optimizer_steps: nothing is trained in {variant.id}")
        number = budget.sampler_steps
        return {**overrides, "steps": {"minimum": number, "maximum": number}}
    if budget.sampler_steps is not None:
        raise SchedrlError(f"{prefix}budget.sampler_steps: there is no sampler in {variant.id}")
    assert budget.optimizer_steps is not None
    steps, rest = divmod(budget.optimizer_steps, variant.episode.phases)
    if rest or not steps:
        raise SchedrlError(
            f"{prefix}budget.optimizer_steps: must be a multiple of the {variant.episode.phases} phases of "
            f"{variant.id} (got {budget.optimizer_steps})"
        )
    return {**overrides, "episode.steps_per_phase": steps}


def _comparison(
    protocol: Benchmark,
    entry: EnvironmentEntry,
    variant: TrainingVariant | SamplingVariant,
    overrides: Mapping[str, Any],
    folder: str,
    prefix: str,
) -> Part:
    chosen = None if protocol.agents is None else _entries(protocol.agents, entry, variant)
    if chosen is not None and not chosen:
        raise SchedrlError(f"{prefix}agents: none takes part in {variant.id}")
    notes: list[str] = []
    plan: Plan | SamplingPlan
    if isinstance(variant, SamplingVariant):
        from schedrl.benchmark.sampling_tasks import default_entries as sampling_entries

        if protocol.reference is not None:
            raise SchedrlError(
                f"{prefix}reference: sampling agents are compared with the optimum and the learned one"
            )
        if protocol.quality is not None:
            raise SchedrlError(f"{prefix}quality: nothing is trained in {variant.id}")
        seeds = held_out_seeds(protocol.seeds or NUM_SOURCES, protocol.first_seed)
        if chosen is None:
            chosen, notes = sampling_entries(variant, seeds)
        plan = make_sampling_plan(variant, chosen, seeds)
    else:
        seeds = held_out_seeds(protocol.seeds or NUM_SEEDS, protocol.first_seed)
        chosen = default_entries(variant) if chosen is None else chosen
        known = [item for item in chosen if not isinstance(item.agent, SequenceSearchAgent)]
        if len(known) < len(chosen):
            check_searches(variant, chosen)
        plan = (
            make_plan(variant, known, seeds, protocol.forms, protocol.quality)
            if known
            else Plan(variant, seeds, [])
        )
    labels = [item.label for item in chosen]
    searches = tuple(item.label for item in chosen if isinstance(item.agent, SequenceSearchAgent))
    reference = protocol.reference if protocol.reference in labels else None
    return Part(plan, dict(overrides), reference, folder, tuple(notes), tuple(chosen), searches)


def with_found(comparison: Part, protocol: Benchmark, entries: list[Entry]) -> Part:
    """A comparison whose searches have been done.

    Args:
        comparison: From :func:`lay_out`.
        protocol: That it was laid out from.
        entries: All of its agents, what was found in the place of searches.

    Raises:
        SchedrlError: Something that was found cannot be measured.
    """
    variant = of_family(comparison.plan.variant, TrainingVariant)
    plan = make_plan(variant, entries, comparison.plan.seeds, protocol.forms, protocol.quality)
    return replace(comparison, plan=plan, searches=())


def _entries(
    agents: tuple[AgentEntry, ...], where: EnvironmentEntry, variant: TrainingVariant | SamplingVariant
) -> list[Entry]:
    entries = []
    for agent in agents:
        if agent.environments is not None and not {where.id, variant.id} & set(agent.environments):
            continue
        found = find(agent.name, agent.origin or variant.id)
        if agent.origin is None:
            label = found.name
        else:
            if found.kind != "trained":
                raise SchedrlError(
                    f"agent '{agent.name}': field 'from': only a trained agent comes from another environment "
                    f"(got '{agent.origin}')"
                )
            label = f"{found.name}-from-{slug(agent.origin)}"
        entries.append(Entry(agent.label or label, found))
    return entries
