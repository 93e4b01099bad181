"""Agents by name: the catalogue in ``agents/``, and the folders of trained ones."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from schedrl.catalogue import folder
from schedrl.diffusion.ava import AVALaw
from schedrl.environments.base import Variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec, parse, unknown_name
from schedrl.policies.plans import AnyPlan
from schedrl.policies.searches import AnySearch
from schedrl.policies.sequence_specs import AnySequenceSearch
from schedrl.schedules import AnySchedule

__all__ = [
    "SEQUENCE",
    "AVAAgent",
    "AVADSCAgent",
    "Agent",
    "GridAgent",
    "PPOAgent",
    "RandomAgent",
    "ScheduleAgent",
    "ScheduleSearchAgent",
    "SearchAgent",
    "SequenceAgent",
    "TrainedAgent",
    "acts_in",
    "catalogue",
    "definition_hash",
    "find",
    "slug",
]


SEQUENCE = "sequence.json"
"""What a search's result is called in its folder."""


class _Named(Spec):
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    description: str = ""


class ScheduleAgent(_Named):
    """A fixed hand-made schedule, whatever is observed.

    Attributes:
        schedule: The schedule.
    """

    kind: Literal["schedule"] = "schedule"
    schedule: AnySchedule


class AVAAgent(_Named, AVALaw):
    """Paper A's controller: K moves with the gradient norm, once per phase.

    Attributes:
        phases: Phases in which it acts when the environment does not set them.
    """

    kind: Literal["ava"] = "ava"
    phases: Annotated[int, Field(ge=1)] = 8


class AVADSCAgent(_Named, AVALaw):
    """AVA's controller, and DSC's γ and λ held constant: for environments with the action kind ``dsc``.

    Attributes:
        gamma: γ.
        boost: λ.
        search_steps: Optimizer steps that finding these constants cost, over all training runs; 0 for a guess.
    """

    kind: Literal["ava-dsc"] = "ava-dsc"
    search_steps: Annotated[int, Field(ge=0)] = 0
    gamma: Annotated[float, Field(ge=1e-6, le=1e6)]
    boost: Annotated[float, Field(ge=1e-6, le=1e6)]


class GridAgent(_Named):
    """A hand-made way of placing a sampler's steps, given the source.

    Attributes:
        plan: How the grid is found.
    """

    kind: Literal["grid"] = "grid"
    plan: AnyPlan


class SearchAgent(_Named):
    """A search over grids, source by source.

    Attributes:
        search: How, and how many sampler runs it may take.
    """

    kind: Literal["search"] = "search"
    search: AnySearch


class SearchPoint(Spec):
    """Where a search stood after a round.

    Attributes:
        optimizer_steps: Spent by then.
        best: What its best candidate so far returned more than the reference did on the seeds of its round (than the
            round's mean, where the reference was dropped); chance flatters it.
    """

    optimizer_steps: Annotated[int, Field(ge=0)]
    best: float


class SequenceAgent(_Named):
    """Actions that a search found, taken in order whatever is observed.

    Attributes:
        env_id: The environment that it was searched in.
        fingerprint: Of that environment.
        actions: One row per environment step of an episode; a discrete action is a row of one whole number.
        search: The search and its settings.
        seed: Of the search.
        search_steps: Optimizer steps that it spent.
        history: Its course.
    """

    kind: Literal["sequence"] = "sequence"
    env_id: str
    fingerprint: str
    actions: Annotated[tuple[Annotated[tuple[float, ...], Field(min_length=1)], ...], Field(min_length=1)]
    search: AnySequenceSearch
    seed: Annotated[int, Field(ge=0)]
    search_steps: Annotated[int, Field(ge=0)]
    history: tuple[SearchPoint, ...] = ()


class ScheduleSearchAgent(_Named):
    """A search over action sequences, to be done in the environment at hand before it is measured.

    Attributes:
        search: How.
        budget: Optimizer steps that it may spend; ``"ppo"``: what the training of the shipped policy spent.
        seed: Fixes everything random.
    """

    kind: Literal["schedule-search"] = "schedule-search"
    search: AnySequenceSearch
    budget: Annotated[int, Field(ge=1)] | Literal["ppo"] = "ppo"
    seed: Annotated[int, Field(ge=0)] = 0


class RandomAgent(_Named):
    """Actions drawn evenly from the action space."""

    kind: Literal["random"] = "random"


class PPOAgent(_Named):
    """PPO's shipped policy for the environment, from ``agents/trained/``; its file also holds hyperparameters."""

    kind: Literal["ppo"] = "ppo"
    defaults: dict[str, Any] = Field(default_factory=dict)
    environments: dict[str, dict[str, Any]] = Field(default_factory=dict)


