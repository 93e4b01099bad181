"""The engine for CPUs: a compiled kernel replays the recorded network, one run per thread at a time.

A run's numbers do not depend on other runs, on the number of threads, or on the division of runs and steps into calls:
not by a bit. Memory is one arena per thread, independent of the size of the population.

The system's C++ compiler builds the kernel once per machine, into the user's cache. Without a compiler, or with
``SCHEDRL_ENGINE=torch``, populations train in PyTorch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from schedrl.diffusion.engines.engine import Block, PopulationState, record
from schedrl.diffusion.engines.tape import Program
from schedrl.diffusion.process import Inputs
from schedrl.errors import SchedrlError
from schedrl.files import cache_dir, is_private, locked_folder, write_bytes

_SOURCE = Path(__file__).with_name("kernel.cpp")

# For this processor. The -fno flags change no result: they only drop the bookkeeping of errors.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")

_INT, _DOUBLE, _POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class KernelUnavailableError(Exception):
    """The kernel cannot be built or loaded here."""


class Job(ctypes.Structure):
    """Arguments of one call, documented in ``kernel.cpp``. Addresses are of contiguous arrays."""

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
    """The library, built if necessary.

    Raises:
        KernelUnavailableError: There is no compiler, it fails, or the cache cannot be written to.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise KernelUnavailableError("no C++ compiler (g++ or clang++) was found")
    folder, name = cache_dir() / "kernels", f"kernel-{_identity(compiler)}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_private(folder):
            raise KernelUnavailableError(
                f"{folder}: other users can write to it; take that right from them, or set XDG_CACHE_HOME"
            )
        path = _found(folder, name) or _built(compiler, folder, name)
        library = ctypes.CDLL(str(path))
        for name in ("train", "evaluate"):
            getattr(library, name).argtypes = [ctypes.POINTER(Job)]
            getattr(library, name).restype = None
        for name in ("lanes", "job_size"):
            getattr(library, name).restype = _INT
    except (OSError, AttributeError, SchedrlError, subprocess.SubprocessError) as error:
        raise KernelUnavailableError(f"the kernel could not be built or loaded: {error}") from None
    if library.job_size() != ctypes.sizeof(Job):
        raise KernelUnavailableError(f"{path} does not fit this version")
    return library


def _identity(compiler: str) -> str:
    """Hash of everything the binary depends on: the source, the flags, the compiler and the processor."""
    processor = platform.processor() + platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor += "".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features"))}))
    except OSError:
        pass  # not Linux
    text = "\n".join((_SOURCE.read_text(encoding="utf-8"), *_FLAGS, compiler, processor))
    return _digest(text.encode())


def _found(folder: Path, name: str) -> Path | None:
    """The library, if it is whole: the hash of its content is in its name. A damaged one would end the process."""
    whole = (
        path for path in folder.glob(f"{name}-*.so") if path.stem == f"{name}-{_digest(path.read_bytes())}"
    )
    return next(whole, None)


def _built(compiler: str, folder: Path, name: str) -> Path:
    """Compile the library, in one process at a time."""
    with locked_folder(folder, wait=True):
        if (path := _found(folder, name)) is not None:  # built by another process
            return path
        for damaged in folder.glob(f"{name}*.so"):
            damaged.unlink()
        content = _compiled(compiler, folder / "build")
        path = folder / f"{name}-{_digest(content)}.so"
        write_bytes(path, content)
        return path


