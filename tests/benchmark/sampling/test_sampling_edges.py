"""Sampling benchmarks at the edges: infinite errors, what a sampler cannot start from, what is missing or renamed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedrl.benchmark.families import FAMILIES, checked
from schedrl.benchmark.manifest import load_sampling, write_manifests
from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.sampling_family import SamplingTask
from schedrl.benchmark.sampling_summary import summarise_sampling
from schedrl.benchmark.store import RESULTS, ResultStore
from schedrl.benchmark.tasks import Part, held_out_seeds, run_tasks
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.policies import find
from schedrl.policies.agents import Agent, parse_agent
from schedrl.report.pages import write_report

Make = Callable[..., SamplingVariant]

SEEDS = held_out_seeds(5)


def named(variant: SamplingVariant, *words: str) -> dict[str, Agent]:
    """Agents by their names, or as ``label=name``."""
    return {word.split("=")[0]: find(word.split("=")[-1], variant.id) for word in words}


def part_of(
    variant: SamplingVariant, agents: dict[str, Agent], overrides: dict[str, Any] | None = None
) -> Part:
    return checked(Part(variant, agents, tuple(SEEDS), overrides=overrides or {}))


def compare(
    variant: SamplingVariant, agents: dict[str, Agent], folder: Path, overrides: dict[str, Any] | None = None
) -> list[SamplingResult]:
    part = part_of(variant, agents, overrides)
    write_manifests(folder, [part], folder / RESULTS)
    return run_tasks(part.tasks, ResultStore(folder / RESULTS, SamplingResult))


def test_an_infinite_error_is_a_number_in_the_file(make_sampling: Make, tmp_path: Path) -> None:
    """One step from infinity to 0 leaves no variance at all: even the optimum is infinite."""
    variant = make_sampling("gaussian", steps={"minimum": 1, "maximum": 1})
    made = named(variant, "grid-reference", "grid-optimum", "search-dynamic", "grid-karras")
    results = compare(variant, made, tmp_path)
    of = {
        name: [result for result in results if result.agent == name]
        for name in ("grid-reference", "grid-karras")
    }
    for result in of["grid-reference"]:
        assert result.error == result.reference == result.optimum == result.parts["kl"] == 1e300
    assert all(0.0 < result.error < 1e9 for result in of["grid-karras"])
    assert load_sampling(tmp_path)[1] == results
    summary = summarise_sampling(results)
    rows = {row.name: row for row in summary.rows}
    assert rows["grid-reference"].ratio.value == pytest.approx(1.0)
    assert all(np.isfinite([row.error.value, row.ratio.value, row.worst]).all() for row in summary.rows)
    assert summary.rows[0].name == "grid-karras"
    write_report(tmp_path)
    assert (tmp_path / "figures" / "variance-along-the-sampler.png").is_file()


def test_what_heun_cannot_start_from_is_left_out(make_sampling: Make, tmp_path: Path) -> None:
    reference = {"name": "law", "grid": "karras"}
    variant = make_sampling("gaussian", **{"sampler": "heun", "action.reference": reference})
    made, notes = FAMILIES["sampling"].default_agents(variant, SEEDS)
    labels = set(made)
    assert {"grid-optimum", "grid-karras", "grid-uniform", "search-cma-es"} <= labels
    assert not {"grid-tangent", "grid-best-tangent", "grid-cosine", "grid-geodesic"} & labels
    assert notes == ()
    results = compare(variant, named(variant, "grid-karras", "grid-optimum"), tmp_path)
    assert all(result.optimum is not None and result.optimum <= result.error for result in results)
    with pytest.raises(
        SchedrlError, match=r"^agent 'mine': field 'sigma': Heun's sampler needs a finite first level"
    ):
        part_of(variant, named(variant, "mine=grid-tangent"))


def test_an_odd_number_of_steps_is_noticed_before_any_work(make_sampling: Make) -> None:
    variant = make_sampling("mixture", steps={"minimum": 4, "maximum": 7})
    totals = SamplingProblems.drawn(variant, SEEDS).total % 2
    assert 0 < totals.sum() < len(SEEDS)
    with pytest.raises(SchedrlError, match=r"^agent 'dilated-vp': plan 'dilation': .*must be even"):
        part_of(variant, named(variant, "grid-reference", "dilated-vp"))
    assert "dilated-vp" not in set(FAMILIES["sampling"].default_agents(variant, SEEDS)[0])


def test_without_cma_the_default_leaves_it_out_and_says_so(
    make_sampling: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = make_sampling("gaussian")
    monkeypatch.setitem(sys.modules, "cma", None)
    made, notes = FAMILIES["sampling"].default_agents(variant, SEEDS)
    assert "search-cma-es" not in made
    assert "search-random" in made
    (note,) = notes
    assert note.startswith("left out search-cma-es: search 'cma-es': needs the package cma: pip install")
    with pytest.raises(SchedrlError, match=r"^agent 'search-cma-es': search 'cma-es': needs the package cma"):
        part_of(variant, named(variant, "search-cma-es"))


@pytest.mark.parametrize("name", ["search-random", "search-cma-es", "random"])
def test_an_interrupted_comparison_goes_on_to_the_same_numbers(
    name: str, make_sampling: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = make_sampling("gaussian")
    definition: dict[str, Any] = {"name": name, "kind": "random"}
    if name != "random":
        search = {"name": name.removeprefix("search-"), "evaluations": 15}
        definition = {"name": name, "kind": "search", "search": search}
    made = {name: parse_agent(definition, name)}
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    results = compare(variant, made, whole)
    lines = (whole / RESULTS).read_text().splitlines(keepends=True)
    (part / RESULTS).write_text(lines[0] + lines[3] + lines[1][:25])

    solved: list[int] = []

    run = SamplingTask.run

    def counted(task: SamplingTask) -> list[SamplingResult]:
        solved.extend(task.seeds)
        return run(task)

    monkeypatch.setattr(SamplingTask, "run", counted)
    resumed = compare(variant, made, part)
    assert solved == [SEEDS[1], SEEDS[2], SEEDS[4]]
    errors = {result.seed: result.error for result in resumed}
    assert errors == {result.seed: result.error for result in results}
