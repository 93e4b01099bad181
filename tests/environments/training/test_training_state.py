"""State of the vector environment: a run goes on exactly where it was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from schedrl.environments.training.env import TrainingVectorEnv


def some_actions(env: TrainingVectorEnv, steps: int) -> list[Any]:
    env.action_space.seed(4)
    return [env.action_space.sample() for _ in range(steps)]


def continued(env: TrainingVectorEnv, actions: list[Any]) -> list[Any]:
    """All that is seen from here on."""
    seen: list[Any] = [env.observe().tolist()]
    for action in actions:
        observation, reward, ended, _, infos = env.step(action)
        final = {key: values.tolist() for key, values in infos.get("final_info", {}).items()}
        seen.append((observation.tolist(), reward.tolist(), ended.tolist(), final))
    return seen


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_goes_on_exactly(make_vector: Any, kind: str, stop: int) -> None:
    env = make_vector(kind, 2)
    # Steps of the kernel are knots: 1, 2 and 3 are inside a sweep. For the others they are phases, and 2 is a reset.
    length = 2 * env.variant.episode.phases * env.variant.action.num_knots
    actions = some_actions(env, stop + length)
    env.reset(seed=11)
    for action in actions[:stop]:
        env.step(action)
    arrays, meta = env.state()
    text = json.dumps(meta, allow_nan=False)  # plain JSON
    kept = {name: array.copy() for name, array in arrays.items()}
    expected = continued(env, actions[stop:])
    for name, array in kept.items():  # a copy, not a view of what goes on
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)

    fresh = make_vector(kind, 2)
    fresh.restore(kept, json.loads(text))
    assert continued(fresh, actions[stop:]) == expected
    used = make_vector(kind, 2)
    used.reset(seed=99)
    for action in some_actions(used, 3):
        used.step(action)
    used.restore(kept, json.loads(text))
    assert continued(used, actions[stop:]) == expected
    assert all(np.isfinite(array).all() for array in kept.values())


def test_before_the_first_reset(make_vector: Any) -> None:
    arrays, meta = make_vector("knots", 2).state()
    env = make_vector("knots", 2)
    env.reset(seed=1)
    env.restore(arrays, json.loads(json.dumps(meta)))
    with pytest.raises(ValueError, match=r"call reset\(\)"):
        env.step(np.zeros((2, 5), np.float32))
    env.reset(seed=1)
    env.step(np.zeros((2, 5), np.float32))


def test_pictures_after_restoring(make_vector: Any) -> None:
    env = make_vector("knots", 1, render_mode="ansi")
    env.reset(seed=1)
    env.step(np.zeros((1, 5), np.float32))
    state = env.state()
    env.reset(seed=2)
    env.step(np.zeros((1, 5), np.float32))
    env.restore(*state)
    # The curve of the other episode is gone, and with it the last loss.
    assert env.render()[0].endswith("loss -")
