"""Searches that a comparison names: done once, before anything is measured, and kept beside the results."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from schedrl.benchmark.executors import Executor
from schedrl.benchmark.store import Line
from schedrl.benchmark.training_tasks import Entry
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import SEQUENCE, SequenceAgent, SequenceSearchAgent
from schedrl.policies.sequence_search import PROGRESS, SearchProgress, check_search, ppo_budget, search

__all__ = ["SEARCHES", "SearchTask", "check_searches", "search_side_by_side", "search_tasks", "searched"]

SEARCHES = "searches"
"""Folder of the searches, in that of the results."""

_LOOK_EVERY = 2.0
"""Seconds between two looks at how far other processes have searched."""


@dataclass(frozen=True)
class SearchTask:
    """A search that any process of this machine can do. What it finds is in its folder, and what it measures is not.

    Attributes:
        label: What the comparison calls it.
        variant: The environment.
        agent: What is searched for.
        budget: Optimizer steps.
        folder: Of its state.
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
        """What it does, for people."""
        return f"{self.label} in {self.variant.id}"

    @property
    def done(self) -> bool:
        """Whether something has been found."""
        return (self.folder / SEQUENCE).exists()

    def find(self, listen: Callable[[SearchProgress], None] | None = None) -> SequenceAgent:
        """Search, or go on, or read what was found."""
        return search(
            self.variant,
            self.agent.search,
            self.budget,
            self.agent.seed,
            self.folder,
            listen,
            device=self.device,
        )

    def run(self) -> list[Line]:
        """Search; there are no results to be kept beside what is found."""
        self.find()
        return []


def check_searches(variant: TrainingVariant, entries: Sequence[Entry]) -> dict[str, int]:
    """Check the searches among the agents before any work.

    Args:
        variant: The environment.
        entries: The agents, of any kind.

    Returns:
        Optimizer steps that each search may spend, by its label.

    Raises:
        SchedrlError: One of them cannot be done there, or there is no training whose cost it could have.
    """
    budgets = {}
    for entry in entries:
        if isinstance(entry.agent, SequenceSearchAgent):
            budget = entry.agent.budget
            budgets[entry.label] = ppo_budget(variant) if budget == "ppo" else budget
            try:
                check_search(variant, entry.agent.search, budgets[entry.label])
            except SchedrlError as error:
                raise SchedrlError(f"agent '{entry.label}': {error}") from None
    return budgets


def search_tasks(
    variant: TrainingVariant, entries: Sequence[Entry], folder: Path, *, device: str = "cpu"
) -> dict[str, SearchTask]:
    """The searches among the agents, by label.

    Args:
        variant: The environment.
        entries: The agents, of any kind.
        folder: Of the results.
        device: Torch device of the networks.

    Raises:
        SchedrlError: As :func:`check_searches`.
    """
    budgets = check_searches(variant, entries)
    # One folder may hold comparisons in several versions of an environment.
    return {
        entry.label: SearchTask(
            entry.label,
            variant,
            entry.agent,
            budgets[entry.label],
            folder / SEARCHES / f"{entry.agent.name}-{variant.fingerprint()}",
            device,
        )
        for entry in entries
        if isinstance(entry.agent, SequenceSearchAgent)
    }


def searched(
    variant: TrainingVariant,
    entries: Sequence[Entry],
    folder: Path,
    listen: Callable[[SearchTask, SearchProgress], None] | None = None,
    *,
    device: str = "cpu",
) -> list[Entry]:
    """Put what is found in place of the searches among the agents.

    Args:
        variant: The environment.
        entries: The agents, of any kind.
        folder: Of the results. A search that is there already is not done again, one that was cut short goes on.
        listen: Told of a search's progress after each of its rounds.
        device: Torch device of the networks.

    Raises:
        SchedrlError: As :func:`check_searches`; nothing was done then.
    """
    tasks = search_tasks(variant, entries, folder, device=device)
    tell = listen or (lambda task, progress: None)
    made = []
    for entry in entries:
        if (task := tasks.get(entry.label)) is None:
            made.append(entry)
            continue

        def hear(progress: SearchProgress, task: SearchTask = task) -> None:
            tell(task, progress)

        made.append(replace(entry, agent=task.find(hear)))
    return made


def search_side_by_side(
    tasks: Sequence[SearchTask],
    engine: Executor,
    listen: Callable[[SearchTask, SearchProgress], None] | None = None,
) -> None:
    """Do searches in several processes; :func:`searched` then finds them done.

    Args:
        tasks: The searches, whose budgets have been checked.
        engine: Whose processes see the same files.
        listen: Told now and then how far each is.

    Raises:
        SchedrlError: A search cannot be done, or its folder holds another one.
    """
    todo = list({task.folder: task for task in tasks if not task.done}.values())
    with _watching(todo, listen or (lambda task, progress: None)):
        for _ in engine.run(todo, lambda task: None):
            pass


@contextmanager
def _watching(
    tasks: Sequence[SearchTask], tell: Callable[[SearchTask, SearchProgress], None]
) -> Iterator[None]:
    """Tell what the searches' files say while others write them, and once at the end."""
    ended, known = threading.Event(), dict[Path, SearchProgress]()

    def look() -> None:
        for task in tasks:
            progress = _progress(task)
            if progress is not None and progress != known.get(task.folder):
                known[task.folder] = progress
                tell(task, progress)

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


def _progress(task: SearchTask) -> SearchProgress | None:
    try:
        last = json.loads((task.folder / PROGRESS).read_text(encoding="utf-8").splitlines()[-1])
    except (OSError, IndexError):
        return None
    return SearchProgress(last["optimizer_steps"], task.budget, last["best"])
