"""Searches named in a comparison: checked before any work, and done once."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedrl.benchmark.executors import LocalProcesses
from schedrl.benchmark.searches import check_searches, search_side_by_side, search_tasks, searched
from schedrl.benchmark.tasks import held_out_seeds
from schedrl.benchmark.training_tasks import Entry, make_plan
from schedrl.environments.registration import training_variant
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies import catalogue, find
from schedrl.policies.agents import SequenceAgent, SequenceSearchAgent
from schedrl.policies.sequence_proposals import ALGORITHMS
from schedrl.policies.sequence_search import ppo_budget


def small(name: str, budget: int = 30) -> Entry:
    agent = SequenceSearchAgent.model_validate({"name": name, "budget": budget, "search": {"name": name}})
    return Entry(name, agent)


def test_the_catalogue_offers_every_search_at_the_cost_of_ppo(variant: TrainingVariant) -> None:
    offered = [agent for agent in catalogue().values() if isinstance(agent, SequenceSearchAgent)]
    assert {agent.search.name for agent in offered} == set(ALGORITHMS)
    budgets = check_searches(variant, [Entry(agent.name, agent) for agent in offered])
    assert set(budgets.values()) == {ppo_budget(variant)}


def test_a_search_is_done_once(
    variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [Entry("cosine", find("cosine", variant.id)), small("halving"), small("random")]
    heard: list[str] = []
    made = searched(variant, entries, tmp_path, lambda task, progress: heard.append(task.label))
    assert [entry.label for entry in made] == ["cosine", "halving", "random"]
    assert set(heard) == {"halving", "random"}
    costs = [
        row.search_steps for row in make_plan(variant, made, held_out_seeds(1), ("action",)).measurements
    ]
    assert costs[0] == 0
    assert all(0 < cost <= 30 for cost in costs[1:])
    monkeypatch.setattr(TrainingVectorEnv, "step", None)
    assert searched(variant, entries, tmp_path) == made
    assert all(isinstance(entry.agent, SequenceAgent) for entry in made[1:])


def test_searches_side_by_side_find_what_they_find_alone(
    variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [small("halving"), small("random")]
    alone = searched(variant, entries, tmp_path / "alone")
    tasks = list(search_tasks(variant, entries, tmp_path / "together").values())
    heard: dict[str, int] = {}
    search_side_by_side(
        tasks, LocalProcesses(2), lambda task, now: heard.update({task.label: now.optimizer_steps})
    )
    assert all(task.done for task in tasks)
    monkeypatch.setattr(TrainingVectorEnv, "step", None)  # they are not done again
    together = searched(variant, entries, tmp_path / "together")
    assert together == alone
    costs = [entry.agent.search_steps for entry in together if isinstance(entry.agent, SequenceAgent)]
    assert [heard["halving"], heard["random"]] == costs
    search_side_by_side(tasks, LocalProcesses(2), lambda task, now: pytest.fail("was done"))


def test_what_cannot_be_searched_is_said_before_any_work(variant: TrainingVariant, tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"agent 'best-static': .* must pay for"):
        searched(variant, [small("halving"), small("best-static", 2)], tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SchedrlError, match="has to be searched for"):
        make_plan(variant, [small("halving")], held_out_seeds(1), ("action",))
    unshipped = training_variant("schedrl/DigitsGain-v0")
    with pytest.raises(SchedrlError, match="no shipped policy"):
        check_searches(unshipped, [Entry("x", find("search-static-tpe", unshipped.id))])
