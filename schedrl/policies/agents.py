"""Agents: what is named, compared and saved. The catalogue in ``agents/``, and the folders of trained agents."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from schedrl.catalogue import folder
from schedrl.diffusion.ava import AVALaw
from schedrl.environments.definition import Variant
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.training.actions import ChoiceAction, DSCAction, GainAction
from schedrl.environments.training.observations import ObservationSpec
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec, parse, unknown_name
from schedrl.files import read_object
from schedrl.policies.grid_rules import AnyGridRule
from schedrl.policies.grid_search import AnyGridSearch, Solution
from schedrl.policies.policy import (
    AVADSCLaw,
    AVADSCPolicy,
    AVAPolicy,
    Policy,
    RandomPolicy,
    SchedulePolicy,
    SequencePolicy,
    walk,
)
from schedrl.policies.sequence_proposals import AnySequenceSearch
from schedrl.schedules import AnySchedule, Schedule

if TYPE_CHECKING:
    from schedrl.policies.agent_files import AgentFile


SEQUENCE = "sequence.json"
"""File of a search's result in its folder."""

SEARCH_SEEDS = 1_000_000
"""Searches draw the seeds of their runs from below this number; held-out seeds begin here."""

Form = Literal["action", "exact"]
"""How a hand-made agent is measured in a training environment.

``action``: through the environment's own actions, as closely as they can represent it; that is what a learned agent
could have done. ``exact``: the schedule as written. The environment is the same but for its action (and, for AVA, the
phases and the observation); data, network, training, measurement and optimizer steps are untouched. Beating the exact
form is what counts; the action form shows what the action space alone costs or gains.
"""

Role = Literal["learned", "hand-made", "searched", "random"]
"""What an agent is to the question whether learning was worth it."""

Solver = Callable[[SamplingProblems, Sequence[int]], Solution]
"""Gives every problem a grid; the seeds, one per problem, are those of the agent's own random numbers."""


