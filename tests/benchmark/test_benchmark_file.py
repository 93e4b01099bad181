"""Benchmark files: the shipped ones, what they may say, and several environments in one file of results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedrl import data
from schedrl.benchmark.benchmark_file import lay_out, read_benchmark
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import read_results
from schedrl.benchmark.tasks import Part
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import of_family
from schedrl.errors import SchedrlError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "benchmarks").glob("*.toml"))


def laid_out(path: Path) -> list[Part]:
    return lay_out(read_benchmark(path), prefix=f"{path.name}: ")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a protocol file; fields as TOML text."""

    def made(environments: str = '["schedrl/DigitsKnots-v0"]', **fields: str) -> Path:
        path = tmp_path / "p.toml"
        content = {"environments": environments, **fields}
        path.write_text("".join(f"{name} = {text}\n" for name, text in content.items()))
        return path

    return made


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_protocols_can_be_laid_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem == "network-fashion" and (problem := data.missing(data.get("fashion-mnist"))) is not None:
        pytest.skip(problem)  # the closed forms' grids are tried
    monkeypatch.setattr(data, "missing", lambda spec: None)  # no images are needed for that
    assert all(part.agents for part in laid_out(path))


def test_what_is_shipped() -> None:
    assert {path.stem for path in SHIPPED} >= {
        "digits",
        "exact",
        "fashion",
        "gaming",
        "transfer",
        "transfer-dsc",
    }
    knots, kernel = laid_out(ROOT / "benchmarks" / "digits.toml")
    for part in (knots, kernel):
        labels = {task.label for task in part.tasks}
        assert len(labels) >= 12
        assert {task.agent.kind for task in part.tasks} >= {
            "schedule",
            "ava",
            "trained",
        }
        assert part.reference == "ppo"
    [gaming] = laid_out(ROOT / "benchmarks" / "gaming.toml")
    # The published table is of this environment.
    published = read_results(ROOT / "benchmarks" / "results" / "gaming.jsonl", TrainingResult)
    assert {line.fingerprint for line in published} == {gaming.variant.fingerprint()}
    assert {line.agent_hash for line in published} == {task.agent_hash for task in gaming.tasks}


BAD: dict[str, tuple[dict[str, str], str]] = {
    "environment": ({"environments": '["schedrl/DigitKnots-v0"]'}, "did you mean 'schedrl/DigitsKnots-v0'?"),
    "no environment": ({"environments": "[]"}, "field 'environments'"),
    "agent": ({"agents": '["cosin"]'}, "unknown agent 'cosin'; did you mean 'cosine'?"),
    "no agent": ({"agents": "[]"}, "p.toml: agents: names at least one agent"),
    "field": ({"agent": '["cosine"]'}, "did you mean 'agents'?"),
    "agent's field": ({"agents": '[{ name = "cosine", form = "exact" }]'}, "agents.0.form"),
    "form": ({"forms": '["exactly"]'}, "field 'forms.0'"),
    "seeds": ({"seeds": "0"}, "field 'seeds'"),
    "format": ({"format": "2"}, "field 'format'"),
    "override": ({"set": '{ "action.bin" = 3 }'}, "did you mean 'action.bins'?"),
    "reference": (
        {"agents": '["cosine"]', "reference": '"ppo"'},
        "p.toml: reference: 'ppo' is not among the agents",
    ),
    "label": (
        {"agents": '["cosine", { name = "linear", label = "cosine" }]'},
        "two agents are called 'cosine'",
    ),
    "from": (
        {"agents": '[{ name = "cosine", from = "schedrl/DigitsDSC-v0" }]'},
        "only a trained agent comes from",
    ),
    "from elsewhere": (
        {"agents": '[{ name = "ppo", from = "schedrl/DigitsDSC-v0" }]'},
        "was trained in schedrl/DigitsDSC-v0, whose observations or actions are not those of",
    ),
    "from nowhere": (
        {"agents": '[{ name = "ppo", from = "schedrl/DigitsGain-v0" }]'},
        "has no shipped policy",
    ),
    "takes part": (
        {"agents": '["cosine", { name = "linear", environments = ["schedrl/DigitsKnot-v0"] }]'},
        "did you mean 'schedrl/DigitsKnots-v0'?",
    ),
    "nobody": (
        {
            "environments": '["schedrl/DigitsKnots-v0", "schedrl/DigitsGain-v0"]',
            "agents": '[{ name = "cosine", environments = ["schedrl/DigitsKnots-v0"] }]',
        },
        "none takes part in schedrl/DigitsGain-v0",
    ),
    "families": (
        {"environments": '["schedrl/DigitsKnots-v0", "schedrl/MixtureSampling-v0"]'},
        "environments: all of one family",
    ),
    "budget": ({"budget": "{ sampler_steps = 3 }"}, "budget.sampler_steps: there is no sampler"),
    "phases": (
        {"environments": '["schedrl/DigitsGain-v0"]', "budget": "{ optimizer_steps = 9 }"},
        "budget.optimizer_steps: must be a multiple of the 8 phases of schedrl/DigitsGain-v0 (got 9)",
    ),
    "sampler's budget": (
        {"environments": '["schedrl/MixtureSampling-v0"]', "budget": "{ optimizer_steps = 9 }"},
        "budget.optimizer_steps: nothing is trained",
    ),
    "no weights": (
        {"quality": '{ features = "inception", count = 3000 }'},
        "feature extractor 'inception': no weights at",
    ),
    "too few samples": (
        {"quality": "{ count = 20 }"},
        "quality.count: must be more than the 32 features of 'digits-cnn' (got 20)",
    ),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_protocols(name: str, write: Callable[..., Path]) -> None:
    fields, message = BAD[name]
    with pytest.raises(SchedrlError) as caught:
        laid_out(write(**fields))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="cannot be read: No such file"):
        read_benchmark(tmp_path / "none.toml")
    (tmp_path / "p.toml").write_text("environments = [")
    with pytest.raises(SchedrlError, match="is not TOML"):
        read_benchmark(tmp_path / "p.toml")


