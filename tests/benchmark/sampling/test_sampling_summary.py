"""The table of a sampling comparison, its sentences, and its result lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.sampling_summary import summarise_sampling
from schedrl.benchmark.store import ResultStore, read_results
from schedrl.errors import SchedrlError
from schedrl.report.pages import print_summary
from schedrl.report.sampling_report import SamplingReport

MakeResult = Callable[..., SamplingResult]

SEEDS = range(4)


def rows_of(make_result: MakeResult) -> list[SamplingResult]:
    learned = [1.0, 2.0, 1.0, 2.0]
    results = [
        make_result("mine", s, e, kind="trained", training_steps=500)
        for s, e in zip(SEEDS, learned, strict=True)
    ]
    results += [make_result("law", s, e) for s, e in zip(SEEDS, [4.0, 4.0, 4.0, 1.0], strict=True)]
    return results + [make_result("search", s, 2.0, kind="search", evaluations=200) for s in SEEDS]


def test_rows(make_result: MakeResult) -> None:
    summary = summarise_sampling(rows_of(make_result))
    assert [row.name for row in summary.rows] == ["mine", "search", "law"]
    assert (summary.yardstick, summary.learned, summary.num_sources) == ("optimum", "mine", 4)
    mine, search, law = summary.rows
    assert mine.ratio.value == pytest.approx(math.sqrt(2.0))
    assert (mine.worst, mine.versus, mine.wins, mine.training_steps) == (2.0, None, None, 500)
    assert law.error.value == pytest.approx(4.0**0.75)
    assert law.versus is not None
    assert law.versus.value == pytest.approx((4.0 * 2.0 * 4.0 * 0.5) ** 0.25)
    assert law.versus.low < law.versus.value < law.versus.high
    assert law.wins == 0.75
    assert search.wins == 0.75  # two wins, two ties
    assert (search.evaluations, law.parts["kl"]) == (200.0, 3.25)
    assert summarise_sampling(rows_of(make_result)) == summary


def test_where_the_optimum_is_not_known_the_reference_is_the_yardstick(make_result: MakeResult) -> None:
    summary = summarise_sampling([make_result("law", seed, 1.0, optimum=None) for seed in SEEDS])
    assert (summary.yardstick, summary.learned) == ("reference", None)
    assert summary.rows[0].ratio.value == 0.5
    assert SamplingReport.conclusions(summary) == ["No agent here is learned. law has the smallest error."]


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([2.0, 2.1, 2.2, 2.3], "mine is better"),
        ([0.5, 0.6, 0.7, 0.8], "mine is worse"),
        ([0.5, 2.0, 0.6, 1.8], "neither is shown to be better"),
    ],
)
def test_the_verdict(make_result: MakeResult, errors: list[float], verdict: str) -> None:
    results = [make_result("mine", s, 1.0, kind="trained") for s in SEEDS]
    results += [make_result("law", s, e) for s, e in zip(SEEDS, errors, strict=True)]
    results += [make_result("grid-optimum", s, 0.9) for s in SEEDS]
    first, second = SamplingReport.conclusions(summarise_sampling(results))
    assert first == "mine is 0.00 % [0.00, 0.00] above the exact optimum, at worst 0.00 %."
    assert second.startswith(f"Against the best closed form, law: {verdict} (error ratio ")


def test_what_cannot_be_compared(make_result: MakeResult) -> None:
    with pytest.raises(SchedrlError, match="no results"):
        summarise_sampling([])
    with pytest.raises(SchedrlError, match="different fingerprint"):
        summarise_sampling([make_result("law", 0, 1.0), make_result("law", 1, 1.0, fingerprint="other")])


def test_the_printed_table_fits(make_result: MakeResult) -> None:
    results = rows_of(make_result) + [make_result("a-law-of-a-long-name", s, 1e300) for s in SEEDS]
    console = Console(width=100, record=True)
    print_summary("sampling", summarise_sampling(results), console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("a-law-of-a-long-name") for line in lines)
    table = SamplingReport.table(summarise_sampling(results), full=True)
    assert all(len(row) == len(table.heads) for row in table.rows)


def test_results_come_back(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    results = rows_of(make_result)
    ResultStore(path, SamplingResult).append(results)
    path.write_text(path.read_text()[:-10])
    store = ResultStore(path, SamplingResult)
    assert store.note is not None
    store.append(results)
    assert read_results(path, SamplingResult) == results


def test_numbers_that_are_none(make_result: MakeResult) -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValidationError):
            make_result("law", 0, value)