class Agent(Spec):
    """Base of all kinds of agent, and what the rest of the package asks of them.

    Attributes:
        name: Name in the catalogue.
        description: One line for people.
        kind: Tells the kinds apart.
        families: Families of environments that this kind acts in.
        forms: Forms in which it is measured in a training environment, the first by default.
        role: What it is to the question whether learning was worth it.
        as_costly_as_training: Whether it first has to be searched for, at the cost of a training.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    description: str = ""
    kind: str
    families: ClassVar[tuple[str, ...]] = ("training",)
    forms: ClassVar[tuple[Form, ...]] = ("action",)
    role: ClassVar[Role] = "hand-made"
    as_costly_as_training: ClassVar[bool] = False

    @property
    def search_cost(self) -> int:
        """Optimizer steps that finding or training it took; sampler steps, where nothing is trained."""
        steps: int = getattr(self, "search_steps", 0)
        return steps

    @property
    def unfinished(self) -> str | None:
        """What to tell its user, unless its training has come to its end."""
        return None

    def definition(self) -> object:
        """Everything in the definition but the description, as plain data; the hash of a trained agent's weights."""
        return self.model_dump(mode="json", exclude={"description"})

    def definition_hash(self) -> str:
        """SHA-256 of everything in the definition but the description; of a trained agent's weights."""
        return hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()

    def acts_in(self, variant: Variant) -> bool:
        """Whether this kind of agent is for an environment."""
        return variant.family in self.families

    @property
    def files(self) -> Path | None:
        """The folder of a trained agent."""
        return None

    def relocated(self, path: str) -> Agent:
        """The agent with another path to its folder, if it has one."""
        return self

    def resolved(self, env_id: str) -> Agent:
        """The agent itself; for ``ppo``, the policy that is shipped for the environment."""
        return self

    def cheapest(self) -> Agent:
        """The agent itself; a search of grids, cut down to its least, applies to the same sources."""
        return self

    def check_held_out(self, seeds: Sequence[int], label: str) -> None:
        """Raise if a seed was used to find or train the agent.

        Args:
            seeds: Seeds that it is to be measured on.
            label: What the message calls it.
        """

    def measured_in(self, variant: TrainingVariant, form: Form) -> TrainingVariant:
        """The environment in which the agent is measured in one of its forms.

        Args:
            variant: The environment that the benchmark is about.
            form: How.

        Examples:
            >>> from schedrl.environments.registration import training_variant
            >>> knots = training_variant("schedrl/DigitsKnots-v0")
            >>> find("cosine", knots.id).measured_in(knots, "exact").action.kind
            'choice'
            >>> find("ava-prose", knots.id).measured_in(knots, "exact").episode.phases
            8
        """
        if form not in self.forms:
            raise SchedrlError(f"agent '{self.name}': only hand-made schedules have an exact form")
        if form == "action":
            return variant
        # The kernel brings its own T; without the kernel it has to be said.
        fields = {name: getattr(variant, name) for name in type(variant).model_fields}
        changed = {**fields, **self._exact_changes(variant), "num_train_timesteps": variant.timesteps}
        exact = TrainingVariant(**changed)
        assert exact.protocol_fingerprint() == variant.protocol_fingerprint()
        return exact

    def _exact_changes(self, variant: TrainingVariant) -> dict[str, Any]:
        """Fields of the environment in which the agent acts exactly as written."""
        raise NotImplementedError

    def policy(self, variant: Variant, seed: int | Sequence[int] = 0) -> Policy:
        """The policy by which the agent acts in an environment.

        Args:
            variant: The environment.
            seed: Of the agent's own random numbers, one for all runs or one for each; only ``random`` has any.

        Raises:
            SchedrlError: The agent cannot act there: the actions cannot represent its schedule, an observation that
                it needs is not shown, or its files are damaged or made for other spaces.

        Examples:
            >>> from schedrl.environments.registration import variant_of
            >>> policy = find("random", "").policy(variant_of("schedrl/DigitsKnots-v0"), seed=1)
            >>> policy.predict([[0.0] * 10])[0].shape
            (1, 10)
        """
        if variant.family not in self.families:
            raise SchedrlError(
                f"agent '{self.name}': a {self.kind} is not for environments of the family '{variant.family}', as "
                f"{variant.id}; `schedrl agents` says which is for what"
            )
        return self._policy(variant, seed)

    def _policy(self, variant: Any, seed: int | Sequence[int]) -> Policy:
        """The policy in an environment of one of :attr:`families`."""
        raise NotImplementedError

    def solve(self, problems: SamplingProblems, seeds: Sequence[int] | None = None) -> Solution:
        """Place the steps of every sampling problem.

        A problem's grid does not depend on the other problems.

        Args:
            problems: The problems.
            seeds: Of the agent's own random numbers, one per problem; 0, 1, … when absent.
        """
        solver = self._solver(problems)  # loads a trained policy, which does not count as time of solving
        began = time.perf_counter()
        found = solver(problems, range(len(problems)) if seeds is None else seeds)
        return Solution(found.sigmas, found.evaluations, time.perf_counter() - began)

    def _solver(self, problems: SamplingProblems) -> Solver:
        policy = self.policy(problems.variant)
        return lambda problems, _: Solution.free(walk(policy, problems))


class ScheduleAgent(Agent):
    """A fixed hand-made schedule, whatever is observed.

    Attributes:
        schedule: The schedule.
    """

    kind: Literal["schedule"] = "schedule"
    schedule: AnySchedule
    forms: ClassVar[tuple[Form, ...]] = ("exact", "action")

    def _exact_changes(self, variant: TrainingVariant) -> dict[str, Any]:
        return {"action": ChoiceAction.of(self.schedule)}

    def _policy(self, variant: TrainingVariant, seed: int | Sequence[int]) -> Policy:
        return SchedulePolicy(self.schedule, variant)


