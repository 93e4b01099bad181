"""The forms in which agents are measured: nothing but the agent's own side may differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedrl.environments.registration import definitions, training_variant
from schedrl.environments.training.actions import ChoiceAction, GainAction
from schedrl.errors import SchedrlError
from schedrl.policies import catalogue, find
from schedrl.policies.agents import AVAAgent, ScheduleAgent, TrainedAgent, nearest_divisor

HAND_MADE = sorted(name for name, agent in catalogue().items() if agent.kind in ("schedule", "ava"))
TRAINING = [key for key, value in definitions().items() if value.get("family", "training") == "training"]


@pytest.mark.parametrize("env_id", TRAINING)
@pytest.mark.parametrize("name", HAND_MADE)
def test_the_exact_form_keeps_the_protocol(name: str, env_id: str) -> None:
    variant, agent = training_variant(env_id), find(name, env_id)
    exact = agent.measured_in(variant, "exact")
    for part in ("data", "training", "bound", "test_bound", "reward"):
        assert getattr(exact, part) == getattr(variant, part)
    assert exact.optimizer_steps == variant.optimizer_steps
    assert exact.protocol_fingerprint() == variant.protocol_fingerprint()
    assert exact.timesteps == variant.timesteps
    agent.policy(exact)


def test_a_law_is_followed_as_written() -> None:
    variant, agent = training_variant("schedrl/DigitsKernel-v0"), find("cosine", "")
    assert isinstance(agent, ScheduleAgent)
    exact = agent.measured_in(variant, "exact")
    assert isinstance(exact.action, ChoiceAction)
    assert set(exact.action.choices) == {agent.schedule}
    assert exact.episode == variant.episode
    assert exact.num_train_timesteps == 1000


def test_ava_has_its_own_phases_and_never_hits_an_edge() -> None:
    agent = find("ava-prose", "")
    assert isinstance(agent, AVAAgent)
    exact = agent.measured_in(training_variant("schedrl/DigitsKnots-v0"), "exact")
    assert (exact.episode.phases, exact.episode.steps_per_phase) == (8, 25)
    action = exact.action
    assert isinstance(action, GainAction)
    # A single action reaches any K from any other.
    assert action.minimum * 2.718281828**action.scale >= action.maximum * (1.0 - 1e-6)
    assert (action.beta_init, action.alpha, action.initial_gain) == (0.1, 2.0, 20.0)


def test_ava_keeps_phases_that_the_environment_sets() -> None:
    variant = training_variant("schedrl/DigitsChoice-v0", {"episode.phases": 5})
    assert find("ava-prose", "").measured_in(variant, "exact").episode == variant.episode


def test_the_action_form_is_the_environment() -> None:
    variant = training_variant("schedrl/DigitsKnots-v0")
    assert find("cosine", "").measured_in(variant, "action") == variant


def test_forms_that_do_not_exist_are_refused() -> None:
    variant = training_variant("schedrl/DigitsKnots-v0")
    learned = TrainedAgent(name="mine", path="nowhere")
    assert learned.forms == ("action",)
    with pytest.raises(SchedrlError, match="only hand-made schedules have an exact form"):
        learned.measured_in(variant, "exact")
    with pytest.raises(SchedrlError, match="moves K between phases"):
        find("ava-prose", "").measured_in(variant, "action")


@given(st.integers(1, 2000), st.integers(1, 50))
def test_the_nearest_divisor(total: int, wanted: int) -> None:
    found = nearest_divisor(total, wanted)
    assert total % found == 0
    nearer = range(max(wanted - abs(wanted - found) + 1, 1), wanted + abs(wanted - found))
    assert not [number for number in nearer if total % number == 0]


def test_changes_to_the_environment_carry_over(tiny: dict[str, Any]) -> None:
    exact = find("cosine", "").measured_in(training_variant("schedrl/DigitsKnots-v0", tiny), "exact")
    assert exact.optimizer_steps == 2
    assert exact.training.batch_size == 4
