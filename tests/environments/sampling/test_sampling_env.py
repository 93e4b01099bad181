"""Sampling environments: exact errors, returns that telescope, seeds, and exact continuation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO

from schedrl.environments.sampling.env import SamplingEnv, SamplingVectorEnv
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sb3 import Sb3VectorEnv
from schedrl.errors import SchedrlError
from schedrl.sources.gaussian.divergences import kl
from schedrl.sources.gaussian.recursions import output_variances

ENVS = 6


def actions_of(env: SamplingVectorEnv, steps: int, seed: int = 0, spread: float = 0.4) -> list[Any]:
    rng = np.random.default_rng(seed)
    shape = (steps, env.num_envs, 1)
    return list((spread * rng.uniform(-1.0, 1.0, shape)).astype(np.float32))


def play(env: SamplingVectorEnv, seed: Any, actions: list[Any]) -> dict[str, Any]:
    """Everything a caller sees, joined over the steps, and the first final info of each run."""
    first, _ = env.reset(seed=seed)
    observations, rewards, ended = [first], [], []
    finals: dict[int, dict[str, Any]] = {}
    returns = np.zeros(env.num_envs)
    for action in actions:
        observation, reward, end, truncated, infos = env.step(action)
        assert not truncated.any()
        returns += np.where([run in finals for run in range(env.num_envs)], 0.0, reward)
        for run in np.flatnonzero(end).tolist():
            info = infos["final_info"]
            finals.setdefault(run, {k: v[run] for k, v in info.items() if not k.startswith("_")})
        observations.append(observation)
        rewards.append(reward)
        ended.append(end)
    return {
        "observations": np.stack(observations),
        "rewards": np.stack(rewards),
        "ended": np.stack(ended),
        "finals": finals,
        "returns": returns,
    }


def test_spaces_and_ends(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, ENVS)
    seen = play(env, 0, actions_of(env, 12))
    for rows in seen["observations"]:
        assert rows in env.observation_space
    assert np.isfinite(seen["rewards"]).all()
    assert len(seen["finals"]) == ENVS
    totals = [int(final["num_steps"]) for final in seen["finals"].values()]
    assert all(3 <= total <= 6 for total in totals)
    assert len(set(totals)) > 1
    for run, final in seen["finals"].items():
        assert np.flatnonzero(seen["ended"][:, run])[0] == final["num_steps"] - 1
        levels = final["sigmas"][: final["num_steps"] + 1]
        assert levels[0] == np.inf
        assert levels[-1] == 0.0
        assert (np.diff(levels) < 0.0).all()
        assert not final["sigmas"][final["num_steps"] + 1 :].any()


def test_no_action_is_the_reference(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, ENVS)
    seen = play(env, 3, [np.zeros((ENVS, 1), np.float32)] * 6)
    np.testing.assert_allclose(seen["returns"], 0.0, atol=1e-9)
    problems = SamplingProblems.drawn(env.variant, range(3, 3 + ENVS))
    for run, final in seen["finals"].items():
        np.testing.assert_allclose(final["sigmas"][: problems.width], problems.reference()[run], rtol=1e-12)
        assert final["error"] == pytest.approx(final["reference_error"], rel=1e-9)


@pytest.mark.parametrize("reward", ["predicted", "final"])
def test_the_return_is_the_log_of_the_gain(make_vector: Any, kind: str, reward: str) -> None:
    if (kind, reward) == ("network", "predicted"):
        pytest.skip("refused: a network would have to be run to the end at every step")
    env = make_vector(kind, ENVS, reward={"kind": reward})
    seen = play(env, 1, actions_of(env, 6))
    for run, final in seen["finals"].items():
        gain = np.log(final["reference_error"] / final["error"])
        assert seen["returns"][run] == pytest.approx(gain, rel=1e-9, abs=1e-9)
        if reward == "final":
            assert not seen["rewards"][: final["num_steps"] - 1, run].any()
    assert np.abs(seen["returns"]).max() > 1e-3


def test_the_error_is_that_of_the_grid(make_vector: Any, kind: str) -> None:
    """What the environment reports is what the exact evaluation says of the grid that was walked."""
    env = make_vector(kind, ENVS)
    seen = play(env, 1, actions_of(env, 6))
    problems = SamplingProblems.drawn(env.variant, range(1, 1 + ENVS))
    grids = np.stack([seen["finals"][run]["sigmas"] for run in range(ENVS)])
    errors = [seen["finals"][run]["error"] for run in range(ENVS)]
    np.testing.assert_allclose(problems.error(grids), errors, rtol=1e-9)
    parts = problems.parts(grids)
    for name, values in parts.items():
        np.testing.assert_allclose([seen["finals"][run][name] for run in range(ENVS)], values, rtol=1e-9)


@pytest.mark.parametrize(
    ("sampler", "reference"),
    [
        ("ddim", {"name": "tangent"}),
        ("ddpm", {"name": "tangent"}),
        ("ddpm-large", {"name": "two-scale"}),
        ("heun", {"name": "law", "grid": "karras"}),
    ],
)
def test_gaussian_errors_by_another_route(make_vector: Any, sampler: str, reference: dict[str, Any]) -> None:
    env = make_vector("padded", ENVS, sampler=sampler, action={"reference": reference})
    seen = play(env, 1, actions_of(env, 6))
    problems = SamplingProblems.drawn(env.variant, range(1, 1 + ENVS))
    known = problems.batch.parameters()
    for run, final in seen["finals"].items():
        counted = known["weights"][run] > 0.0
        spectrum = known["eigenvalues"][run][counted]
        levels = final["sigmas"][: final["num_steps"] + 1]
        variances = output_variances(spectrum, levels, env.variant.sampler)
        assert final["kl"] == pytest.approx(float(kl(variances / spectrum)), rel=1e-9)


def test_one_is_a_vector_of_one(make_vector: Any, kind: str) -> None:
    vector = make_vector(kind, 1)
    single = SamplingEnv(variant=vector.variant.model_dump(mode="json"))
    actions = actions_of(vector, 6)
    seen = play(vector, 4, actions)
    observation, info = single.reset(seed=4)
    assert single.observation_names == vector.observation_names
    np.testing.assert_array_equal(observation, seen["observations"][0, 0])
    for step, action in enumerate(actions):
        observation, reward, ended, truncated, info = single.step(action[0])
        assert reward == seen["rewards"][step, 0]
        assert ended == seen["ended"][step, 0]
        assert truncated is False
        if ended:
            assert info["error"] == seen["finals"][0]["error"]
            with pytest.raises(SchedrlError, match="call reset"):
                single.step(action[0])
            break


def test_a_run_does_not_depend_on_the_others(make_vector: Any, kind: str) -> None:
    many, few = make_vector(kind, ENVS), make_vector(kind, 2)
    actions = actions_of(many, 14)
    seen = play(many, 10, actions)
    chosen = [4, 2]
    other = play(few, [10 + run for run in chosen], [action[chosen] for action in actions])
    # Sums over other numbers of rows round differently.
    for name in ("observations", "rewards", "ended"):
        np.testing.assert_allclose(other[name], seen[name][:, chosen], rtol=1e-6, atol=1e-6, err_msg=name)


def test_seeds_fix_everything(make_vector: Any, kind: str) -> None:
    first, second = make_vector(kind, ENVS), make_vector(kind, ENVS)
    actions = actions_of(first, 14)
    one, two = play(first, 7, actions), play(second, 7, actions)
    for name in ("observations", "rewards", "ended"):
        np.testing.assert_array_equal(one[name], two[name])
    if kind != "images":
        assert (play(second, 8, actions)["observations"][0] != one["observations"][0]).any()


def test_seeded_alike(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 3)
    seen = play(env, [5, 5, 5], [np.zeros((3, 1), np.float32)] * 14)
    for name in ("observations", "rewards"):
        np.testing.assert_allclose(
            seen[name][:, 1:], seen[name][:, :1].repeat(2, axis=1), rtol=1e-6, atol=1e-7
        )


def test_resetting_without_a_seed_goes_on(make_vector: Any) -> None:
    env = make_vector("gaussian", 2)
    first, _ = env.reset(seed=1)
    second, _ = env.reset()
    assert (first != second).any()
    env.reset(seed=1)
    again, _ = env.reset()
    np.testing.assert_array_equal(second, again)
    fresh, other = make_vector("gaussian", 2), make_vector("gaussian", 2)
    assert (fresh.reset()[0] != other.reset()[0]).any()


def test_exact_continuation(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 3)
    actions = actions_of(env, 16)
    env.reset(seed=2)
    for action in actions[:7]:
        env.step(action)
    arrays, meta = env.state()
    rest = [env.step(action) for action in actions[7:]]
    other = make_vector(kind, 3)
    other.restore(arrays, meta)
    for action, (observation, reward, ended, _, _) in zip(actions[7:], rest, strict=True):
        after = other.step(action)
        np.testing.assert_array_equal(after[0], observation)
        np.testing.assert_array_equal(after[1], reward)
        np.testing.assert_array_equal(after[2], ended)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([[np.nan], [0.0]], "finite"),
        ([[np.inf], [0.0]], "finite"),
        ([[1.5], [0.0]], r"must lie in \[-1, 1\] \(got 1.5\)"),
        ([[0.0]], r"shape must be \(2, 1\)"),
        ([["a"], ["b"]], "must be numbers"),
    ],
)
def test_bad_actions(make_vector: Any, action: Any, message: str) -> None:
    env = make_vector("gaussian", 2)
    env.reset(seed=0)
    with pytest.raises(SchedrlError, match=message):
        env.step(np.array(action))


def test_bad_calls(make_vector: Any, make_variant: Any) -> None:
    env = make_vector("gaussian", 2)
    with pytest.raises(SchedrlError, match="call reset"):
        env.step(np.zeros((2, 1), np.float32))
    with pytest.raises(SchedrlError, match="2 environments need 2 seeds"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(SchedrlError, match="seed: must not be negative"):
        env.reset(seed=-1)
    with pytest.raises(SchedrlError, match="render_mode"):
        make_vector("gaussian", 2, render_mode="human")
    with pytest.raises(SchedrlError, match=r"did you mean 'steps\.maximum'"):
        make_vector("gaussian", 2, **{"steps.maximun": 3})


def test_without_autoreset(make_vector: Any) -> None:
    env = make_vector("gaussian", 2, autoreset_mode=AutoresetMode.DISABLED, **{"steps.maximum": 3})
    env.reset(seed=0)
    none = np.zeros((2, 1), np.float32)
    steps = [env.step(none) for _ in range(3)]
    assert steps[-1][2].all()
    assert steps[-1][4]["error"].shape == (2,)
    with pytest.raises(SchedrlError, match="call reset"):
        env.step(np.zeros((2, 1), np.float32))


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_rendering(make_vector: Any, kind: str, mode: str) -> None:
    env = make_vector(kind, 2, render_mode=mode)
    env.reset(seed=0)
    env.step(np.full((2, 1), 0.3, np.float32))
    frames = env.render()
    assert len(frames) == 2
    if mode == "ansi":
        assert "step 1/" in frames[0]
    else:
        assert frames[0].dtype == np.uint8
        assert frames[0].ndim == 3
        assert frames[0].std() > 1.0


def test_ppo_learns_a_little(make_vector: Any, kind: str) -> None:
    env = Sb3VectorEnv(make_vector(kind, 4), shared_seed=False)
    model = PPO("MlpPolicy", env, n_steps=6, batch_size=24, n_epochs=1, seed=0, device="cpu").learn(48)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
