"""The training environments: seeds, autoreset, common random numbers, what is invariant and what is not."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from schedrl import schedules
from schedrl.environments.training import TrainingEnv, TrainingVectorEnv
from schedrl.errors import SchedrlError

# One run's sums are rounded unlike the same sums among several runs: groups of channels are convolved and reduced in
# other blocks. That is 1e-7 relative a step in float32; Adam divides small gradients by their own size and amplifies
# it. After a few steps rewards agree to about 1e-5 bits/dim.
TOLERANCE = 1e-3


def some_actions(env: TrainingVectorEnv | TrainingEnv, steps: int, seed: int = 0) -> list[Any]:
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(steps)]


def episode_steps(env: TrainingVectorEnv | TrainingEnv) -> int:
    return env.variant.episode.phases * env.variant.action.num_knots


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
        finals.append(infos.get("final_info"))
    return {
        "observations": np.stack(observations),
        "rewards": np.stack(rewards),
        "ended": np.stack(ended),
        "finals": finals,
    }


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    for name in ("observations", "rewards", "ended"):
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    for a, b in zip(left["finals"], right["finals"], strict=True):
        assert (a is None) == (b is None)
        for key in a or {}:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def play_single(env: TrainingEnv, seed: int | None, actions: list[Any]) -> list[Any]:
    seen: list[Any] = [env.reset(seed=seed)[0].tolist()]
    for action in actions:
        observation, reward, ended, truncated, info = env.step(action)
        assert truncated is False
        seen.append((observation.tolist(), reward, ended, info))
        if ended:
            break
    return seen


# --- seeds ---


def test_a_seed_fixes_an_episode_bit_for_bit(make_single: Any, kind: str) -> None:
    env, other = make_single(kind), make_single(kind)
    actions = some_actions(env, episode_steps(env))
    first = play_single(env, 5, actions)
    assert len(first) == len(actions) + 1
    assert first[-1][2] is True
    assert play_single(env, 5, actions) == first  # once more on the same instance
    assert play_single(other, 5, actions) == first  # on another one
    assert play_single(env, 6, actions) != first
    unseeded = play_single(other, None, actions)  # goes on drawing from the last seed
    assert unseeded != first
    play_single(env, 5, actions)
    assert play_single(env, None, actions) == unseeded


def test_a_seed_fixes_the_vector_bit_for_bit(make_vector: Any, kind: str) -> None:
    env, other = make_vector(kind, 3), make_vector(kind, 3)
    actions = some_actions(env, 2 * episode_steps(env))  # two episodes: autoreset included
    first = play(env, 7, actions)
    assert_same(play(env, 7, actions), first)
    assert_same(play(other, 7, actions), first)
    different = play(other, 8, actions)
    assert not np.array_equal(different["rewards"], first["rewards"])


def test_one_seed_counts_up(make_vector: Any) -> None:
    env = make_vector("knots", 3)
    actions = some_actions(env, 2)
    assert_same(play(env, 7, actions), play(env, [7, 8, 9], actions))


def test_unseeded_resets_go_on_drawing(make_vector: Any) -> None:
    env = make_vector("knots", 2)
    env.reset(seed=3)
    seeds = [env.runs.seeds.tolist()]
    for _ in range(2):
        env.reset()
        seeds.append(env.runs.seeds.tolist())
    assert len({seed for row in seeds for seed in row}) == 6
    env.reset(seed=3)
    env.reset()
    assert env.runs.seeds.tolist() == seeds[1]
    env.reset(seed=[None, 3])  # one run seeded, the other goes on
    assert env.runs.seeds[1] == seeds[0][0]


def test_wrong_number_of_seeds(make_vector: Any) -> None:
    with pytest.raises(SchedrlError, match=r"seed: 3 environments need 3 seeds \(got 2\)"):
        make_vector("knots", 3).reset(seed=[1, 2])


# --- one and many ---


def test_a_vector_is_as_many_single_ones(make_vector: Any, make_single: Any, kind: str) -> None:
    vector = make_vector(kind, 3)
    actions = some_actions(vector, episode_steps(vector))
    many = play(vector, [4, 5, 6], actions)
    for run, seed in enumerate([4, 5, 6]):
        single = make_single(kind)
        seen = play_single(single, seed, [action[run] for action in actions])
        np.testing.assert_allclose(seen[0], many["observations"][0, run], atol=TOLERANCE)
        for step, (observation, reward, ended, _) in enumerate(seen[1:]):
            assert reward == pytest.approx(many["rewards"][step, run], abs=TOLERANCE)
            assert ended == many["ended"][step, run]
            if not ended:
                np.testing.assert_allclose(observation, many["observations"][step + 1, run], atol=TOLERANCE)
        final, info = many["finals"][-1], seen[-1][3]
        assert info["test_bound"] == pytest.approx(final["test_bound"][run], abs=TOLERANCE)
        assert info["schedule"] == final["schedule"][run]
        assert info["optimizer_steps"] == final["optimizer_steps"][run] == 4


def test_return_telescopes(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 2)
    env.reset(seed=0)
    first = env.runs.current.copy()
    seen = play(env, 0, some_actions(env, episode_steps(env)))
    np.testing.assert_allclose(seen["rewards"].sum(axis=0), first - seen["finals"][-1]["bound"], atol=1e-9)
    # Within a sweep nothing is earned.
    inner = np.arange(1, len(seen["rewards"]) + 1) % env.variant.action.num_knots != 0
    assert not seen["rewards"][inner].any()
    assert seen["rewards"][~inner].all()


# --- the episode's end ---


def test_autoreset_within_the_step(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 2)
    length = episode_steps(env)
    actions = some_actions(env, length)
    fresh, _ = env.reset(seed=2)
    for action in actions[:-1]:
        _, _, ended, _, infos = env.step(action)
        assert not ended.any()
        assert "final_obs" not in infos
    observation, _, ended, _, infos = env.step(actions[-1])
    assert ended.all()
    assert infos["_final_obs"].all()
    assert infos["_final_info"].all()
    names = list(env.observation_names)
    budget, time = names.index("budget"), names.index("time")
    for last in infos["final_obs"]:
        assert last in env.single_observation_space
        assert last[budget] == 0.0
    # What comes next is the start of a new episode: the same as after any reset, before anything was trained.
    np.testing.assert_array_equal(observation, fresh)
    assert (observation[:, budget] == 1.0).all()
    assert (observation[:, time] == 0.0).all()
    final = infos["final_info"]
    assert set(final) >= {"bound", "test_bound", "diverged", "schedule", "optimizer_steps"}
    np.testing.assert_array_equal(final["bound"], infos["bound"])
    assert "seconds" not in final
    # The new episode is another one, and lasts as long.
    second = [env.step(action)[2].all() for action in actions]
    assert second == [False] * (length - 1) + [True]


def test_final_schedule_is_what_was_trained_on(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 2)
    actions = some_actions(env, episode_steps(env))
    final = play(env, 0, actions)["finals"][-1]
    action, limits = env.variant.action, env.runs.limits
    sweeps = np.stack(actions).reshape(env.variant.episode.phases, action.num_knots, *actions[0].shape)
    memory = np.full(2, action.initial_memory)
    expected: list[list[Any]] = [[], []]
    for sweep in sweeps:
        made, memory = action.schedules(sweep, memory, limits)
        for run, law in enumerate(made):
            expected[run].append(law)
    for run in range(2):
        assert [schedules.from_dict(law) for law in json.loads(final["schedule"][run])] == expected[run]


def test_a_finished_single_episode_needs_a_reset(make_single: Any) -> None:
    env = make_single("knots")
    action = np.zeros(5, np.float32)
    with pytest.raises(SchedrlError, match=r"call reset\(\) before step\(\)"):
        env.step(action)
    env.reset(seed=0)
    assert [env.step(action)[2] for _ in range(2)] == [False, True]
    with pytest.raises(SchedrlError, match=r"no episode is running: call reset\(\) before step\(\)"):
        env.step(action)
    env.reset()
    env.step(action)


def test_timing_is_asked_for(make_single: Any) -> None:
    env = make_single("knots", timing=True)
    info = play_single(env, 0, some_actions(env, 2))[-1][3]
    assert info["seconds"] > 0.0


def test_test_images_can_be_left_out(make_single: Any) -> None:
    env = make_single("knots", test_bound=None)
    info = play_single(env, 0, some_actions(env, 2))[-1][3]
    assert "test_bound" not in info
    assert info["bound"] > 0


# --- common random numbers ---


def test_runs_seeded_alike_are_alike_over_episodes(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 4)
    actions = [np.stack([action[0]] * 4) for action in some_actions(env, 2 * episode_steps(env))]
    seen = play(env, [9] * 4, actions)
    assert seen["ended"].sum() == 8  # two episodes of each
    for name in ("observations", "rewards"):
        spread = np.ptp(seen[name], axis=1)
        # Alike in all but the last digits: see TOLERANCE.
        np.testing.assert_allclose(spread, 0.0, atol=TOLERANCE / 10, err_msg=name)
    first, second = np.split(seen["rewards"], 2)
    assert not np.allclose(first, second, atol=1e-3)  # the second episode is another one
    # Independent seeds differ by far more.
    assert np.ptp(play(env, 9, actions)["rewards"][env.variant.action.num_knots - 1]) > 10 * TOLERANCE


def test_random_numbers_do_not_depend_on_the_action(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 3)
    actions = some_actions(env, 2 * episode_steps(env), seed=1)
    env.reset(seed=[9] * 3)
    for action in actions:
        rewards = env.step(action)[1]
        if rewards.any() and len(np.unique(action, axis=0)) > 1:
            assert np.ptp(rewards) > 1e-5  # the actions did matter
        states = [stream.state() for stream in env.runs.population.streams]
        assert states[0] == states[1] == states[2]
        assert len(set(env.runs.seeds.tolist())) == 1


# --- the invariance that makes the reward honest ---


def frozen_rewards(env: TrainingVectorEnv, seed: int) -> set[tuple[float, ...]]:
    """Rewards of one episode under many actions, of a network with frozen but not silent weights."""
    found = set()
    for trial in range(6):
        env.reset(seed=seed)
        population = env.runs.population
        noise = torch.randn(population.weights.shape, generator=torch.Generator().manual_seed(0))
        population.weights += 0.3 * noise
        population.average.copy_(population.weights)
        rewards = [env.step(action)[1] for action in some_actions(env, episode_steps(env), seed=trial)]
        found.add(tuple(np.stack(rewards).ravel().tolist()))
    return found


def test_frozen_network_earns_the_same_whatever_the_action(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 2, **{"training.optimizer.learning_rate": 0.0})
    (rewards,) = frozen_rewards(env, 3)  # to the last bit
    assert np.abs(rewards).max() > 0.1  # its errors are not those of the untrained network
    own = make_vector(kind, 2, **{"training.optimizer.learning_rate": 0.0, "reward.kind": "own_loss"})
    assert len(frozen_rewards(own, 3)) > 1


def test_freshly_frozen_network_earns_nothing(make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 2, **{"training.optimizer.learning_rate": 0.0})
    rewards = play(env, 0, some_actions(env, episode_steps(env)))["rewards"]
    np.testing.assert_allclose(rewards, 0.0, atol=1e-6)


def test_own_loss_rewards_noise(make_single: Any) -> None:
    """The printed t/T is nearly pure noise and looks best to paper B's reward, which is why it is not ours."""
    offered = [{"name": "printed-linear"}, {"name": "tangent", "gamma": 0.1}]
    action = {"kind": "choice", "choices": offered}
    env = make_single("choice", action=action, reward={"kind": "own_loss"}, **{"episode.steps_per_phase": 30})

    def earned(choice: int) -> float:
        return sum(float(step[1]) for step in play_single(env, 0, [choice] * 2)[1:])

    assert earned(0) > earned(1)


