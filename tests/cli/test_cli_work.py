"""The commands that do something, from the first training to the report."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.image import imread

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import read_results
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import of_family
from schedrl.policies.agent_files import load_agent, read_description
from schedrl.policies.progress import read_progress

Run = Callable[..., Any]

KNOTS = ("--env", "schedrl/DigitsKnots-v0")


def test_train_evaluate_benchmark_report(run: Run, tiny_options: list[str]) -> None:
    result = run(
        "train", *KNOTS, *tiny_options, "--num-envs", "2", "-n", "6", "--seed", "5", "--hp", "gamma=0.9"
    )
    assert result.exit_code == 0, result.stderr
    folder = Path("runs/ppo/DigitsKnots-v0_1")
    assert f"the agent is in {folder}" in result.stdout
    assert "training: 2/6, mean return" in result.stderr
    description = load_agent(folder).description
    assert (description.timesteps, description.seed, description.hyperparameters.gamma) == (6, 5, 0.9)
    assert of_family(description.variant, TrainingVariant).training.batch_size == 4

    words = ["evaluate", *KNOTS, *tiny_options, "--agent", str(folder), "-n", "3"]
    result = run(*words, "--json", "out/runs.json", "--render", "out/run.png")
    assert result.exit_code == 0, result.stderr
    runs = json.loads(Path("out/runs.json").read_text())
    assert [entry["seed"] for entry in runs] == [1_000_000, 1_000_001, 1_000_002]
    mean = sum(entry["test_bound"] for entry in runs) / 3
    assert re.search(rf"test bound, bits/dim +{mean:.4f} ± ", result.stdout)
    assert imread("out/run.png").ndim == 3

    agents = f"mine={folder},cosine,ava-prose"
    words = ["benchmark", *KNOTS, *tiny_options, "--agents", agents, "--seeds", "3", "-f", "comparison"]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    lines = read_results(Path("comparison/results.jsonl"), TrainingResult)
    assert len(lines) == 12
    mine = {line.seed: line.test_bound for line in lines if line.agent == "mine"}
    assert mine == {entry["seed"]: entry["test_bound"] for entry in runs}
    assert "no form `action` for ava-prose" in " ".join(result.stdout.split())
    table = {line.split()[0] for line in result.stdout.splitlines() if " ± " in line}
    assert table >= {"mine", "cosine", "ava-prose"}
    again = run(*words)
    assert again.stdout == result.stdout
    assert "12/12, done" in again.stderr
    assert read_results(Path("comparison/results.jsonl"), TrainingResult) == lines

    result = run("report", "comparison")
    assert result.exit_code == 0, result.stderr
    assert "report: comparison/report.html" in result.stdout
    text = Path("comparison/report.md").read_text()
    assert "figures/learning-mine.png" in text
    assert "--set training.batch_size=4" in text


def test_results_go_where_they_are_told(run: Run, tiny_options: list[str], surrounding: Path) -> None:
    words = ["benchmark", *KNOTS, *tiny_options, "--agents", "cosine", "--seeds", "2", "--form", "exact"]
    assert run(*words, "--json", "deep/down.jsonl").exit_code == 0
    assert [path.name for path in surrounding.iterdir()] == ["deep"]
    assert len(read_results(Path("deep/down.jsonl"), TrainingResult)) == 2
    path = Path("deep/down.jsonl")
    path.write_text(path.read_text()[:-20])
    result = run(*words, "--json", "deep/down.jsonl")
    assert "the last line was cut short" in result.stderr
    assert [line.seed for line in read_results(path, TrainingResult)] == [1_000_000, 1_000_001]
    assert run(*words).exit_code == 0
    assert Path("runs/benchmark/DigitsKnots-v0/benchmark.json").is_file()


def test_the_same_results_under_another_reward_rank_by_it_too(run: Run, tiny_options: list[str]) -> None:
    words = [
        "benchmark",
        "--env",
        "schedrl/DigitsChoice-v0",
        *tiny_options,
        "--agents",
        "cosine,printed-linear",
    ]
    result = run(*words, "--seeds", "2", "--form", "exact", "--set", "reward.kind=own_loss")
    assert result.exit_code == 0, result.stderr
    assert "(reward `own_loss`, per phase) the order would be" in " ".join(result.stdout.split())


def test_an_environment_of_ones_own(run: Run, tiny: dict[str, Any]) -> None:
    from schedrl.environments.registration import training_variant

    variant = training_variant("schedrl/DigitsKnots-v0", tiny).model_copy(update={"id": "me/Own-v0"})
    action = variant.action.model_dump()
    Path("own.toml").write_text(
        f"""id = "me/Own-v0"
