"""Learning and searching against compute: the common zero, the cost, and records that are missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schedrl.benchmark.manifest import ManifestRow, TrainingManifest
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import summarise_training
from schedrl.environments.training.variant import TrainingVariant
from schedrl.policies.agents import SEQUENCE, SequenceAgent, TrainedAgent
from schedrl.policies.progress import PROGRESS, read_progress
from schedrl.report.compute import ComputeGains, compute_gains
from schedrl.report.figures import compute_figure, png

MakeResult = Callable[..., TrainingResult]
REFERENCE = {"name": "tangent", "gamma": 0.2}
HISTORY = [{"optimizer_steps": 10, "best": 0.0}, {"optimizer_steps": 24, "best": 0.05}]


@pytest.fixture
def found(variant: TrainingVariant) -> SequenceAgent:
    return SequenceAgent.model_validate(
        {
            "name": "search-random", "env_id": variant.id, "fingerprint": variant.fingerprint(),
            "actions": [[0.5] * 10], "search": {"name": "random"}, "seed": 0, "search_steps": 24, "history": HISTORY,
        }
    )  # fmt: skip


@pytest.fixture
def results(make_result: MakeResult, found: SequenceAgent) -> list[TrainingResult]:
    rows = {
        "ppo": ("trained", "hash of ppo", 2.9, 12), "search": ("sequence", found.definition_hash(), 2.95, 24),
        "cosine": ("schedule", "hash of cosine", 3.1, 0), "law": ("schedule", "hash of law", 3.0, 0),
    }  # fmt: skip
    return [
        make_result(
            agent, seed, bound + 0.1 * seed, kind=kind, agent_hash=digest, search_steps=cost,
            form="exact" if kind == "schedule" else "action",
            schedule=[REFERENCE if agent == "law" else {"name": "cosine"}],
        )
        for agent, (kind, digest, bound, cost) in rows.items()
        for seed in range(3)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, trained: Path, found: SequenceAgent) -> Path:
    shutil.copytree(trained, tmp_path / "agent")
    place = tmp_path / "searches" / "random-1"
    place.mkdir(parents=True)
    (place / SEQUENCE).write_text(json.dumps(found.model_dump(mode="json")))
    other = tmp_path / "searches" / "damaged"
    other.mkdir()
    (other / SEQUENCE).write_text("{")
    return tmp_path


def collect(folder: Path, variant: TrainingVariant, results: list[TrainingResult]) -> ComputeGains | None:
    keys = dict.fromkeys((r.agent, r.form, r.agent_hash) for r in results)
    rows = tuple(
        ManifestRow(
            label=agent,
            form=form,
            agent_hash=digest,
            agent=TrainedAgent(name="ppo", path="agent") if agent == "ppo" else None,
        )
        for agent, form, digest in keys
    )
    manifest = TrainingManifest(variant=variant, seeds=(0, 1, 2), rows=rows)
    return compute_gains(folder, manifest, results, summarise_training(results))


def test_everything_is_over_the_law_of_action_0(
    folder: Path, variant: TrainingVariant, results: list[TrainingResult]
) -> None:
    gains = collect(folder, variant, results)
    assert gains is not None
    assert gains.base == "law"
    assert gains.notes == ()
    by_name = {curve.name: curve for curve in gains.curves}
    assert set(by_name) == {"ppo", "search"}
    assert by_name["search"].optimizer_steps.tolist() == [10, 24]
    assert by_name["search"].gain.tolist() == [0.0, 0.05]
    progress = read_progress(folder / "agent")
    # One environment step is one training run here, of two optimizer steps.
    assert by_name["ppo"].optimizer_steps.tolist() == [2.0 * row.timesteps for row in progress]
    zero = np.mean([r.episode_return for r in results if r.agent == "law"])
    assert by_name["ppo"].gain == pytest.approx([row.return_mean - zero for row in progress])
    reached = {point.name: point for point in gains.finals}
    assert {name: point.optimizer_steps for name, point in reached.items()} == {
        "ppo": 12,
        "search": 24,
        "cosine": 0,
    }
    assert reached["ppo"].gain.value == pytest.approx(0.1)
    assert reached["cosine"].gain.value == pytest.approx(-0.1)
    figure = compute_figure(gains)
    assert figure.axes[0].get_xscale() == "log"
    assert png(figure).startswith(b"\x89PNG")


def test_missing_records_are_named(
    folder: Path, variant: TrainingVariant, results: list[TrainingResult]
) -> None:
    (folder / "agent" / PROGRESS).unlink()
    shutil.rmtree(folder / "searches")
    gains = collect(folder, variant, results)
    assert gains is not None
    assert gains.curves == ()
    assert set(gains.notes) == {
        "The learning curve of ppo was not found.",
        "The record of the search search was not found.",
    }


def test_returns_of_another_environment_are_not_drawn(
    folder: Path, variant: TrainingVariant, results: list[TrainingResult]
) -> None:
    path = folder / "agent" / "agent.json"
    content = json.loads(path.read_text())
    content["variant"]["training"]["batch_size"] = 5
    path.write_text(json.dumps(content))
    gains = collect(folder, variant, results)
    assert gains is not None
    assert [curve.name for curve in gains.curves] == ["search"]
    assert "trained in another environment" in gains.notes[0]


def test_without_a_common_zero_there_is_nothing(
    folder: Path, variant: TrainingVariant, results: list[TrainingResult]
) -> None:
    assert collect(folder, variant, [r for r in results if r.agent != "law"]) is None
    assert collect(folder, variant, [r for r in results if r.kind == "schedule"]) is None
    gaming = [r.model_copy(update={"reward": "own_loss"}) for r in results]
    assert collect(folder, variant, gaming) is None
