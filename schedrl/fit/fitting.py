"""Trains one network to the end, from the first step or from the last checkpoint, and writes what it does."""

from __future__ import annotations

import io
import json
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from schedrl import data
from schedrl.diffusion.distributed import Processes
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.single import SingleTraining, Tuning
from schedrl.diffusion.trained_models import FittedModel, ModelFile
from schedrl.environments.training.rendering import tile
from schedrl.errors import SchedrlError, Spec, parse
from schedrl.files import (
    curves_at_once,
    dump_json,
    ensure_folder,
    parse_object,
    read_arrays,
    read_model,
    whole_lines,
    write_arrays,
    write_bytes,
    write_text,
)
from schedrl.fit.fit_spec import Cadence, FitSpec
from schedrl.metrics.variational_bound import Bound
from schedrl.provenance import software
from schedrl.schedules import grid

CHECKPOINT, FIT, LOG = "checkpoint.safetensors", "fit.json", "log.jsonl"

_SAMPLE_SEED = 11


@dataclass(frozen=True)
class FitProgress:
    """How far a training is.

    Attributes:
        step: Optimizer steps taken.
        loss: Mean training loss since the last report.
        images_per_second: Throughput since the last report.
    """

    step: int
    loss: float
    images_per_second: float


def claim(folder: Path, spec: FitSpec) -> None:
    """Write what is trained into the folder.

    Raises:
        SchedrlError: The folder cannot be written, or holds another training.
    """
    ensure_folder(folder, "fit folder")
    path = folder / FIT
    if os.path.exists(path):
        before = read_model(path, FitSpec, "fit")
        if before.fingerprint != spec.fingerprint:
            first, second = (each.model_dump(mode="json") for each in (before, spec))
            raise SchedrlError(
                f"fit folder {folder}: holds another training ({_difference(first, second)}); choose another folder "
                "(-f)"
            )
    write_text(path, dump_json(spec.model_dump(mode="json")))


def run_fit(
    spec: FitSpec,
    folder: Path,
    processes: Processes,
    tuning: Tuning,
    cadence: Cadence,
    listen: Callable[[FitProgress], None] = lambda _: None,
) -> FittedModel:
    """Train to the end, from the folder's checkpoint if there is one.

    Every process calls it; the first one writes.

    Args:
        spec: What is trained.
        folder: Claimed by :func:`claim`.
        processes: The processes that train together.
        tuning: Precision, compilation and memory layout.
        cadence: How often to log, measure, sample and save.
        listen: Called at every line of the log, in the first process.

    Returns:
        The trained network, which the first process also writes into the folder.

    Raises:
        SchedrlError: The network does not fit the images, the checkpoint is damaged, or the training diverges.
    """
    with processes.together():
        images = data.load(spec.data)
        noise = ScheduleNoise.of([spec.schedule], spec.num_train_timesteps, betas=spec.training.reads_betas)
        training = SingleTraining(
            spec.training, images.train, noise, spec.seed, processes, tuning, spec.warmup_steps
        )
        _resume(folder / CHECKPOINT, training)
        if training.step > spec.steps:
            raise SchedrlError(f"steps: {folder} has taken {training.step} already (got {spec.steps})")
    processes.agree(zlib.crc32(images.train.data), "data: the processes have different training images")
    processes.agree(training.step, f"checkpoint: the processes find different ones in {folder}; share a disk")
    with processes.together():
        observer = None
        if processes.leads:
            bound = Bound(spec.bound, images.validation, images.levels, training.device)
            observer = _Observer(spec, training, bound, folder, cadence, listen)
    while training.step < spec.steps:
        steps = min(cadence.log_every - training.step % cadence.log_every, spec.steps - training.step)
        values = _advance(training, steps)
        with processes.together():
            if observer is not None:
                observer.report(values)
    model = _model(spec, training)
    with processes.together():
        if observer is not None:
            model.save(folder)
            observer.close()
    return model


def _advance(training: SingleTraining, steps: int) -> dict[str, float]:
    """Train on, and return the values of a line of the log."""
    began = time.perf_counter()
    record = training.train(steps)
    loss, norm = float(record.loss.mean()), float(record.gradient_norm.square().mean().sqrt())
    rate = steps * training.spec.batch_size / (time.perf_counter() - began)
    if not np.isfinite(loss):
        raise SchedrlError(
            f"training diverged before step {training.step}: the loss is not finite; lower "
            "training.optimizer.learning_rate or set training.optimizer.max_gradient_norm"
        )
    return {
        "loss": loss, "gradient_norm": norm, "learning_rate": training.rate, "images_per_second": rate,
    }  # fmt: skip


