"""Many environments in one: each is what it would be alone, at a cost that does not creep up."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedrl.diffusion.engines import native_engine


def has_kernel() -> bool:
    try:
        native_engine.load()
    except native_engine.KernelUnavailableError:
        return False
    return True


@pytest.mark.skipif(not has_kernel(), reason="no C++ compiler: runs in PyTorch agree to rounding only")
@pytest.mark.parametrize("optimizer", [{"name": "adam"}, {"name": "adamw", "weight_decay": 0.1}])
@pytest.mark.parametrize("reward", ["bound", "own_loss"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v"])
def test_environments_together_are_the_environments_alone(
    episodes: Any, make_vector: Any, kind: str, optimizer: dict[str, Any], reward: str, prediction_type: str
) -> None:
    if kind == "dsc":  # it needs its own; beside the default, the other reading of β and the printed step
        adam = optimizer["name"] == "adam"
        constants = {"boost": 1.0, "per_sample": adam, "update": "adam" if adam else "printed"}
        optimizer = {"name": "dsc", "dsc": constants}
    changes = {
        "training.optimizer": optimizer,
        "training.prediction_type": prediction_type,
        "reward.kind": reward,
        "episode.steps_per_phase": 10,
    }
    together = make_vector(kind, 3, **changes)
    actions = episodes.actions(together, episodes.steps(together))  # 20 optimizer steps
    seen = episodes.play(together, 5, actions)
    for run in range(3):
        alone = make_vector(kind, 1, **changes)
        found = episodes.play(alone, 5 + run, [action[run : run + 1] for action in actions])
        for name in ("observations", "rewards", "ended"):
            np.testing.assert_array_equal(found[name][:, 0], seen[name][:, run], err_msg=name)
        final, expected = found["finals"][-1], seen["finals"][-1]
        for name in ("bound", "test_bound", "schedule"):
            assert final[name][0] == expected[name][run], name


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_is_flat_over_many_resets(make_vector: Any) -> None:
    env = make_vector("knots", 8)
    action = np.zeros((8, 5), np.float32)
    env.reset(seed=0)

    def episodes(count: int) -> None:
        for _ in range(count * env.variant.episode.phases):
            env.step(action)

    episodes(20)
    gc.collect()
    before = resident_megabytes()
    episodes(200)  # of each of eight runs
    gc.collect()
    # A leak of the tiny network's state alone would be 8 runs * 200 * 4 * 12 kB = 75 MB.
    assert resident_megabytes() - before < 12.0
