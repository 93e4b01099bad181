"""A benchmark as a file or as options of the command line: agents × environments × held-out seeds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from schedrl.benchmark.families import FAMILIES, checked
from schedrl.benchmark.searches import search_tasks
from schedrl.benchmark.tasks import FIRST_SEED, Part, held_out_seeds, labelled
from schedrl.environments.definition import Variant
from schedrl.environments.registration import ready_variant
from schedrl.errors import SchedrlError, Spec, unknown_name
from schedrl.files import read_model
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import Agent, Form, find, slug


class EnvironmentEntry(Spec):
    """An environment of a benchmark; in a file its id alone will do.

    Attributes:
        id: Id of a registered one, or a variant's own ``.toml`` file.
        set: Fields to change, on top of the benchmark's own.
    """

    id: str
    set: dict[str, Any] = Field(default_factory=dict)


class AgentEntry(Spec):
    """An agent of a benchmark; in a file its name alone will do.

    Attributes:
        name: Name in the catalogue, a trained agent's folder, or a ``.toml`` file.
        label: What the table calls it; its own name when absent.
        origin: Written ``from``: the id of another environment, whose shipped policy acts here as it is.
        environments: Ids of those it takes part in; all when absent.
    """

    name: Annotated[str, Field(min_length=1)]
    label: Annotated[str, Field(min_length=1)] | None = None
    origin: Annotated[str | None, Field(alias="from")] = None
    environments: tuple[str, ...] | None = None

    def found(self, env_id: str) -> tuple[str, Agent]:
        """The label and the agent in an environment."""
        agent = find(self.name, self.origin or env_id)
        if self.origin is None:
            return self.label or agent.name, agent
        if agent.files is None:
            raise SchedrlError(
                f"agent '{self.name}': field 'from': only a trained agent comes from another environment "
                f"(got '{self.origin}')"
            )
        return self.label or f"{agent.name}-from-{slug(self.origin)}", agent


class Budget(Spec):
    """Cost of a run; what is left out is the environment's own.

    Attributes:
        optimizer_steps: Optimizer steps of a training run, over all its phases.
        sampler_steps: N, of a sampler.
    """

    optimizer_steps: Annotated[int, Field(ge=1)] | None = None
    sampler_steps: Annotated[int, Field(ge=1)] | None = None


def _named(field: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {field: value} if isinstance(value, str) else value)


class Benchmark(Spec):
    """Agents × environments × held-out seeds.

    Attributes:
        format: Version of the layout.
        description: What the benchmark is for.
        environments: The environments, all of one family.
        agents: The agents; when absent every agent that fits each environment.
        seeds: Number of held-out seeds; when absent that of the family, 20 training runs or 256 sampled sources.
        first_seed: The first of them; the others count up.
        forms: Forms in which hand-made schedules are measured.
        reference: Label of the agent that the others are compared with; when absent the learned one, else the best.
        budget: Cost of a run.
        set: Fields to change in every environment.
        quality: Samples to draw from every trained network and measure; none when absent.
    """

    format: Literal[1] = 1
    description: str = ""
    environments: Annotated[tuple[Annotated[EnvironmentEntry, _named("id")], ...], Field(min_length=1)]
    agents: tuple[Annotated[AgentEntry, _named("name")], ...] | None = None
    seeds: Annotated[int, Field(ge=1, le=100_000)] | None = None
    first_seed: Annotated[int, Field(ge=0)] = FIRST_SEED
    forms: Annotated[tuple[Form, ...], Field(min_length=1)] = ("exact", "action")
    reference: str | None = None
    budget: Budget = Budget()
    set: dict[str, Any] = Field(default_factory=dict)
    quality: SampleSpec | None = None


def read_benchmark(path: Path) -> Benchmark:
    """Read a benchmark file. Paths in it, ``./agent`` say, are relative to its own folder."""
    benchmark = read_model(path, Benchmark, "benchmark file")
    environments = tuple(
        entry.model_copy(update={"id": _located(entry.id, path)}) for entry in benchmark.environments
    )
    agents = benchmark.agents and tuple(
        entry.model_copy(update={"name": _located(entry.name, path)}) for entry in benchmark.agents
    )
    return benchmark.model_copy(update={"environments": environments, "agents": agents})


def _located(name: str, file: Path) -> str:
    """A path as seen from the file's folder; a bare name is one of a catalogue, whatever lies beside the file."""
    beside = file.parent / name
    own = (
        os.path.isfile(beside)
        if name.endswith(".toml")
        else "/" in name and os.path.isfile(beside / "agent.json")
    )
    return str(beside) if own else name


