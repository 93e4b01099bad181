"""Searches that a comparison names: done once, before anything is measured, and kept beside the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from schedrl.benchmark.protocol import Entry
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import ScheduleSearchAgent
from schedrl.policies.sequence_search import SearchProgress, check_search, ppo_budget, search

__all__ = ["SEARCHES", "check_searches", "searched"]

SEARCHES = "searches"
"""Folder of the searches, in that of the results."""


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
        if isinstance(entry.agent, ScheduleSearchAgent):
            budget = entry.agent.budget
            budgets[entry.label] = ppo_budget(variant) if budget == "ppo" else budget
            try:
                check_search(variant, entry.agent.search, budgets[entry.label])
            except SchedrlError as error:
                raise SchedrlError(f"agent '{entry.label}': {error}") from None
    return budgets


def searched(
    variant: TrainingVariant,
    entries: Sequence[Entry],
    folder: Path,
    listen: Callable[[str, SearchProgress], None] | None = None,
    *,
    device: str = "cpu",
) -> list[Entry]:
    """Put what is found in place of the searches among the agents.

    Args:
        variant: The environment.
        entries: The agents, of any kind.
        folder: Of the results. A search that is there already is not done again, one that was cut short goes on.
        listen: Told the label and the progress of a search after each of its rounds.
        device: Torch device of the networks.

    Raises:
        SchedrlError: As :func:`check_searches`; nothing was done then.
    """
    budgets = check_searches(variant, entries)
    tell = listen or (lambda label, progress: None)
    made = []
    for entry in entries:
        agent = entry.agent
        if not isinstance(agent, ScheduleSearchAgent):
            made.append(entry)
            continue

        def hear(progress: SearchProgress, label: str = entry.label) -> None:
            tell(label, progress)

        # One folder may hold comparisons in several versions of an environment.
        target = folder / SEARCHES / f"{agent.name}-{variant.fingerprint()}"
        found = search(variant, agent.search, budgets[entry.label], agent.seed, target, hear, device=device)
        made.append(replace(entry, agent=found))
    return made