# --- divergence ---


def poisoned(env: TrainingVectorEnv, run: int) -> None:
    env.runs.population.weights[run] = torch.nan
    env.runs.population.average[run] = torch.nan


@pytest.mark.parametrize("reward", ["bound", "own_loss"])
def test_a_run_that_diverges_ends_alone(make_vector: Any, kind: str, reward: str) -> None:
    calm, sick = (make_vector(kind, 3, **{"reward.kind": reward}) for _ in range(2))
    actions = some_actions(calm, episode_steps(calm))
    knots = calm.variant.action.num_knots
    calm.reset(seed=1)
    sick.reset(seed=1)
    poisoned(sick, 1)
    others = [0, 2]
    for step, action in enumerate(actions, start=1):
        expected, found = calm.step(action), sick.step(action)
        assert found[0] in sick.observation_space
        np.testing.assert_array_equal(found[0][others], expected[0][others])
        np.testing.assert_array_equal(found[1][others], expected[1][others])
        assert not found[3].any()
        if step != knots:
            continue
        observation, rewards, ended, _, infos = found
        assert ended.tolist() == [False, True, False]
        assert infos["diverged"].tolist() == [False, True, False]
        assert np.isfinite(rewards).all()
        worst = sick.variant.reward.penalty(sick.runs.worst_bound, sick.runs.worst_error, 2)
        assert rewards[1] == worst < 0
        final = infos["final_info"]
        assert infos["_final_info"].tolist() == [False, True, False]
        assert final["diverged"][1]
        assert final["bound"][1] == final["test_bound"][1] == sick.runs.worst_bound
        assert final["optimizer_steps"][1] == 2
        assert infos["final_obs"][1] in sick.single_observation_space
        assert infos["final_obs"][0] is None
        # Its next episode has begun, healthy.
        assert observation[1, list(sick.observation_names).index("budget")] == 1.0
    assert np.isfinite(sick.runs.current).all()


