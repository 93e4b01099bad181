"""Benchmarks in training environments: checked before any work, and never measured twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schedrl.benchmark import evaluation, training_family
from schedrl.benchmark.families import FAMILIES, checked
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import ResultStore, read_results
from schedrl.benchmark.tasks import Part, Step, held_out_seeds, labelled, run_tasks
from schedrl.environments.registration import training_variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import AgentFileError, MissingDataError, SchedrlError
from schedrl.policies import catalogue, find
from schedrl.policies.agents import Agent, Form, PPOAgent, ScheduleAgent, TrainedAgent
from schedrl.schedules import get

SEEDS = held_out_seeds(2)
BOTH: tuple[Form, ...] = ("exact", "action")


def named(*names: str) -> dict[str, Agent]:
    return {Path(name).name: find(name, "schedrl/DigitsKnots-v0") for name in names}


def part_of(
    variant: TrainingVariant,
    agents: dict[str, Agent],
    seeds: Sequence[int] = SEEDS,
    forms: tuple[Form, ...] = BOTH,
) -> Part:
    return checked(Part(variant, agents, tuple(seeds), forms))


def test_all_rows_share_the_protocol_and_the_seeds(
    variant: TrainingVariant, trained: Path, tmp_path: Path
) -> None:
    part = part_of(variant, named(str(trained), "cosine", "random"), SEEDS, BOTH)
    rows = [(task.row[0], task.row[2]) for task in part.tasks]
    assert rows == [("mine", "action"), ("cosine", "exact"), ("cosine", "action"), ("random", "action")]
    steps: list[Step] = []
    results = run_tasks(
        part.tasks, ResultStore(tmp_path / "results.jsonl", TrainingResult), listen=steps.append
    )
    assert read_results(tmp_path / "results.jsonl", TrainingResult) == results
    assert {result.seed for result in results} == set(SEEDS)
    assert {result.protocol for result in results} == {variant.protocol_fingerprint()}
    assert {result.fingerprint for result in results} == {variant.fingerprint()}
    assert {result.agent: result.search_steps for result in results} == {"mine": 12, "cosine": 0, "random": 0}
    assert [(step.done, step.total) for step in steps] == [(0, 8), (2, 8), (4, 8), (6, 8), (8, 8)]
    first = results[0]
    assert "cores" in first.hardware
    assert first.versions["schedrl"]
    assert first.created.endswith("+00:00")
    assert first.kind == "trained"


def test_a_rerun_measures_only_what_is_missing(
    variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, measured = tmp_path / "results.jsonl", []
    evaluate = evaluation.evaluate

    def counted(policy: Any, where: TrainingVariant, seeds: Any, **keywords: Any) -> Any:
        measured.append(list(seeds))
        return evaluate(policy, where, seeds, **keywords)

    monkeypatch.setattr(training_family, "evaluate", counted)
    part = part_of(variant, named("cosine"), SEEDS, ("exact",))
    first = run_tasks(part.tasks, ResultStore(path, TrainingResult))
    assert run_tasks(part.tasks, ResultStore(path, TrainingResult)) == first
    assert measured == [SEEDS]
    more = part_of(variant, named("cosine", "linear"), held_out_seeds(3), ("exact",))
    assert len(run_tasks(more.tasks, ResultStore(path, TrainingResult))) == 6
    assert measured == [SEEDS, [1_000_002], held_out_seeds(3)]


def test_an_agent_that_changed_is_measured_again(variant: TrainingVariant, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results.jsonl", TrainingResult)
    for gamma in (0.2, 0.3):
        agent = ScheduleAgent(name="tangent", schedule=get("tangent", gamma=gamma))
        part = part_of(variant, {"tangent": agent}, SEEDS, ("exact",))
        [first, _] = run_tasks(part.tasks, store)
        assert first.schedule[0]["gamma"] == gamma
    assert len(store.results) == 4


def test_a_description_is_no_change(variant: TrainingVariant) -> None:
    hashes = set()
    for description in ("one", "two"):
        agent = ScheduleAgent(name="c", description=description, schedule=get("cosine"))
        [row] = part_of(variant, {"c": agent}, SEEDS, ("exact",)).tasks
        hashes.add(row.agent_hash)
    assert len(hashes) == 1


def test_actions_that_cannot_express_a_law_are_noted(tiny: dict[str, Any]) -> None:
    variant = training_variant("schedrl/DigitsGain-v0", tiny)
    part = part_of(variant, named("cosine", "ava-fixed", "linear"), SEEDS, BOTH)
    rows = [(task.row[0], task.row[2]) for task in part.tasks]
    assert rows == [("cosine", "exact"), ("ava-fixed", "exact"), ("ava-fixed", "action"), ("linear", "exact")]
    assert part.notes == (
        "no form `action` for cosine, linear: action kind 'gain' can represent AVA's law only",
    )
    with pytest.raises(SchedrlError, match="nothing to measure; no form `action` for cosine"):
        part_of(variant, named("cosine"), SEEDS, ("action",))


def test_two_rows_cannot_share_a_name(variant: TrainingVariant) -> None:
    with pytest.raises(SchedrlError, match="two agents are called 'cosine'"):
        labelled([("cosine", find("cosine", variant.id)), ("cosine", find("linear", variant.id))])


def test_seeds_of_a_training_are_not_held_out(
    variant: TrainingVariant, trained: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "agent"))
    content = json.loads((folder / "agent.json").read_text())
    (folder / "agent.json").write_text(json.dumps({**content, "seed": SEEDS[1]}))
    with pytest.raises(SchedrlError, match="seed 1000001 is not held out"):
        part_of(variant, named(str(folder)), SEEDS, BOTH)
    part_of(variant, named(str(folder)), SEEDS[:1], BOTH)


def test_bad_agents_are_found_before_any_work(
    variant: TrainingVariant, trained: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "agent"))
    (folder / "policy.safetensors").write_bytes(b"noise")
    with pytest.raises(AgentFileError, match="damaged"):
        part_of(variant, named("cosine", str(folder)), SEEDS, BOTH)


def test_missing_data_and_missing_measures_are_found_before_any_work(
    variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = variant.model_copy(update={"test_bound": None})
    with pytest.raises(SchedrlError, match="has no test_bound"):
        part_of(bare, named("cosine"), SEEDS, BOTH)
    monkeypatch.delenv("SCHEDRL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingDataError, match="cifar10: missing"):
        part_of(training_variant("schedrl/Cifar10Kernel-v0"), named("cosine"), SEEDS, BOTH)


def test_seeds_count_up_from_a_million() -> None:
    assert held_out_seeds() == list(range(1_000_000, 1_000_020))
    with pytest.raises(SchedrlError, match="at least 1"):
        held_out_seeds(0)


def test_the_default_comparison_is_everything_that_fits(
    variant: TrainingVariant, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_made = {name for name, agent in catalogue().items() if agent.kind in ("schedule", "ava", "random")}

    def shipped(agent: PPOAgent, env_id: str) -> TrainedAgent:
        if env_id != variant.id:
            raise SchedrlError("none is shipped")
        return TrainedAgent(name=agent.name, path=str(trained))

    monkeypatch.setattr(PPOAgent, "resolved", shipped)
    labels = list(FAMILIES["training"].default_agents(variant, SEEDS)[0])
    assert labels[0] == "ppo"
    assert set(labels[1:]) == hand_made
    elsewhere = variant.model_copy(update={"id": "me/Other-v0"})
    assert set(FAMILIES["training"].default_agents(elsewhere, SEEDS)[0]) == hand_made
    changed = variant.model_copy(update={"action": variant.action.model_copy(update={"bins": 5})})
    assert set(FAMILIES["training"].default_agents(changed, SEEDS)[0]) == hand_made
