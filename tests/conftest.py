"""Settings for all tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from schedrl.environments.sampling.variant import SamplingVariant

# Before anything imports matplotlib, here or in a subprocess: no test may need a display.
os.environ["MPLBACKEND"] = "Agg"

# Before anything imports torch: on networks this small a second thread gains nothing, and on a busy machine the
# threads wait for each other a hundred times longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: the first call of anything that loads torch takes seconds. In CI the same examples every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

TINY: dict[str, Any] = {
    "data.limit": 100,
    "data.validation": 30,
    "data.test": 30,
    "training.batch_size": 4,
    "training.network": {"channels": [4, 8], "embedding": 8, "groups": 2},
    "bound.levels": 7,
    "bound.images": 8,
    "test_bound.levels": 7,
    "test_bound.images": 8,
    "episode.steps_per_phase": 2,
}


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Overrides that make any environment on digits small enough to run in a moment."""
    return dict(TINY)


@pytest.fixture(scope="session")
def tiny_options() -> list[str]:
    """The same, as options of the command line."""
    return [word for key, value in TINY.items() for word in ("--set", f"{key}={json.dumps(value)}")]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an agent trained for three updates in the tiny ``schedrl/DigitsKnots-v0``. Do not write to it."""
    from schedrl.policies.ppo_training import request_for, train

    request = request_for("schedrl/DigitsKnots-v0", 0, dict(TINY), num_envs=2, total_timesteps=6)
    return train(request, tmp_path_factory.mktemp("trained") / "mine")


# For every kind of source, a shipped environment and what makes it small.
SAMPLING: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": (
        "schedrl/GaussianSampling-v0",
        {
            "source.spectrum.eigenvalues": 4,
            "source.spectrum.decades": 3.0,
            "source.quantiles": 4,
            "steps": {"minimum": 2, "maximum": 4},
        },
    ),
    "images": (
        "schedrl/DigitsSpectrumSampling-v0",
        {
            "source.data": {"limit": 60, "validation": 20, "test": 20},
            "source.floor": 0.5,
            "steps": {"minimum": 2, "maximum": 3},
        },
    ),
    "mixture": (
        "schedrl/MixtureSampling-v0",
        {
            "source.dimension": [100.0, 10000.0],
            "source.quantiles": 64,
            "steps": {"minimum": 4, "maximum": 4},
        },
    ),
    "network": (
        "schedrl/NetworkSampling-v0",
        {"source.images": 2, "source.teacher_steps": 4, "steps": {"minimum": 2, "maximum": 3}},
    ),
    "curie-weiss": (
        "schedrl/CurieWeissSampling-v0",
        {
            "source.dimension": [200.0, 2000.0],
            "source.samples": 8,
            "source.strata": 8,
            "steps": {"minimum": 4, "maximum": 4},
        },
    ),
}


@pytest.fixture(scope="session")
def make_sampling() -> Callable[..., SamplingVariant]:
    """The small variant of a kind of source; further fields to change are named as for ``gymnasium.make``."""

    def make(kind: str, **overrides: Any) -> SamplingVariant:
        from schedrl.environments.registration import sampling_variant

        env_id, small = SAMPLING[kind]
        return sampling_variant(env_id, {**small, **overrides})

    return make


@pytest.fixture(params=sorted(SAMPLING))
def source(request: pytest.FixtureRequest) -> str:
    """Every kind of source."""
    return str(request.param)


@pytest.fixture(scope="session")
def sampling_options() -> Callable[[str], list[str]]:
    """The small variant of a kind of source, as options of the command line."""

    def options(kind: str) -> list[str]:
        env_id, small = SAMPLING[kind]
        sets = [word for key, value in small.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        return ["--env", env_id, *sets]

    return options


@pytest.fixture(scope="session")
def trained_sampling(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of an agent trained for two updates in the small variant of a kind of source. Do not write to it."""
    made: dict[str, Path] = {}

    def train_in(kind: str) -> Path:
        from schedrl.policies.ppo_training import request_for, train

        if kind not in made:
            env_id, small = SAMPLING[kind]
            request = request_for(env_id, 0, dict(small), num_envs=8, total_timesteps=64, minibatches=1)
            made[kind] = train(request, tmp_path_factory.mktemp(f"trained-{kind}") / "mine")
        return made[kind]

    return train_in