class AVAAgent(Agent, AVALaw):
    """AVA's controller: K moves with the gradient norm, once per phase.

    Attributes:
        phases: Phases in which it acts when the environment does not set them.
    """

    kind: Literal["ava"] = "ava"
    phases: Annotated[int, Field(ge=1, le=10_000)] = 8
    forms: ClassVar[tuple[Form, ...]] = ("exact", "action")

    def measured_in(self, variant: TrainingVariant, form: Form) -> TrainingVariant:
        if form == "action" and variant.episode.phases == 1:
            raise SchedrlError(
                f"agent '{self.name}' moves K between phases, and {variant.id} has one; its exact form has more"
            )
        return super().measured_in(variant, form)

    def _exact_changes(self, variant: TrainingVariant) -> dict[str, Any]:
        episode = variant.episode
        if episode.phases == 1:
            phases = nearest_divisor(variant.optimizer_steps, self.phases)
            steps = variant.optimizer_steps // phases
            episode = episode.model_copy(update={"phases": phases, "steps_per_phase": steps})
        constants = self.model_dump(include={"beta_init", "alpha", "initial_gain", "minimum", "maximum"})
        # A scale so wide that no move of K is cut.
        action = GainAction(**constants, scale=max(math.log(self.maximum / self.minimum), 1.0))
        observation = ObservationSpec(
            features=("budget", "gradient_norm", "gradient_average", "log_gain"),
            bins=variant.observation.bins,
        )
        return {"action": action, "observation": observation, "episode": episode}

    def _policy(self, variant: TrainingVariant, seed: int | Sequence[int]) -> Policy:
        return AVAPolicy(self, variant, f"agent '{self.name}'")


def nearest_divisor(total: int, wanted: int) -> int:
    """The divisor of ``total`` nearest to ``wanted``, the smaller of two as near.

    Examples:
        >>> nearest_divisor(200, 8), nearest_divisor(150, 8), nearest_divisor(2, 8)
        (8, 6, 2)
    """
    divisors = [number for number in range(1, total + 1) if total % number == 0]
    return min(divisors, key=lambda divisor: (abs(divisor - wanted), divisor))


class AVADSCAgent(Agent, AVADSCLaw):
    """AVA's controller, and DSC's γ and λ held constant: for environments with the action kind ``dsc``.

    Attributes:
        search_steps: Optimizer steps that finding these constants cost, over all training runs; 0 for a guess.
    """

    kind: Literal["ava-dsc"] = "ava-dsc"
    search_steps: Annotated[int, Field(ge=0)] = 0

    def acts_in(self, variant: Variant) -> bool:
        """Whether both AVA's law and DSC's constants are actions there."""
        return isinstance(variant, TrainingVariant) and isinstance(variant.action, DSCAction)

    def _policy(self, variant: TrainingVariant, seed: int | Sequence[int]) -> Policy:
        return AVADSCPolicy(self, variant, f"agent '{self.name}'")


class _SourceAgent(Agent):
    """An agent that sees the source itself, not observations of it."""

    families: ClassVar[tuple[str, ...]] = ("sampling",)

    def _policy(self, variant: Variant, seed: int | Sequence[int]) -> Policy:
        raise SchedrlError(
            f"agent '{self.name}': sees the source, not observations; use its solve() on problems, or "
            "schedrl.policies.grid_rules.GridPolicy in an environment"
        )


class GridAgent(_SourceAgent):
    """A hand-made way of placing a sampler's steps, given the source.

    Attributes:
        plan: How the grid is found.
    """

    kind: Literal["grid"] = "grid"
    plan: AnyGridRule

    def _solver(self, problems: SamplingProblems) -> Solver:
        return lambda problems, _: Solution.free(self.plan.grids(problems))


class GridSearchAgent(_SourceAgent):
    """A search over grids, source by source.

    Attributes:
        search: How, and how many sampler runs it may take.
    """

    kind: Literal["search"] = "search"
    search: AnyGridSearch
    role: ClassVar[Role] = "searched"

    def cheapest(self) -> GridSearchAgent:
        """The search with the fewest evaluations."""
        least = {"evaluations": 1, "levels": 4}
        changes = {name: value for name, value in least.items() if name in type(self.search).model_fields}
        return self.model_copy(update={"search": self.search.model_copy(update=changes)})

    def _solver(self, problems: SamplingProblems) -> Solver:
        return lambda problems, seeds: self.search.find(problems, [np.random.default_rng(s) for s in seeds])


class SearchProgress(Spec):
    """Where a search stood after a round.

    Attributes:
        optimizer_steps: Spent by then.
        best: Return of its best candidate so far minus the reference's on the seeds of that round (minus the round's
            mean, where the reference was dropped); chance flatters it.
    """

    optimizer_steps: Annotated[int, Field(ge=0)]
    best: float


