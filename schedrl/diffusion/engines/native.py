"""The CPU kernel as a library: built once per machine with the system's C++ compiler, kept in the user's cache.

Nothing here is required: without a compiler, or with ``SCHEDRL_ENGINE=torch``, populations train in PyTorch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from schedrl.data.files import cache_dir

__all__ = ["Job", "KernelUnavailableError", "load"]

_SOURCE = Path(__file__).with_name("kernel.cpp")

# The kernel is for this very processor. Neither flag changes a result: they drop the bookkeeping of errors.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")

_INT, _DOUBLE, _POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class KernelUnavailableError(Exception):
    """The kernel cannot be built or loaded here; the text says why."""


class Job(ctypes.Structure):
    """Arguments of one call; ``kernel.cpp`` says what they are. Addresses are those of contiguous arrays."""

    _fields_ = (
        *((name, _POINTER) for name in ("code",)), ("length", _INT), ("frequencies", _POINTER),
        *((name, _INT) for name in (
            "lanes", "arena", "packed", "parameters", "pixels", "views", "beta", "output", "gradient",
        )),
        *((name, _POINTER) for name in ("inputs", "levels")),
        *((name, _INT) for name in ("runs", "threads", "prediction")),
        *((name, _POINTER) for name in ("weights", "logsnr", "log_beta", "images", "indices", "noise")),
        *((name, _INT) for name in ("steps", "batch")),
        *((name, _POINTER) for name in ("factor", "boost", "image_weights")),
        *((name, _POINTER) for name in ("average", "first", "second", "counts")),
        *((name, _DOUBLE) for name in (
            "rate", "beta_first", "beta_second", "epsilon", "weight_decay", "max_norm", "ema_decay", "max_factor",
        )),
        ("printed", _INT),
        *((name, _POINTER) for name in ("losses", "norms", "z", "result")),
        ("count", _INT), ("z_stride", _INT),
    )  # fmt: skip


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL:
    """The library, built if need be.

    Raises:
        KernelUnavailableError: There is no compiler, it fails, or the cache cannot be written to.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise KernelUnavailableError("no C++ compiler (g++ or clang++) was found")
    path = cache_dir() / "kernels" / f"kernel-{_identity(compiler)}.so"
    try:
        if not path.exists():
            _build(compiler, path)
        library = ctypes.CDLL(str(path))
        for name in ("train", "evaluate"):
            getattr(library, name).argtypes = [ctypes.POINTER(Job)]
            getattr(library, name).restype = None
        for name in ("lanes", "job_size"):
            getattr(library, name).restype = _INT
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        raise KernelUnavailableError(f"the kernel could not be built or loaded: {error}") from None
    if library.job_size() != ctypes.sizeof(Job):
        raise KernelUnavailableError(f"{path} does not fit this version")
    return library


def _identity(compiler: str) -> str:
    """Hash of all that the binary depends on: the source, the flags, the compiler and the processor."""
    processor = platform.processor() + platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor += "".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features"))}))
    except OSError:
        pass  # not Linux
    text = "\n".join((_SOURCE.read_text(encoding="utf-8"), *_FLAGS, compiler, processor))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _build(compiler: str, path: Path) -> None:
    """Compile to a temporary name, then rename: processes may start together, and a kill leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(handle)
    try:
        command = [compiler, *_FLAGS, "-shared", "-fPIC", "-pthread", "-o", temporary, str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