def lay_out(
    benchmark: Benchmark, *, device: str = "cpu", download: bool = False, prefix: str = ""
) -> list[Part]:
    """Check everything that can be checked before any work, in every environment.

    Args:
        benchmark: The benchmark.
        device: Torch device of the networks.
        download: Download image sets that are missing.
        prefix: Put before a field's name in messages.

    Returns:
        A part per environment; the tasks of searches that it names are not in it yet.
    """
    if benchmark.agents is not None and not benchmark.agents:
        raise SchedrlError(f"{prefix}agents: names at least one agent; `schedrl agents` lists them")
    places = [(entry, *_variant(benchmark, entry, download, prefix)) for entry in benchmark.environments]
    if len({variant.family for _, variant, _ in places}) > 1:
        families = ", ".join(f"{variant.id} ({variant.family})" for _, variant, _ in places)
        raise SchedrlError(f"{prefix}environments: all of one family are needed (got {families})")
    known = {name for entry, variant, _ in places for name in (entry.id, variant.id)}
    for agent in benchmark.agents or ():
        for name in agent.environments or ():
            if name not in known:
                raise unknown_name(f"environment of agent '{agent.name}'", name, known)
    parts: list[Part] = []
    names: list[str] = []
    for entry, variant, overrides in places:
        names.append(slug(variant.id))
        number = names.count(names[-1])
        folder = names[-1] if number == 1 else f"{names[-1]}-{number}"
        part = _part(benchmark, entry, variant, overrides, prefix)
        parts.append(replace(part, folder=folder, device=device))
    if benchmark.reference is not None and not any(benchmark.reference in part.agents for part in parts):
        raise SchedrlError(f"{prefix}reference: '{benchmark.reference}' is not among the agents")
    return [_checked(part) for part in parts]


def _variant(
    benchmark: Benchmark, entry: EnvironmentEntry, download: bool, prefix: str
) -> tuple[Variant, dict[str, Any]]:
    """An environment of the benchmark, and the overrides that made it."""
    overrides = {**benchmark.set, **entry.set}
    variant = ready_variant(entry.id, overrides, download=download)
    options = {"reference": benchmark.reference, "quality": benchmark.quality, **vars(benchmark.budget)}
    try:
        changes = FAMILIES[variant.family].overrides(variant, **options)
    except SchedrlError as error:
        raise SchedrlError(f"{prefix}{error}") from None
    if not changes:
        return variant, overrides
    overrides |= changes
    return ready_variant(variant.id, overrides), overrides


def _part(
    benchmark: Benchmark,
    entry: EnvironmentEntry,
    variant: Variant,
    overrides: Mapping[str, Any],
    prefix: str,
) -> Part:
    family = FAMILIES[variant.family]
    seeds = held_out_seeds(benchmark.seeds or family.num_seeds, benchmark.first_seed)
    notes: tuple[str, ...] = ()
    if benchmark.agents is None:
        agents, notes = family.default_agents(variant, seeds)
    else:
        agents = labelled(
            [
                agent.found(variant.id)
                for agent in benchmark.agents
                if agent.environments is None or {entry.id, variant.id} & set(agent.environments)
            ]
        )
        if not agents:
            raise SchedrlError(f"{prefix}agents: none takes part in {variant.id}")
    return Part(
        variant,
        agents,
        tuple(seeds),
        benchmark.forms,
        benchmark.quality,
        reference=benchmark.reference if benchmark.reference in agents else None,
        overrides=overrides,
        notes=notes,
    )


def _checked(part: Part) -> Part:
    """A part with its tasks, all but those of searches, which are only checked."""
    searches = search_tasks([part])[0]
    known = {label: agent for label, agent in part.agents.items() if label not in searches}
    return replace(checked(replace(part, agents=known)), agents=part.agents) if known else part