def test_a_huge_learning_rate_ends_with_a_finite_reward(make_single: Any) -> None:
    rates = {"training.optimizer.learning_rate": 10.0, "episode.steps_per_phase": 20}
    env = make_single("knots", **rates)
    survivor = make_single("knots")
    seen = play_single(env, 0, some_actions(env, 2))
    observation, reward, ended, info = seen[1]
    assert ended is True
    assert info["diverged"] is True
    assert np.isfinite(reward)
    assert np.asarray(observation, np.float32) in env.observation_space
    assert np.isfinite([info["bound"], info["test_bound"]]).all()
    assert json.loads(info["schedule"])
    total = sum(step[1] for step in play_single(survivor, 0, some_actions(survivor, 2))[1:])
    assert reward < total


def test_exploding_error_counts_as_divergence(make_single: Any) -> None:
    # Finite losses, but worse than predicting nothing by more than the variant allows.
    env = make_single("knots", **{"episode.divergence_error": 1.5})
    env.reset(seed=0)
    env.vector.runs.population.weights += 1.0
    env.vector.runs.population.average.copy_(env.vector.runs.population.weights)
    _, reward, ended, _, info = env.step(np.zeros(5, np.float32))
    assert np.isfinite(env.vector.runs.losses[0][-1]).all()
    assert ended
    assert info["diverged"]
    assert reward == -env.vector.runs.worst_bound


