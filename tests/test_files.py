from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from schedrl.errors import AgentFileError, SchedrlError, Spec
from schedrl.files import (
    cache_dir,
    dump_json,
    ensure_folder,
    parse_object,
    read_model,
    write_arrays,
    write_chunks,
    write_text,
)


class Point(Spec):
    x: float
    y: float = 0.0


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def chunks() -> Any:
        yield b"half"
        raise KeyboardInterrupt

    target = tmp_path / "folder" / "file"
    with pytest.raises(KeyboardInterrupt):
        write_chunks(target, chunks())
    assert list(target.parent.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    def chunks() -> Any:
        yield b"half"
        raise KeyboardInterrupt

    write_text(tmp_path / "file", "old")
    with pytest.raises(KeyboardInterrupt):
        write_chunks(tmp_path / "file", chunks())
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_arrays_and_their_text_come_back(tmp_path: Path) -> None:
    rows = np.arange(6.0).reshape(2, 3).T  # not contiguous
    write_arrays(tmp_path / "a.safetensors", {"rows": rows}, {"note": "é"})
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("rows"), rows)
        assert file.metadata() == {"note": "é"}


def test_json_is_never_nan() -> None:
    assert dump_json({"b": 1, "a": [0.5]}) == '{\n  "a": [\n    0.5\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"a": float("nan")})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SchedrlError, match=r"output folder .*file/below: cannot be written"):
        ensure_folder(tmp_path / "file" / "below", "output folder")
    assert ensure_folder(tmp_path / "new" / "below", "output folder").is_dir()


@pytest.mark.parametrize(("name", "text"), [("p.json", '\ufeff{"x": 1, "y": 2}'), ("p.toml", "x = 1\ny = 2")])
def test_a_model_is_read_from_json_and_toml(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_model(tmp_path / name, Point, "point") == Point(x=1.0, y=2.0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"x": "a", "y": "b"}', r"field 'x': .*\(got 'a'\) \(and 1 more problem\)"),
        (b'{"x": 1, "z": 2}', "unknown field 'z'"),
        (b'{"x": NaN}', "is not JSON: NaN is not a number"),
        (b'{"x": -Infinity}', "is not JSON: -Infinity is not a number"),
        (b"[" * 100_000, "is not JSON: it is nested too deeply"),
        (b'{"x": 1', "is not JSON: Expecting"),
        (b"\xff", "is not JSON: .*utf-8"),
        (b"[1.0]", r"must hold one JSON object \(got list\)"),
    ],
)
def test_a_damaged_file_is_one_line(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "point.json"
    path.write_bytes(content)
    with pytest.raises(AgentFileError, match=rf"^point file {path}: {expected}") as caught:
        read_model(path, Point, "point file", error=AgentFileError)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"^point .*p\.json: cannot be read: No such file"):
        read_model(tmp_path / "p.json", Point, "point")
    with pytest.raises(SchedrlError, match="cannot be read: Is a directory"):
        read_model(tmp_path, Point, "point")
    with pytest.raises(SchedrlError, match=r"cannot be read: .*null"):
        read_model(Path("a\0b"), Point, "point")


def test_toml_that_is_none_is_one_line() -> None:
    with pytest.raises(SchedrlError, match="grid: is not TOML"):
        parse_object("x = [[", "grid", toml=True)
    with pytest.raises(SchedrlError, match="grid: is not TOML: it is nested too deeply"):
        parse_object("x = " + "[" * 100_000, "grid", toml=True)


def test_cache_folder_follows_the_xdg_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_dir() == tmp_path / "cache" / "schedrl"
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_dir() == tmp_path / "home" / ".cache" / "schedrl"
