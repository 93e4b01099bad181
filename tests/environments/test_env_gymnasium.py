"""Gymnasium's conventions, for both families: autoreset modes, copies, forks, infos, arguments."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import schedrl
from schedrl.environments.sampling.env import SamplingEnv, SamplingVectorEnv
from schedrl.environments.training.env import TrainingEnv, TrainingVectorEnv
from tests.environments.conftest import tiny

SAMPLING = {
    "id": "test/Sampling-v0",
    "family": "sampling",
    "source": {"kind": "gaussian", "spectrum": {"name": "log-uniform", "eigenvalues": 5}},
    "steps": {"minimum": 2, "maximum": 4},
}

FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sampling": (SamplingEnv, SamplingVectorEnv, SAMPLING),
    "knots": (TrainingEnv, TrainingVectorEnv, tiny("knots")),
    "kernel": (TrainingEnv, TrainingVectorEnv, tiny("kernel")),
}


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> Any:
    """Both families: the single environment, the vector environment and a small variant."""
    return FAMILIES[request.param]


def assert_alike(found: Any, expected: Any, name: str = "") -> None:
    """Sampling environments round sums over other numbers of rows differently."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), name
        for key, value in expected.items():
            assert_alike(found[key], value, f"{name}.{key}")
        return
    rows = [row for row, value in enumerate(expected) if value is not None]  # final_obs
    np.testing.assert_allclose(
        np.stack([found[row] for row in rows]),
        np.stack([expected[row] for row in rows]),
        rtol=1e-5,
        atol=1e-6,
        err_msg=name,
    )


