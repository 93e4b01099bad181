"""Manifests: those of earlier versions are still read, and a folder can be moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schedrl.benchmark.families import checked
from schedrl.benchmark.manifest import (
    MANIFEST,
    SamplingManifest,
    Several,
    TrainingManifest,
    family_of,
    load_training,
    read_manifest,
    write_manifests,
)
from schedrl.benchmark.store import RESULTS
from schedrl.benchmark.tasks import Part, held_out_seeds
from schedrl.environments.registration import sampling_variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies import find
from schedrl.policies.agents import TrainedAgent

RECORDED = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize("name", ["digits/DigitsKnots-v0", "digits/DigitsKernel-v0", "transfer"])
def test_recorded_manifests_are_read(name: str) -> None:
    folder = RECORDED / name
    content = json.loads((folder / MANIFEST).read_text())
    assert content["format"] == 1
    manifest, results = load_training(folder)
    assert [(row.label, row.form) for row in manifest.rows] == [
        (row["agent"], row["form"]) for row in content["rows"]
    ]
    assert len(results) == len(manifest.rows) * len(manifest.seeds)
    trained = {row["agent"]: folder / row["folder"] for row in content["rows"] if row["folder"] is not None}
    assert manifest.folders(folder) == trained
    assert list(manifest.names()) == list(dict.fromkeys(row["agent"] for row in content["rows"]))
    assert manifest.names()["cosine"] == "cosine"


def test_several_environments_have_a_folder_each() -> None:
    assert family_of(RECORDED / "digits") == "several"
    parts = read_manifest(RECORDED / "digits", Several).parts
    assert {family_of(RECORDED / "digits" / part) for part in parts} == {"training"}


def test_the_sampling_manifest_of_version_1_is_read(tmp_path: Path) -> None:
    variant = sampling_variant("schedrl/GaussianSampling-v0")
    part = checked(Part(variant, {"mine": find("grid-tangent", "")}, tuple(held_out_seeds(2))))
    write_manifests(tmp_path, [part], tmp_path / RESULTS)
    now = read_manifest(tmp_path, SamplingManifest)
    content = json.loads((tmp_path / MANIFEST).read_text())
    rows = [{key: row[key] for key in ("label", "agent_hash", "agent")} for row in content["rows"]]
    kept = {key: content[key] for key in ("variant", "seeds", "results", "overrides")}
    old = {"format": 1, "family": "sampling", **kept, "rows": rows}
    (tmp_path / MANIFEST).write_text(json.dumps(old))
    assert family_of(tmp_path) == "sampling"
    assert read_manifest(tmp_path, SamplingManifest) == now.model_copy(update={"format": 1})


def test_a_manifest_comes_back_and_its_paths_are_relative(
    variant: TrainingVariant, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "agent").symlink_to(trained)
    agents: dict[str, Any] = {
        "inside": TrainedAgent(name="inside", path=str(tmp_path / "benchmark" / "agent")),
        "cosine": find("cosine", variant.id),
    }
    part = checked(Part(variant, agents, tuple(held_out_seeds(1)), reference="inside"))
    folder = tmp_path / "benchmark"
    write_manifests(folder, [part], folder / RESULTS)
    manifest = read_manifest(folder, TrainingManifest)
    assert (manifest.variant, manifest.reference, manifest.results) == (variant, "inside", RESULTS)
    assert [(row.label, row.form) for row in manifest.rows] == [
        ("inside", "action"),
        ("cosine", "exact"),
        ("cosine", "action"),
    ]
    assert manifest.rows[1].agent == agents["cosine"]


def test_a_folder_without_a_benchmark_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"no benchmark to report: .* `schedrl benchmark -f FOLDER` makes"):
        read_manifest(tmp_path, TrainingManifest)
