"""The two questions, with answers that are known, whichever way they go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import Answer, answers_of, best_by_validation, summarise_training
from schedrl.report.training_report import answer_text as words
from schedrl.report.training_report import answers

MakeResult = Callable[..., TrainingResult]
Runs = Callable[..., list[TrainingResult]]

LUCK = np.random.default_rng(0).normal(0.0, 0.05, 10)
SMALL = np.random.default_rng(1).normal(0.0, 0.01, 10)


@pytest.fixture
def runs(make_result: MakeResult) -> Runs:
    """Runs of a row around a mean, ten paired seeds; its validation bound is ``better`` lower than another's."""

    def make(
        agent: str, mean: float, kind: str = "schedule", cost: int = 0, better: float = 0.0
    ) -> list[TrainingResult]:
        noise = np.roll(SMALL, len(agent))
        return [
            make_result(
                agent,
                seed,
                mean + luck + extra,
                kind=kind,
                search_steps=cost,
                bound=mean + luck + extra - better,
            )
            for seed, (luck, extra) in enumerate(zip(LUCK, noise, strict=True))
        ]

    return make


@pytest.mark.parametrize(
    ("ours", "verdict", "begins"),
    [
        (2.8, "better", "**ppo is better than the best hand-made schedule, cosine**"),
        (3.2, "worse", "**ppo is worse than the best hand-made schedule, cosine**"),
        (3.0, "not told apart", "**ppo and the best hand-made schedule, cosine, are not told apart**"),
    ],
)
def test_an_answer_has_its_interval_whichever_way_it_goes(
    runs: Runs, ours: float, verdict: str, begins: str
) -> None:
    own, rival = runs("ppo", ours, "trained", 100), runs("cosine", 3.0)
    answer, _ = answers_of("ppo", own, {"cosine": rival, "linear": runs("linear", 3.5)})
    assert answer.verdict == verdict
    assert words(answer).startswith(begins)
    expected = stats.ttest_rel([r.test_bound for r in own], [r.test_bound for r in rival])
    interval = expected.confidence_interval(0.95)
    assert answer.difference is not None
    assert (answer.difference.low, answer.difference.high) == pytest.approx((interval.low, interval.high))
    assert f"[{interval.low:+.4f}, {interval.high:+.4f}]" in words(answer)
    assert "best of 2" in words(answer)


def test_test_images_do_not_choose_the_rival(runs: Runs) -> None:
    groups = {"honest": runs("honest", 3.0, better=0.2), "lucky": runs("lucky", 2.9)}
    assert best_by_validation(groups) == "honest"
    answer, _ = answers_of("ppo", runs("ppo", 2.95, "trained"), groups)
    assert answer.rival == "honest"
    assert answer.verdict == "better"


def test_a_search_that_cost_more_is_no_rival(runs: Runs) -> None:
    own = runs("ppo", 2.9, "trained", 1000)
    dear, equal, cheap = (runs(f"s{cost}", 2.7, "sequence", cost) for cost in (1200, 1050, 100))
    _, answer = answers_of("ppo", own, {"dear": dear, "equal": equal})
    assert (answer.rival, answer.verdict, answer.cost) == ("equal", "worse", (1000, 1050))
    assert "searched schedule at equal compute, equal" in words(answer)
    _, answer = answers_of("ppo", own, {"cheap": cheap})
    assert "searched schedule at less compute, cheap" in words(answer)
    _, answer = answers_of("ppo", own, {"dear": dear})
    assert (answer.rival, answer.verdict) == (None, "not answered")
    assert "spent more than the 1000 optimizer steps" in words(answer)


def test_what_is_missing_is_said(runs: Runs) -> None:
    hand_made, searched = answers_of(
        "ppo", runs("ppo", 2.9, "trained", 10), {"random": runs("random", 3.0, "random")}
    )
    assert "no hand-made row is in this benchmark" in words(hand_made)
    assert "no search is in this benchmark" in words(searched)
    (line,) = answers(summarise_training(runs("cosine", 3.0)))
    assert "no learned agent is in this benchmark" in line


def test_one_seed_tells_nothing_apart(runs: Runs) -> None:
    answer, _ = answers_of("ppo", runs("ppo", 1.0, "trained")[:1], {"cosine": runs("cosine", 3.0)[:1]})
    assert answer.verdict == "not told apart"
    assert "one seed has no interval" in words(answer)
    assert "inf" not in words(answer)


def test_a_rival_needs_a_seed_in_common(runs: Runs) -> None:
    answer, _ = answers_of("ppo", runs("ppo", 2.9, "trained")[:5], {"cosine": runs("cosine", 3.0)[5:]})
    assert answer.rival is None


def test_every_learned_agent_is_asked_about(runs: Runs) -> None:
    summary = summarise_training(
        [*runs("ppo", 2.9, "trained"), *runs("mine", 2.8, "trained"), *runs("cosine", 3.0)]
    )
    assert [(answer.learned, answer.against) for answer in summary.answers] == [
        ("ppo", "hand-made"), ("ppo", "searched"), ("mine", "hand-made"), ("mine", "searched"),
    ]  # fmt: skip
    assert {answer.rival for answer in summary.answers} == {"cosine", None}
    assert Answer("ppo", "searched").verdict == "not answered"
