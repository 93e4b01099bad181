"""Several environments as one comparison, its numbers by another route."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from schedrl.benchmark.aggregates import aggregate_environments
from schedrl.benchmark.results import TrainingResult
from schedrl.report.training_report import answer_text

MakeResult = Callable[..., TrainingResult]

SEEDS = 8
MEANS = {"ppo": (2.8, 3.9), "cosine": (3.0, 4.0), "linear": (3.4, 4.5), "search": (2.9, 3.8)}
KINDS = {"ppo": ("trained", 100), "search": ("sequence", 95)}


@pytest.fixture
def parts(make_result: MakeResult) -> list[list[TrainingResult]]:
    """Two environments, four rows, eight seeds; the second has a row of its own."""
    rng = np.random.default_rng(3)
    made: list[list[TrainingResult]] = []
    for place in range(2):
        luck = rng.normal(0.0, 0.3, SEEDS)
        made.append(
            [
                make_result(
                    agent, seed, means[place] + luck[seed] + rng.normal(0.0, 0.02), env_id=f"env-{place}",
                    protocol=f"protocol-{place}", kind=KINDS.get(agent, ("schedule", 0))[0],
                    search_steps=KINDS.get(agent, ("schedule", 0))[1],
                )
                for agent, means in MEANS.items()
                for seed in range(SEEDS)
            ]
        )  # fmt: skip
    made[1] += [make_result("edm", seed, 3.0, env_id="env-1", protocol="protocol-1") for seed in range(SEEDS)]
    return made


def bounds(
    parts: list[list[TrainingResult]], agent: str
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = [[r.test_bound for r in sorted(part, key=lambda r: r.seed) if r.agent == agent] for part in parts]
    return np.array(rows)


def test_scores_are_differences_to_cosine_by_seed(parts: list[list[TrainingResult]]) -> None:
    total = aggregate_environments(parts, "ppo")
    assert total is not None
    assert (total.environments, total.num_seeds, total.base, total.reference) == (
        ("env-0", "env-1"), SEEDS, "cosine", "ppo",
    )  # fmt: skip
    assert total.left_out == ("edm (exact)",)
    assert not total.shared
    by_name = {row.name: row for row in total.rows}
    assert set(by_name) == set(MEANS)
    best = np.max([(bounds(parts, "cosine") - bounds(parts, name)).mean(axis=1) for name in MEANS], axis=0)
    for name, row in by_name.items():
        scores = bounds(parts, "cosine") - bounds(parts, name)
        assert row.score.value == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))
        assert row.score.low <= row.score.value <= row.score.high
        missed = np.maximum(best[:, None] - scores, 0.0)
        assert row.gap.value == pytest.approx(missed.mean())
        assert row.gap.low >= 0.0
        above = [(scores > threshold).mean() for threshold in row.profile.thresholds]
        assert row.profile.share == pytest.approx(above)
    values = [row.score.value for row in total.rows]
    assert values == sorted(values, reverse=True)


def test_probabilities_are_about_the_reference(parts: list[list[TrainingResult]]) -> None:
    total = aggregate_environments(parts, "ppo")
    assert total is not None
    by_name = {row.name: row for row in total.rows}
    assert by_name["ppo"].probability is None
    chance = by_name["linear"].probability
    wins = [
        stats.mannwhitneyu(theirs, ours).statistic / SEEDS**2
        for ours, theirs in zip(bounds(parts, "ppo"), bounds(parts, "linear"), strict=True)
    ]
    assert chance is not None
    assert chance.value == pytest.approx(np.mean(wins))


def test_answers_are_means_over_environments_paired_by_seed(parts: list[list[TrainingResult]]) -> None:
    total = aggregate_environments(parts)
    assert total is not None
    hand_made, searched = total.answers
    assert (hand_made.rival, hand_made.verdict, hand_made.environments) == ("cosine", "better", 2)
    expected = stats.ttest_rel(bounds(parts, "ppo").mean(axis=0), bounds(parts, "cosine").mean(axis=0))
    interval = expected.confidence_interval(0.95)
    assert hand_made.difference is not None
    assert (hand_made.difference.low, hand_made.difference.high) == pytest.approx(
        (interval.low, interval.high)
    )
    assert "averaged over 2 environments" in answer_text(hand_made)
    # 0.1 worse in the one, 0.1 better in the other.
    assert (searched.rival, searched.verdict) == ("search", "not told apart")


def test_seeds_that_a_row_lacks_are_left_out_everywhere(parts: list[list[TrainingResult]]) -> None:
    parts[0] = [r for r in parts[0] if not (r.agent == "linear" and r.seed >= 5)]
    total = aggregate_environments(parts)
    assert total is not None
    assert total.num_seeds == 5


def test_environments_that_are_one_comparison_are_said_to_be(make_result: MakeResult) -> None:
    parts = [
        [make_result(agent, seed, 3.0 + 0.1 * seed) for agent in ("cosine", "linear") for seed in range(3)]
        for _ in range(2)
    ]
    total = aggregate_environments(parts)
    assert total is not None
    assert total.shared
    assert total.answers == ()


def test_without_a_common_row_or_seed_there_is_nothing(make_result: MakeResult) -> None:
    first = [make_result("cosine", seed, 3.0) for seed in range(3)]
    assert aggregate_environments([first, [make_result("linear", 0, 3.0)]]) is None
    assert aggregate_environments([first, [make_result("cosine", 9, 3.0)]]) is None