data = {{ name = "digits", limit = 100, validation = 30, test = 30 }}
training = {{ batch_size = 4, network = {{ channels = [4, 8], embedding = 8, groups = 2 }} }}
bound = {{ levels = 7, images = 8 }}
test_bound = {{ levels = 7, images = 8 }}
episode = {{ steps_per_phase = 2 }}
action = {{ kind = "knots", bins = {action["bins"]}, reference = {{ name = "cosine" }} }}
"""
    )
    result = run("evaluate", "--env", "own.toml", "--agent", "cosine", "-n", "2")
    assert result.exit_code == 0, result.stderr
    assert "in me/Own-v0: 2 runs of 2 optimizer steps" in result.stderr


def test_a_protocol_in_several_environments(run: Run, tiny_options: list[str], surrounding: Path) -> None:
    Path("two.toml").write_text(
        """environments = ["schedrl/DigitsKnots-v0", { id = "schedrl/DigitsKernel-v0", set = { "action.knots" = 2 } }]
agents = ["cosine", { name = "random", environments = ["schedrl/DigitsKernel-v0"] }]
forms = ["exact"]
seeds = 9
"""
    )
    words = ["benchmark", "two.toml", *tiny_options, "--seeds", "2", "--jobs", "1"]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    folder = Path("runs/benchmark/two")
    lines = read_results(folder / "results.jsonl", TrainingResult)
    assert [(line.env_id, line.agent) for line in lines] == [
        *[("schedrl/DigitsKnots-v0", "cosine")] * 2,
        *[("schedrl/DigitsKernel-v0", "cosine")] * 2,
        *[("schedrl/DigitsKernel-v0", "random")] * 2,
    ]
    assert [line.split(":")[0] for line in result.stdout.splitlines() if "2 held-out seeds" in line] == [
        "schedrl/DigitsKnots-v0",
        "schedrl/DigitsKernel-v0",
    ]
    assert run(*words).stdout == result.stdout
    moved = folder.rename("moved")
    report = run("report", str(moved))
    assert report.exit_code == 0, report.stderr
    text = (moved / "report.md").read_text()
    assert text.index("## Noise schedules in schedrl/DigitsKnots-v0") < text.index(
        "## Noise schedules in schedrl/DigitsKernel-v0"
    )
    figures = re.findall(r"\]\((Digits\S+\.png)\)", text)
    assert len({figure.split("/")[0] for figure in figures}) == 2
    assert all((moved / figure).is_file() for figure in figures)


def test_the_demo_does_it_all_and_goes_on(run: Run, tiny_options: list[str]) -> None:
    words = ["demo", *tiny_options, "-n", "64", "--seeds", "2"]
    stopped = run(*words, "--minutes", "0")
    assert stopped.exit_code == 0, stopped.stderr
    folder = Path("runs/demo")
    # The clock stops the training after an update; what there is, is compared.
    assert read_description(folder / "agent").timesteps == 32
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert read_description(folder / "agent").timesteps == 64
    assert "report: runs/demo/report.html" in result.stdout
    assert (folder / "report.html").is_file()
    text = (folder / "report.md").read_text()
    assert "figures/learning-ppo.png" in text
    assert text.count("| exact |") >= 15
    another = run("demo", *tiny_options, "-n", "96", "--seeds", "2")
    assert another.exit_code == 2
    assert "runs/demo/agent: holds another training" in another.stderr


def test_ctrl_c_leaves_an_agent_and_says_how_to_go_on(
    start: Callable[..., subprocess.Popen[str]], tiny_options: list[str]
) -> None:
    # At a constant rate the training does not depend on where its end was to be, so a new end can be given below.
    words = ["train", *KNOTS, *tiny_options, "--num-envs", "2", "--seed", "4", "--hp", "anneal=false"]
    said = []
    with start(*words, "-n", "400", "-f", "part") as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if "training: 22/400" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, said
    folder = Path("part/ppo/DigitsKnots-v0_1")
    steps = read_description(folder).timesteps
    assert 22 <= steps < 400
    assert said[-2:] == [
        f"interrupted; {folder} holds the agent after {steps} steps\n",
        f"continue with: schedrl train --resume {folder}\n",
    ]
    assert load_agent(folder).description.timesteps == steps
    end = str(steps + 6)
    with start("train", "--resume", str(folder), "-n", end) as resumed:
        assert resumed.communicate()[0].startswith(f"trained for {end} steps")
    assert resumed.returncode == 0
    with start(*words, "-n", end, "-f", "whole") as whole:
        whole.communicate()
    other = Path("whole/ppo/DigitsKnots-v0_1")
    assert (folder / "policy.safetensors").read_bytes() == (other / "policy.safetensors").read_bytes()
    assert [row.return_mean for row in read_progress(folder)] == [
        row.return_mean for row in read_progress(other)
    ]