class SequenceAgent(Agent):
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
    history: tuple[SearchProgress, ...] = ()
    role: ClassVar[Role] = "searched"

    def check_held_out(self, seeds: Sequence[int], label: str) -> None:
        if (shared := next((seed for seed in seeds if seed < SEARCH_SEEDS), None)) is not None:
            raise SchedrlError(
                f"seed {shared} is not held out: agent '{label}' was searched on seeds below {SEARCH_SEEDS}"
            )

    def _policy(self, variant: TrainingVariant, seed: int | Sequence[int]) -> Policy:
        return SequencePolicy(self.actions, variant, f"agent '{self.name}'")


class SequenceSearchAgent(Agent):
    """A search over action sequences, done in an environment before its result is measured there.

    Attributes:
        search: How.
        budget: Optimizer steps that it may spend; ``"ppo"``: what the training of the shipped policy spent.
        seed: Fixes everything random.
    """

    kind: Literal["schedule-search"] = "schedule-search"
    search: AnySequenceSearch
    budget: Annotated[int, Field(ge=1, le=2**53)] | Literal["ppo"] = "ppo"
    seed: Annotated[int, Field(ge=0)] = 0
    role: ClassVar[Role] = "searched"
    as_costly_as_training: ClassVar[bool] = True

    def _policy(self, variant: TrainingVariant, seed: int | Sequence[int]) -> Policy:
        raise SchedrlError(
            f"agent '{self.name}': has to be searched for in {variant.id} first: `schedrl search --env {variant.id} "
            f"--algo {self.search.name}`"
        )


class RandomAgent(Agent):
    """Actions drawn evenly from the action space."""

    kind: Literal["random"] = "random"
    families: ClassVar[tuple[str, ...]] = ("training", "sampling")
    role: ClassVar[Role] = "random"

    def _policy(self, variant: Variant, seed: int | Sequence[int]) -> Policy:
        return RandomPolicy(variant, seed)

    def _solver(self, problems: SamplingProblems) -> Solver:
        return _random_grids


def _random_grids(problems: SamplingProblems, seeds: Sequence[int]) -> Solution:
    """Grids of uniformly drawn actions, a generator per problem."""
    actions = np.zeros((len(problems), problems.width - 1))
    for row, (n, seed) in enumerate(zip(problems.total.tolist(), seeds, strict=True)):
        actions[row, :n] = np.random.default_rng(seed).uniform(-1.0, 1.0, n)
    return Solution.free(problems.placed(actions))


class PPOAgent(Agent):
    """PPO's shipped policy for the environment, from ``agents/trained/``; its file also holds hyperparameters."""

    kind: Literal["ppo"] = "ppo"
    defaults: dict[str, Any] = Field(default_factory=dict)
    environments: dict[str, dict[str, Any]] = Field(default_factory=dict)
    families: ClassVar[tuple[str, ...]] = ("training", "sampling")
    role: ClassVar[Role] = "learned"

    def resolved(self, env_id: str) -> TrainedAgent:
        trained = folder("agents") / "trained" / f"{self.name}-{slug(env_id)}"
        if not os.path.isfile(trained / "agent.json"):
            shipped = sorted(p.parent.name for p in trained.parent.glob("*/agent.json"))
            raise SchedrlError(
                f"agent 'ppo' has no shipped policy for {env_id}; train one (schedrl train --env {env_id}) and give "
                f"its folder. Shipped: {', '.join(shipped) or 'none'}"
            )
        return TrainedAgent(name=self.name, path=str(trained), description=self.description)

    def _policy(self, variant: Variant, seed: int | Sequence[int]) -> Policy:
        return self.resolved(variant.id).policy(variant, seed)