def _compiled(compiler: str, folder: Path) -> bytes:
    """The compiler's output. All its files are in ``folder``, where the next build finds what a kill left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        target = folder / "kernel.so"
        command = [compiler, *_FLAGS, "-shared", "-fPIC", "-pthread", "-o", str(target), str(_SOURCE)]
        environment = {**os.environ, "TMPDIR": str(folder)}
        subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
        return target.read_bytes()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


_PREDICTIONS = ("epsilon", "x0", "v")


def lanes_for(batch_size: int, width: int) -> int:
    """Images in a micro-batch: those of two vector registers, or of one if that holds the batch.

    Two registers keep the multipliers busy. The number depends on the batch size alone, and so do the results.
    """
    return width if batch_size <= width else 2 * width


class NativeEngine:
    """Trains a population with the CPU kernel.

    Args:
        state: The population, on a CPU.

    Raises:
        KernelUnavailableError: The kernel cannot be built here.
        NotRecordableError: The kernel does not support a layer of the network.
    """

    name = "native"

    def __init__(self, state: PopulationState) -> None:
        self.state = state
        self._image_shape = (state.images.shape[1], state.images.shape[2], state.images.shape[3])
        lanes = lanes_for(state.spec.batch_size, load().lanes())
        self.program: Program = record(state.network, self._image_shape, lanes)
        self._alone = self.program
        if state.network.views > 1:
            self._alone = record(state.network, self._image_shape, lanes, alone=True)

    def runs_at_once(self) -> int:
        """No limit: a thread's arena serves one run after another."""
        return len(self.state.weights)

    def working_bytes(self) -> int:
        program = self.program
        threads = min(torch.get_num_threads(), len(self.state.weights))
        image = 4 * self.state.images[0].numel() * program.lanes
        return 4 * threads * (program.arena + program.packed + self.state.weights.shape[1] + image)

    def train(self, rows: slice, block: Block) -> tuple[Tensor, Tensor]:
        state, optimizer = self.state, self.state.spec.optimizer
        runs, steps, batch = block.indices.shape
        losses, norms = torch.empty(steps, runs), torch.empty(steps, runs)
        job = self._job(self.program, state.weights[rows])
        arrays = {
            "images": state.images, "indices": block.indices, "logsnr": block.levels, "noise": block.noise,
            "log_beta": block.log_beta, "average": state.average[rows], "first": state.optimizer.first[rows],
            "second": state.optimizer.second[rows], "counts": state.optimizer.steps[rows], "losses": losses,
            "norms": norms, "factor": block.factor, "boost": block.boost, "image_weights": block.image_weights,
        }  # fmt: skip
        for name, tensor in arrays.items():
            if tensor is not None:
                setattr(job, name, _address(tensor))
        job.steps, job.batch = steps, batch
        job.rate, job.epsilon = optimizer.learning_rate, optimizer.eps
        job.beta_first, job.beta_second = optimizer.betas
        job.weight_decay = optimizer.weight_decay
        if optimizer.dsc is not None:
            job.max_factor, job.printed = optimizer.dsc.max_factor, optimizer.dsc.update == "printed"
        job.max_norm = optimizer.max_gradient_norm or 0.0
        job.ema_decay = state.spec.ema_decay
        load().train(ctypes.byref(job))
        return losses, norms

    def predict(self, rows: slice, inputs: Inputs) -> Tensor:
        runs, count = inputs.logsnr.shape
        # Images that all runs share are not copied.
        shared = inputs.neighbours is None and (runs == 1 or inputs.z.stride(0) == 0)
        images = inputs.z[:1] if shared else torch.stack([z for z, _ in inputs.views], dim=2)
        levels = torch.stack([logsnr for _, logsnr in inputs.views], dim=2)
        result = torch.empty(inputs.z.shape)
        job = self._job(self._alone if inputs.neighbours is None else self.program, self.state.average[rows])
        arrays = {"z": images, "logsnr": levels, "log_beta": inputs.log_beta}
        held = {
            name: tensor.to(torch.float32).contiguous()
            for name, tensor in arrays.items()
            if tensor is not None
        }
        for name, tensor in held.items():
            setattr(job, name, _address(tensor))
        job.result, job.count = _address(result), count
        job.z_stride = 0 if shared else count * job.views * job.pixels
        load().evaluate(ctypes.byref(job))
        return result

    def _job(self, program: Program, weights: Tensor) -> Job:
        channels, height, width = self._image_shape
        return Job(
            code=program.code.ctypes.data, length=len(program.code), frequencies=program.frequencies.ctypes.data,
            lanes=program.lanes, arena=program.arena, packed=program.packed, parameters=weights.shape[1],
            pixels=channels * height * width, views=len(program.inputs), beta=program.beta,
            inputs=program.inputs.ctypes.data, levels=program.levels.ctypes.data, output=program.output,
            gradient=program.gradient, runs=len(weights), threads=torch.get_num_threads(),
            prediction=_PREDICTIONS.index(self.state.spec.prediction_type), weights=_address(weights),
        )  # fmt: skip


def _address(tensor: Tensor) -> int:
    assert tensor.is_contiguous()
    assert tensor.device.type == "cpu"
    return tensor.data_ptr()
