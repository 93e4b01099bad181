"""The table of results made up so that every number in it is known."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import TrainingSummary, bound_bins, summarise_training
from schedrl.errors import SchedrlError
from schedrl.report.pages import WIDTH, print_summary
from schedrl.report.training_report import TrainingReport, findings

MakeResult = Callable[..., TrainingResult]

LUCK = np.random.default_rng(0).normal(0.0, 0.05, 10)
OURS = 2.9 + LUCK
CLOSE = 2.9 + LUCK + np.random.default_rng(1).normal(0.0, 0.01, 10)
WORSE = 2.95 + LUCK + np.random.default_rng(2).normal(0.0, 0.01, 10)
BETTER = 2.8 + LUCK + np.random.default_rng(3).normal(0.0, 0.01, 10)


@pytest.fixture
def rows(make_result: MakeResult) -> Callable[..., list[TrainingResult]]:
    def make(**columns: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[TrainingResult]:
        kinds = {"ppo": ("trained", 1280), "other_ppo": ("trained", 64), "random": ("random", 0)}
        results = []
        for agent, values in columns.items():
            kind, cost = kinds.get(agent, ("schedule", 0))
            results += [
                make_result(agent, seed, float(value), kind=kind, search_steps=cost)
                for seed, value in enumerate(values)
            ]
        return results

    return make


def printed(summary: TrainingSummary) -> str:
    stream = io.StringIO()
    print_summary("training", summary, Console(file=stream, width=WIDTH))
    return stream.getvalue()


def test_every_number_of_a_row(rows: Callable[..., list[TrainingResult]]) -> None:
    summary = summarise_training(rows(ppo=OURS, cosine=WORSE))
    assert [row.name for row in summary.rows] == ["ppo", "cosine"]
    row = summary.row("cosine")
    low, high = stats.t.interval(0.95, 9, loc=WORSE.mean(), scale=stats.sem(WORSE))
    assert (row.test_bound.low, row.test_bound.high) == pytest.approx((low, high))
    expected = stats.ttest_rel(WORSE, OURS).confidence_interval(0.95)
    assert row.difference is not None
    assert (row.difference.low, row.difference.high) == pytest.approx((expected.low, expected.high))
    assert row.iqm.value == pytest.approx(stats.trim_mean(WORSE, 0.25))
    assert row.probability is not None
    assert row.probability.value == pytest.approx(stats.mannwhitneyu(WORSE, OURS).statistic / 100)
    assert row.mean_return == pytest.approx(9.0 - WORSE.mean())
    assert (row.num_seeds, row.num_diverged, row.search_steps) == (10, 0, 0)
    assert summary.row("ppo").search_steps == 1280
    assert summary.row("ppo").difference is None


def test_rows_are_sorted_by_the_test_bound(rows: Callable[..., list[TrainingResult]]) -> None:
    summary = summarise_training(rows(cosine=WORSE, ppo=OURS, linear=BETTER))
    assert [row.name for row in summary.rows] == ["linear", "ppo", "cosine"]
    best = summary.best("hand-made")
    assert best is not None
    assert best.name == "linear"
    assert summary.best("searched") is None


def test_the_reference_is_the_learned_agent_else_the_best(rows: Callable[..., list[TrainingResult]]) -> None:
    assert summarise_training(rows(linear=BETTER, other_ppo=WORSE, ppo=OURS)).reference == "other_ppo"
    assert summarise_training(rows(linear=BETTER, ppo=OURS), reference="linear").reference == "linear"
    plain = summarise_training(rows(cosine=WORSE, linear=BETTER))
    assert plain.reference == "linear"
    assert plain.verdicts == ()
    assert "No agent here is learned" in findings(plain)[-1]
    with pytest.raises(SchedrlError, match="'mine' is not among the agents"):
        summarise_training(rows(cosine=WORSE), reference="mine")


def test_a_clear_win_is_called_one(rows: Callable[..., list[TrainingResult]]) -> None:
    text = findings(summarise_training(rows(ppo=OURS, cosine=WORSE, random=WORSE + 0.5)))[0]
    assert text.startswith("ppo has a better test bound than every row that is not learned")
    assert "the closest: cosine, +0.04" in text or "the closest: cosine, +0.05" in text


def test_what_does_not_clear_zero_is_said(rows: Callable[..., list[TrainingResult]]) -> None:
    text = findings(summarise_training(rows(ppo=OURS, cosine=WORSE, edm=CLOSE)))[0]
    assert "better test bound than every" not in text
    assert "ppo is not shown to be better than edm" in text
    assert "It is better than 1 rows that are not learned, whose intervals are above zero." in text


def test_a_defeat_is_called_one(rows: Callable[..., list[TrainingResult]]) -> None:
    text = findings(summarise_training(rows(ppo=OURS, linear=BETTER)))[0]
    assert text.startswith("ppo is worse than linear -0.1")
    assert "better" not in text


def test_every_learned_agent_has_its_verdict(rows: Callable[..., list[TrainingResult]]) -> None:
    lines = findings(summarise_training(rows(ppo=OURS, other_ppo=BETTER, edm=CLOSE)))
    assert "ppo is not shown to be better than edm" in lines[0]
    assert lines[1].startswith("other_ppo has a better test bound than every row that is not learned")


def test_a_single_seed_shows_nothing(rows: Callable[..., list[TrainingResult]]) -> None:
    summary = summarise_training(rows(ppo=OURS[:1], cosine=OURS[:1] + 5.0))
    assert "not shown to be better than cosine" in findings(summary)[0]
    assert "inf" not in printed(summary).split("ppo is not shown")[0]


def test_seeds_that_are_missing_are_said_and_left_out(rows: Callable[..., list[TrainingResult]]) -> None:
    summary = summarise_training(rows(ppo=OURS, cosine=WORSE[:6]))
    expected = stats.ttest_rel(WORSE[:6], OURS[:6]).confidence_interval(0.95)
    difference = summary.row("cosine").difference
    assert difference is not None
    assert difference.low == pytest.approx(expected.low)
    assert any("Not every row has every seed: cosine 6 of 10" in line for line in findings(summary))


def test_another_reward_ranks_by_itself(make_result: MakeResult) -> None:
    results = [
        make_result(
            agent, seed, bound, reward="own_loss", earned=earned, schedule=[{"name": "cosine"}] * phases
        )
        for agent, bound, earned, phases in (("cosine", 3.0, -0.8, 2), ("printed", 4.0, -0.1, 1))
        for seed in range(3)
    ]
    summary = summarise_training(results)
    assert [row.name for row in summary.rows] == ["cosine", "printed"]
    names, earned_per_phase = zip(*summary.ranking_by_reward, strict=True)
    assert names == ("printed", "cosine")
    assert earned_per_phase == pytest.approx((-0.1, -0.4))
    assert any("order would be: printed -0.1000, cosine -0.4000" in line for line in findings(summary))


def test_forms_are_named_where_there_are_two(make_result: MakeResult) -> None:
    results = [
        make_result("cosine", seed, 3.0, form=form) for form in ("exact", "action") for seed in range(2)
    ]
    results += [make_result("linear", seed, 4.0) for seed in range(2)]
    assert {row.name for row in summarise_training(results).rows} == {
        "cosine (exact)",
        "cosine (action)",
        "linear",
    }


def test_results_that_cannot_be_compared_are_refused(make_result: MakeResult) -> None:
    with pytest.raises(SchedrlError, match="different protocol cannot be compared"):
        summarise_training([make_result("a", 0, 3.0), make_result("b", 0, 3.0, protocol="another")])
    with pytest.raises(SchedrlError, match="no results"):
        summarise_training([])


def test_the_same_results_give_the_same_table(rows: Callable[..., list[TrainingResult]]) -> None:
    assert summarise_training(rows(ppo=OURS, cosine=WORSE)) == summarise_training(
        rows(ppo=OURS, cosine=WORSE)
    )


def test_the_printed_table_is_plain_and_fits(rows: Callable[..., list[TrainingResult]]) -> None:
    summary = summarise_training(rows(ppo=OURS, cosine=WORSE, linear=BETTER, **{"scaled-linear": CLOSE}))
    text = printed(summary)
    assert "\x1b" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    [line] = [line for line in text.splitlines() if line.startswith("cosine")]
    row = summary.row("cosine")
    assert row.difference is not None
    assert row.test_bound.plus_minus(".4f") in line
    assert row.difference.plus_minus("+.4f") in line
    assert line.split()[1] == "exact"


def test_the_reports_table_has_the_intervals(rows: Callable[..., list[TrainingResult]]) -> None:
    summary = summarise_training(rows(ppo=OURS, cosine=WORSE))
    made = TrainingReport.table(summary, full=True)
    assert len({len(made.heads), *map(len, made.rows)}) == 1
    by_name = dict(zip(made.heads, made.rows[1], strict=True))
    assert by_name["agent"] == "cosine"
    assert by_name["minus ppo"] == f"{summary.row('cosine').difference:+.4f}"
    assert dict(zip(made.heads, made.rows[0], strict=True))["search cost, runs"] == "640"


CELLS = np.random.default_rng(0).uniform(0.1, 1.0, (2, 5, 3))


@pytest.fixture
def binned(make_result: MakeResult) -> list[TrainingResult]:
    return [
        make_result(agent, seed, float(cells.sum()), test_bins=cells.tolist())
        for agent, row in zip(("cosine", "linear"), CELLS, strict=True)
        for seed, cells in enumerate(row)
    ]


def test_cells_are_paired_differences_that_add_up(binned: list[TrainingResult]) -> None:
    cells = bound_bins(binned, ["linear"], "cosine", 3)["linear"]
    for place, cell in enumerate(cells):
        expected = stats.ttest_rel(CELLS[1, :, place], CELLS[0, :, place]).confidence_interval(0.95)
        assert (cell.low, cell.high) == pytest.approx((expected.low, expected.high))
    difference = summarise_training(binned, "cosine").row("linear").difference
    assert difference is not None
    assert sum(cell.value for cell in cells) == pytest.approx(difference.value)


def test_runs_without_cells_and_diverged_ones_have_none(
    binned: list[TrainingResult], make_result: MakeResult
) -> None:
    old = [make_result("old", seed, 3.0) for seed in range(5)]
    assert set(bound_bins([*binned, *old], ["linear", "old"], "cosine", 3)) == {"linear"}
    assert bound_bins(binned, ["linear"], "cosine", 7) == {}
    lost = [r.model_copy(update={"diverged": r.agent == "linear"}) for r in binned]
    assert bound_bins(lost, ["linear"], "cosine", 3) == {}
