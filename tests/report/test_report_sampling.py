"""Reports on sampling environments: every figure is there, and how to measure it again."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedrl.benchmark.families import FAMILIES as BENCHMARK_FAMILIES
from schedrl.benchmark.families import checked
from schedrl.benchmark.manifest import load_sampling, write_manifests
from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.store import RESULTS, ResultStore
from schedrl.benchmark.tasks import Part, held_out_seeds, run_tasks
from schedrl.cli.common import parse_settings
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.policies import find
from schedrl.policies.agents import Agent, TrainedAgent, parse_agent
from schedrl.report.pages import FAMILIES, write_report

Make = Callable[..., SamplingVariant]

SEEDS = held_out_seeds(3)


def named(variant: SamplingVariant, *words: str) -> dict[str, Agent]:
    """Agents by their names, or as ``label=name``."""
    return {word.split("=")[0]: find(word.split("=")[-1], variant.id) for word in words}


def compare(
    variant: SamplingVariant, agents: dict[str, Agent], folder: Path, overrides: dict[str, Any] | None = None
) -> list[SamplingResult]:
    part = checked(Part(variant, agents, tuple(SEEDS), overrides=overrides or {}))
    folder.mkdir(parents=True, exist_ok=True)
    write_manifests(folder, [part], folder / RESULTS)
    return run_tasks(part.tasks, ResultStore(folder / RESULTS, SamplingResult))


def command(folder: Path) -> list[str]:
    """The first of the commands that a report ends with, in words."""
    write_report(folder)
    text = (folder / "report.md").read_text(encoding="utf-8")
    return shlex.split(next(line for line in text.splitlines() if line.startswith("schedrl benchmark")))


def test_a_report(
    make_sampling: Make, source: str, trained_sampling: Callable[[str], Path], tmp_path: Path
) -> None:
    variant = make_sampling(source)
    agent = tmp_path / "comparison" / "agent"
    shutil.copytree(trained_sampling(source), agent)
    own = "dilated-ve" if source in ("mixture", "curie-weiss") else "grid-geodesic"
    made = {
        "mine": TrainedAgent(name="mine", path=str(agent)),
        **named(variant, own, "grid-reference"),
    }
    compare(variant, made, tmp_path / "comparison")
    path = write_report(tmp_path / "comparison")
    text = (tmp_path / "comparison" / "report.md").read_text(encoding="utf-8")
    page = path.read_text(encoding="utf-8")
    figures = {"profile", "grids", "learning-mine"}
    if source != "network":  # whose runs cost too much for figures of their own
        figures |= {"dimension"} if "dilated" in own else {"steps", "variance-along-the-sampler"}
    for name in figures:
        assert (tmp_path / "comparison" / "figures" / f"{name}.png").stat().st_size > 5000
        assert f"](figures/{name}.png)" in text
    assert page.count('src="data:image/png') == len(figures)
    assert "http" not in page.replace("http-equiv", "")
    assert f"schedrl benchmark --env {variant.id} --seeds 3 --first-seed 1000000" in text
    assert "--agents mine=agent," in text
    manifest, results = load_sampling(tmp_path / "comparison")
    assert manifest.variant == variant
    assert len(results) == 9
    shutil.rmtree(agent)
    with pytest.raises(SchedrlError, match="is not there any more"):
        write_report(tmp_path / "comparison")


def test_a_report_without_a_learned_agent(make_sampling: Make, tmp_path: Path) -> None:
    variant = make_sampling("gaussian")
    compare(variant, named(variant, "grid-tangent", "grid-karras"), tmp_path)
    write_report(tmp_path)
    assert (
        "No agent here is learned. grid-tangent has the smallest error."
        in (tmp_path / "report.md").read_text()
    )


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="no benchmark to report"):
        write_report(tmp_path)


def test_a_report_of_searches_alone(make_sampling: Make, tmp_path: Path) -> None:
    variant = make_sampling("mixture")
    agent = parse_agent(
        {"name": "few", "kind": "search", "search": {"name": "random", "evaluations": 5}}, "few.toml"
    )
    compare(variant, {"few": agent, **named(variant, "random")}, tmp_path)
    write_report(tmp_path)
    for name in ("profile", "grids", "dimension"):
        assert (tmp_path / "figures" / f"{name}.png").is_file()


def test_a_report_of_one_source_says_so_and_how_to_measure_it_again(
    make_sampling: Make, tmp_path: Path
) -> None:
    variant = make_sampling("images")
    overrides = {"source.quantiles": 4, "steps": {"minimum": 2, "maximum": 4}}
    compare(variant, named(variant, "grid-tangent", "other=grid-cosine"), tmp_path, overrides)
    words = command(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "All episodes have the same source" in text
    assert "none of which a policy was trained on" not in text
    assert words[:2] == ["schedrl", "benchmark"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options["--agents"] == "grid-tangent,other=grid-cosine"
    assert (options["--env"], options["--seeds"]) == (variant.id, str(len(SEEDS)))
    assert options["--first-seed"] == str(SEEDS[0])
    sets = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert parse_settings(sets, "--set") == overrides


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("benchmark.json", "{", "is not JSON"),
        ("benchmark.json", '{"family": "sampling"}', "field 'variant'"),
        (RESULTS, None, "is not there"),
        (RESULTS, "", "holds no run of the benchmark"),
        (RESULTS, "{}\n", "line 1 is not a result: field 'agent'"),
    ],
)
def test_damage_is_named(
    name: str, content: str | None, message: str, make_sampling: Make, tmp_path: Path
) -> None:
    variant = make_sampling("gaussian")
    compare(variant, named(variant, "grid-tangent"), tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SchedrlError, match=message) as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_every_family_of_benchmarks_has_its_report() -> None:
    assert FAMILIES.keys() == BENCHMARK_FAMILIES.keys()