class TrainedAgent(Agent):
    """A trained policy in a folder.

    Attributes:
        path: The folder, with ``agent.json`` and ``policy.safetensors``.
    """

    kind: Literal["trained"] = "trained"
    path: str
    families: ClassVar[tuple[str, ...]] = ("training", "sampling")
    role: ClassVar[Role] = "learned"

    @property
    def files(self) -> Path:
        return Path(self.path)

    def relocated(self, path: str) -> TrainedAgent:
        return self.model_copy(update={"path": path})

    def file(self) -> AgentFile:
        """What ``agent.json`` says."""
        from schedrl.policies.agent_files import read_description  # loads torch

        return read_description(self.files)

    @property
    def search_cost(self) -> int:
        file = self.file()
        return file.optimizer_steps or file.timesteps

    @property
    def unfinished(self) -> str | None:
        return self.file().unfinished

    def definition(self) -> object:
        return self.definition_hash()

    def definition_hash(self) -> str:
        from schedrl.policies.agent_files import WEIGHTS

        return hashlib.sha256((self.files / WEIGHTS).read_bytes()).hexdigest()

    def acts_in(self, variant: Variant) -> bool:
        """Whether it sees and decides the same things there as in its training."""
        from schedrl.policies.agent_files import fits

        return fits(self.file(), variant)

    def check_held_out(self, seeds: Sequence[int], label: str) -> None:
        file = self.file()
        used = range(file.seed, file.seed + file.hyperparameters.num_envs)
        if (shared := next((seed for seed in seeds if seed in used), None)) is not None:
            raise SchedrlError(f"seed {shared} is not held out: agent '{label}' was trained from it")

    def _policy(self, variant: Variant, seed: int | Sequence[int]) -> Policy:
        from schedrl.policies.agent_files import load_agent

        return load_agent(self.path, variant)


AnyAgent = Annotated[
    ScheduleAgent
    | AVAAgent
    | AVADSCAgent
    | GridAgent
    | GridSearchAgent
    | SequenceAgent
    | SequenceSearchAgent
    | RandomAgent
    | PPOAgent
    | TrainedAgent,
    Field(discriminator="kind"),
]
"""An agent of any kind, as a field of a pydantic model."""

_KINDS: dict[str, type[Agent]] = {
    model.model_fields["kind"].default: model for model in get_args(get_args(AnyAgent)[0])
}


def role_of(kind: str) -> Role:
    """The role of a kind of agent, as result files name it.

    Examples:
        >>> role_of("sequence"), role_of("ava")
        ('searched', 'hand-made')
    """
    return _KINDS[kind].role


def parse_agent(definition: Mapping[str, Any], source: str) -> Agent:
    kind = str(definition.get("kind", ""))
    if kind not in _KINDS:
        raise SchedrlError(f"{source}: field 'kind': {unknown_name('agent kind', kind, _KINDS)}")
    return parse(_KINDS[kind], definition, source)


@cache
def catalogue() -> dict[str, Agent]:
    """The agents of ``agents/*.toml``, by name."""
    agents: dict[str, Agent] = {}
    for path in sorted(folder("agents").glob("*.toml")):
        agent = parse_agent(read_object(path, "agent file"), path.name)
        agents[agent.name] = agent
    return agents


def named_schedules() -> list[Schedule]:
    """The schedules of the catalogue's hand-made agents."""
    return [agent.schedule for agent in catalogue().values() if isinstance(agent, ScheduleAgent)]


def default_agents(variant: Variant) -> list[Agent]:
    """The catalogue's agents for an environment, the policy that is shipped for it first.

    Searches for a schedule are left out: each costs as much as a training. A benchmark that wants them names them.
    """
    agents: list[Agent] = []
    for agent in catalogue().values():
        if agent.as_costly_as_training or not agent.acts_in(variant):
            continue
        try:
            found = agent.resolved(variant.id)
        except SchedrlError:
            continue  # no policy is shipped for this environment
        if found is agent:
            agents.append(agent)
        elif found.acts_in(variant):  # overrides can change what is seen or decided
            agents.insert(0, found)
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
    """
    path = Path(name)
    if any(os.path.isfile(path / file) for file in ("agent.json", "training.json")):
        label = re.sub(r"[^\w.-]+", "-", path.resolve().name) or "agent"
        return TrainedAgent(name=label, path=str(path))
    if os.path.isfile(path / SEQUENCE):
        path = path / SEQUENCE
    if path.suffix in (".json", ".toml") and os.path.isfile(path):
        return parse_agent(read_object(path, "agent file"), str(path))
    agents = catalogue()
    if name not in agents:
        if os.path.isdir(path):
            raise SchedrlError(f"agent folder {path}: has no agent.json or {SEQUENCE}")
        raise unknown_name("agent", name, agents)
    return agents[name].resolved(env_id)