def poison(env: Any, run: int) -> None:
    """Let a training run diverge at the end of its phase, alone."""
    if hasattr(env.runs, "population"):
        env.runs.population.weights[run] = torch.nan
        env.runs.population.average[run] = torch.nan


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode_is_that_of_sync_vector_env(family: Any, mode: AutoresetMode) -> None:
    single, vector, variant = family
    ours = vector(3, variant=variant, autoreset_mode=mode)
    theirs = SyncVectorEnv([partial(single, variant=variant)] * 3, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"] is mode
    first = ours.reset(seed=5), theirs.reset(seed=5)
    assert_alike(first[0][0], first[1][0])
    assert_alike(first[0][1], first[1][1])
    poison(ours, 1)
    poison(theirs.envs[1].unwrapped.vector, 0)  # type: ignore[attr-defined]
    ours.action_space.seed(0)
    ends, apart = np.zeros(3, dtype=np.int64), False
    for _ in range(24):
        actions = ours.action_space.sample()
        found, expected = ours.step(actions), theirs.step(actions)
        for name, left, right in zip(("obs", "reward", "end", "cut", "infos"), found, expected, strict=True):
            assert_alike(left, right, name)
        ended = found[2]
        ends += ended
        apart |= bool(ended.any() and not ended.all())
        if mode is AutoresetMode.DISABLED and ended.any():
            with pytest.raises(schedrl.SchedrlError, match="reset"):
                ours.step(actions)
            resets = [env.reset(options={"reset_mask": ended.copy()}) for env in (ours, theirs)]
            assert_alike(resets[0][0], resets[1][0])
            assert_alike(resets[0][1], resets[1][1])
    assert (ends >= 2).all()
    assert apart


def test_a_mask_resets_its_runs_within_the_others_episodes(family: Any) -> None:
    single, vector, variant = family
    ours = vector(3, variant=variant, autoreset_mode="Disabled")
    theirs = SyncVectorEnv([partial(single, variant=variant)] * 3, autoreset_mode=AutoresetMode.DISABLED)
    mask = np.array([False, True, False])
    with pytest.raises(schedrl.SchedrlError, match="the first reset must be of all runs"):
        ours.reset(options={"reset_mask": mask})
    ours.action_space.seed(1)
    for env in (ours, theirs):
        env.reset(seed=2)
    actions = ours.action_space.sample()
    assert_alike(ours.step(actions)[0], theirs.step(actions)[0])
    seeds: tuple[list[int | None] | None, ...] = (None, [7, 8, 9])
    for seed in seeds:
        masked = [env.reset(seed=seed, options={"reset_mask": mask.copy()}) for env in (ours, theirs)]
        assert_alike(masked[0][0], masked[1][0])
        assert_alike(masked[0][1], masked[1][1])
    arrays, meta = ours.state()
    other = vector(3, variant=variant, autoreset_mode="Disabled")
    other.restore(arrays, json.loads(json.dumps(meta)))
    for _ in range(6):
        actions = ours.action_space.sample()
        found, expected, restored = (env.step(actions) for env in (ours, theirs, other))
        for left, right, again in zip(found[:4], expected[:4], restored[:4], strict=True):
            assert_alike(left, right)
            np.testing.assert_array_equal(left, again)
        if found[2].any():
            break
    for bad in ([False, True, False], np.zeros(3, np.bool_), np.ones(2, np.bool_), np.ones(3)):
        with pytest.raises(schedrl.SchedrlError, match="reset_mask: must"):
            ours.reset(options={"reset_mask": bad})


def test_other_autoreset_modes_are_refused(family: Any) -> None:
    _, vector, variant = family
    assert vector(2, variant=variant, autoreset_mode="NextStep").metadata["autoreset_mode"] is (
        AutoresetMode.NEXT_STEP
    )
    for bad in ("banana", None, 3):
        with pytest.raises(
            schedrl.SchedrlError, match="autoreset_mode: must be one of NextStep, SameStep, Disabled"
        ):
            vector(2, variant=variant, autoreset_mode=bad)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_alike_and_alone(family: Any, duplicate: Any) -> None:
    single, vector, variant = family
    for env in (single(variant=variant), vector(1, variant=variant), vector(3, variant=variant)):
        env.action_space.seed(0)
        env.reset(seed=3)
        actions = [env.action_space.sample() for _ in range(4)]
        env.step(actions[0])
        other = duplicate(env)
        for action in actions[1:2]:
            seen, copied = env.step(action), other.step(action)
            np.testing.assert_array_equal(seen[0], copied[0])
            np.testing.assert_array_equal(seen[1], copied[1])
        handed, _ = other.reset(seed=1)
        kept = handed.copy()
        other.step(actions[2])
        np.testing.assert_array_equal(handed, kept)


def shapes(info: dict[str, Any]) -> dict[str, Any]:
    assert all(isinstance(value, (bool, int, float, np.ndarray)) for value in info.values())
    return {name: np.shape(value) for name, value in info.items()}


def test_infos_are_numbers_of_one_shape_from_reset_to_end(family: Any) -> None:
    single, _, variant = family
    env = single(variant=variant)
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    expected, ended = shapes(info), False
    assert expected
    while not ended:
        _, _, ended, _, info = env.step(env.action_space.sample())
        assert shapes(info) == expected
    assert all(np.isfinite(value).all() for name, value in info.items() if name != "sigmas")


def test_the_rest_is_asked_for(make_variant: Any) -> None:
    variant = make_variant("knots", id="test/Asked-v0")
    schedrl.register(variant)
    try:
        env = gym.make("test/Asked-v0")
        env.reset(seed=0)
        assert env.get_wrapper_attr("observation_names") == variant.observation_names
        assert json.loads(env.get_wrapper_attr("schedule")) == []
        env.step(np.zeros(5, np.float32))
        (made,) = json.loads(env.get_wrapper_attr("schedule"))
        assert made["name"] == "piecewise"
    finally:
        gym.registry.pop("test/Asked-v0")


@pytest.mark.parametrize("many", [False, True])
def test_an_unknown_argument_is_both_errors(family: Any, many: bool) -> None:
    single, vector, variant = family
    for error in (schedrl.SchedrlError, ValueError, TypeError):
        with pytest.raises(error, match="got an unexpected keyword argument 'frameskip'"):
            (vector if many else single)(variant=variant, frameskip=4)
    with pytest.raises(TypeError, match="unknown field 'acton'; did you mean 'action'"):
        vector(variant=variant, **{"acton.kind": 1})


@pytest.mark.parametrize("seed", [2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**128 + 1])
def test_seeds_of_any_size(family: Any, seed: int) -> None:
    single, _, variant = family
    env, other = single(variant=variant), single(variant=variant)
    env.action_space.seed(0)
    action = env.action_space.sample()
    np.testing.assert_array_equal(env.reset(seed=seed)[0], other.reset(seed=seed)[0])
    seen = [each.step(action)[0] for each in (env, other)]
    np.testing.assert_array_equal(*seen)
    env.reset(seed=env.np_random_seed)


FORKED = """
import gymnasium as gym, numpy as np, torch
torch.set_num_threads(2)
import schedrl
id, small = "schedrl/DigitsKnots-v0", {"data.limit": 80, "episode.steps_per_phase": 2, "training.batch_size": 64}
env = gym.make(id, **small)
zeros = np.zeros(env.action_space.shape, np.float32)
env.reset(seed=0)
expected = env.step(zeros)[1]
torch.randn(400, 400) @ torch.randn(400, 400)
torch.randn(2000000).exp()
children = gym.make_vec(id, num_envs=2, vectorization_mode="async", vector_kwargs={"context": "fork"}, **small)
children.reset(seed=[0, 0])
rewards = children.step(np.stack([zeros, zeros]))[1]
assert np.allclose(rewards, expected), (rewards, expected)
children.close()
print("done")
"""


def test_a_forked_child_works() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=240)
    assert done.stdout.split()[-1:] == ["done"], done.stderr
