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
import numpy as np
import pytest

import schedrl
from schedrl import data
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
    fixed = set(registration._fixed)
    yield
    registration._fixed.intersection_update(fixed)
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


class Elsewhere(gym.Env[Any, Any]):
    """Another package's environment."""


def test_ids_of_others_are_not_replaced(tmp_path: Path) -> None:
    gym.register("me/Mine-v0", entry_point=f"{__name__}:Elsewhere")
    path = tmp_path / "mine.toml"
    path.write_text(MINE, encoding="utf-8")
    with pytest.raises(
        SchedrlError, match="environment 'me/Mine-v0': is registered outside schedrl; choose another"
    ):
        schedrl.register(path)
    assert gym.spec("me/Mine-v0").entry_point == f"{__name__}:Elsewhere"
    path.write_text(MINE.replace("me/Mine-v0", "schedrl/DigitsKnots-v0"), encoding="utf-8")
    with pytest.raises(SchedrlError, match="is registered by the catalogue or a plugin; choose another id"):
        schedrl.register(path)
    shipped = registration.variant_of("schedrl/DigitsKnots-v0")
    assert schedrl.register(shipped) == shipped.id  # the same again
    assert registration.variant_of(shipped.id) == shipped


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)


def test_a_module_before_the_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    module(
        tmp_path, monkeypatch, "my_envs", f"import schedrl; schedrl.register({str(tmp_path / 'mine.toml')!r})"
    )
    assert registration.variant_of("schedrl:schedrl/DigitsKnots-v0").id == "schedrl/DigitsKnots-v0"
    assert registration.ready_variant("my_envs:me/Mine-v0", {"data.limit": 40}).id == "me/Mine-v0"
    with pytest.raises(SchedrlError, match="'no_such:me/Mine-v0': module 'no_such' cannot be imported"):
        registration.variant_of("no_such:me/Mine-v0")
    module(tmp_path, monkeypatch, "broken_envs", "1 / 0")
    with pytest.raises(SchedrlError, match=r"module 'broken_envs' cannot be imported \(ZeroDivisionError"):
        registration.variant_of("broken_envs:me/Mine-v0")


def test_images_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)
    np.savez(folder / "mine.npz", images=pixels)
    np.savez(elsewhere / "mine.npz", images=pixels[:20])  # not this one
    text = MINE.replace('name = "digits"\nlimit = 50', 'name = "npz"\npath = "mine.npz"')
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    env_id = schedrl.register("../project/mine.toml")
    assert len(data.load(registration.training_variant(env_id).data).train) == 30
    # The root is where its files are, not a part of what it is.
    here = parse_variant(tomllib.loads(text))
    assert registration.variant_of(env_id).fingerprint() == here.fingerprint()


def test_plugins_are_loaded_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    path = str(tmp_path / "mine.toml")
    module(tmp_path, monkeypatch, "my_plugin", f"def variants(): return [{path!r}]")
    module(tmp_path, monkeypatch, "bad_plugin", "raise SystemError('no')")
    info = tmp_path / "my_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1\n", encoding="utf-8")
    points = "[schedrl.variants]\nbad = bad_plugin\ngood = my_plugin:variants\ntaken = my_plugin:nothing\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    assert "me/Mine-v0" not in gym.registry
    with pytest.warns(
        UserWarning, match="plugin '(bad|taken)' .* is left out: (SystemError|AttributeError)"
    ) as caught:
        assert schedrl.load_plugins() == ("me/Mine-v0",)
    assert len(caught) == 2
    assert "me/Mine-v0" in gym.registry


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
