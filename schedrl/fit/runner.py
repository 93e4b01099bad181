"""A training from its first step, or from where it was cut off, to its last."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from schedrl import data
from schedrl.data import ImageSplit
from schedrl.diffusion.distributed import Processes
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.single import SingleTraining, Tuning
from schedrl.diffusion.trained_models import FittedModel, ModelFile
from schedrl.errors import SchedrlError
from schedrl.files import dump_json, ensure_folder, read_model, write_arrays, write_text
from schedrl.fit.log import FitLog
from schedrl.fit.spec import Cadence, FitSpec
from schedrl.metrics.variational_bound import Bound
from schedrl.provenance import software
from schedrl.schedules import grid

__all__ = ["CHECKPOINT", "FIT", "FitProgress", "claim", "run_fit"]

CHECKPOINT, FIT = "checkpoint.safetensors", "fit.json"

_SAMPLE_SEED = 11


@dataclass(frozen=True)
class FitProgress:
    """Where a training stands.

    Attributes:
        step: Optimizer steps taken.
        total: Of the whole.
        loss: Mean training loss since the last report.
        images_per_second: Since then.
    """

    step: int
    total: int
    loss: float
    images_per_second: float


def claim(folder: Path, spec: FitSpec) -> None:
    """Say whose folder it is.

    Raises:
        SchedrlError: It cannot be written, or holds another training.
    """
    ensure_folder(folder, "fit folder")
    path = folder / FIT
    if path.exists():
        before = read_model(path, FitSpec, "fit")
        if before.fingerprint != spec.fingerprint:
            raise SchedrlError(
                f"fit folder {folder}: holds another training ({_difference(before, spec)}); choose another folder (-f)"
            )
    write_text(path, dump_json(spec.model_dump(mode="json")))


def run_fit(
    spec: FitSpec,
    folder: Path,
    processes: Processes,
    tuning: Tuning,
    cadence: Cadence,
    listen: Callable[[FitProgress], None] | None = None,
) -> FittedModel:
    """Train to the end, from the folder's checkpoint where there is one.

    Every process calls it; the first one writes.

    Args:
        spec: What is trained.
        folder: Claimed by :func:`claim`.
        processes: Those that train together.
        tuning: How the arithmetic is done.
        cadence: How often it is looked at.
        listen: Told at every line of the log, in the first process.

    Returns:
        The trained network, which the first process also wrote into the folder.

    Raises:
        SchedrlError: The network does not fit the images, or the checkpoint is damaged.
    """
    with processes.together():
        images = data.load(spec.data)
        law = ScheduleNoise.of([spec.schedule], spec.num_train_timesteps, betas=spec.training.reads_betas)
        training = SingleTraining(
            spec.training, images.train, law, spec.seed, processes, tuning, spec.warmup_steps
        )
        _resume(folder / CHECKPOINT, training)
        if training.step > spec.steps:
            raise SchedrlError(f"steps: {folder} has taken {training.step} already (got {spec.steps})")
    processes.agree(zlib.crc32(images.train.data), "data: the processes have different training images")
    processes.agree(training.step, f"checkpoint: the processes find different ones in {folder}; share a disk")
    with processes.together():
        log = FitLog(folder, training.step) if processes.leads else None
        watch = _Watch(spec, images, training, folder, log, cadence, listen)
    while training.step < spec.steps:
        watch.advance(min(cadence.log_every - training.step % cadence.log_every, spec.steps - training.step))
    model = _model(spec, training)
    with processes.together():
        if log is not None:
            model.save(folder)
            log.close()
    return model


class _Watch:
    """What is done beside the steps."""

    def __init__(
        self,
        spec: FitSpec,
        images: ImageSplit,
        training: SingleTraining,
        folder: Path,
        log: FitLog | None,
        cadence: Cadence,
        listen: Callable[[FitProgress], None] | None,
    ) -> None:
        self._spec, self._training, self._folder, self._log = spec, training, folder, log
        self._cadence, self._listen = cadence, listen
        self._bound: Bound | None = None
        if log is not None:
            self._bound = Bound(spec.bound, images.validation, images.levels, training.device)

    def advance(self, steps: int) -> None:
        """Train, then report, measure, draw and save as is due."""
        training, spec = self._training, self._spec
        began = time.perf_counter()
        record = training.train(steps)
        loss, norm = float(record.loss.mean()), float(record.gradient_norm.square().mean().sqrt())
        rate = steps * spec.training.batch_size / (time.perf_counter() - began)
        if not np.isfinite(loss):
            raise SchedrlError(
                f"training diverged before step {training.step}: the loss is not finite; lower "
                "training.optimizer.learning_rate or set training.optimizer.max_gradient_norm"
            )
        values = {
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": training.rate,
            "images_per_second": rate,
        }
        with training.processes.together():
            if self._log is not None:
                self._report(self._log, values)

    def _report(self, log: FitLog, values: dict[str, float]) -> None:
        """What the first process does while the others wait."""
        spec, cadence, step = self._spec, self._cadence, self._training.step
        last = step >= spec.steps
        if last or (cadence.eval_every and step % cadence.eval_every == 0):
            values["bound"] = self._measured()
        log.line(step, values)
        if last or (cadence.sample_every and step % cadence.sample_every == 0):
            log.sheet(step, self._drawn())
        if last or step % cadence.checkpoint_every == 0:
            _save(self._folder / CHECKPOINT, self._training)
        if self._listen is not None:
            self._listen(FitProgress(step, spec.steps, values["loss"], values["images_per_second"]))

    def _measured(self) -> float:
        """The validation bound of the averaged weights, bits/dim."""
        assert self._bound is not None
        return float(self._bound.evaluate(self._model().predict_epsilon, 1).bits_per_dim[0])

    def _drawn(self) -> NDArray[np.float32]:
        spec, cadence = self._spec, self._cadence
        limits = {"logsnr_max": spec.bound.logsnr_max, "logsnr_min": spec.bound.logsnr_min}
        levels = grid("uniform-logsnr", cadence.sampler_steps, **limits)
        drawn: NDArray[np.float32] = (
            self._model().sample(cadence.samples, levels, seed=_SAMPLE_SEED).cpu().numpy()
        )
        return drawn

    def _model(self) -> FittedModel:
        """The averaged weights as they are."""
        return _model(self._spec, self._training)


def _model(spec: FitSpec, training: SingleTraining) -> FittedModel:
    return FittedModel(training.predictor().network, _description(spec, training))


def _description(spec: FitSpec, training: SingleTraining) -> ModelFile:
    return ModelFile(
        training=spec.training, image_shape=training.image_shape, schedule=spec.schedule,
        num_train_timesteps=spec.num_train_timesteps, steps=training.step, seed=spec.seed,
        data=spec.data.model_dump(mode="json"), versions=software(),
    )  # fmt: skip


def _save(path: Path, training: SingleTraining) -> None:
    """One file, written to a temporary name and renamed: a kill leaves the last one."""
    arrays, meta = training.state()
    write_arrays(path, arrays, {"schedrl": json.dumps(meta, allow_nan=False)})


def _resume(path: Path, training: SingleTraining) -> None:
    if not path.exists():
        return
    try:
        with safe_open(path, framework="np") as file:
            meta: dict[str, Any] = json.loads((file.metadata() or {})["schedrl"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise SchedrlError(f"checkpoint {path}: is damaged: {reason}; delete it to begin anew") from None
    training.restore(arrays, meta)


def _difference(before: FitSpec, now: FitSpec) -> str:
    """The first field in which two trainings differ."""
    first, second = (each.model_dump(mode="json") for each in (before, now))

    def walk(left: Any, right: Any, name: str) -> str | None:
        if isinstance(left, dict) and isinstance(right, dict):
            for key in [*left, *(k for k in right if k not in left)]:
                if key not in ("steps", "root") and left.get(key) != right.get(key):
                    return walk(left.get(key), right.get(key), f"{name}.{key}" if name else key)
        return f"{name}: {left} there, {right} now"

    return walk(first, second, "") or "it differs"
