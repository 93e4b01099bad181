"""Trained agents on disk: what is saved acts the same, and damage is noticed."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from schedrl.environments.registration import training_variant
from schedrl.errors import AgentFileError
from schedrl.policies.agent_files import build_network, load_agent, read_description, save_agent
from schedrl.policies.agents import TrainedAgent, find
from schedrl.policies.ppo import PPOSpec


@pytest.fixture
def agent(trained: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(trained, tmp_path / "agent"))


def observations(count: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


def test_what_is_saved_acts_the_same(trained: Path, tmp_path: Path) -> None:
    description = read_description(trained)
    torch.manual_seed(7)
    network = build_network(description)
    save_agent(tmp_path, network, description)
    loaded = load_agent(tmp_path)
    rows = observations(50, len(description.variant.observation_names))
    # Row by row, as a loaded policy does: a network's last digits depend on its batch.
    expected = np.concatenate([network.predict(row[None], deterministic=True)[0] for row in rows])
    np.testing.assert_array_equal(loaded.predict(rows, deterministic=True)[0], expected)
    # The weights above are random: had loading done nothing, another draw would act otherwise.
    other, _ = build_network(description).predict(rows, deterministic=True)
    assert not np.array_equal(other, expected)
    assert loaded.description == description


def test_loading_unpickles_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something is unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    assert load_agent(trained).description.algo == "ppo"


def test_no_file_of_a_training_is_a_pickle_or_an_archive(trained: Path) -> None:
    files = [path for path in trained.rglob("*") if path.is_file()]
    assert {path.name for path in files} > {
        "policy.safetensors",
        "agent.json",
        "README.md",
        "checkpoint.safetensors",
    }
    for path in files:
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK")), path
        if path.suffix == ".safetensors":
            length = int.from_bytes(content[:8], "little")
            assert "dtype" in content[8 : 8 + length].decode()
            json.loads(content[8 : 8 + length])


def test_the_card_says_where_it_comes_from(trained: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert "schedrl train --env schedrl/DigitsKnots-v0 --algo ppo -n 6 --seed 0" in card
    description = read_description(trained)
    assert (description.timesteps, description.optimizer_steps) == (6, 12)
    assert set(description.versions) == {"schedrl", "gymnasium", "numpy", "stable-baselines3", "torch"}


@pytest.mark.parametrize("name", ["policy.safetensors", "agent.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "noise", "folder"])
def test_damaged_files_are_noticed(agent: Path, name: str, damage: str) -> None:
    path = agent / name
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        noise = np.random.default_rng(0).bytes(200)
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "noise": noise}[damage])
    with pytest.raises(AgentFileError, match=name) as caught:
        load_agent(agent)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(agent: Path) -> None:
    path = agent / "policy.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name] = np.full_like(weights[name], np.nan)
    save_file(weights, path)
    with pytest.raises(AgentFileError, match="not finite"):
        load_agent(agent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "field 'format'"),
        ({"algo": "dqn"}, "field 'algo'"),
        ({"timesteps": -1}, "field 'timesteps'"),
        ({"surplus": 1}, "field 'surplus'"),
        ({"hyperparameters": {"gamma": 2.0}}, "field 'hyperparameters.gamma'"),
    ],
)
def test_descriptions_are_checked(agent: Path, change: dict[str, Any], message: str) -> None:
    path = agent / "agent.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(AgentFileError, match=message):
        load_agent(agent)


def test_weights_of_another_network_are_refused(trained: Path, agent: Path) -> None:
    description = read_description(trained)
    spec = PPOSpec(**{**description.hyperparameters.model_dump(), "net_arch": (8,)})
    other = description.model_copy(update={"hyperparameters": spec})
    save_agent(agent, build_network(other), other)
    shutil.copy(trained / "policy.safetensors", agent)
    with pytest.raises(AgentFileError, match="belongs to another agent"):
        load_agent(agent)


@pytest.mark.parametrize(
    ("env_id", "changes"),
    [
        ("schedrl/DigitsKernel-v0", {}),
        ("schedrl/DigitsKnots-v0", {"action.bins": 5}),
        ("schedrl/DigitsKnots-v0", {"observation.features": ["budget"]}),
    ],
)
def test_an_agent_does_not_act_where_it_does_not_fit(
    trained: Path, env_id: str, changes: dict[str, Any], tiny: dict[str, Any]
) -> None:
    with pytest.raises(AgentFileError, match="whose observations or actions are not those of"):
        load_agent(trained, training_variant(env_id, {**tiny, **changes}))
    fitting = load_agent(trained, training_variant("schedrl/DigitsKnots-v0", {"training.batch_size": 7}))
    assert fitting.description.variant.id == "schedrl/DigitsKnots-v0"


@pytest.mark.parametrize("env_id", ["schedrl/DigitsKnots-v0", "schedrl/MixtureSampling-v0"])
def test_actions_do_not_depend_on_other_rows(env_id: str) -> None:
    agent = find("ppo", env_id)
    assert isinstance(agent, TrainedAgent)
    policy = load_agent(agent.path)
    space = policy.network.observation_space
    rows = np.random.default_rng(0).normal(size=(50, *(space.shape or ()))).astype(np.float32)
    actions, _ = policy.predict(rows, deterministic=True)
    for row in (0, 17, 49):
        np.testing.assert_array_equal(policy.predict(rows[row], deterministic=True)[0], actions[row])
    np.testing.assert_array_equal(policy.predict(rows[10:33], deterministic=True)[0], actions[10:33])
    theirs, _ = policy.network.predict(rows, deterministic=True)
    np.testing.assert_allclose(actions, theirs, atol=1e-5)
