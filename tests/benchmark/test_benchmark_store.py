"""The result file: whole lines, nothing twice, never a NaN."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from schedrl.benchmark.results import Quality, SamplingResult, TrainingResult
from schedrl.benchmark.store import Line, ResultStore, read_results
from schedrl.errors import SchedrlError

MakeResult = Callable[..., TrainingResult]


def test_results_come_back(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    results = [make_result("cosine", seed, 3.0 + 0.125 * seed) for seed in range(3)]
    store = ResultStore(path, TrainingResult)
    store.append(results[:2])
    store.append(results[2:])
    assert read_results(path, TrainingResult) == results
    assert ResultStore(path, TrainingResult).results == results
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[1])["return"] == 9.0 - 3.125


def test_nothing_is_kept_twice(tmp_path: Path, make_result: MakeResult) -> None:
    store = ResultStore(tmp_path / "results.jsonl", TrainingResult)
    store.append([make_result("cosine", 0, 3.0)])
    store.append([make_result("cosine", 0, 4.0), make_result("cosine", 1, 5.0)])
    assert [result.test_bound for result in read_results(store.path, TrainingResult)] == [3.0, 5.0]
    assert make_result("cosine", 1, 0.0).key in store


@pytest.mark.parametrize(
    "change", [{"form": "action"}, {"agent_hash": "another"}, {"fingerprint": "another"}]
)
def test_what_differs_is_another_run(tmp_path: Path, make_result: MakeResult, change: dict[str, str]) -> None:
    store = ResultStore(tmp_path / "results.jsonl", TrainingResult)
    store.append([make_result("cosine", 0, 3.0)])
    assert make_result("cosine", 0, 3.0, **change).key not in store


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_last_line_cut_short_is_dropped(tmp_path: Path, make_result: MakeResult, kept: int) -> None:
    path = tmp_path / "results.jsonl"
    results = [make_result("cosine", seed, 3.0) for seed in range(3)]
    ResultStore(path, TrainingResult).append(results)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:kept])
    assert read_results(path, TrainingResult) == results[:2]
    assert path.read_text().endswith(lines[2][:kept]), "reading changes nothing"
    store = ResultStore(path, TrainingResult)
    assert store.note is not None
    assert "cut short" in store.note
    assert store.results == results[:2]
    store.append(results[2:])
    assert read_results(path, TrainingResult) == results
    assert ResultStore(path, TrainingResult).note is None


@pytest.mark.parametrize("content", ["notes", '{"a": 1}', "[1]", "{", '{"format": 2'])
def test_a_file_that_is_no_result_file_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.json"
    path.write_text(content)
    (tmp_path / "link.json").symlink_to(path)
    if not '{"format": 1,'.startswith(content):
        for name in (path, tmp_path / "link.json"):
            with pytest.raises(SchedrlError, match=r"json: is another file: .*; it is left as it is"):
                ResultStore(name, TrainingResult)
            with pytest.raises(SchedrlError, match="is another file"):
                read_results(name, TrainingResult)
        assert path.read_text() == content


def test_a_first_line_cut_short_is_dropped(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    for kept in (1, 5, 40, -1):
        path.write_text(make_result("cosine", 0, 3.0).line()[:kept])
        assert ResultStore(path, TrainingResult).note is not None
        assert path.read_text() == ""


def test_a_link_stands_for_its_file_and_a_pipe_or_device_is_refused(
    tmp_path: Path, make_result: MakeResult
) -> None:
    (tmp_path / "link").symlink_to("results.jsonl")
    ResultStore(tmp_path / "link", TrainingResult).append([make_result("cosine", 0, 3.0)])
    assert len(read_results(tmp_path / "results.jsonl", TrainingResult)) == 1
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(SchedrlError, match=rf"^result file {path}: .*is a device or a pipe; give a file"):
            ResultStore(path, TrainingResult)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{}", "field 'agent'"),
        ("not json", "not JSON"),
        ("[1]", "must hold one JSON object"),
    ],
)
def test_a_damaged_line_is_an_error(tmp_path: Path, make_result: MakeResult, line: str, reason: str) -> None:
    path = tmp_path / "results.jsonl"
    ResultStore(path, TrainingResult).append([make_result("cosine", 0, 3.0)])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SchedrlError, match=f"line 2 is not a result: .*{reason}"):
        ResultStore(path, TrainingResult)


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
    with pytest.raises(SchedrlError, match="line 1 is not a result: is not JSON: NaN is not a number"):
        read_results(path, TrainingResult)


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="cannot be written"):
        ResultStore(tmp_path / "nowhere" / "results.jsonl", TrainingResult)
    with pytest.raises(SchedrlError, match="cannot be read"):
        ResultStore(tmp_path, TrainingResult)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="is not there"):
        read_results(tmp_path / "results.jsonl", TrainingResult)


def test_another_format_says_so_and_none_is_the_first(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    content = json.loads(make_result("cosine", 0, 3.0).line())
    assert content["format"] == 1
    del content["format"], content["revision"]
    path.write_text(json.dumps(content) + "\n")
    assert read_results(path, TrainingResult) == [make_result("cosine", 0, 3.0)]
    path.write_text(json.dumps({**content, "format": 2, "new": "field"}) + "\n")
    with pytest.raises(
        SchedrlError, match="line 1 is of format 2, and this version of schedrl reads format 1"
    ):
        ResultStore(path, TrainingResult)


@pytest.mark.parametrize(
    ("pattern", "model"),
    [("digits-*", TrainingResult), ("gaming*", TrainingResult), ("sampling-[!s]*", SamplingResult)],
)
def test_stored_results_still_read(pattern: str, model: type[Line]) -> None:
    files = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob(f"{pattern}.jsonl"))
    assert files
    for path in files:
        assert len(read_results(path, model)) == len(path.read_text().splitlines())


def test_two_stores_see_each_other(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    mine, other = ResultStore(path, TrainingResult), ResultStore(path, TrainingResult)
    mine.append([make_result("cosine", 0, 3.0)])
    other.append([make_result("cosine", 0, 4.0), make_result("cosine", 1, 5.0)])
    assert [result.test_bound for result in other.results] == [3.0, 5.0]
    assert make_result("cosine", 1, 0.0).key not in mine
    mine.refresh()
    assert mine.results == other.results == read_results(path, TrainingResult)


def test_what_a_kill_cut_short_is_dropped_while_others_write(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    store = ResultStore(path, TrainingResult)
    store.append([make_result("cosine", 0, 3.0)])
    with path.open("a") as file:  # another process, killed in the middle of a line
        file.write(make_result("cosine", 1, 4.0).line()[:50])
    store.append([make_result("cosine", 2, 5.0)])
    assert store.note is not None
    assert [result.seed for result in read_results(path, TrainingResult)] == [0, 2]
    assert len(path.read_text().splitlines()) == 2


def test_a_file_that_shrinks_is_not_written_to(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "results.jsonl"
    store = ResultStore(path, TrainingResult)
    store.append([make_result("cosine", 0, 3.0)])
    path.write_text("")
    with pytest.raises(SchedrlError, match="was cut while it was in use"):
        store.append([make_result("cosine", 1, 3.0)])
    assert path.read_text() == ""


def test_a_full_disk_leaves_no_part_of_a_line(
    tmp_path: Path, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    store = ResultStore(path, TrainingResult)
    store.append([make_result("cosine", 0, 3.0)])
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:30]))
    with pytest.raises(SchedrlError, match="cannot be written: No space left"):
        store.append([make_result("cosine", 1, 3.0)])
    assert path.read_bytes() == before
    monkeypatch.undo()
    store.append([make_result("cosine", 1, 3.0)])
    assert len(read_results(path, TrainingResult)) == 2


WRITER = """
from pathlib import Path
import sys
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import ResultStore, read_results
path, sample, mark, seeds = sys.argv[1:]
[line] = read_results(Path(sample), TrainingResult)
store = ResultStore(Path(path), TrainingResult)
print("ready", flush=True)
sys.stdin.readline()
for seed in eval(seeds):
    store.append([line.model_copy(update={"seed": seed, "hardware": mark})])