@pytest.mark.parametrize("prediction_type", ["epsilon", "x0", "v"])
def test_an_untrained_network_has_not_diverged(make_single: Any, prediction_type: str) -> None:
    # A network that predicts x0 starts with an error of thousands in epsilon at the data end.
    env = make_single("knots", **{"training.prediction_type": prediction_type})
    env.reset(seed=0)
    start = env.vector.runs.current[0]
    seen = play_single(env, 0, some_actions(env, 2))
    assert [step[3]["diverged"] for step in seen[1:]] == [False, False]
    worst = env.vector.runs.worst_bound
    assert 0 < start < worst / 2
    assert 0 < seen[-1][3]["bound"] < worst / 2


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
def test_bad_actions(make_vector: Any, kind: str, action: np.ndarray, message: str) -> None:
    env = make_vector(kind, 2)
    good = some_actions(env, episode_steps(env))
    expected = play(env, 0, good)
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


def test_an_action_is_copied(make_vector: Any) -> None:
    """The caller may reuse its array within a sweep."""
    env = make_vector("kernel", 2)
    actions = some_actions(env, 4)
    expected = [env.reset(seed=0)[0], *(env.step(action)[0] for action in actions)][-1]
    observation, _ = env.reset(seed=0)
    reused = np.empty_like(actions[0])
    for action in actions:
        reused[...] = action
        observation = env.step(reused)[0]
    np.testing.assert_array_equal(observation, expected)


