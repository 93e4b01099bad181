"""Registration with Gymnasium."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import schedrl
from schedrl.catalogue import folder
from schedrl.environments import registration
from schedrl.environments.training.env import TrainingEnv, TrainingVectorEnv
from schedrl.environments.variants import parse_variant
from schedrl.errors import SchedrlError

MINE = """
id = "me/Mine-v0"
[data]
name = "digits"
limit = 50
validation = 10
test = 10
[training]
batch_size = 2
network = { channels = [4], embedding = 4, groups = 1 }
[action]
kind = "knots"
reference = { name = "cosine" }
[episode]
steps_per_phase = 1
"""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave the registries as they were."""
    registries: tuple[MutableMapping[str, Any], ...] = (gym.registry, registration._registered)
    before = [dict(registry) for registry in registries]
    yield
    for registry, kept in zip(registries, before, strict=True):
        registry.clear()
        registry.update(kept)


def test_the_catalogue_is_what_is_registered() -> None:
    files = {tomllib.loads(path.read_text(encoding="utf-8"))["id"] for path in folder("envs").glob("*.toml")}
    assert len(files) == len(list(folder("envs").glob("*.toml")))
    shipped = {key for key in registration.definitions() if key.startswith(f"{registration.NAMESPACE}/")}
    assert files == shipped
    assert files <= set(gym.registry)
    assert "schedrl/DigitsKnots-v0" in files


def test_importing_by_name(tmp_path: Path) -> None:
    # In a fresh interpreter, where nothing has imported the package: the part before the colon does.
    program = (
        "import gymnasium as gym; env = gym.make('schedrl:schedrl/DigitsKnots-v0', **{'data.limit': 50});"
        "print(env.spec.id, env.unwrapped.variant.data.limit)"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["schedrl/DigitsKnots-v0", "50"]


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE, encoding="utf-8")
    for given in (path, str(path)):
        assert schedrl.register(given) == "me/Mine-v0"
    single = gym.make("me/Mine-v0", training={"batch_size": 3}).unwrapped
    assert isinstance(single, TrainingEnv)
    assert single.variant.training.batch_size == 3
    assert single.spec is not None
    vector = gym.make_vec("me/Mine-v0", num_envs=2)
    assert isinstance(vector, TrainingVectorEnv)
    assert vector.num_envs == 2
    assert vector.spec is not None
    assert vector.spec.id == "me/Mine-v0"
    assert registration.definitions()["me/Mine-v0"]["action"]["kind"] == "knots"


def test_a_model_of_ones_own(make_variant: Any, kind: str) -> None:
    variant = make_variant(kind)
    assert schedrl.register(variant) == variant.id
    assert registration.variant_of(variant.id) == variant
    spec = gym.spec(variant.id)
    assert json.loads(spec.to_json())["kwargs"]["variant"]["action"]["kind"] == kind
    env = gym.make(variant.id).unwrapped
    assert isinstance(env, TrainingEnv)
    assert env.variant == variant


def test_the_last_registration_holds(make_variant: Any) -> None:
    first = make_variant("knots")
    schedrl.register(first)
    schedrl.register(first.model_copy(update={"description": "another"}))
    assert registration.variant_of(first.id).description == "another"
    env = gym.make(first.id).unwrapped
    assert isinstance(env, TrainingEnv)
    assert env.variant.description == "another"


def test_definitions_are_copies() -> None:
    registration.definitions().clear()
    registration.definitions()["schedrl/DigitsKnots-v0"]["id"] = "broken"
    assert registration.definitions()["schedrl/DigitsKnots-v0"]["id"] == "schedrl/DigitsKnots-v0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id = [", "mine.toml: is not TOML"),
        (b"\xff\xfe", "mine.toml: is not TOML: .*decode"),
        (b"", "mine.toml: field 'id': Field required"),
        (MINE.replace("[episode]", "[epsiode]").encode(), "unknown field 'epsiode'; did you mean 'episode'"),
        (MINE.replace("cosine", "cosin").encode(), "did you mean 'cosine'"),
        (MINE.replace("me/Mine-v0", "Mine").encode(), "field 'id'"),
        (
            MINE.replace('name = "digits"', "").encode(),
            r"field 'data\.name': is required; one of cifar10, digits",
        ),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    before = set(gym.registry)
    with pytest.raises(SchedrlError, match=message) as caught:
        schedrl.register(path)
    assert "\n" not in str(caught.value)
    assert set(gym.registry) == before


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"nothing\.toml: cannot be read: .*No such file"):
        schedrl.register(tmp_path / "nothing.toml")
    with pytest.raises(SchedrlError, match="cannot be read"):
        schedrl.register(tmp_path)


def test_unknown_ids() -> None:
    with pytest.raises(SchedrlError, match="unknown environment 'schedrl/DigitKnots-v0'; did you mean"):
        registration.variant_of("schedrl/DigitKnots-v0")
    with pytest.raises(gym.error.NameNotFound, match="Did you mean: `DigitsKnots`"):
        gym.make("schedrl/DigitKnots-v0")


@pytest.mark.parametrize("env_id", sorted(registration.definitions()))
def test_every_definition_is_valid(env_id: str) -> None:
    variant = parse_variant(registration.definitions()[env_id])
    assert variant.id == env_id
    assert variant.description
    spec = gym.spec(env_id)
    assert json.loads(spec.to_json())["id"] == env_id
    again = gym.envs.registration.EnvSpec.from_json(spec.to_json())
    assert again.kwargs == spec.kwargs
