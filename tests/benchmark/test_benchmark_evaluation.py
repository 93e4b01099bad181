"""Episodes on given seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schedrl.benchmark import evaluation
from schedrl.benchmark.evaluation import evaluate, picture, replay
from schedrl.environments.registration import training_variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies import find
from schedrl.policies.agents import ScheduleAgent
from schedrl.policies.policy import State
from schedrl.schedules import from_dict

SHORT = {"episode.steps_per_phase": 10}

SEEDS = [1_000_000, 1_000_001, 1_000_002]


def cosine(variant: TrainingVariant) -> ScheduleAgent:
    agent = find("cosine", variant.id)
    assert isinstance(agent, ScheduleAgent)
    return agent


def test_results_are_in_the_order_of_seeds_and_repeat(variant: TrainingVariant) -> None:
    policy = cosine(variant).policy(variant)
    results, again = evaluate(policy, variant, SEEDS), evaluate(policy, variant, SEEDS)
    assert [result.seed for result in results] == SEEDS
    assert [r.test_bound for r in results] == [r.test_bound for r in again]
    assert len({result.test_bound for result in results}) == 3
    for result in results:
        assert result.optimizer_steps == 2
        assert not result.diverged
        assert result.seconds > 0.0
        assert [from_dict(phase).name for phase in result.schedule] == ["piecewise"]


def test_a_run_does_not_depend_on_its_neighbours(
    variant: TrainingVariant, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = cosine(variant).policy(variant)
    together = evaluate(policy, variant, SEEDS)
    monkeypatch.setattr(evaluation, "MAX_RUNS", 2)
    apart = evaluate(policy, variant, SEEDS)
    assert [r.seed for r in apart] == SEEDS
    # Sums in another order, as for the environments themselves.
    assert [r.test_bound for r in apart] == pytest.approx([r.test_bound for r in together], rel=1e-4)


def test_the_return_is_what_the_bound_fell_by(variant: TrainingVariant) -> None:
    results = evaluate(cosine(variant).policy(variant), variant, SEEDS)
    firsts = [result.bound + result.episode_return for result in results]
    assert firsts == pytest.approx([firsts[0]] * 3, abs=1e-9)


def test_an_exact_law_is_on_record_and_does_not_depend_on_the_environments_action(
    tiny: dict[str, Any],
) -> None:
    bounds = []
    for env_id in ("schedrl/DigitsKnots-v0", "schedrl/DigitsChoice-v0"):
        variant = training_variant(env_id, {**tiny, "episode.phases": 2})
        agent = cosine(variant)
        exact = agent.measured_in(variant, "exact")
        results = evaluate(agent.policy(exact), exact, SEEDS)
        assert all([from_dict(phase) for phase in r.schedule] == [agent.schedule] * 2 for r in results)
        bounds.append([result.test_bound for result in results])
    assert bounds[0] == bounds[1]


class Recorder:
    """A policy that counts its calls in its state."""

    def __init__(self, variant: TrainingVariant) -> None:
        self.space = variant.action.space()
        self.states: list[int | None] = []
        self.starts: list[list[bool]] = []

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        assert deterministic
        assert episode_start is not None
        count = None if state is None else int(state[0])
        self.states.append(count)
        self.starts.append(episode_start.tolist())
        actions = np.zeros((len(observation), *(self.space.shape or ())), dtype=self.space.dtype)
        return actions, (np.asarray((count or 0) + 1),)


def test_a_policy_gets_its_state_back(tiny: dict[str, Any]) -> None:
    changes = {"action.knots": 2, "action.num_train_timesteps": 20, "episode.phases": 2}
    variant = training_variant("schedrl/DigitsKernel-v0", {**tiny, **changes})
    policy = Recorder(variant)
    evaluate(policy, variant, SEEDS[:2])
    assert policy.states == [None, 1, 2, 3]
    assert policy.starts == [[True, True], [False, False], [False, False], [False, False]]


def test_a_run_that_diverges_is_counted_once_and_finite(tiny: dict[str, Any]) -> None:
    changes = {"episode.phases": 3, "training.optimizer.learning_rate": 10.0, "episode.divergence_error": 1.5}
    variant = training_variant("schedrl/DigitsKnots-v0", {**tiny, **changes})
    results = evaluate(cosine(variant).policy(variant), variant, SEEDS)
    assert [result.seed for result in results] == SEEDS
    gone = [result for result in results if result.diverged]
    assert min(result.optimizer_steps for result in gone) < variant.optimizer_steps
    for result in gone:
        assert result.test_bound is not None
        assert np.isfinite([result.test_bound, result.bound, result.episode_return]).all()
        assert result.optimizer_steps == len(result.schedule) * variant.episode.steps_per_phase


def test_without_a_test_bound_there_is_none(variant: TrainingVariant) -> None:
    bare = variant.model_copy(update={"test_bound": None})
    assert [r.test_bound for r in evaluate(cosine(bare).policy(bare), bare, SEEDS[:1])] == [None]


def test_a_picture_is_drawn_at_the_end(variant: TrainingVariant) -> None:
    drawn = picture(cosine(variant).policy(variant), variant, SEEDS[0])
    assert drawn.ndim == 3
    assert drawn.dtype == np.uint8
    assert drawn.std() > 0


@pytest.mark.parametrize("env_id", ["schedrl/DigitsKnots-v0", "schedrl/DigitsKernel-v0"])
def test_a_replay_is_the_run_on_record(env_id: str, tiny: dict[str, Any]) -> None:
    variant = training_variant(env_id, {**tiny, "episode.steps_per_phase": 4})
    programs = []
    bounds = []
    for name in ("tangent-0.3", "ava-equation"):
        agent = find(name, env_id)
        measured = agent.measured_in(variant, "exact")
        [result] = evaluate(agent.policy(measured), measured, SEEDS[:1])
        programs.append([from_dict(phase) for phase in result.schedule])
        bounds.append(result.bound)
    assert [len(program) for program in programs] == [1, 4]
    samples, reached = replay(variant, programs, SEEDS[0], count=3)
    assert reached.tolist() == pytest.approx(bounds, rel=1e-4)
    assert samples.shape == (2, 3, 1, 8, 8)
    assert np.abs(samples).max() <= 1.0
    assert not np.array_equal(samples[0], samples[1])


def test_test_bins_add_up_to_the_part_of_the_bound_that_training_moves() -> None:
    variant = training_variant("schedrl/DigitsKnots-v0", SHORT)
    policy = find("cosine", variant.id).policy(variant)
    results = evaluate(policy, variant, [1, 2])
    constants = [result.test_bound - sum(result.test_bins) for result in results if result.test_bound]
    assert constants[0] == pytest.approx(constants[1], abs=1e-9)
    assert constants[0] > 0.0
    assert variant.test_bound is not None
    assert len(results[0].test_bins) == variant.test_bound.levels


def test_samples_are_measured_the_same_in_any_company_and_leave_the_rest_alone() -> None:
    variant = training_variant("schedrl/DigitsKnots-v0", SHORT)
    policy, asked = find("cosine", variant.id).policy(variant), SampleSpec(count=80, steps=3)
    together = evaluate(policy, variant, [1, 2, 3], samples=asked)
    alone = evaluate(policy, variant, [2], samples=asked)[0]
    assert alone.quality == together[1].quality
    assert together[0].quality != together[1].quality
    plain = evaluate(policy, variant, [2])[0]
    assert alone.model_copy(update={"quality": None, "seconds": plain.seconds}) == plain
    quality = alone.quality
    assert quality is not None
    assert quality.spec == asked.model_copy(update={"features": "digits-cnn"})
    assert quality.frechet is not None
    assert quality.frechet > 0.0
    assert quality.reference_samples == 1297


def test_a_run_that_diverged_has_no_sample_quality_and_the_worst_bins() -> None:
    overrides = {**SHORT, "training.optimizer.learning_rate": 10.0}
    variant = training_variant("schedrl/DigitsKnots-v0", overrides)
    policy = find("cosine", variant.id).policy(variant)
    result = evaluate(policy, variant, [1], samples=SampleSpec(count=80, steps=2))[0]
    assert result.diverged
    assert result.quality is not None
    assert result.quality.frechet is None
    assert len(set(result.test_bins)) == 1


def test_too_few_samples_for_the_features_are_refused_before_any_training() -> None:
    variant = training_variant("schedrl/DigitsKnots-v0", SHORT)
    policy = find("cosine", variant.id).policy(variant)
    with pytest.raises(
        SchedrlError, match=r"quality.count: must be more than the \d+ features of 'digits-cnn'"
    ):
        evaluate(policy, variant, [1], samples=SampleSpec(count=10))
