"""``schedrl experiment`` as a user runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

from schedrl.experiments.ava_dsc import AVADSCExperiment


class Run(Protocol):
    def __call__(self, *words: str) -> Any: ...


SMALL = [
    word
    for setting in (
        "data.limit=60", "data.validation=30", "data.test=60", "training.batch_size=4",
        'training.network={"channels": [4], "embedding": 4, "groups": 1}', "bound.levels=4", "bound.images=8",
        "test_bound.levels=4", "test_bound.images=8", "observation.bins=2", "episode.phases=2",
        "episode.steps_per_phase=3",
    )
    for word in ("--set", setting)
]  # fmt: skip


def test_it_runs_reports_and_goes_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "experiment", "ava-dsc", "--seeds", "2", "--rows", "cosine,ava-prose-dsc", "--rates", "1e-3", "-f",
        str(tmp_path), *SMALL,
    )  # fmt: skip
    first = run(*words)
    assert first.exit_code == 0, first.output
    for text in ("AVA-DSC on digits", "minus cosine", "ava-prose-dsc", "report.html"):
        assert text in first.output
    lines = (tmp_path / "runs.jsonl").read_bytes()
    again = run(*words)
    assert again.exit_code == 0
    assert (tmp_path / "runs.jsonl").read_bytes() == lines
    longest = max(len(line) for line in first.stdout.splitlines() if not line.startswith("report:"))
    assert longest <= 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ava-dcs",), "did you mean 'ava-dsc'"),
        (("ava-dsc", "--rows", "cosin"), "did you mean 'cosine'"),
        (("ava-dsc", "--rates", "fast"), "--rates: must be numbers"),
        (("ava-dsc", "--rates", "-1"), "rates"),
        (("ava-dsc", "--set", "episode.phase=3"), "did you mean 'episode.phases'"),
    ],
)
def test_bad_input_is_one_line(run: Run, words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = run("experiment", *words, "-f", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert message in result.output
    assert not (tmp_path / "none").exists()


def test_settings_are_for_every_image_set() -> None:
    for name in ("digits", "fashion-mnist", "cifar10"):
        setting = AVADSCExperiment.make_setting(name)
        assert setting.learning_rate in setting.rates
        assert setting.steps % setting.measure_every == 0
