"""Searches that a benchmark names: done once, before anything is measured, and kept beside the results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from schedrl.benchmark.executors import Executor, InProcess
from schedrl.benchmark.families import checked
from schedrl.benchmark.store import Line
from schedrl.benchmark.tasks import Part, Step
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import of_family
from schedrl.errors import SchedrlError, parse
from schedrl.files import parse_object, read_model
from schedrl.policies.agents import SEQUENCE, SearchProgress, SequenceAgent, SequenceSearchAgent
from schedrl.policies.sequence_search import PROGRESS, STATE, check_search, ppo_budget, search

SEARCHES = "searches"
"""Folder of the searches, in that of the results."""

_LOOK_EVERY = 2.0
"""Seconds between two looks at how far searches are."""


@dataclass(frozen=True)
class SearchTask:
    """A search that any process of this machine can do. It leaves what it finds in its folder, and no results.

    Attributes:
        label: What the benchmark calls it.
        variant: The environment.
        agent: The search.
        budget: Optimizer steps.
        folder: Folder of its state.
        device: Torch device of the networks.
    """

    label: str
    variant: TrainingVariant
    agent: SequenceSearchAgent
    budget: int
    folder: Path
    device: str

    @property
    def doing(self) -> str:
        return f"{self.label} in {self.variant.id}"

    @property
    def done(self) -> bool:
        return (self.folder / SEQUENCE).exists()

    def find(self) -> SequenceAgent:
        """Search, or go on, or read what was found."""
        agent = self.agent
        # A record keeps what was found, not the state of the search.
        if self.done and not (self.folder / STATE).exists():
            found = read_model(self.folder / SEQUENCE, SequenceAgent, "agent file")
            asked = (self.variant.fingerprint(), agent.search, agent.seed)
            if (found.fingerprint, found.search, found.seed) != asked or found.search_steps > self.budget:
                raise SchedrlError(f"folder {self.folder}: holds another search; give another folder")
            return found
        return search(self.variant, agent.search, self.budget, agent.seed, self.folder, device=self.device)

    def run(self) -> list[Line]:
        self.find()
        return []

    def progress(self) -> SearchProgress | None:
        """How far it is, as its folder says."""
        try:
            last = (self.folder / PROGRESS).read_bytes().splitlines()[-1]
            return parse(SearchProgress, parse_object(last, PROGRESS), PROGRESS)
        except (OSError, IndexError, SchedrlError):
            return None


def search_tasks(parts: Sequence[Part], folder: Path = Path()) -> list[dict[str, SearchTask]]:
    """Check the searches among the agents before any work, and lay them out.

    Args:
        parts: The benchmark.
        folder: Folder of its results.

    Returns:
        The searches of each part, by label.

    Raises:
        SchedrlError: A search cannot be done there, or no training is there whose cost it could have.
    """
    made = []
    for part in parts:
        own: dict[str, SearchTask] = {}
        for label, agent in part.agents.items():
            if not isinstance(agent, SequenceSearchAgent) or not agent.acts_in(part.variant):
                continue
            variant = of_family(part.variant, TrainingVariant)
            budget = ppo_budget(variant) if agent.budget == "ppo" else agent.budget
            try:
                check_search(variant, agent.search, budget)
            except SchedrlError as error:
                raise SchedrlError(f"agent '{label}': {error}") from None
            # One folder may hold benchmarks in several versions of an environment.
            place = folder / part.folder if len(parts) > 1 else folder
            place = place / SEARCHES / f"{agent.name}-{variant.fingerprint()}"
            own[label] = SearchTask(label, variant, agent, budget, place, part.device)
        made.append(own)
    return made


def do_searches(
    parts: Sequence[Part],
    tasks: Sequence[dict[str, SearchTask]],
    *,
    executor: Executor | None = None,
    listen: Callable[[Step], None] | None = None,
) -> list[Part]:
    """Search, and put what is found in place of the searches among the agents.

    Args:
        parts: The benchmark.
        tasks: Its searches, from :func:`search_tasks`. One that is done already is not done again, one that was cut
            short goes on.
        executor: Runs the searches, in processes that see the same files; this process when absent.
        listen: Called now and then; what is done is counted in optimizer steps.
    """
    chosen: Executor = executor or InProcess()
    every = {task.folder: task for own in tasks for task in own.values()}
    with _watching(every, listen or (lambda step: None)):
        list(chosen.run(task for task in every.values() if not task.done))
    found = [{label: task.find() for label, task in own.items()} for own in tasks]
    return [
        checked(replace(part, agents={**part.agents, **own})) if own else part
        for part, own in zip(parts, found, strict=True)
    ]


@contextmanager
def _watching(tasks: dict[Path, SearchTask], tell: Callable[[Step], None]) -> Iterator[None]:
    """Tell what the searches' files say while they are written, and once at the end."""
    total, ended = sum(task.budget for task in tasks.values()), threading.Event()
    spent = {folder: task.budget if task.done else 0 for folder, task in tasks.items()}
    watched = {folder: task for folder, task in tasks.items() if not task.done}
    known: dict[Path, SearchProgress] = {}

    def look() -> None:
        for folder, task in watched.items():
            now = task.progress()
            if now is not None and now != known.get(folder):
                known[folder], spent[folder] = now, now.optimizer_steps
                gain = f"best so far {now.best:+.4f} on the reference"
                tell(Step(sum(spent.values()), total, f"{task.doing}, {gain}"))

    def keep_looking() -> None:
        while not ended.wait(_LOOK_EVERY):
            look()

    watcher = threading.Thread(target=keep_looking, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        look()