def test_returned_arrays_are_the_callers(make_vector: Any) -> None:
    env = make_vector("kernel", 2)
    actions = some_actions(env, episode_steps(env))
    expected = play(env, 0, actions)
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


def test_a_reset_drops_an_unfinished_sweep(make_vector: Any) -> None:
    env = make_vector("kernel", 2)
    actions = some_actions(env, episode_steps(env))
    expected = play(env, 0, actions)
    env.reset(seed=5)
    env.step(actions[0])
    assert_same(play(env, 0, actions), expected)


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
    ],
)
def test_bad_arguments(make_vector: Any, arguments: dict[str, Any], message: str) -> None:
    if "training.network.channels" in arguments:
        arguments = {**arguments, "training.network.groups": 4}
    with pytest.raises(SchedrlError, match=message):
        make_vector("knots", 2, **arguments)


def test_number_of_environments(make_vector: Any) -> None:
    with pytest.raises(SchedrlError, match=r"num_runs: must be at least 1 \(got 0\)"):
        make_vector("knots", 0)


def test_metadata_and_spaces(make_vector: Any, make_single: Any) -> None:
    vector, single = make_vector("choice", 3), make_single("choice")
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert single.vector.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert vector.single_action_space == single.action_space == gym.spaces.Discrete(3)
    assert vector.single_observation_space == single.observation_space
    assert single.observation_space.shape == (len(single.observation_names),)
    assert "torch" not in vector.metadata
    _, info = single.reset(seed=0)
    assert info["observation_names"] == single.observation_names


# --- what an agent sees on the way ---


def test_the_kernels_walk(make_vector: Any) -> None:
    env = make_vector("kernel", 2)
    names = list(env.observation_names)
    time, logsnr, sigma = (names.index(name) for name in ("time", "logsnr", "sigma_local"))
    observation, _ = env.reset(seed=0)
    rows = np.stack([observation, *(env.step(action)[0] for action in some_actions(env, 3))])
    np.testing.assert_allclose(rows[:, 0, time], [0.0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(rows[0, :, logsnr], 0.8)  # clean images show the data end of the range
    assert (np.diff(rows[:, :, logsnr], axis=0) < 0).all()
    assert (np.diff(rows[:, :, sigma], axis=0) != 0).all()
    # lambda is that of the schedule the walk will end in.
    env.step(some_actions(env, 1, seed=5)[0])
    for run in range(2):
        reached = env.runs.history[run][0].logsnr_steps(40)[[9, 19, 29]] / 10.0
        np.testing.assert_allclose(rows[1:, run, logsnr], np.clip(reached, -5, 5), rtol=1e-5)


def test_gradient_average_is_bias_corrected(make_vector: Any) -> None:
    features = ["gradient_norm", "gradient_average"]
    env = make_vector("knots", 2, **{"observation.features": features, "episode.gradient_decay": 0.5})
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation, 0.0)  # log 1 before anything is known
    recorded: list[np.ndarray] = []
    train = env.runs.population.train

    def recording(*arguments: Any) -> Any:
        record = train(*arguments)
        recorded.extend(record.gradient_norm.astype(np.float64))
        return record

    env.runs.population.train = recording
    observation = env.step(some_actions(env, 1)[0])[0]
    first, second = recorded
    np.testing.assert_allclose(observation[:, 0], np.log(np.sqrt((first**2 + second**2) / 2)), rtol=1e-5)
    np.testing.assert_allclose(observation[:, 1], np.log((first + 2 * second) / 3), rtol=1e-5, atol=1e-6)


def test_log_gain_is_seen_and_restarts(make_vector: Any) -> None:
    env = make_vector("gain", 2, **{"observation.features": ["log_gain"]})
    start, _ = env.reset(seed=0)
    up = np.ones((2, 1), np.float32)
    moved = env.step(up)[0]
    assert (moved > start).all()
    after, _, ended, _, infos = env.step(-up)
    assert ended.all()
    np.testing.assert_array_equal(after, start)
    np.testing.assert_allclose(np.stack(infos["final_obs"]), start, rtol=1e-6)  # up and down again
