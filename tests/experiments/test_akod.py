"""The AKOD experiment: rows, what they cost, resumption, verdicts, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedrl import data
from schedrl.diffusion.training_spec import MSFISpec
from schedrl.errors import SchedrlError
from schedrl.experiments import runner
from schedrl.experiments.akod import ROWS, AKODExperiment, AKODRow, step_flops
from schedrl.experiments.experiment import EXPERIMENT, ExperimentRow
from schedrl.experiments.paper_report import write_experiment_report
from schedrl.experiments.records import ExperimentRun, ExperimentSetting, Sampling
from schedrl.experiments.row_runs import RowRuns
from schedrl.experiments.runner import lay_out, load_experiment, run_experiment

TINY: dict[str, Any] = {
    "data.limit": 60,
    "data.validation": 30,
    "data.test": 70,
    "training.network": {"channels": [4, 8], "embedding": 4, "groups": 2},
    "training.batch_size": 4,
    "bound.levels": 8,
    "bound.images": 8,
    "test_bound.levels": 7,
    "test_bound.images": 8,
    "episode.steps_per_phase": 8,
}
SOME = ("plain", "msfi", "modulation", "akod-tangent-dsc")


def named(*names: str) -> list[ExperimentRow]:
    return AKODExperiment.rows_named(names)


@pytest.fixture(scope="module")
def setting() -> ExperimentSetting:
    ways = (Sampling(sampler="ddpm", steps=5), Sampling(sampler="ddim", steps=2))
    return AKODExperiment.make_setting(
        "digits", TINY, measure_every=4, samples=40, samplings=ways, extractor="pca"
    )


@pytest.fixture(scope="module")
def finished(setting: ExperimentSetting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("akod")
    run_experiment(lay_out(AKODExperiment, setting, named(*SOME), 2), folder)
    return folder


def without_times(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    measured = ("created", "step_seconds", "train_images_per_second", "sampled_images_per_second")
    return [{k: v for k, v in line.items() if k not in measured} for line in lines]


# --- rows ---


def test_every_part_alone_together_and_under_both_optimizers() -> None:
    table = {row.name: row for row in ROWS}
    assert {row.name.removesuffix("-dsc") for row in ROWS} == {
        "plain", "msfi", "msfi-near", "modulation", "dko", "akod", "wide", "tangent", "akod-tangent",
        "akod-tangent-near",
    }  # fmt: skip
    for row in ROWS:
        assert (row.dsc is not None) == row.name.endswith("-dsc")
        assert table[row.name.removesuffix("-dsc")].dsc is None
    for name in ("msfi", "modulation", "dko"):
        assert bool(table[name].msfi) + table[name].modulation + bool(table[name].kernel) == 1
    assert table["akod"].msfi is not None
    assert table["akod"].modulation
    assert table["akod"].kernel == "akod"
    assert len({row.fingerprint for row in ROWS}) == len(ROWS)
    with pytest.raises(ValueError, match="exactly one of schedule and kernel"):
        AKODRow(name="none", what="")


def test_the_wide_network_costs_what_msfi_does() -> None:
    made = AKODExperiment.make_setting("digits")
    shape = data.load(made.variant.data).image_shape
    flops = {
        row.name: step_flops(row.network(made), shape) for row in named("plain", "msfi", "wide", "modulation")
    }
    assert flops["wide"] == pytest.approx(flops["msfi"], rel=0.05)
    assert 1.5 < flops["msfi"] / flops["plain"] < 2.5
    assert flops["modulation"] == pytest.approx(flops["plain"], rel=0.02)
    wide = named("wide")[0].network(made)
    assert wide.msfi is None
    assert not wide.modulation


# --- the folder ---


def test_files_and_report(finished: Path, setting: ExperimentSetting) -> None:
    done = load_experiment(AKODExperiment, finished)
    assert len(done.runs) == len(SOME) * 2
    table = {entry.row: entry for entry in done.table()}
    for name, entry in table.items():
        for run in entry.runs:
            assert isinstance(run.frechet, dict)
            assert run.frechet.keys() == {"DDPM 5", "DDIM 2"}
            assert run.steps == (4, 8)
            assert bool(run.surrogate_error) == (name in ("msfi", "akod-tangent-dsc"))
    assert table["msfi"].step_flops > 1.5 * table["plain"].step_flops
    assert table["plain"].runs[0].seed != table["plain"].runs[1].seed
    page = write_experiment_report(finished, done).read_text(encoding="utf-8")
    markdown = (finished / "report.md").read_text(encoding="utf-8")
    for text in (page, markdown):
        assert "8.8 %" in text
        assert "35.2 to 32.1" in text
        assert "NaN" not in text.split("base64")[0]
        assert all(name in text for name in SOME)
    assert "http" not in page
    assert len(list((finished / "figures").glob("*.png"))) == 4


def test_a_killed_experiment_goes_on_to_the_same_lines(
    setting: ExperimentSetting, finished: Path, tmp_path: Path
) -> None:
    content = (finished / runner.RUNS).read_bytes()
    lines = content.splitlines(keepends=True)
    (tmp_path / runner.RUNS).write_bytes(b"".join(lines[:3]) + lines[3][:50])
    _, notes = run_experiment(lay_out(AKODExperiment, setting, named(*SOME), 2), tmp_path)
    assert len(notes) == 1
    key = json.dumps
    first, second = (without_times(folder / runner.RUNS) for folder in (finished, tmp_path))
    assert sorted(map(key, first)) == sorted(map(key, second))


def test_nothing_is_done_twice_and_seeds_join(
    setting: ExperimentSetting, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (runner.RUNS, EXPERIMENT):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    before = (tmp_path / runner.RUNS).read_bytes()
    done, _ = run_experiment(lay_out(AKODExperiment, setting, named("plain"), 3), tmp_path)
    assert len(done.experiment.rows) == len(SOME)
    assert len(done.experiment.seeds) == 3
    assert (tmp_path / runner.RUNS).read_bytes().startswith(before)
    monkeypatch.setattr(ExperimentRow, "train", lambda *_, **__: pytest.fail("it trained again"))
    run_experiment(lay_out(AKODExperiment, setting, named(*SOME), 2), finished)


def test_a_kernel_decides_as_in_its_environment(tiny: dict[str, Any]) -> None:
    """The shipped kernel, on the setting's data: its row trains under the schedule that DKO exports."""
    from schedrl.diffusion.noise import ScheduleNoise
    from schedrl.diffusion.population import Population
    from schedrl.policies.dko import DKO

    short = {"episode.steps_per_phase": 6, "bound.images": 8, "test_bound.images": 8}
    made = AKODExperiment.make_setting("digits", short, measure_every=6)
    (row,) = named("akod")
    trained = row.train(made, [1_000_000])
    images = data.load(made.variant.data).train
    law = DKO.load("ppo", "schedrl/DigitsAKOD-v0").schedule(images[:32])
    population = Population(row.variant(made).training, images, 1)
    population.start(0, 1_000_000)
    population.train(ScheduleNoise.of([law], 1000, betas=True), 6)
    np.testing.assert_array_equal(trained.population.weights.numpy(), population.weights.numpy())


