"""The training environments: seeds, one and many, the episode's end."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from schedrl import schedules
from schedrl.errors import SchedrlError

# --- seeds ---


def test_a_seed_fixes_an_episode_bit_for_bit(episodes: Any, make_single: Any, kind: str) -> None:
    env, other = make_single(kind), make_single(kind)
    actions = episodes.actions(env, episodes.steps(env))
    first = episodes.play_single(env, 5, actions)
    assert len(first) == len(actions) + 1
    assert first[-1][2] is True
    assert episodes.play_single(env, 5, actions) == first  # once more on the same instance
    assert episodes.play_single(other, 5, actions) == first  # on another one
    assert episodes.play_single(env, 6, actions) != first
    unseeded = episodes.play_single(other, None, actions)  # goes on drawing from the last seed
    assert unseeded != first
    episodes.play_single(env, 5, actions)
    assert episodes.play_single(env, None, actions) == unseeded


def test_a_seed_fixes_the_vector_bit_for_bit(episodes: Any, make_vector: Any, kind: str) -> None:
    env, other = make_vector(kind, 3), make_vector(kind, 3)
    actions = episodes.actions(env, 2 * episodes.steps(env))  # two episodes: autoreset included
    first = episodes.play(env, 7, actions)
    episodes.assert_same(episodes.play(env, 7, actions), first)
    episodes.assert_same(episodes.play(other, 7, actions), first)
    different = episodes.play(other, 8, actions)
    assert not np.array_equal(different["rewards"], first["rewards"])


def test_one_seed_counts_up(episodes: Any, make_vector: Any) -> None:
    env = make_vector("knots", 3)
    actions = episodes.actions(env, 2)
    episodes.assert_same(episodes.play(env, 7, actions), episodes.play(env, [7, 8, 9], actions))


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


def test_a_vector_is_as_many_single_ones(
    episodes: Any, make_vector: Any, make_single: Any, kind: str
) -> None:
    vector = make_vector(kind, 3)
    actions = episodes.actions(vector, episodes.steps(vector))
    many = episodes.play(vector, [4, 5, 6], actions)
    for run, seed in enumerate([4, 5, 6]):
        single = make_single(kind)
        seen = episodes.play_single(single, seed, [action[run] for action in actions])
        np.testing.assert_allclose(seen[0], many["observations"][0, run], atol=episodes.tolerance)
        for step, (observation, reward, ended, _) in enumerate(seen[1:]):
            assert reward == pytest.approx(many["rewards"][step, run], abs=episodes.tolerance)
            assert ended == many["ended"][step, run]
            if not ended:
                np.testing.assert_allclose(
                    observation, many["observations"][step + 1, run], atol=episodes.tolerance
                )
        final, info = many["finals"][-1], seen[-1][3]
        assert info["test_bound"] == pytest.approx(final["test_bound"][run], abs=episodes.tolerance)
        assert info["schedule"] == final["schedule"][run]
        assert info["optimizer_steps"] == final["optimizer_steps"][run] == 4


def test_return_telescopes(episodes: Any, make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 2)
    env.reset(seed=0)
    first = env.runs.current.copy()
    seen = episodes.play(env, 0, episodes.actions(env, episodes.steps(env)))
    np.testing.assert_allclose(seen["rewards"].sum(axis=0), first - seen["finals"][-1]["bound"], atol=1e-9)
    # Within a sweep nothing is earned.
    inner = np.arange(1, len(seen["rewards"]) + 1) % env.variant.action.num_knots != 0
    assert not seen["rewards"][inner].any()
    assert seen["rewards"][~inner].all()


# --- the episode's end ---


def test_autoreset_within_the_step(episodes: Any, make_vector: Any, make_single: Any, kind: str) -> None:
    env = make_vector(kind, 2)
    length = episodes.steps(env)
    actions = episodes.actions(env, length)
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
    # Without autoreset that last observation is what the step itself returns.
    single = make_single(kind)
    last, *_ = episodes.play_single(single, 2, [action[0] for action in actions])[-1]
    np.testing.assert_allclose(infos["final_obs"][0], last, atol=episodes.tolerance)
    # What comes next is the start of a new episode: the same as after any reset, before anything was trained.
    np.testing.assert_array_equal(observation, fresh)
    assert (observation[:, budget] == 1.0).all()
    assert (observation[:, time] == 0.0).all()
    final = infos["final_info"]
    assert set(final) >= {"bound", "test_bound", "diverged", "optimizer_steps"}
    np.testing.assert_array_equal(infos["bound"], env.runs.current)  # of the new episode, as after a reset
    assert (final["bound"] < infos["bound"]).all()
    assert "seconds" not in final
    # The new episode is another one, and lasts as long.
    second = [env.step(action)[2].all() for action in actions]
    assert second == [False] * (length - 1) + [True]


def test_final_schedule_is_what_was_trained_on(episodes: Any, make_vector: Any, kind: str) -> None:
    env = make_vector(kind, 2)
    actions = episodes.actions(env, episodes.steps(env))
    final = episodes.play(env, 0, actions)["finals"][-1]
    action, limits = env.variant.action, env.runs.limits
    sweeps = np.stack(actions).reshape(env.variant.episode.phases, action.num_knots, *actions[0].shape)
    memory = np.tile(action.initial_memory, (2, 1))
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


def test_timing_is_asked_for(episodes: Any, make_single: Any) -> None:
    env = make_single("knots", timing=True)
    info = episodes.play_single(env, 0, episodes.actions(env, 2))[-1][3]
    assert info["seconds"] > 0.0


def test_test_images_can_be_left_out(episodes: Any, make_single: Any) -> None:
    env = make_single("knots", test_bound=None)
    info = episodes.play_single(env, 0, episodes.actions(env, 2))[-1][3]
    assert "test_bound" not in info
    assert info["bound"] > 0