class TrainedAgent(_Named):
    """A trained policy in a folder.

    Attributes:
        path: The folder, with ``agent.json`` and ``policy.safetensors``.
    """

    kind: Literal["trained"] = "trained"
    path: str


Agent = (
    ScheduleAgent
    | AVAAgent
    | AVADSCAgent
    | GridAgent
    | SearchAgent
    | SequenceAgent
    | ScheduleSearchAgent
    | RandomAgent
    | PPOAgent
    | TrainedAgent
)
_KINDS: dict[str, type[Agent]] = {
    "schedule": ScheduleAgent, "ava": AVAAgent, "ava-dsc": AVADSCAgent, "grid": GridAgent,
    "search": SearchAgent, "random": RandomAgent,
    "sequence": SequenceAgent, "schedule-search": ScheduleSearchAgent,
    "ppo": PPOAgent, "trained": TrainedAgent,
}  # fmt: skip

_FAMILY = {
    "schedule": "training", "ava": "training", "sequence": "training", "schedule-search": "training",
    "grid": "sampling", "search": "sampling",
}  # fmt: skip
"""The family of environments that a kind of agent is for; the others act in either."""


def acts_in(agent: Agent, variant: Variant) -> bool:
    """Whether a kind of agent is for an environment: for its family, and AVA-DSC for actions that set both."""
    if isinstance(agent, AVADSCAgent):
        return isinstance(variant, TrainingVariant) and variant.action.kind == "dsc"
    return _FAMILY.get(agent.kind, variant.family) == variant.family


def definition_hash(agent: Agent) -> str:
    """SHA-256 of everything that an agent's definition says but its description; a trained one has its weights'."""
    definition = json.dumps(agent.model_dump(mode="json", exclude={"description"}), sort_keys=True)
    return hashlib.sha256(definition.encode()).hexdigest()


def parse_agent(definition: Mapping[str, Any], source: str) -> Agent:
    """Validate one agent's definition."""
    kind = str(definition.get("kind", ""))
    if kind not in _KINDS:
        raise SchedrlError(f"{source}: field 'kind': {unknown_name('agent kind', kind, _KINDS)}")
    return parse(_KINDS[kind], definition, source)


@cache
def catalogue() -> dict[str, Agent]:
    """The agents of ``agents/*.toml``, by name."""
    agents: dict[str, Agent] = {}
    for path in sorted(folder("agents").glob("*.toml")):
        with path.open("rb") as file:
            agent = parse_agent(tomllib.load(file), path.name)
        agents[agent.name] = agent
    return agents


def slug(env_id: str) -> str:
    """Name of an environment in paths: its id without the namespace.

    Examples:
        >>> slug("schedrl/DigitsKnots-v0")
        'DigitsKnots-v0'
    """
    return env_id.rsplit("/", 1)[-1]


def find(name: str, env_id: str) -> Agent:
    """Look an agent up: a name in the catalogue, a ``.toml`` file, or the folder of a trained or a searched one.

    ``ppo`` becomes the trained policy shipped for ``env_id``.

    Raises:
        SchedrlError: There is no such agent.
    """
    path = Path(name)
    if (path / "agent.json").is_file():
        label = re.sub(r"[^\w.-]+", "-", path.resolve().name) or "agent"
        return TrainedAgent(name=label, path=str(path))
    if (path / SEQUENCE).is_file():
        path = path / SEQUENCE
    if path.suffix == ".json" and path.is_file():
        try:
            return parse_agent(dict(json.loads(path.read_text(encoding="utf-8"))), str(path))
        except (OSError, ValueError, TypeError) as error:
            raise SchedrlError(f"agent file {path}: cannot be read: {' '.join(str(error).split())}") from None
    if path.suffix == ".toml" and path.is_file():
        try:
            definition = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SchedrlError(f"agent file {path}: not a TOML file: {error}") from None
        return parse_agent(definition, str(path))
    agents = catalogue()
    if name not in agents:
        if path.is_dir():
            raise SchedrlError(f"agent folder {path}: has no agent.json or {SEQUENCE}")
        raise unknown_name("agent", name, agents)
    agent = agents[name]
    if agent.kind != "ppo":
        return agent
    trained = folder("agents") / "trained" / f"{agent.name}-{slug(env_id)}"
    if not (trained / "agent.json").is_file():
        shipped = sorted(p.parent.name for p in trained.parent.glob("*/agent.json"))
        raise SchedrlError(
            f"agent 'ppo' has no shipped policy for {env_id}; train one (schedrl train --env {env_id}) and give its "
            f"folder. Shipped: {', '.join(shipped) or 'none'}"
        )
    return TrainedAgent(name=agent.name, path=str(trained), description=agent.description)