@pytest.mark.parametrize(
    ("overrides", "fields", "message"),
    [
        ({"test_bound": None}, {}, "has no test_bound"),
        ({}, {"samples": 20}, "samples must be more than the 32 features"),
        ({}, {"extractor": "digit-cnn"}, "did you mean 'digits-cnn'"),
        ({"observation.features": ["budget"]}, {}, "whose observations or actions are not those"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    overrides: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    changed = {
        k: v for k, v in TINY.items() if not (k.startswith("test_bound.") and "test_bound" in overrides)
    }
    with pytest.raises(SchedrlError, match=message):
        lay_out(
            AKODExperiment,
            AKODExperiment.make_setting("digits", {**changed, **overrides}, **{"extractor": "pca", **fields}),
            named("plain", "akod"),
            2,
        )


# --- the verdicts ---


def entry(
    row: str, ends: tuple[float, ...], *, frechet: float = 10.0, seconds: float = 1.0, flops: int = 100, at: int = 40,
    lost: bool = False,
) -> RowRuns:  # fmt: skip
    """Runs that fall to their ends at step ``at`` of 40, and stay there."""
    steps = (10, 20, 30, 40)
    runs = [
        ExperimentRun(
            row=row, row_fingerprint="", setting="", seed=seed, steps=steps,
            bounds=tuple(9.0 if step < at else end for step in steps), test_bound=end,
            frechet={"DDPM 1000": None if lost else frechet * (1 + 0.01 * seed)}, extractor="pca", samples=9,
            diverged_at=10 if lost else None, parameters=5, step_flops=flops, step_seconds=1.0,
            surrogate_error=(), standing_still=(), surrogate_levels=(), search_steps=0, versions={}, hardware="",
            created="",
        )
        for seed, end in enumerate(ends)
    ]  # fmt: skip
    return RowRuns(row, tuple(runs), step_seconds=seconds)


def verdict(text: str, *table: RowRuns) -> str:
    (found,) = [claim.verdict for claim in AKODExperiment.claims(table) if claim.text.startswith(text)]
    return found


PLAIN = entry("plain", (3.0, 3.1, 3.2))


def test_quality_is_judged_by_the_interval() -> None:
    text = "AKOD has a better bound"
    assert verdict(text, PLAIN, entry("akod", (2.0, 2.11, 2.2))) == "holds"
    assert verdict(text, PLAIN, entry("akod", (4.0, 4.11, 4.2))) == "does not hold"
    assert verdict(text, PLAIN, entry("akod", (2.0, 3.2, 3.9))) == "not decided"
    assert (
        verdict(text, entry("plain", (3.0, 3.1, 3.2), lost=True), entry("akod", (2.0, 2.1, 2.2)))
        == "not decided"
    )


def test_samples_must_be_as_much_closer_as_is_printed() -> None:
    text = "AKOD's samples are 8.8 % closer"
    for distance, expected in ((9.0, "holds"), (9.3, "does not hold"), (11.0, "does not hold")):
        assert verdict(text, PLAIN, entry("akod", (3.0, 3.1, 3.2), frechet=distance)) == expected


def test_time_is_counted_in_seconds() -> None:
    """Half the iterations at twice the price save nothing."""
    text = "AKOD gets to the fixed schedule's quality"
    soon = (2.9, 3.0, 3.1)
    assert verdict(text, PLAIN, entry("akod", soon, at=20)) == "holds"
    assert verdict(text, PLAIN, entry("akod", soon, at=20, seconds=2.0)) == "does not hold"
    assert verdict(text, PLAIN, entry("akod", (9.0, 9.0, 9.0))) == "does not hold"


def test_complexity_is_counted() -> None:
    text = "AKOD has comparable complexity"
    assert verdict(text, PLAIN, entry("akod", (3.0, 3.1, 3.2), flops=105)) == "holds"
    assert verdict(text, PLAIN, entry("akod", (3.0, 3.1, 3.2), flops=176)) == "does not hold"


def test_optimizers_are_judged_apart() -> None:
    ends = {"akod": (2.0, 2.1, 2.2), "plain-dsc": (1.0, 1.1, 1.2), "akod-dsc": (2.0, 2.1, 2.3)}
    table = [PLAIN, *(entry(name, at) for name, at in ends.items())]
    found = {
        c.text: c.verdict
        for c in AKODExperiment.claims(table)
        if c.text.startswith("AKOD has a better bound")
    }
    assert list(found.values()) == ["holds", "does not hold"]
    assert [text.rsplit(" ", 1)[1] for text in found] == ["(AdamW)", "(DSC)"]
    assert AKODExperiment.summary(table).startswith(
        "AKOD minus the fixed schedule with a plain U-Net: -1.000"
    )
    assert AKODExperiment.summary([PLAIN]) == ""


def test_without_rows_there_are_no_claims() -> None:
    assert AKODExperiment.claims([entry("msfi", (3.0, 3.1))]) == []


def test_rows_differ_in_what_they_say() -> None:
    table = {row.name: row for row in ROWS}
    assert table["msfi"].msfi == MSFISpec()
    assert table["msfi-near"].msfi == MSFISpec(gap=(0.03, 0.03)) != table["msfi"].msfi
    acting = [row.model_dump_json(exclude={"name", "what"}) for row in ROWS]
    assert len(set(acting)) == len(ROWS)
