"""Benchmarks in sampling environments, from tasks to results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from schedrl.benchmark.families import FAMILIES, checked
from schedrl.benchmark.manifest import write_manifests
from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.sampling_family import SamplingTask
from schedrl.benchmark.store import RESULTS, ResultStore
from schedrl.benchmark.tasks import Part, held_out_seeds, run_tasks
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.policies import find
from schedrl.policies.agents import Agent, TrainedAgent

Make = Callable[..., SamplingVariant]

SEEDS = held_out_seeds(3)


def named(variant: SamplingVariant, *names: str) -> dict[str, Agent]:
    return {name: find(name, variant.id) for name in names}


def part_of(variant: SamplingVariant, agents: dict[str, Agent], seeds: Sequence[int] = SEEDS) -> Part:
    return checked(Part(variant, agents, tuple(seeds)))


def compare(variant: SamplingVariant, agents: dict[str, Agent], folder: Path) -> list[SamplingResult]:
    part = part_of(variant, agents)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifests(folder, [part], folder / RESULTS)
    return run_tasks(part.tasks, ResultStore(folder / RESULTS, SamplingResult))


def test_what_is_measured(make_sampling: Make, tmp_path: Path) -> None:
    variant = make_sampling("gaussian")
    results = compare(variant, named(variant, "grid-tangent", "grid-optimum", "search-random"), tmp_path)
    problems = SamplingProblems.drawn(variant, SEEDS)
    tangent = find("grid-tangent", variant.id).solve(problems)
    best = find("grid-optimum", variant.id).solve(problems)
    by_agent = {
        name: [result for result in results if result.agent == name] for name in {r.agent for r in results}
    }
    assert [result.seed for result in by_agent["grid-tangent"]] == SEEDS
    assert [r.error for r in by_agent["grid-tangent"]] == pytest.approx(
        problems.error(tangent.sigmas).tolist()
    )
    assert [r.optimum for r in by_agent["grid-tangent"]] == pytest.approx(
        problems.error(best.sigmas).tolist()
    )
    assert [r.reference for r in results[:3]] == pytest.approx(problems.error(problems.reference()).tolist())
    assert [r.num_steps for r in results[:3]] == problems.total.tolist()
    assert {r.evaluations for r in by_agent["search-random"]} == {200}
    for result in by_agent["grid-optimum"]:
        assert result.error == pytest.approx(result.optimum, rel=1e-12)


def test_nothing_is_measured_twice(
    make_sampling: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = make_sampling("mixture")
    made = named(variant, "dilated-vp", "grid-reference")
    first = compare(variant, made, tmp_path)
    assert all(result.optimum is None for result in first)
    path = tmp_path / RESULTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:30])
    asked: list[list[int]] = []
    run = SamplingTask.run

    def counted(task: SamplingTask) -> list[SamplingResult]:
        asked.append(list(task.seeds))
        return run(task)

    monkeypatch.setattr(SamplingTask, "run", counted)
    again = compare(variant, made, tmp_path)
    assert asked == [SEEDS[1:]]
    kept = {"seconds", "created"}
    assert [r.model_dump(exclude=kept) for r in again] == [r.model_dump(exclude=kept) for r in first]


def test_agents_that_do_not_apply(make_sampling: Make, trained_sampling: Callable[[str], Path]) -> None:
    variant = make_sampling("gaussian")
    with pytest.raises(SchedrlError, match="agent 'dilated-vp': plan 'dilation'"):
        part_of(variant, named(variant, "dilated-vp"))
    with pytest.raises(SchedrlError, match="is not for environments of the family 'sampling'"):
        part_of(variant, named(variant, "cosine"))
    with pytest.raises(SchedrlError, match="nothing to measure"):
        part_of(variant, {})
    agent = TrainedAgent(name="mine", path=str(trained_sampling("gaussian")))
    with pytest.raises(SchedrlError, match="seed 0 is not held out: agent 'mine' was trained from it"):
        part_of(variant, {"mine": agent}, [0, 1])
    with pytest.raises(SchedrlError, match="whose observations or actions are not those"):
        part_of(make_sampling("mixture"), {"mine": agent})


def test_the_default_is_everything_that_applies(make_sampling: Make) -> None:
    gaussian, notes = FAMILIES["sampling"].default_agents(make_sampling("gaussian"), SEEDS)
    labels = set(gaussian)
    assert {"grid-optimum", "grid-karras", "search-cma-es", "search-dynamic", "random"} <= labels
    assert not {"dilated-vp", "cosine", "ava-prose"} & labels
    assert notes == ()
    mixture, _ = FAMILIES["sampling"].default_agents(make_sampling("mixture"), SEEDS)
    labels = set(mixture)
    assert {"dilated-vp", "uniform-ve", "search-coordinate"} <= labels
    assert not {"grid-optimum", "grid-geodesic"} & labels
