"""The AVA-DSC experiment: rows, trials, resumption, verdicts, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedrl import schedules
from schedrl.diffusion.ava import AVASpec
from schedrl.diffusion.training_spec import DSCSpec
from schedrl.errors import SchedrlError
from schedrl.experiments import runner
from schedrl.experiments.ava_dsc import ROWS, AVADSCExperiment, AVADSCRow
from schedrl.experiments.experiment import EXPERIMENT, ExperimentRow
from schedrl.experiments.paper_report import result_tables, write_experiment_report
from schedrl.experiments.records import ExperimentRun, ExperimentSetting, Traces
from schedrl.experiments.row_runs import RowRuns, steps_to_reach
from schedrl.experiments.runner import ExperimentResults, lay_out, load_experiment, run_experiment

TINY: dict[str, Any] = {
    "data.limit": 60,
    "data.validation": 30,
    "data.test": 60,
    "training.network": {"channels": [4], "embedding": 4, "groups": 1},
    "training.batch_size": 4,
    "bound.levels": 7,
    "bound.images": 8,
    "test_bound.levels": 7,
    "test_bound.images": 8,
    "episode.phases": 2,
    "episode.steps_per_phase": 4,
}
SOME = ("cosine", "ava-equation", "dsc-printed", "ava-dsc-tuned")


@pytest.fixture(scope="module")
def setting() -> ExperimentSetting:
    return AVADSCExperiment.make_setting(
        "digits", TINY, measure_every=4, rates=(1e-3, 1e-2), trial_seeds=2, samples=60, sampler_steps=2,
        extractor="pca",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(setting: ExperimentSetting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    run_experiment(lay_out(AVADSCExperiment, setting, AVADSCExperiment.rows_named(SOME), 2), folder)
    return folder


def without_times(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    measured = ("created", "step_seconds", "train_images_per_second", "sampled_images_per_second")
    return [{key: value for key, value in line.items() if key not in measured} for line in lines]


# --- rows ---


def test_every_reading_is_a_row() -> None:
    ava = {(row.ava.rule, row.dsc is not None) for row in ROWS if row.ava is not None and row.ava.rate > 0}
    assert ava == {(rule, dsc) for rule in ("equation", "prose") for dsc in (False, True)}
    alone = {(row.dsc.update, row.dsc.per_sample) for row in ROWS if row.schedule is not None and row.dsc}
    assert alone == {(update, each) for update in ("adam", "printed") for each in (False, True)}
    plain = {row.schedule.name for row in ROWS if row.schedule is not None and row.dsc is None}
    assert plain == {"printed-linear", "linear", "cosine"}
    assert len({row.name for row in ROWS}) == len({row.fingerprint for row in ROWS}) == len(ROWS)


def test_a_row_has_one_law() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        AVADSCRow(name="both", what="", schedule=schedules.Cosine(), ava=AVASpec(rule="prose"))
    with pytest.raises(SchedrlError, match="did you mean 'cosine'"):
        AVADSCExperiment.rows_named(["cosin"])


# --- training ---


def test_a_run_does_not_depend_on_its_neighbours(setting: ExperimentSetting) -> None:
    for name in ("ava-equation", "dsc", "ava-prose-dsc", "ava-dsc-ppo"):
        (row,) = AVADSCExperiment.rows_named([name])
        both, alone = row.train(setting, [5, 6], 1e-2), row.train(setting, [6], 1e-2)
        np.testing.assert_array_equal(both.bounds[:, 1], alone.bounds[:, 0])
        assert both.traces[1] == alone.traces[0]


def test_an_agent_is_measured_like_the_others(setting: ExperimentSetting) -> None:
    row = AVADSCRow(name="agent", what="", agent="ava-dsc-prose")
    rare, often = (
        row.train(setting.model_copy(update={"measure_every": every}), [3, 4], 1e-2) for every in (4, 1)
    )
    assert rare.steps == (4, 8)
    assert often.steps == tuple(range(1, 9))
    np.testing.assert_array_equal(often.bounds[[3, 7]], rare.bounds)
    # K is what the agent set for the phase.
    gains = np.array(often.traces[0].gain)
    assert (gains[:4] == gains[0]).all()
    assert gains[0] == rare.traces[0].gain[0] == pytest.approx(20.0, rel=1e-6)


def test_without_its_constants_ava_dsc_is_its_law_alone(setting: ExperimentSetting) -> None:
    law = AVADSCRow(name="law", what="", schedule=schedules.AVA())
    still = AVASpec(rule="equation", rate=0.0)
    both = AVADSCRow(name="both", what="", ava=still, dsc=DSCSpec(gamma=0.0, boost=0.0))
    first, second = (row.train(setting, [3], 1e-2) for row in (law, both))
    np.testing.assert_array_equal(first.bounds, second.bounds)
    assert second.traces[0].gain == (still.initial_gain,) * len(second.steps)


WILD = DSCSpec(gamma=0.0, boost=1e4, max_factor=1e4, update="printed")


@pytest.mark.parametrize(
    "row",
    [
        AVADSCRow(name="printed", what="", schedule=schedules.Cosine(), dsc=WILD),
        AVADSCRow(name="linear", what="", schedule=schedules.Linear()),
        AVADSCRow(
            name="ava-dsc", what="", ava=AVASpec(rule="prose"), dsc=WILD.model_copy(update={"update": "adam"})
        ),
    ],
    ids=lambda row: row.name,
)
def test_divergence_is_counted_and_no_nan_is_kept(setting: ExperimentSetting, row: AVADSCRow) -> None:
    trained = row.train(setting, [0, 1], 10.0, steps=60)  # a rate at which the first steps go anywhere
    lost = trained.diverged_at > 0
    assert lost.any()
    assert np.isfinite(trained.bounds).all()
    assert np.isfinite(trained.test_bounds).all()
    ends = {*trained.bounds[-1][lost].tolist(), *trained.test_bounds[lost].tolist()}
    assert len(ends) == 1  # the bound at which a run counts as lost
    for traces in trained.traces:
        assert all(np.isfinite(values).all() for values in traces.model_dump().values())


# --- the folder ---


def test_files_and_report(finished: Path) -> None:
    done = load_experiment(AVADSCExperiment, finished)
    assert len(done.trials) == len(SOME) * 2
    assert len(done.runs) == len(SOME) * 2 * 2
    table = done.table()
    assert [entry.row for entry in table] == [*SOME, *SOME]
    assert {entry.rate for entry in table if not entry.tuned} == {done.experiment.setting.learning_rate}
    best = {t.row: min((o.bound, o.rate) for o in done.trials if o.row == t.row)[1] for t in done.trials}
    assert {entry.row: entry.rate for entry in table if entry.tuned} == best
    page = write_experiment_report(finished, done).read_text(encoding="utf-8")
    markdown = (finished / "report.md").read_text(encoding="utf-8")
    for text in (page, markdown):
        assert "1.47" in text
        assert "NaN" not in text.split("base64")[0]
        assert all(name in text for name in SOME)
    assert "http" not in page
    assert len(list((finished / "figures").glob("*.png"))) == 4


def test_a_killed_experiment_goes_on_to_the_same_lines(
    setting: ExperimentSetting, finished: Path, tmp_path: Path
) -> None:
    # What a kill leaves: some lines whole, the last one cut short.
    laid_out = lay_out(AVADSCExperiment, setting, AVADSCExperiment.rows_named(SOME), 2)
    for name in (runner.RUNS, runner.TRIALS):
        content = (finished / name).read_bytes()
        lines = content.splitlines(keepends=True)
        (tmp_path / name).write_bytes(b"".join(lines[:5]) + lines[5][: len(lines[5]) // 2])
    seen: list[int] = []
    _, notes = run_experiment(laid_out, tmp_path, lambda steps, _: seen.append(steps))
    assert len(notes) == 2
    assert seen[-1] == laid_out.optimizer_steps
    for name in (runner.RUNS, runner.TRIALS):
        key = json.dumps
        assert sorted(map(key, without_times(tmp_path / name))) == sorted(
            map(key, without_times(finished / name))
        )


def test_nothing_is_done_twice(
    setting: ExperimentSetting, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExperimentRow, "train", lambda *_, **__: pytest.fail("it trained again"))
    run_experiment(lay_out(AVADSCExperiment, setting, AVADSCExperiment.rows_named(SOME), 2), finished)


def test_more_rows_and_seeds_join(setting: ExperimentSetting, finished: Path, tmp_path: Path) -> None:
    for name in (runner.RUNS, runner.TRIALS, EXPERIMENT):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    before = without_times(tmp_path / runner.RUNS)
    done, _ = run_experiment(
        lay_out(AVADSCExperiment, setting, AVADSCExperiment.rows_named(["dsc"]), 3), tmp_path
    )
    assert [row.name for row in done.experiment.rows] == [*SOME, "dsc"]
    assert len(done.experiment.seeds) == 3
    assert without_times(tmp_path / runner.RUNS)[: len(before)] == before
    assert {len(entry.runs) for entry in done.table()} == {3}


def test_an_agent_that_changed_is_another_one(finished: Path) -> None:
    done = load_experiment(AVADSCExperiment, finished)
    assert done.rate_of(3, tuned=True) in done.experiment.setting.rates
    other = done.experiment.model_copy(update={"identities": (*done.experiment.identities[:3], "another")})
    changed = ExperimentResults(other, done.trials, done.runs)
    with pytest.raises(SchedrlError, match="trials of row 'ava-dsc-tuned' are missing"):
        changed.rate_of(3, tuned=True)
    with pytest.raises(SchedrlError, match="2 runs of row 'ava-dsc-tuned' are missing"):
        changed.table()


@pytest.mark.parametrize(
    ("overrides", "fields", "message"),
    [
        ({"test_bound": None}, {}, "has no test_bound"),
        ({}, {"samples": 20}, "samples must be more than the 32 features"),
        ({}, {"extractor": "digit-cnn"}, "did you mean 'digits-cnn'"),
        ({"observation.features": ["budget"]}, {}, "needs the observation"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    overrides: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    changed = {key: value for key, value in TINY.items() if not key.startswith("test_bound.")}
    if "test_bound" not in overrides:
        changed = TINY
    with pytest.raises(SchedrlError, match=message):
        lay_out(
            AVADSCExperiment,
            AVADSCExperiment.make_setting("digits", {**changed, **overrides}, **fields),
            AVADSCExperiment.rows_named(SOME),
            2,
        )


def test_the_other_predictions_do_not_count_as_diverged() -> None:
    # An untrained network that estimates x0 has a larger ε error than one that says nothing about ε.
    made = AVADSCExperiment.make_setting(
        "digits", {**TINY, "training.prediction_type": "x0"}, measure_every=4, extractor="pca"
    )
    trained = AVADSCExperiment.rows_named(["cosine"])[0].train(made, [0, 1], 1e-3)
    assert (trained.diverged_at < 0).all()


def test_another_setting_is_refused(setting: ExperimentSetting, finished: Path) -> None:
    other = setting.model_copy(update={"samples": 70})
    with pytest.raises(SchedrlError, match="another setting"):
        run_experiment(lay_out(AVADSCExperiment, other, AVADSCExperiment.rows_named(SOME), 2), finished)


def test_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="has no experiment"):
        load_experiment(AVADSCExperiment, tmp_path)


# --- the table and the verdicts ---


STEPS = (10, 20, 30, 40)


def entry(
    row: str, curves: list[list[float]], *, lost: tuple[int, ...] = (), frechet: float = 1.0
) -> RowRuns:
    """A line whose runs end, in the test bound, where their curves do."""
    runs = [
        ExperimentRun(
            row=row, row_fingerprint="", setting="", tuned=False, rate=1e-2, seed=seed, steps=STEPS,
            bounds=tuple(curve), test_bound=curve[-1], frechet=None if seed in lost else frechet + 0.01 * seed,
            extractor="pca", samples=9, diverged_at=10 if seed in lost else None, traces=Traces(),
            train_images_per_second=1.0, sampled_images_per_second=100.0 + seed, search_steps=0, versions={},
            hardware="", created="",
        )
        for seed, curve in enumerate(curves)
    ]  # fmt: skip
    return RowRuns(row, tuple(runs))


def falling(*ends: float, at: int = 4) -> list[list[float]]:
    """Curves from 9 that end at the given bounds, reached at measurement ``at`` of four."""
    return [[9.0] * (at - 1) + [end] * (5 - at) for end in ends]


def verdicts(*table: RowRuns) -> dict[str, str]:
    return {claim.text.split(" (")[0]: claim.verdict for claim in AVADSCExperiment.claims(table)}


def test_quality_is_judged_by_the_interval() -> None:
    cosine = entry("cosine", falling(3.0, 3.1, 3.2))
    for ends, verdict in (
        ((2.0, 2.11, 2.2), "holds"), ((4.0, 4.11, 4.2), "does not hold"), ((2.0, 3.2, 3.9), "not decided"),
    ):  # fmt: skip
        found = verdicts(cosine, entry("ava-prose-dsc", falling(*ends)))
        assert found["AVA-DSC has a better bound than cosine"] == verdict
    # The reading with the better validation bound is the one that is judged.
    readings = (
        entry("ava-prose-dsc", falling(2.0, 2.1, 2.2)),
        entry("ava-equation-dsc", falling(5.0, 5.0, 5.1)),
    )
    assert verdicts(cosine, *readings)["AVA-DSC has a better bound than cosine"] == "holds"


def test_the_papers_factors_are_of_its_own_baselines() -> None:
    # The rivals get there at step 40, the row at 20 (a little before, by interpolation).
    cosine, linear = (entry(name, falling(3.0, 3.1, 3.2)) for name in ("cosine", "linear-printed"))
    fast = entry("ava-prose-dsc", falling(2.9, 3.0, 3.1, at=2))
    found = verdicts(cosine, linear, fast)
    assert found["AVA-DSC needs 1.8 times fewer iterations than linear-printed"] == "holds"
    assert found["AVA-DSC needs 1.18 times fewer iterations than cosine"] == "holds"
    somewhat = entry("ava-prose-dsc", falling(2.9, 3.0, 3.1, at=3))  # 40 / 30
    found = verdicts(cosine, linear, somewhat)
    assert found["AVA-DSC needs 1.8 times fewer iterations than linear-printed"] == "does not hold"
    assert found["AVA-DSC needs 1.18 times fewer iterations than cosine"] == "holds"


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((3.9, 3.9, 3.9), "does not hold"),
        ((2.9, 3.9, 3.9), "does not hold"),
        ((2.9, 2.9, 3.9), "not decided"),
    ],
)
def test_runs_that_do_not_get_there(ends: tuple[float, ...], verdict: str) -> None:
    found = verdicts(entry("cosine", falling(3.0, 3.1, 3.2)), entry("ava-prose-dsc", falling(*ends, at=2)))
    assert found["AVA-DSC needs 1.18 times fewer iterations than cosine"] == verdict


def test_a_baseline_that_diverged_decides_nothing() -> None:
    cosine = entry("cosine", falling(3.0, 3.1, 99.0), lost=(2,))
    row = entry("ava-prose-dsc", falling(2.0, 2.1, 2.2))
    assert row.reach(cosine).runs == 2
    found = {claim.text.split(" (")[0]: claim for claim in AVADSCExperiment.claims([cosine, row])}
    quality = found["AVA-DSC has a better bound than cosine"]
    assert quality.verdict == "not decided"
    assert "1 of 3 runs of `cosine` diverged" in quality.measured
    assert found["AVA-DSC has better samples than cosine"].verdict == "not decided"


def test_iterations_to_a_quality() -> None:
    assert steps_to_reach([10, 20, 30], [3.0, 2.0, 1.0], 2.0) == 20.0
    assert steps_to_reach([10, 20, 30], [3.0, 2.0, 1.0], 2.5) == 15.0
    assert steps_to_reach([10, 20], [3.0, 2.0], 5.0) == 10.0
    assert steps_to_reach([10, 20], [3.0, 2.0], 1.9) is None


def test_cells_fit_the_headings(finished: Path) -> None:
    for table in result_tables(load_experiment(AVADSCExperiment, finished)):
        assert {len(line) for line in table.rows} == {len(table.heads)} == {len(AVADSCExperiment.columns)}


def test_lines_hold_no_nan() -> None:
    with pytest.raises(ValueError, match="finite"):
        Traces(gain=(float("nan"),))
    line = entry("cosine", falling(3.0)).runs[0].model_dump()
    for field in ("test_bound", "frechet", "rate"):
        with pytest.raises(ValueError, match="finite"):
            ExperimentRun.model_validate({**line, field: float("inf")})
