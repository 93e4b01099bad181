import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from schedrl import files
from schedrl.errors import AgentFileError, SchedrlError, Spec
from schedrl.files import (
    cache_dir,
    dump_json,
    ensure_file,
    ensure_folder,
    is_private,
    locked_folder,
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


def test_what_a_kill_left_is_removed_by_the_next_write(tmp_path: Path) -> None:
    killed = """
import os, pathlib, signal, sys
from schedrl.files import write_chunks
def chunks():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)
write_chunks(pathlib.Path(sys.argv[1]), chunks())
"""
    target = tmp_path / "file"
    write_text(target, "old")
    subprocess.run([sys.executable, "-c", killed, str(target)], check=False)
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "other", "")
    assert len(list(tmp_path.iterdir())) == 3, "it may belong to another command"
    write_text(target, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def test_writers_of_one_file_do_not_remove_what_others_write(tmp_path: Path) -> None:
    def write(content: str) -> None:
        for _ in range(50):
            write_text(tmp_path / "file", content)

    threads = [threading.Thread(target=write, args=(letter * 9,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_text() in ("a" * 9, "b" * 9, "c" * 9)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("length", [247, 255])
def test_a_long_name_can_be_written_and_a_longer_one_is_refused_at_once(tmp_path: Path, length: int) -> None:
    write_text(ensure_file(tmp_path / ("a" * length), "-o"), "text")
    with pytest.raises(SchedrlError, match=r"^-o .*a: cannot be written: File name too long$"):
        ensure_file(tmp_path / ("a" * 256), "-o")


def test_the_umask_and_the_mode_of_an_old_file_hold(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "new")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
        (tmp_path / "file").chmod(0o664)
        write_text(tmp_path / "file", "newer")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o664
    finally:
        os.umask(before)


def test_a_link_stays_and_what_it_names_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder/file")
    for text in ("new", "newer"):
        write_text(ensure_file(tmp_path / "link", "-o"), text)
        assert (tmp_path / "folder" / "file").read_text() == text
        assert (tmp_path / "link").is_symlink()


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    write_text(ensure_file(tmp_path / "pipe", "-o"), "text")
    assert reading.communicate()[0] == b"text"
    assert (tmp_path / "pipe").is_fifo()


def test_devices_are_written_to_and_stay_there(tmp_path: Path) -> None:
    script = """
import pathlib
from schedrl.files import ensure_file, write_text
write_text(ensure_file(pathlib.Path("/dev/stdout"), "-o"), "text")
print("more")
"""
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", script], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "textmore\n"
    write_text(ensure_file(Path("/dev/null"), "-o"), "text")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(SchedrlError, match=r"cannot write /dev/full: No space left on device"):
        write_text(Path("/dev/full"), "text")
    with pytest.raises(SchedrlError, match=r"^-o /dev/of-ours: cannot be written$"):
        ensure_file(Path("/dev/of-ours"), "-o")


def test_one_process_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    script = """
import pathlib, sys, time
from schedrl.files import locked_folder
with locked_folder(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with (
            pytest.raises(SchedrlError, match=rf"^{tmp_path}: process {other.pid} on .* works there; wait"),
            locked_folder(tmp_path),
        ):
            pass
        other.kill()
    with locked_folder(tmp_path):  # a kill does not keep the lock
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home_has_a_private_temporary_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files._temporary_cache.cache_clear()
    folder = cache_dir()
    assert folder == cache_dir() == tmp_path / f"schedrl-{os.geteuid()}"
    assert is_private(folder)
    assert [record.getMessage() for record in caplog.records] == [
        f"this user has no home: the cache is {folder}; set XDG_CACHE_HOME"
    ]
    folder.chmod(0o777)
    files._temporary_cache.cache_clear()
    assert cache_dir() != folder
    assert is_private(cache_dir())
    files._temporary_cache.cache_clear()
