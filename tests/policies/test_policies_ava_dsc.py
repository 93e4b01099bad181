"""AVA-DSC as a policy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from schedrl.environments.registration import training_variant
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.errors import SchedrlError
from schedrl.policies import find
from schedrl.policies.agents import AVADSCAgent, catalogue
from schedrl.policies.policy import AVADSCPolicy

ENV = "schedrl/DigitsDSC-v0"


def agent(**fields: Any) -> AVADSCAgent:
    return AVADSCAgent(**{"name": "mine", "rule": "equation", "gamma": 2.0, "boost": 0.2, **fields})


def episode(policy: AVADSCPolicy, env: TrainingVectorEnv, seeds: list[int]) -> list[np.ndarray]:
    """What the runs carry after every phase, ``[runs, 4]``: K, α, γ, λ."""
    observation, _ = env.reset(seed=seeds)
    state, start, carried = None, np.ones(len(seeds), dtype=np.bool_), []
    for _ in range(env.variant.episode.phases):
        action, state = policy.predict(observation, state, start)
        assert env.action_space.contains(action)
        memory = env.runs.memory.copy()
        observation, _, start, _, _ = env.step(action)
        scales = np.array(
            [getattr(env.variant.action, name).scale for name in ("gain", "alpha", "gamma", "boost")]
        )
        carried.append(np.exp(memory + scales * action))
    return carried


def test_constants_are_reached_and_kept(tiny: dict[str, Any]) -> None:
    env = TrainingVectorEnv(2, variant=training_variant(ENV, {**tiny, "episode.phases": 4}))
    mine = agent(rate=0.0, initial_gain=90.0, alpha=1.0, gamma=0.5, boost=0.02)
    carried = episode(AVADSCPolicy(mine, env.variant), env, [0, 1])
    for phase in carried[1:]:  # the first may be farther than one step
        np.testing.assert_allclose(phase, np.tile([90.0, 1.0, 0.5, 0.02], (2, 1)), rtol=1e-3)


@pytest.mark.parametrize("rule", ["equation", "prose"])
def test_k_moves_by_the_rule(rule: Literal["equation", "prose"], tiny: dict[str, Any]) -> None:
    changes = {"episode.phases": 4, "episode.steps_per_phase": 6}
    env = TrainingVectorEnv(1, variant=training_variant(ENV, {**tiny, **changes}))
    mine = agent(rule=rule, rate=3.0)
    observation, _ = env.reset(seed=3)
    policy, state, gain = AVADSCPolicy(mine, env.variant), None, 20.0
    for phase in range(4):
        view = env.runs.view()
        _, state = policy.predict(observation, state, np.array([phase == 0]))
        if phase:
            gap = float(view.gradient_norm[0] - view.gradient_average[0])
            gain = float(np.clip(gain + (3.0 if rule == "equation" else -3.0) * gap, 0.5, 200.0))
        assert state is not None
        assert state[0][0] == pytest.approx(gain, rel=1e-4)
        observation = env.step(np.zeros((1, 4), np.float32))[0]


def test_every_run_can_have_its_own(tiny: dict[str, Any]) -> None:
    env = TrainingVectorEnv(2, variant=training_variant(ENV, {**tiny, "episode.phases": 2}))
    both = [agent(gamma=0.5), agent(gamma=3.0)]
    together = episode(AVADSCPolicy(both, env.variant), env, [4, 4])
    for run, one in enumerate(both):
        alone = TrainingVectorEnv(1, variant=env.variant)
        for first, second in zip(together, episode(AVADSCPolicy(one, env.variant), alone, [4]), strict=True):
            np.testing.assert_allclose(first[run], second[0], rtol=1e-6)


def test_it_acts_where_both_can_be_set(tiny: dict[str, Any]) -> None:
    shipped = [name for name, each in catalogue().items() if each.kind == "ava-dsc"]
    assert len(shipped) >= 2
    for name in shipped:
        assert find(name, ENV).acts_in(training_variant(ENV, tiny))
        for other in ("schedrl/DigitsKnots-v0", "schedrl/DigitsGain-v0"):
            assert not find(name, other).acts_in(training_variant(other, tiny))
            with pytest.raises(SchedrlError, match="needs the action kind 'dsc'"):
                find(name, other).policy(training_variant(other, tiny))
    with pytest.raises(SchedrlError, match="needs the observation 'log_gamma'"):
        find(shipped[0], ENV).policy(
            training_variant(ENV, {**tiny, "observation.features": ["log_gain", "log_alpha"]})
        )
