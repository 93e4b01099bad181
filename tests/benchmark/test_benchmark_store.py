"""The result file: whole lines, nothing twice, never a NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from schedrl.benchmark.store import Result, ResultStore, read_results
from schedrl.errors import SchedrlError

MakeResult = Callable[..., Result]


def test_results_come_back(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    results = [make_result("cosine", seed, 3.0 + 0.125 * seed) for seed in range(3)]
    store = ResultStore(path, Result)
    store.append(results[:2])
    store.append(results[2:])
    assert read_results(path, Result) == results
    assert ResultStore(path, Result).results == results
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[1])["return"] == 9.0 - 3.125


def test_nothing_is_kept_twice(tmp_path: Path, make_result: MakeResult) -> None:
    store = ResultStore(tmp_path / "results.jsonl", Result)
    store.append([make_result("cosine", 0, 3.0)])
    store.append([make_result("cosine", 0, 4.0), make_result("cosine", 1, 5.0)])
    assert [result.test_bound for result in read_results(store.path, Result)] == [3.0, 5.0]
    assert make_result("cosine", 1, 0.0).key in store


@pytest.mark.parametrize(
    "change", [{"form": "action"}, {"agent_hash": "another"}, {"fingerprint": "another"}]
)
def test_what_differs_is_another_run(tmp_path: Path, make_result: MakeResult, change: dict[str, str]) -> None:
    store = ResultStore(tmp_path / "results.jsonl", Result)
    store.append([make_result("cosine", 0, 3.0)])
    assert make_result("cosine", 0, 3.0, **change).key not in store


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_last_line_cut_short_is_dropped(tmp_path: Path, make_result: MakeResult, kept: int) -> None:
    path = tmp_path / "results.jsonl"
    results = [make_result("cosine", seed, 3.0) for seed in range(3)]
    ResultStore(path, Result).append(results)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:kept])
    assert read_results(path, Result) == results[:2]
    assert path.read_text().endswith(lines[2][:kept]), "reading changes nothing"
    store = ResultStore(path, Result)
    assert store.note is not None
    assert "cut short" in store.note
    assert store.results == results[:2]
    store.append(results[2:])
    assert read_results(path, Result) == results
    assert ResultStore(path, Result).note is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{}", "field 'agent'"),
        ("not json", "not JSON"),
        ("[1]", "Input should be a valid dictionary"),
    ],
)
def test_a_damaged_line_is_an_error(tmp_path: Path, make_result: MakeResult, line: str, reason: str) -> None:
    path = tmp_path / "results.jsonl"
    ResultStore(path, Result).append([make_result("cosine", 0, 3.0)])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SchedrlError, match=f"line 2 is not a result: .*{reason}"):
        ResultStore(path, Result)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_result_is_never_nan(make_result: MakeResult, value: float) -> None:
    with pytest.raises(ValidationError):
        make_result("cosine", 0, value)
    with pytest.raises(ValueError, match="JSON compliant"):
        make_result("cosine", 0, 3.0, schedule=[{"name": value}]).line()


def test_nan_in_a_file_is_not_a_result(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    line = make_result("cosine", 0, 3.0).line()
    path.write_text(line.replace('"test_bound": 3.0', '"test_bound": NaN') + "\n")
    with pytest.raises(SchedrlError, match="line 1 is not a result: field 'test_bound'"):
        read_results(path, Result)


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="cannot be written"):
        ResultStore(tmp_path / "nowhere" / "results.jsonl", Result)
    with pytest.raises(SchedrlError, match="cannot be read"):
        ResultStore(tmp_path, Result)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="is not there"):
        read_results(tmp_path / "results.jsonl", Result)
