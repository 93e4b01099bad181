"""Environments small enough to run many episodes of: tiny networks, few images, two optimizer steps a phase."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from schedrl.environments.sampling.gaussian_source import image_spectrum
from schedrl.environments.training.env import TrainingEnv, TrainingVectorEnv
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import of_family, parse_variant

ACTIONS: dict[str, dict[str, Any]] = {
    "knots": {"kind": "knots", "bins": 5, "reference": {"name": "tangent", "gamma": 0.3}},
    "kernel": {"kind": "kernel", "knots": 4, "num_train_timesteps": 40, "reference": {"name": "cosine"}},
    "gain": {"kind": "gain"},
    "dsc": {"kind": "dsc"},
    "choice": {"kind": "choice", "choices": ["cosine", "linear", {"name": "tangent", "gamma": 0.3}]},
}

KINDS = tuple(ACTIONS)

TRAINING: dict[str, Any] = {
    "batch_size": 4,
    "network": {"channels": [4, 8], "embedding": 8, "groups": 2},
}


def tiny(kind: str) -> dict[str, Any]:
    """Plain data of a tiny environment on digits."""
    optimizer = {"learning_rate": 1e-2, "name": "dsc" if kind == "dsc" else "adam"}
    return {
        "id": f"test/{kind.capitalize()}-v0",
        "data": {"name": "digits", "limit": 100, "validation": 30, "test": 30},
        "training": {**TRAINING, "optimizer": optimizer},
        "action": ACTIONS[kind],
        "observation": {
            "features": [
                "time",
                "sigma_local",
                "logsnr",
                "budget",
                "bound_bins",
                "gradient_norm",
                "gradient_average",
            ]
        },
        "bound": {"levels": 7, "images": 8},
        "test_bound": {"levels": 7, "images": 8},
        "episode": {"phases": 2, "steps_per_phase": 2},
    }


class Episodes:
    """How tests play."""

    # One run's sums are rounded unlike the same sums among several runs: groups of channels are convolved and
    # reduced in other blocks. That is 1e-7 relative a step in float32; Adam divides small gradients by their own
    # size and amplifies it. After a few steps rewards agree to about 1e-6 bits/dim.
    tolerance = 1e-4

    @staticmethod
    def actions(env: TrainingVectorEnv | TrainingEnv, steps: int, seed: int = 0) -> list[Any]:
        env.action_space.seed(seed)
        return [env.action_space.sample() for _ in range(steps)]

    @staticmethod
    def steps(env: TrainingVectorEnv | TrainingEnv) -> int:
        return env.variant.episode.phases * env.variant.action.num_knots

    @staticmethod
    def play(env: TrainingVectorEnv, seed: Any, actions: list[Any]) -> dict[str, Any]:
        """Everything a caller sees, joined over the steps."""
        first, _ = env.reset(seed=seed)
        observations, rewards, ended, finals = [first], [], [], []
        for action in actions:
            observation, reward, end, truncated, infos = env.step(action)
            assert not truncated.any()
            observations.append(observation)
            rewards.append(reward)
            ended.append(end)
            final = infos.get("final_info")
            finals.append(final and {**final, "schedule": env.schedule})
        return {
            "observations": np.stack(observations),
            "rewards": np.stack(rewards),
            "ended": np.stack(ended),
            "finals": finals,
        }

    @staticmethod
    def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
        for name in ("observations", "rewards", "ended"):
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)
        for a, b in zip(left["finals"], right["finals"], strict=True):
            assert (a is None) == (b is None)
            for key in a or {}:
                np.testing.assert_array_equal(a[key], b[key], err_msg=key)

    @staticmethod
    def play_single(env: TrainingEnv, seed: int | None, actions: list[Any]) -> list[Any]:
        seen: list[Any] = [env.reset(seed=seed)[0].tolist()]
        for action in actions:
            observation, reward, ended, truncated, info = env.step(action)
            assert truncated is False
            known = {key: np.asarray(value).tolist() for key, value in info.items()}
            seen.append((observation.tolist(), reward, ended, {**known, "schedule": env.schedule}))
            if ended:
                break
        return seen


class MakeVariant(Protocol):
    """Build the tiny variant of an action kind."""

    def __call__(self, kind: str, **overrides: Any) -> TrainingVariant:
        """Fields to change are named as for ``gymnasium.make``."""


class MakeVector(Protocol):
    """Build a tiny vector environment."""

    def __call__(self, kind: str, num_envs: int, **arguments: Any) -> TrainingVectorEnv:
        """Further arguments are those of the environment."""


class MakeSingle(Protocol):
    """Build a tiny single environment."""

    def __call__(self, kind: str, **arguments: Any) -> TrainingEnv:
        """Further arguments are those of the environment."""


@pytest.fixture
def make_variant() -> MakeVariant:
    return lambda kind, **overrides: of_family(parse_variant(tiny(kind), overrides), TrainingVariant)


@pytest.fixture
def make_vector() -> MakeVector:
    return lambda kind, num_envs, **arguments: TrainingVectorEnv(num_envs, variant=tiny(kind), **arguments)


@pytest.fixture
def make_single() -> MakeSingle:
    return lambda kind, **arguments: TrainingEnv(variant=tiny(kind), **arguments)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every action kind."""
    return str(request.param)


@pytest.fixture
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing to be found anywhere: no data folder, an empty working directory and cache, nothing known of before."""
    image_spectrum.cache_clear()
    monkeypatch.delenv("SCHEDRL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """For every set that needs files: random pictures of its shape, as ``data`` to override it with."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    stand_ins = {}
    for name, shape in {"mnist": (28, 28), "fashion-mnist": (28, 28), "cifar10": (32, 32, 3)}.items():
        path = folder / f"{name}.npz"
        np.savez(path, images=rng.integers(0, 256, (60, *shape), dtype=np.uint8))
        stand_ins[name] = {"name": "npz", "path": str(path), "validation": 10, "test": 10}
    return stand_ins


@pytest.fixture
def episodes() -> type[Episodes]:
    """How tests play."""
    return Episodes
