"""Hand-made agents acting in every action space."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from schedrl import schedules
from schedrl.diffusion.population import PhaseRecord, Population
from schedrl.environments.registration import training_variant
from schedrl.environments.training.actions import ChoiceAction
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies import Policy, catalogue, find
from schedrl.policies.agents import AVAAgent, ScheduleAgent
from schedrl.policies.policy import RandomPolicy

ENVIRONMENTS = [f"schedrl/Digits{kind}-v0" for kind in ("Knots", "Kernel", "Gain", "DSC", "Choice")]
FOR_TRAINING = sorted(
    name for name, agent in catalogue().items() if agent.kind in ("schedule", "ava", "ava-dsc", "random")
)
FOR_SAMPLING = sorted(name for name, agent in catalogue().items() if agent.kind in ("grid", "search"))


def test_every_agent_is_for_something() -> None:
    searched = {name for name, agent in catalogue().items() if agent.kind == "schedule-search"}
    assert {*FOR_TRAINING, *FOR_SAMPLING, *searched, "ppo"} == set(catalogue())


@pytest.mark.parametrize("name", FOR_SAMPLING)
def test_grids_are_not_for_training(name: str) -> None:
    with pytest.raises(SchedrlError, match="is not for environments of the family 'training'"):
        find(name, "schedrl/DigitsKnots-v0").policy(training_variant("schedrl/DigitsKnots-v0"))


def episode(policy: Policy, variant: TrainingVariant, seeds: list[int]) -> list[list[dict[str, Any]]]:
    """The schedules of one episode per seed."""
    env = TrainingVectorEnv(len(seeds), variant=variant)
    observation, _ = env.reset(seed=seeds)
    state, start = None, np.ones(len(seeds), dtype=np.bool_)
    while True:
        action, state = policy.predict(observation, state, start, deterministic=True)
        assert env.action_space.contains(action)
        observation, _, start, *_ = env.step(action)
        if start.all():
            return [json.loads(text) for text in env.schedule]


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("name", FOR_TRAINING)
def test_every_agent_acts_or_says_why_not(name: str, env_id: str, tiny: dict[str, Any]) -> None:
    variant = training_variant(env_id, tiny)
    agent = find(name, env_id)
    action, kind = variant.action, variant.action.kind
    if agent.kind == "ava-dsc":
        able = kind == "dsc"
    elif kind in ("gain", "dsc"):
        able = not (isinstance(agent, ScheduleAgent) and agent.schedule.name != "ava")
    elif isinstance(action, ChoiceAction):
        offered = isinstance(agent, ScheduleAgent) and agent.schedule in action.choices
        able = offered or agent.kind == "random"
    else:
        able = True
    if not able:
        with pytest.raises(SchedrlError, match="action kind '"):
            agent.policy(variant)
        return
    policy = agent.policy(variant, seed=3)
    space, shown = variant.action.space(), variant.observation_space()
    rows = np.zeros((3, *shown.shape), dtype=np.float32)
    actions, _ = policy.predict(rows, None, np.ones(3, dtype=np.bool_), deterministic=True)
    assert actions.shape[0] == 3
    assert all(space.contains(action) for action in actions)
    single, _ = policy.predict(rows[0], None, np.ones(1, dtype=np.bool_), deterministic=True)
    assert space.contains(single)


@pytest.mark.parametrize("name", ["cosine", "linear", "edm", "tangent-0.3"])
def test_knots_carry_the_noise_of_a_law(name: str, tiny: dict[str, Any]) -> None:
    variant = training_variant("schedrl/DigitsKnots-v0", {**tiny, "action.scale": 10.0})
    agent = find(name, variant.id)
    assert isinstance(agent, ScheduleAgent)
    [[made]] = episode(agent.policy(variant), variant, [0])
    # Another route to the law's shares: count where a fine grid of u falls.
    low, high = variant.bound.logsnr_min, variant.bound.logsnr_max
    levels = agent.schedule.logsnr((np.arange(200_000) + 0.5) / 200_000)
    counts, _ = np.histogram(levels, bins=10, range=(low, high))
    wanted = counts / counts.sum()
    np.testing.assert_allclose(np.diff(made["u"])[::-1], wanted, atol=3e-4)
    np.testing.assert_allclose(made["logsnr"], np.linspace(high, low, 11))


@pytest.mark.parametrize("name", ["cosine", "sigmoid", "tangent-0.1"])
def test_the_kernel_passes_through_a_law_at_its_knots(name: str, tiny: dict[str, Any]) -> None:
    variant = training_variant("schedrl/DigitsKernel-v0", {**tiny, "action.scale": 10.0})
    agent = find(name, variant.id)
    assert isinstance(agent, ScheduleAgent)
    [[made]] = episode(agent.policy(variant), variant, [0])
    u = np.arange(1, 11) / 10
    wanted = agent.schedule.logsnr(u).clip(variant.bound.logsnr_min, variant.bound.logsnr_max)
    reached = np.cumprod((1.0 - np.array(made["betas"])) ** 100)
    np.testing.assert_allclose(np.log(reached / (1.0 - reached)), wanted, atol=1e-3)


def test_a_choice_is_the_law_itself(tiny: dict[str, Any]) -> None:
    variant = training_variant("schedrl/DigitsChoice-v0", {**tiny, "episode.phases": 2})
    agent = find("tangent-0.3", variant.id)
    assert isinstance(agent, ScheduleAgent)
    [made] = episode(agent.policy(variant), variant, [0])
    assert [schedules.from_dict(phase) for phase in made] == [agent.schedule] * 2


def test_a_fixed_gain_stays(tiny: dict[str, Any]) -> None:
    variant = training_variant(
        "schedrl/DigitsGain-v0", {**tiny, "episode.phases": 3, "action.initial_gain": 150.0}
    )
    policy = find("ava-fixed", variant.id).policy(variant)
    for made in episode(policy, variant, [0, 1]):
        # From K = 150 one step of the action reaches 150 / e^1.5, the second the law's own 20.
        gains = [150.0 / np.exp(1.5), 20.0, 20.0]
        np.testing.assert_allclose([phase["K"] for phase in made], gains, rtol=1e-5)


@pytest.mark.parametrize("rule", ["equation", "prose"])
@pytest.mark.parametrize("maximum", [200.0, 21.0])
def test_avas_gain_moves_as_written(
    rule: Literal["equation", "prose"], maximum: float, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[NDArray[np.float32]] = []
    train = Population.train

    def recorded(self: Population, *arguments: Any) -> PhaseRecord:
        record = train(self, *arguments)
        norms.append(record.gradient_norm)
        return record

    monkeypatch.setattr(Population, "train", recorded)
    changes = {
        "episode.phases": 3,
        "episode.steps_per_phase": 4,
        "action.scale": 8.0,
        "action.maximum": 200.0,
    }
    variant = training_variant("schedrl/DigitsGain-v0", {**tiny, **changes})
    agent = AVAAgent(name="ava", rule=rule, rate=5.0, maximum=maximum)
    made = episode(agent.policy(variant), variant, [4, 5])
    sign = {"equation": 1.0, "prose": -1.0}[rule]
    for run in range(2):
        wanted, average, weight = [20.0], 0.0, 0.0
        for phase in range(2):
            for norm in norms[phase][:, run]:
                average, weight = 0.98 * average + 0.02 * norm, 0.98 * weight + 0.02
            norm = np.sqrt(np.mean(np.square(norms[phase][:, run], dtype=np.float64)))
            moved = wanted[-1] + sign * 5.0 * (norm - average / weight)
            wanted.append(min(max(moved, 0.5), maximum))
        np.testing.assert_allclose([phase["K"] for phase in made[run]], wanted, rtol=1e-4)
        assert wanted[2] not in (wanted[1], wanted[0]) or maximum < 200.0


def test_ava_starts_over_with_each_episode(tiny: dict[str, Any]) -> None:
    variant = training_variant("schedrl/DigitsGain-v0", {**tiny, "episode.phases": 2})
    policy = find("ava-equation", variant.id).policy(variant)
    rows = np.zeros((2, len(variant.observation.names)), dtype=np.float32)
    state = (np.array([55.0, 66.0]),)
    _, after = policy.predict(rows, state, np.array([True, False]))
    assert after is not None
    gains = np.asarray(after[0])
    # All features are 0: log norm and log average agree, so nothing moves what was not reset.
    np.testing.assert_allclose(gains, [20.0, 66.0])


def test_ava_needs_to_see_gradients(tiny: dict[str, Any]) -> None:
    changes = {"episode.phases": 2, "observation.features": ["budget", "log_gain"]}
    variant = training_variant("schedrl/DigitsGain-v0", {**tiny, **changes})
    with pytest.raises(SchedrlError, match="needs the observation 'gradient_norm'"):
        find("ava-equation", variant.id).policy(variant)


def test_random_actions_follow_their_seed(tiny: dict[str, Any]) -> None:
    variant = training_variant("schedrl/DigitsKnots-v0", tiny)
    rows = np.zeros((4, len(variant.observation.names)), dtype=np.float32)
    first, second, third = (
        find("random", variant.id).policy(variant, seed).predict(rows)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


@pytest.mark.parametrize("name", ["cosine", "random"])
def test_sb3_evaluates_them(name: str, tiny: dict[str, Any]) -> None:
    from stable_baselines3.common.evaluation import evaluate_policy

    from schedrl.environments.sb3 import Sb3VectorEnv

    variant = training_variant("schedrl/DigitsKnots-v0", tiny)
    env = Sb3VectorEnv(TrainingVectorEnv(2, variant=variant))
    env.seed(0)
    policy: Any = find(name, variant.id).policy(variant)
    mean, std = evaluate_policy(policy, env, n_eval_episodes=4, warn=False)
    assert np.isfinite([mean, std]).all()


def test_random_actions_do_not_depend_on_other_runs() -> None:
    variant = training_variant("schedrl/DigitsKnots-v0")
    rows = np.zeros((3, 1), dtype=np.float32)
    together = RandomPolicy(variant, [5, 6, 7])
    alone = RandomPolicy(variant, [6])
    for _ in range(2):
        np.testing.assert_array_equal(together.predict(rows)[0][1], alone.predict(rows[:1])[0][0])
    with pytest.raises(SchedrlError, match="a row per seed is needed, 3"):
        together.predict(rows[:2])
