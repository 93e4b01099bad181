"""The commands on sampling environments."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.store import read_results

Run = Callable[..., Any]
Options = Callable[[str], list[str]]


def test_train_evaluate_benchmark_report(run: Run, sampling_options: Options) -> None:
    options = sampling_options("gaussian")
    words = ["train", *options, "--num-envs", "8", "-n", "64", "--seed", "5", "--hp", "group_size=2"]
    result = run(*words, "--hp", "minibatches=2")
    assert result.exit_code == 0, result.stderr
    folder = Path("runs/ppo/GaussianSampling-v0_1")
    assert f"the agent is in {folder}" in result.stdout
    assert "relative to the reference `tangent`" in (folder / "README.md").read_text()

    words = ["evaluate", *options, "--agent", str(folder), "-n", "3"]
    result = run(*words, "--json", "out/runs.json", "--render", "out/run.png")
    assert result.exit_code == 0, result.stderr
    runs = json.loads(Path("out/runs.json").read_text())
    assert [entry["seed"] for entry in runs] == [1_000_000, 1_000_001, 1_000_002]
    assert re.search(r"error over that of the optimum +1\.\d+", result.stdout)
    assert imread("out/run.png").ndim == 3

    agents = f"mine={folder},grid-tangent,grid-optimum,search-coordinate"
    words = ["benchmark", *options, "--agents", agents, "--seeds", "3", "-f", "comparison"]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert "above the exact optimum" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    lines = read_results(Path("comparison/results.jsonl"), SamplingResult)
    assert len(lines) == 12
    assert [line.error for line in lines if line.agent == "mine"] == [entry["error"] for entry in runs]
    again = run(*words)
    assert again.stdout == result.stdout
    assert "12/12, done" in again.stderr

    result = run("report", "comparison")
    assert result.exit_code == 0, result.stderr
    assert "report: comparison/report.html" in result.stdout
    assert "--set source.spectrum.eigenvalues=4" in Path("comparison/report.md").read_text()


def test_as_a_user_starts_it(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("evaluate", "--env", "schedrl/MixtureSampling-v0", "--agent", "dilated-vp", "-n", "2")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "mean within variance" in out
    assert "error over that of the reference grid" in out


def test_lists(run: Run) -> None:
    result = run("envs")
    assert result.exit_code == 0
    for listed in (result, run("agents")):
        assert max(map(len, listed.output.splitlines())) <= 100
    assert "fashion-mnist (missing)" in result.output
    assert re.search(r"AnyGaussianSampling-v0 +step +gaussian +4 to 32", result.output)
    assert "grid-geodesic" in run("agents").output


BAD: dict[str, tuple[list[str], str]] = {
    "agent": (["benchmark", "--agents", "grid-tangnt"], "did you mean 'grid-tangent'?"),
    "reference": (["benchmark", "--agents", "grid-tangent", "--reference", "grid-tangent"], "--reference: "),
    "training agent": (
        ["benchmark", "--agents", "cosine"],
        "agent 'cosine': a schedule is not for environments of the family 'sampling'",
    ),
    "other source": (["evaluate", "--agent", "dilated-vp"], "needs a source with a dimension"),
    "steps": (["train", "--set", "steps.maximum=0"], "field 'steps.maximum': Input should be greater"),
    "spectrum": (["train", "--set", "source.spectrum.decades=99"], "field 'source.spectrum.decades'"),
    "eigenvalue": (
        ["train", "--set", "source.spectrum={name='fixed', values=[1.0, -2.0]}"],
        "field 'source.spectrum.values.1'",
    ),
    "groups": (["train", "--num-envs", "6"], "group_size must divide num_envs = 6 (got 4)"),
    "demo": (["demo"], "is of the family 'sampling', and this needs 'training'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(run: Run, name: str, surrounding: Path) -> None:
    (command, *words), message = BAD[name]
    result = run(command, "--env", "schedrl/GaussianSampling-v0", *words)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(surrounding.iterdir()) == []


def test_more_bad_input(run: Run) -> None:
    for words, message in (
        (["train", "--env", "schedrl/FashionSpectrumSampling-v0"], "fashion-mnist: missing FashionMNIST/raw"),
        (
            ["evaluate", "--env", "schedrl/DigitsKnots-v0", "--agent", "grid-karras"],
            "agent 'grid-karras': a grid is not for environments of the family 'training'",
        ),
        (
            ["benchmark", "--env", "schedrl/DigitsKnots-v0", "--agents", "cosine,grid-karras"],
            "agent 'grid-karras': a grid is not for environments of the family 'training'",
        ),
        (
            ["benchmark", "--env", "schedrl/DigitsKnots-v0", "--agents", "search-random"],
            "agent 'search-random': a search is not for environments of the family 'training'",
        ),
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_results_of_the_other_family_are_refused(
    run: Run, sampling_options: Options, tiny_options: list[str]
) -> None:
    words = ["benchmark", *sampling_options("gaussian"), "--agents", "grid-tangent", "--seeds", "2"]
    assert run(*words, "--json", "r.jsonl").exit_code == 0
    result = run(
        "benchmark",
        "--env",
        "schedrl/DigitsKnots-v0",
        *tiny_options,
        "--agents",
        "cosine",
        "--json",
        "r.jsonl",
    )
    assert result.exit_code == 2
    assert "result file r.jsonl: line 1 is not a result" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_default_comparison(run: Run, sampling_options: Options) -> None:
    result = run("benchmark", *sampling_options("mixture"), "--seeds", "2", "-f", "all")
    assert result.exit_code == 0, result.stderr
    lines = read_results(Path("all/results.jsonl"), SamplingResult)
    assert {line.kind for line in lines} >= {"grid", "search", "random"}
    assert max(map(len, result.stdout.splitlines())) <= 100
