"""Searches named in a benchmark: checked before any work, and done once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from schedrl.benchmark.executors import Executor, LocalProcesses
from schedrl.benchmark.families import checked
from schedrl.benchmark.searches import do_searches, search_tasks
from schedrl.benchmark.tasks import Part, Step, held_out_seeds
from schedrl.environments.registration import training_variant
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies import catalogue, find
from schedrl.policies.agents import Agent, SequenceAgent, SequenceSearchAgent
from schedrl.policies.sequence_proposals import ALGORITHMS
from schedrl.policies.sequence_search import ppo_budget


def small(name: str, budget: int = 30) -> SequenceSearchAgent:
    return SequenceSearchAgent.model_validate({"name": name, "budget": budget, "search": {"name": name}})


def part_of(variant: TrainingVariant, agents: Mapping[str, Agent]) -> Part:
    return Part(variant, agents, tuple(held_out_seeds(1)), ("action",))


def searched(
    part: Part, folder: Path, heard: list[Step] | None = None, executor: Executor | None = None
) -> Part:
    listen = (heard if heard is not None else []).append
    [made] = do_searches([part], search_tasks([part], folder), executor=executor, listen=listen)
    return made


def test_the_catalogue_offers_every_search_at_the_cost_of_ppo(variant: TrainingVariant) -> None:
    offered = [agent for agent in catalogue().values() if isinstance(agent, SequenceSearchAgent)]
    assert {agent.search.name for agent in offered} == set(ALGORITHMS)
    [tasks] = search_tasks([part_of(variant, {agent.name: agent for agent in offered})])
    assert len(tasks) == len(offered)
    assert {task.budget for task in tasks.values()} == {ppo_budget(variant)}


def test_a_search_is_done_once(
    variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = {"cosine": find("cosine", variant.id), "halving": small("halving"), "random": small("random")}
    part = part_of(variant, agents)
    heard: list[Step] = []
    made = searched(part, tmp_path, heard)
    assert list(made.agents) == ["cosine", "halving", "random"]
    assert {step.doing.split()[0] for step in heard} == {"halving", "random"}
    costs = [task.cost for task in made.tasks]
    assert costs[0] == 0
    assert all(0 < cost <= 30 for cost in costs[1:])
    monkeypatch.setattr(TrainingVectorEnv, "step", None)
    assert searched(part, tmp_path) == made
    assert all(isinstance(agent, SequenceAgent) for agent in list(made.agents.values())[1:])


def test_what_a_recorded_search_found_is_taken_without_its_state(
    variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_of(variant, {"halving": small("halving")})
    made = searched(part, tmp_path)
    [state] = tmp_path.rglob("search.json")
    state.unlink()
    monkeypatch.setattr(TrainingVectorEnv, "step", None)
    assert searched(part, tmp_path) == made
    other = small("halving").model_copy(update={"seed": 1})
    with pytest.raises(SchedrlError, match="holds another search"):
        searched(part_of(variant, {"halving": other}), tmp_path)
    with pytest.raises(SchedrlError, match="holds another search"):
        searched(part_of(variant, {"halving": small("halving", 24)}), tmp_path)


def test_searches_side_by_side_find_what_they_find_alone(
    variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_of(variant, {"halving": small("halving"), "random": small("random")})
    alone = searched(part, tmp_path / "alone")
    heard: list[Step] = []
    together = searched(part, tmp_path / "together", heard, LocalProcesses(2))
    assert all(task.done for task in search_tasks([part], tmp_path / "together")[0].values())
    assert together == alone
    assert heard[-1].done == sum(task.cost for task in together.tasks)
    monkeypatch.setattr(TrainingVectorEnv, "step", None)  # they are not done again
    heard.clear()
    assert searched(part, tmp_path / "together", heard, LocalProcesses(2)) == together
    assert heard == []


def test_what_cannot_be_searched_is_said_before_any_work(variant: TrainingVariant, tmp_path: Path) -> None:
    part = part_of(variant, {"halving": small("halving"), "best-static": small("best-static", 2)})
    with pytest.raises(SchedrlError, match=r"agent 'best-static': .* must pay for"):
        searched(part, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SchedrlError, match="has to be searched for"):
        checked(part_of(variant, {"halving": small("halving")}))
    unshipped = training_variant("schedrl/DigitsGain-v0")
    with pytest.raises(SchedrlError, match="no shipped policy"):
        search_tasks([part_of(unshipped, {"x": find("search-static-tpe", unshipped.id)})])
