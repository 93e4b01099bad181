"""What a benchmark has to measure: tasks, which any process can run, and the parts of a benchmark that they make up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeVar, cast

from schedrl.benchmark.executors import Executor, InProcess
from schedrl.benchmark.results import Result, RowKey
from schedrl.benchmark.store import ResultStore
from schedrl.environments.definition import Variant
from schedrl.errors import SchedrlError
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import Agent, Form

FIRST_SEED = 1_000_000
"""First held-out seed. Training seeds are small numbers, and the episodes that follow from one are drawn by its own
generator, so no episode of a training begins like a held-out one. Every agent's own seeds are checked against it."""

ResultT = TypeVar("ResultT", bound=Result)


def held_out_seeds(count: int = 20, first: int = FIRST_SEED) -> list[int]:
    """Seeds of a benchmark.

    Examples:
        >>> held_out_seeds(3)
        [1000000, 1000001, 1000002]
    """
    if count < 1:
        raise SchedrlError(f"seeds: must be at least 1 (got {count})")
    return list(range(first, first + count))


def labelled(agents: Sequence[tuple[str, Agent]]) -> dict[str, Agent]:
    """Agents by their labels, of which no two may be the same."""
    made: dict[str, Agent] = {}
    for label, agent in agents:
        if label in made:
            raise SchedrlError(f"two agents are called '{label}'; name one of them: other-name=FOLDER")
        made[label] = agent
    return made


@dataclass(frozen=True)
class Task(ABC):
    """One agent in one environment on some seeds: a row of the table, or some of its runs. It can be pickled.

    Attributes:
        label: What the table calls the agent.
        agent: The agent.
        variant: The benchmark's environment.
        seeds: Held-out seeds, a run each.
        agent_hash: Hash of the agent, as results have it.
        cost: Steps that finding or training the agent took.
    """

    label: str
    agent: Agent
    variant: Variant
    seeds: tuple[int, ...]
    agent_hash: str
    cost: int

    block: ClassVar[int] = 1
    """Seeds with the same quotient by this number are one block, which no process cuts."""

    most: ClassVar[int]
    """Blocks that are measured side by side, at most."""

    @property
    def doing(self) -> str:
        """What it measures, for people."""
        return self.label

    @property
    def row(self) -> RowKey:
        """:attr:`Result.row` of its results."""
        return self.label, self.agent_hash, None, None

    def keys(self) -> dict[int, Hashable]:
        """By seed, the key of the result there will be."""
        fingerprint = self.variant.fingerprint()
        return {seed: (*self.row, self.variant.id, fingerprint, seed) for seed in self.seeds}

    def on(self, seeds: Sequence[int]) -> Self:
        """The same task on other seeds."""
        return replace(self, seeds=tuple(seeds))

    @abstractmethod
    def run(self) -> Sequence[Result]:
        """Measure: a result per seed, in their order."""

    def identity(self) -> dict[str, Any]:
        """Fields that all of its results share."""
        return {
            "agent": self.label,
            "kind": self.agent.kind,
            "agent_hash": self.agent_hash,
            "env_id": self.variant.id,
            "fingerprint": self.variant.fingerprint(),
        }


@dataclass(frozen=True)
class Part:
    """A benchmark in one of its environments.

    Attributes:
        variant: The environment.
        agents: The agents by label, searches that have to be done first included.
        seeds: Held-out seeds.
        forms: Forms asked for; an agent without an exact form acts in any case.
        samples: What to draw from every trained network and measure; None draws nothing.
        device: Torch device of the networks.
        reference: Label of the agent that the others are compared with.
        overrides: Changes that made the variant out of the registered one.
        folder: Name of its own folder, where a benchmark has several environments.
        tasks: The rows of the table, without searches that have not been done.
        notes: What was left out, and why, for people.
    """

    variant: Variant
    agents: Mapping[str, Agent]
    seeds: tuple[int, ...]
    forms: tuple[Form, ...] = ("exact", "action")
    samples: SampleSpec | None = None
    device: str = "cpu"
    reference: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    tasks: tuple[Task, ...] = ()
    notes: tuple[str, ...] = ()

    def select(self, results: Sequence[ResultT]) -> list[ResultT]:
        """The results of its tasks."""
        keys = {key for task in self.tasks for key in task.keys().values()}
        return [result for result in results if result.key in keys]


@dataclass(frozen=True)
class Step:
    """Where a benchmark stands.

    Attributes:
        done: Runs measured or found in the store.
        total: Runs in all.
        doing: The row being measured.
    """

    done: int
    total: int
    doing: str


def run_tasks(
    tasks: Sequence[Task],
    store: ResultStore[ResultT],
    *,
    executor: Executor | None = None,
    listen: Callable[[Step], None] | None = None,
) -> list[ResultT]:
    """Measure what the store does not hold yet, and what no other process has measured in the meantime.

    Args:
        tasks: The rows.
        store: Where results go, as they come.
        executor: Runs the tasks; this process when absent.
        listen: Called when a task begins, and at the end.

    Returns:
        The results of all rows, measured now or earlier.
    """
    chosen: Executor = executor or InProcess()
    tell = listen or (lambda _: None)
    rows = [(task, task.keys()) for task in tasks]
    total, done = sum(len(keys) for _, keys in rows), 0

    def missing() -> Iterator[Task]:
        nonlocal done
        for task, keys in rows:
            store.refresh()
            blocks: dict[int, list[int]] = {}
            for seed in (seed for seed, key in keys.items() if key not in store):
                blocks.setdefault(seed // task.block, []).append(seed)
            done += len(keys) - sum(map(len, blocks.values()))
            cut, size = list(blocks.values()), chosen.size(len(blocks), task.most)
            for begin in range(0, len(cut), size):
                tell(Step(done, total, task.doing))
                yield task.on([seed for block in cut[begin : begin + size] for seed in block])

    with closing(chosen.run(missing())) as ended:  # whatever happens here, workers end now
        for results in ended:
            store.append(cast("Sequence[ResultT]", results))  # the store's model is that of the tasks' family
            done += len(results)
    tell(Step(done, total, "done"))
    wanted = {key for _, keys in rows for key in keys.values()}
    return [result for result in store.results if result.key in wanted]
