"""Building the kernel: once, whole or not at all, and for this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schedrl.diffusion.engines import native_engine, tape
from schedrl.diffusion.engines.native_engine import KernelUnavailableError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and no library in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native_engine.load.cache_clear()
    yield tmp_path / "schedrl" / "kernels"
    native_engine.load.cache_clear()


def test_it_is_built_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        library = native_engine.load()
    except KernelUnavailableError:
        pytest.skip("no C++ compiler")
    assert library.lanes() in (8, 16)
    (built,) = cache.iterdir()  # no temporary file is left
    native_engine.load.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("built again"))
    native_engine.load()
    assert list(cache.iterdir()) == [built]


@pytest.mark.parametrize(
    ("compiler", "message"), [("/nowhere/g++", "could not be built"), ("false", "could not be built")]
)
def test_a_compiler_that_fails(
    cache: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, message: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(KernelUnavailableError, match=message):
        native_engine.load()
    assert not list(cache.iterdir())


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelUnavailableError, match="no C\\+\\+ compiler"):
        native_engine.load()


def test_a_damaged_library_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_engine, "_compiled", lambda *_: b"not a library")
    with pytest.raises(KernelUnavailableError, match="could not be built or loaded"):
        native_engine.load()


def test_a_library_cut_short_is_built_again(cache: Path) -> None:
    script = "from schedrl.diffusion.engines import native_engine; native_engine.load().lanes()"
    try:
        native_engine.load()
    except KernelUnavailableError:
        pytest.skip("no C++ compiler")
    (built,) = cache.iterdir()
    whole = built.read_bytes()
    for kept in (20_000, 100, 0):
        os.truncate(shutil.copy(built, cache / "copy"), kept)
        os.replace(cache / "copy", built)  # the library in memory keeps its file
        assert native_engine._found(cache, built.stem.rpartition("-")[0]) is None
    (cache / "build").mkdir()  # of a build that was killed
    subprocess.run([sys.executable, "-c", script], check=True)
    assert list(cache.iterdir()) == [built]
    assert built.read_bytes() == whole


def test_a_cache_of_others_is_refused(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with pytest.raises(
        KernelUnavailableError, match=r"kernels: other users can write to it; take that right"
    ):
        native_engine.load()
    assert not list(cache.iterdir())


def test_columns_and_operations_are_those_of_the_kernel() -> None:
    source = native_engine._SOURCE.read_text(encoding="utf-8")
    struct = source[source.index("struct Instruction {") :]
    struct = struct[struct.index("int64_t") + len("int64_t") : struct.index(";")]
    assert tuple(name.strip() for name in struct.split(",")) == tape.COLUMNS
    enum = source[source.index("enum Op {") + len("enum Op {") :]
    assert tuple(name.strip().lower() for name in enum[: enum.index("}")].split(",")) == tape.OPERATIONS