class _Observer:
    """What the first process does between steps: it logs, measures, samples and saves, while the others wait."""

    def __init__(
        self, spec: FitSpec, training: SingleTraining, bound: Bound, folder: Path, cadence: Cadence,
        listen: Callable[[FitProgress], None],
    ) -> None:  # fmt: skip
        from torch.utils.tensorboard import SummaryWriter

        self._spec, self._training, self._bound = spec, training, bound
        self._folder, self._cadence, self._listen = folder, cadence, listen
        # What lies beyond the checkpoint belongs to a training that was cut off; it is trained and logged again.
        write_bytes(folder / LOG, _log_until(folder / LOG, training.step))
        with curves_at_once():
            self._curves = SummaryWriter(str(folder / "tensorboard"), purge_step=training.step + 1)
        self.close = self._curves.close

    def report(self, values: dict[str, float]) -> None:
        spec, cadence, step = self._spec, self._cadence, self._training.step

        def due(every: int) -> bool:
            return step >= spec.steps or bool(every and step % every == 0)

        if due(cadence.eval_every):
            bound = self._bound.evaluate(_model(spec, self._training).predict_epsilon, 1)
            values["bound"] = float(bound.bits_per_dim[0])  # of the averaged weights
        self._log(step, values)
        if due(cadence.sample_every):
            self._sample(step)
        if due(cadence.checkpoint_every):
            arrays, meta = self._training.state()
            write_arrays(self._folder / CHECKPOINT, arrays, {"schedrl": json.dumps(meta, allow_nan=False)})
        self._listen(FitProgress(step, values["loss"], values["images_per_second"]))

    def _log(self, step: int, values: dict[str, float]) -> None:
        """Write a line, and a point on every curve."""
        with (self._folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps({'step': step, **values})}\n")
        for name, value in values.items():
            self._curves.add_scalar(name, value, step)
        self._curves.flush()

    def _sample(self, step: int) -> None:
        from PIL import Image

        spec, cadence = self._spec, self._cadence
        limits = {"logsnr_max": spec.bound.logsnr_max, "logsnr_min": spec.bound.logsnr_min}
        steps = grid("uniform-logsnr", cadence.sampler_steps, **limits)
        images = _model(spec, self._training).sample(cadence.samples, steps, seed=_SAMPLE_SEED).cpu().numpy()
        sheet = tile(images, columns=8, gap=1)
        shown = (0.5 * (sheet + 1.0) if sheet.ndim == 2 else sheet).clip(0.0, 1.0)
        buffer = io.BytesIO()
        Image.fromarray(np.rint(255.0 * shown).astype(np.uint8)).save(buffer, format="PNG")
        write_bytes(self._folder / "samples" / f"step-{step:07d}.png", buffer.getvalue())
        colours: NDArray[np.float32] = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown
        self._curves.add_image("samples", colours, step, dataformats="HWC")


def _model(spec: FitSpec, training: SingleTraining) -> FittedModel:
    """The network with its averaged weights."""
    description = ModelFile(
        training=spec.training, image_shape=training.image_shape, schedule=spec.schedule,
        num_train_timesteps=spec.num_train_timesteps, steps=training.step, seed=spec.seed,
        data=spec.data.model_dump(mode="json"), versions=software(),
    )  # fmt: skip
    return FittedModel(training.predictor().network, description)


class _LogLine(Spec):
    model_config = ConfigDict(extra="allow")

    step: int


def _log_until(path: Path, step: int) -> bytes:
    """The lines of a training's log up to a step; one that a kill cut short is left out."""
    lines = whole_lines(path.read_bytes(), b'{"step": ', str(path)) if os.path.exists(path) else []
    what = f"{path}: is damaged: line"
    kept = [
        line
        for number, line in enumerate(lines, 1)
        if parse(_LogLine, parse_object(line, f"{what} {number}"), f"{what} {number}").step <= step
    ]
    return b"".join(line + b"\n" for line in kept)


def _resume(path: Path, training: SingleTraining) -> None:
    if not os.path.exists(path):
        return
    try:
        arrays, metadata = read_arrays(path)
        meta = parse_object(metadata["schedrl"], "schedrl")
    except (OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise SchedrlError(f"checkpoint {path}: is damaged: {reason}; delete it to begin anew") from None
    training.restore(arrays, meta)


def _difference(left: Any, right: Any, name: str = "") -> str:
    """The first field in which two trainings differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            if key not in ("steps", "root") and left.get(key) != right.get(key):
                return _difference(left.get(key), right.get(key), f"{name}.{key}" if name else key)
    return f"{name}: {left} there, {right} now"
