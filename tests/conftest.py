"""Settings for all tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

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
    from schedrl.policies.training import request_for, train

    request = request_for("schedrl/DigitsKnots-v0", 0, dict(TINY), num_envs=2, total_timesteps=6)
    return train(request, tmp_path_factory.mktemp("trained") / "mine")
