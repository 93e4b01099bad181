"""The papers' statements: what a benchmark can say about each, and what it cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import summarise_training
from schedrl.environments.registration import training_variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.report.claims import NOT_MEASURED, Claim, paper_claims

MakeResult = Callable[..., TrainingResult]

BOUNDS = {
    "cosine": 3.0,
    "printed-linear": 4.0,
    "linear": 3.5,
    "ava-prose": 3.3,
    "ava-equation": 3.3,
    "ava-fixed": 3.3,
}


@pytest.fixture
def results(make_result: MakeResult) -> list[TrainingResult]:
    made = [
        make_result(agent, seed, bound + 0.1 * seed + 0.001 * (seed * len(agent) % 3))
        for agent, bound in BOUNDS.items()
        for seed in range(5)
    ]
    return made + [make_result("ppo", seed, 2.9 + 0.1 * seed, kind="trained") for seed in range(5)]


def one(claims: list[Claim], words: str) -> Claim:
    (claim,) = [claim for claim in claims if words in claim.text]
    return claim


def test_each_claim_has_its_verdict(variant: TrainingVariant, results: list[TrainingResult]) -> None:
    claims = paper_claims(variant, results, summarise_training(results))
    assert one(claims, "better than the linear one").verdict == "holds"
    assert "`cosine` minus `printed-linear`: -1.00" in one(claims, "better than the linear one").measured
    assert one(claims, "falls below τ").verdict == "does not hold"
    assert one(claims, "which is the opposite").verdict == "does not hold"
    assert one(claims, "moving K is better").verdict == "not decided"
    assert one(claims, "beats the best hand-made").verdict == "holds"


def test_what_was_not_measured_is_not_judged(variant: TrainingVariant, results: list[TrainingResult]) -> None:
    few = [result for result in results if result.agent in ("cosine", "linear")]
    claims = paper_claims(variant, few, summarise_training(few))
    assert {claim.verdict for claim in claims} == {NOT_MEASURED}
    assert one(claims, "falls below τ").measured == "no row of `ava-prose`"
    for words in ("1.8x faster", "by 9.4%"):
        assert "schedrl experiment" in one(claims, words).measured


def test_a_learned_kernel_is_judged_where_one_acts(
    tiny: dict[str, object], results: list[TrainingResult]
) -> None:
    kernel = training_variant("schedrl/DigitsKernel-v0", tiny)
    claim = one(
        paper_claims(kernel, results, summarise_training(results)), "function of t and local variance"
    )
    assert claim.verdict == "holds"
    assert "`ppo` minus `linear`" in claim.measured


def test_the_reward_is_judged_where_it_is_the_reward(
    variant: TrainingVariant, make_result: MakeResult
) -> None:
    rows = [
        make_result(agent, seed, bound, reward="own_loss", earned=earned)
        for agent, bound, earned in (("cosine", 3.0, -0.8), ("printed-linear", 4.0, -0.1))
        for seed in range(3)
    ]
    claim = one(paper_claims(variant, rows, summarise_training(rows)), "negative validation loss")
    assert claim.verdict == "does not hold"
    assert "`printed-linear`" in claim.measured


def test_divergence_is_said(variant: TrainingVariant, results: list[TrainingResult]) -> None:
    lost = [r.model_copy(update={"diverged": r.agent == "printed-linear" and r.seed == 0}) for r in results]
    claim = one(paper_claims(variant, lost, summarise_training(lost)), "better than the linear one")
    assert "1 of 5 runs of `printed-linear` diverged" in claim.measured