def test_a_budget_is_spread_over_the_phases(write: Callable[..., Path]) -> None:
    [gain] = laid_out(
        write('["schedrl/DigitsGain-v0"]', agents='["cosine"]', budget="{ optimizer_steps = 80 }", seeds="3")
    )
    variant = of_family(gain.variant, TrainingVariant)
    assert (variant.optimizer_steps, variant.episode.steps_per_phase) == (80, 10)
    assert gain.seeds == (1_000_000, 1_000_001, 1_000_002)
    [mixture] = laid_out(
        write('["schedrl/MixtureSampling-v0"]', agents='["uniform-vp"]', budget="{ sampler_steps = 6 }")
    )
    steps = of_family(mixture.variant, SamplingVariant).steps
    assert (steps.minimum, steps.maximum) == (6, 6)


def test_an_agent_of_another_environment_acts_as_it_is(write: Callable[..., Path]) -> None:
    agents = '["ppo", { name = "ppo", from = "schedrl/DigitsKernel-v0" }, { name = "ppo", label = "twin" }]'
    [kernel] = laid_out(write('["schedrl/DigitsAKOD-v0"]', agents=agents))
    hashes = {task.label: task.agent_hash for task in kernel.tasks}
    assert list(hashes) == ["ppo", "ppo-from-DigitsKernel-v0", "twin"]
    assert hashes["twin"] == hashes["ppo"] != hashes["ppo-from-DigitsKernel-v0"]


def test_paths_are_seen_from_the_file(write: Callable[..., Path], trained: Path, tmp_path: Path) -> None:
    (tmp_path / "cosine").mkdir()
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "mine").symlink_to(trained)
    protocol = read_benchmark(write(agents='["cosine", "agents/mine"]'))
    assert [agent.name for agent in protocol.agents or ()] == ["cosine", str(tmp_path / "agents" / "mine")]


def test_a_killed_benchmark_goes_on_to_the_same_results(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    sets = "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in tiny.items())
    path.write_text(
        f'environments = ["schedrl/DigitsKnots-v0"]\nagents = ["cosine", "random"]\nseeds = 2\n[set]\n{sets}'
    )
    script = str(ROOT / "scripts" / "check_benchmark.py")
    done = subprocess.run(
        [sys.executable, script, str(path), "--kills", "1", "--within", "0.1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "OK: after 1 kills every run is there once" in done.stdout


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def test_samples_are_part_of_what_is_measured(write: Callable[..., Path]) -> None:
    path = write(agents='["cosine"]', quality="{ count = 100 }")
    samples = laid_out(path)[0].samples
    assert samples is not None
    assert samples.features == "digits-cnn"
    assert samples.steps == 20
    with pytest.raises(SchedrlError, match="unknown feature extractor 'digit-cnn'; did you mean"):
        laid_out(write(agents='["cosine"]', quality='{ features = "digit-cnn" }'))
    with pytest.raises(SchedrlError, match="quality: nothing is trained in schedrl/GaussianSampling-v0"):
        laid_out(write('["schedrl/GaussianSampling-v0"]', quality="{ count = 100 }"))
