"""What a caller gives and gets: actions, arguments, arrays."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from schedrl.errors import SchedrlError

# --- actions ---


@pytest.mark.parametrize(
    ("kind", "action", "message"),
    [
        ("knots", np.zeros((2, 4)), r"action: shape must be \(2, 5\) \(got \(2, 4\)\)"),
        ("knots", np.zeros(5), r"action: shape must be \(2, 5\) \(got \(5,\)\)"),
        ("knots", np.full((2, 5), np.nan), r"action: every entry must be finite \(got NaN or infinity\)"),
        ("knots", np.full((2, 5), np.inf), "must be finite"),
        ("knots", np.full((2, 5), 1.5), r"action: entries must lie in \[-1, 1\] \(got 1\.5\)"),
        ("knots", np.full((2, 5), "a"), r"action: must be numbers \(got dtype <U1\)"),
        ("knots", np.full((2, 5), None), r"action: must be numbers \(got dtype object\)"),
        ("kernel", np.array([[0.0], [-2.0]]), r"\[-1, 1\] \(got -2\.0\)"),
        ("gain", np.array([[0.0], [np.nan]]), "must be finite"),
        ("choice", np.array([0, 3]), r"action: entries must lie in \[0, 2\] \(got 3\)"),
        ("choice", np.array([0, -1]), r"\[0, 2\] \(got -1\)"),
        ("choice", np.array([0.0, 1.0]), r"action: must be integers \(got dtype float64\)"),
        ("choice", np.array([[0], [1]]), r"shape must be \(2,\)"),
    ],
)
def test_bad_actions(episodes: Any, make_vector: Any, kind: str, action: np.ndarray, message: str) -> None:
    env = make_vector(kind, 2)
    good = episodes.actions(env, episodes.steps(env))
    expected = episodes.play(env, 0, good)
    env.reset(seed=0)
    for _ in range(2):
        with pytest.raises(SchedrlError, match=message):
            env.step(action)
    # Nothing has happened: the episode goes on as if the bad action had not been.
    np.testing.assert_array_equal(np.stack([env.step(a)[1] for a in good]), expected["rewards"])


def test_bad_single_actions(make_single: Any) -> None:
    env = make_single("choice")
    env.reset(seed=0)
    for bad in (3, 0.5, None, "cosine", [0, 1], np.nan):
        with pytest.raises(SchedrlError, match="action: "):
            env.step(bad)
    env.step(np.int64(2))


def test_an_action_is_copied(episodes: Any, make_vector: Any) -> None:
    """The caller may reuse its array within a sweep."""
    env = make_vector("kernel", 2)
    actions = episodes.actions(env, 4)
    expected = [env.reset(seed=0)[0], *(env.step(action)[0] for action in actions)][-1]
    observation, _ = env.reset(seed=0)
    reused = np.empty_like(actions[0])
    for action in actions:
        reused[...] = action
        observation = env.step(reused)[0]
    np.testing.assert_array_equal(observation, expected)


def test_returned_arrays_are_the_callers(episodes: Any, make_vector: Any) -> None:
    env = make_vector("kernel", 2)
    actions = episodes.actions(env, episodes.steps(env))
    expected = episodes.play(env, 0, actions)
    first, _ = env.reset(seed=0)
    first[:] = 99.0
    rewards = []
    for action in actions:
        observation, reward, ended, truncated, infos = env.step(action)
        rewards.append(reward.copy())
        for array in (observation, reward, ended, truncated):
            array[...] = 1
        if "bound" in infos:
            infos["bound"][...] = np.nan
    np.testing.assert_array_equal(np.stack(rewards), expected["rewards"])


# --- construction ---


def test_a_reset_drops_an_unfinished_sweep(episodes: Any, make_vector: Any) -> None:
    env = make_vector("kernel", 2)
    actions = episodes.actions(env, episodes.steps(env))
    expected = episodes.play(env, 0, actions)
    env.reset(seed=5)
    env.step(actions[0])
    episodes.assert_same(episodes.play(env, 0, actions), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"render_mode": "human"}, r"render_mode: must be one of rgb_array, ansi \(got 'human'\)"),
        ({"trainig": {}}, "did you mean 'training'"),
        ({"training.network.channels": [6, 8]}, "does not divide|groups"),
        (
            {"training.network.channels": [4] * 5},
            "need images whose sides are multiples of 16; these are 8x8",
        ),
        ({"data.validation": 5000}, "digits: .* images are too few"),
        ({"device": "gpu0"}, "device: 'gpu0' cannot be used here"),
    ],
)
def test_bad_arguments(make_vector: Any, arguments: dict[str, Any], message: str) -> None:
    if "training.network.channels" in arguments:
        arguments = {**arguments, "training.network.groups": 4}
    with pytest.raises(SchedrlError, match=message):
        make_vector("knots", 2, **arguments)


def test_number_of_environments(make_vector: Any) -> None:
    with pytest.raises(SchedrlError, match=r"num_envs': must be a whole number of at least 1 \(got 0\)"):
        make_vector("knots", 0)


def test_metadata_and_spaces(make_vector: Any, make_single: Any) -> None:
    vector, single = make_vector("choice", 3), make_single("choice")
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert single.vector.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert vector.single_action_space == single.action_space == gym.spaces.Discrete(3)
    assert vector.single_observation_space == single.observation_space
    assert single.observation_space.shape == (len(single.observation_names),)
    assert "torch" not in vector.metadata
    assert vector.observation_names == single.observation_names
