"""The adapter to Stable-Baselines3."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from schedrl.environments.sb3 import Sb3VectorEnv
from schedrl.errors import SchedrlError


@pytest.fixture
def make(make_vector: Any) -> Any:
    """Adapted tiny environments."""

    def build(
        kind: str,
        num_envs: int,
        *,
        shared_seed: bool = False,
        group_size: int | None = None,
        **arguments: Any,
    ) -> Sb3VectorEnv:
        env = make_vector(kind, num_envs, **arguments)
        return Sb3VectorEnv(env, shared_seed=shared_seed, group_size=group_size)

    return build


def seeds_of(env: Sb3VectorEnv) -> list[int]:
    return list(env.env.runs.seeds.tolist())  # type: ignore[attr-defined]


@pytest.mark.parametrize("shared_seed", [False, True])
def test_ppo_learns_a_little(make: Any, kind: str, shared_seed: bool) -> None:
    env = make(kind, 3, shared_seed=shared_seed)
    length = 2 * env.get_attr("variant")[0].action.num_knots
    model = PPO(
        "MlpPolicy", VecMonitor(env), n_steps=length, batch_size=3 * length, n_epochs=1, seed=0, device="cpu"
    )
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(2 * 3 * length)
    assert model.num_timesteps == 6 * length
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
    episodes = model.ep_info_buffer
    assert episodes is not None
    assert len(episodes) == 6  # two episodes of each run
    assert all(episode["l"] == length for episode in episodes)
    if shared_seed:
        assert len(set(seeds_of(env))) == 1
    action, _ = model.predict(env.reset())
    assert len(action) == 3


def test_ppo_repeats(make: Any) -> None:
    def trained() -> list[torch.Tensor]:
        env = make("knots", 2, shared_seed=True)
        model = PPO("MlpPolicy", env, n_steps=2, batch_size=4, n_epochs=1, seed=3, device="cpu").learn(8)
        return list(model.policy.parameters())

    assert all(torch.equal(a, b) for a, b in zip(trained(), trained(), strict=True))


def test_an_episodes_end(make: Any, kind: str) -> None:
    env = make(kind, 2)
    inner = env.env
    env.seed(5)
    fresh = env.reset()
    assert env.get_attr("observation_names") == [inner.observation_names] * 2
    assert all(info["optimizer_steps"] == info["test_bound"] == 0 for info in env.reset_infos)
    steps = inner.variant.episode.phases * inner.variant.action.num_knots
    inner.action_space.seed(0)
    observations, infos = fresh, []
    for step in range(1, steps + 1):
        observations, rewards, dones, infos = env.step(inner.action_space.sample())
        assert rewards.dtype == np.float32
        assert dones.dtype == np.bool_
        assert dones.tolist() == [step == steps] * 2
        if step < steps:
            assert all("terminal_observation" not in info for info in infos)
    np.testing.assert_array_equal(observations, fresh)
    for schedules in env.get_attr("schedule"):
        assert [len(json.loads(text)) for text in schedules] == [inner.variant.episode.phases] * 2
    for info in infos:
        # A budget that is spent is an end, not a cut: SB3 would add the value of the last state to a cut.
        assert info["TimeLimit.truncated"] is False
        assert info["terminal_observation"] in env.observation_space
        assert info["terminal_observation"][list(inner.observation_names).index("budget")] == 0.0
        assert type(info["bound"]) is float
        assert type(info["diverged"]) is bool
        assert type(info["test_bound"]) is float
        assert type(info["optimizer_steps"]) is int
        assert not {"final_obs", "final_info"} & set(info)
        assert not [key for key in info if key.startswith("_")]


def test_infos_belong_to_the_run_that_ended(make: Any) -> None:
    env = make("knots", 3)
    env.seed(0)
    env.reset()
    env.env.runs.population.weights[1] = torch.nan
    _, rewards, dones, infos = env.step(np.zeros((3, 5), np.float32))
    assert dones.tolist() == [False, True, False]
    assert [info["diverged"] for info in infos] == [False, True, False]
    assert ["terminal_observation" in info for info in infos] == [False, True, False]
    assert infos[1]["test_bound"] == env.env.runs.divergence.worst_bound
    assert infos[0]["test_bound"] == 0.0  # not measured yet
    assert np.isfinite(rewards).all()


def test_independent_seeds_count_up(make: Any) -> None:
    env = make("knots", 3)
    assert env.seed(7) == [7, 8, 9]
    env.reset()
    first = seeds_of(env)
    assert len(set(first)) == 3
    env.reset()  # goes on drawing
    second = seeds_of(env)
    assert not set(first) & set(second)
    env.seed(7)
    env.reset()
    assert seeds_of(env) == first
    alike = make("knots", 3, shared_seed=True)
    alike.seed(7)
    alike.reset()
    assert seeds_of(alike) == [first[0]] * 3


def test_seeds_shared_in_groups(make: Any) -> None:
    env = make("knots", 4, shared_seed=True, group_size=2)
    assert env.seed(7) == [7, 7, 8, 8]
    env.reset()
    first = seeds_of(env)
    assert first[0] == first[1] != first[2] == first[3]
    with pytest.raises(SchedrlError, match=r"group_size: must divide the number of runs, 4 \(got 3\)"):
        make("knots", 4, shared_seed=True, group_size=3)


def test_shared_seeds_without_a_seed(make: Any) -> None:
    env, other = make("knots", 3, shared_seed=True), make("knots", 3, shared_seed=True)
    for each in (env, other):
        each.reset()
        assert len(set(seeds_of(each))) == 1
    assert seeds_of(env) != seeds_of(other)
    assert len(set(env.seed())) == 1
    env.reset()
    assert len(set(seeds_of(env))) == 1
    assert len(set(make("knots", 3).seed())) == 3


def test_seeding_leaves_the_global_generator_alone(make: Any) -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    env = make("knots", 2)
    env.seed()
    env.reset()
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002


def test_attributes_and_methods(make: Any) -> None:
    env = make("knots", 3)
    assert env.get_attr("num_envs") == [3, 3, 3]
    assert env.get_attr("num_envs", [0, 2]) == [3, 3]
    env.set_attr("note", "here")
    assert env.get_attr("note", 1) == ["here"]
    env.reset()
    assert len(env.env_method("observe", indices=[1])) == 1
    assert env.env_is_wrapped(VecMonitor) == [False] * 3
    env.close()


def test_pictures(make: Any) -> None:
    env = make("knots", 2, render_mode="rgb_array")
    env.reset()
    assert [image.dtype for image in env.get_images()] == [np.uint8] * 2
    plain = make("knots", 2)
    plain.reset()
    assert list(plain.get_images()) == [None, None]


def test_needs_resets_within_the_step(make_vector: Any) -> None:
    with pytest.raises(SchedrlError, match="SAME_STEP"):
        Sb3VectorEnv(make_vector("knots", 2, autoreset_mode=AutoresetMode.DISABLED))
