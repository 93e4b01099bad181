"""The recorded experiments of ``benchmarks/results`` are read as they are, and leave nothing to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from schedrl.experiments.akod import AKODExperiment
from schedrl.experiments.ava_dsc import AVADSCExperiment
from schedrl.experiments.experiment import EXPERIMENT, Experiment, ExperimentRow
from schedrl.experiments.row_runs import find_row
from schedrl.experiments.runner import RUNS, load_experiment, run_experiment

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("name", "paper", "rows", "runs"),
    [
        ("akod-digits", AKODExperiment, 20, 100),
        ("ava-dsc-digits", AVADSCExperiment, 14, 280),
        ("ava-dsc-fashion", AVADSCExperiment, 5, 30),
    ],
)
def test_nothing_is_left_to_do(
    name: str, paper: type[Experiment], rows: int, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(RESULTS / name, tmp_path / name)
    monkeypatch.setattr(ExperimentRow, "train", lambda *_, **__: pytest.fail("it trained again"))
    results, notes = run_experiment(paper.read(folder), folder)
    assert (len(results.experiment.rows), len(results.runs), notes) == (rows, runs, [])
    for file in (EXPERIMENT, RUNS):
        assert (folder / file).read_bytes() == (RESULTS / name / file).read_bytes()


def test_rows_keep_the_hashes_that_runs_are_filed_under() -> None:
    for name, paper in (("akod-digits", AKODExperiment), ("ava-dsc-digits", AVADSCExperiment)):
        recorded = paper.read(RESULTS / name)
        made = paper.make_setting("digits")
        assert made.fingerprint == recorded.setting.fingerprint
        found = [row.identity(made, recorded.seeds) for row in paper.all_rows]
        assert found == list(zip(recorded.identities, recorded.search_steps, strict=True))


def test_numbers_of_both_formats_are_read() -> None:
    akod = load_experiment(AKODExperiment, RESULTS / "akod-digits").table()
    ava_dsc = load_experiment(AVADSCExperiment, RESULTS / "ava-dsc-digits").table()
    plain, cosine = find_row(akod, "plain"), find_row(ava_dsc, "cosine", tuned=True)
    assert plain is not None
    assert cosine is not None
    by_way, alone = plain.frechet("DDIM 10"), cosine.frechet()
    assert by_way is not None
    assert alone is not None
    assert (by_way.plus_minus(".2f"), alone.plus_minus(".2f")) == ("8.62 ± 1.10", "6.03 ± 0.37")
    assert (plain.rate, cosine.rate) == (None, 0.02)