"""


def test_processes_that_write_at_once_lose_and_repeat_nothing(
    tmp_path: Path, make_result: MakeResult
) -> None:
    path, sample = tmp_path / "results.jsonl", tmp_path / "sample.jsonl"
    sample.write_text(make_result("cosine", 0, 3.0).line() + "\n")
    # Seeds that several write, and one that each writes alone: a late writer may find all the others there.
    ranges = {"a": "[*range(60), 90]", "b": "[*range(59, -1, -1), 91]", "c": "[*range(30, 90), 92]"}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(sample), mark, seeds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for mark, seeds in ranges.items()
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["seed"] for line in lines) == list(range(93))
    assert {line["seed"]: line["hardware"] for line in lines if line["seed"] >= 90} == {
        90: "a",
        91: "b",
        92: "c",
    }


def test_a_run_measured_with_samples_is_another_than_one_without(make_result: MakeResult) -> None:
    quality = Quality(features="digits-cnn", samples=100, steps=5, sampler="ddim")
    plain, sampled = (make_result("cosine", 0, 3.0, quality=asked) for asked in (None, quality))
    assert plain.key != sampled.key
    measured, more = (quality.model_copy(update=change) for change in ({"frechet": 1.0}, {"samples": 101}))
    assert sampled.key == make_result("cosine", 0, 3.0, quality=measured).key
    assert sampled.key != make_result("cosine", 0, 3.0, quality=more).key
