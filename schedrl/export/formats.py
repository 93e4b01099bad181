"""Schedule files in other tools' formats."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedrl import files
from schedrl.errors import SchedrlError, unknown_name
from schedrl.export.diffusers_objects import PredictionType, scheduler_config, scheduler_named
from schedrl.export.schedule_file import ScheduleFile
from schedrl.schedules.conversions import FloatArray


def convert(
    file: ScheduleFile,
    to: str,
    out: Path,
    scheduler: str | None = None,
    prediction_type: PredictionType = "epsilon",
) -> list[str]:
    """Write a schedule file for another tool.

    Args:
        file: The schedule.
        to: One of ``FORMATS``.
        out: The file to write; for ``"diffusers"`` a folder.
        scheduler: Class of diffusers; None is the one for the file's sampler.
        prediction_type: What the network predicts; for diffusers.

    Returns:
        Sentences: how to use it, what was changed, and what that costs.

    Raises:
        SchedrlError: There is no such format, the file lacks what it needs, or ``out`` cannot be written.
    """
    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
    if to == "diffusers":
        return _diffusers(file, out, scheduler, prediction_type)
    if os.path.isdir(out):
        raise SchedrlError(f"-o {out}: is a folder; {to} is a single file")
    return _WRITERS[to](file, out)


def sigma_array(file: ScheduleFile) -> FloatArray:
    """The sigmas that k-diffusion's and EDM's samplers take: [N+1], finite, descending, the last 0.

    A grid that begins at infinity begins at the last step of its training schedule instead; a finite one is not
    changed.

    Examples:
        >>> from schedrl.export import Provenance
        >>> from schedrl.schedules import get, grid
        >>> tangent = ScheduleFile.of(grid("tangent", 2), "ddim", Provenance(method="tangent"), get("scaled-linear"))
        >>> sigma_array(tangent).round(3)
        array([14.615,  1.   ,  0.   ])
    """
    if np.isfinite(file.sigmas[0]):
        return file.grid.sigma_array
    if file.training is None:
        raise SchedrlError(
            "field 'sigmas': begins at infinity, where these samplers cannot; give the file a training schedule "
            "(--schedule), whose last step is then the first level"
        )
    return file.placed().sigmas


def sigma_text(file: ScheduleFile) -> str:
    """:func:`sigma_array` with commas between the numbers, for the sigma fields of ComfyUI and A1111.

    Examples:
        >>> from schedrl.export import Provenance
        >>> from schedrl.schedules import grid
        >>> sigma_text(ScheduleFile.of(grid("karras", 3), "ddim", Provenance(method="karras")))
        '80, 2.51521898, 0.002, 0'
    """
    return ", ".join(f"{sigma:.9g}" for sigma in sigma_array(file).tolist())


def csv_table(file: ScheduleFile) -> str:
    """One line per level: step, sigma, logsnr, alpha_cumprod, timestep (counted from 0, empty at data)."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["step", "sigma", "logsnr", "alpha_cumprod", "timestep"])
    for k, (sigma, logsnr, kept) in enumerate(
        zip(file.sigmas, file.logsnr, file.alphas_cumprod, strict=True)
    ):
        # Clean data would be step -1 of a count from zero, so it has none.
        step = "" if file.timesteps is None or sigma == 0.0 else repr(max(file.timesteps[k] - 1.0, 0.0))
        writer.writerow([k, repr(sigma), repr(logsnr), repr(kept), step])
    return stream.getvalue()


def npz_arrays(file: ScheduleFile) -> dict[str, NDArray[np.float64]]:
    """The file's arrays by name; the training schedule's are ``betas`` and ``training_alphas_cumprod``."""
    arrays = {name: np.array(getattr(file, name)) for name in ("sigmas", "logsnr", "alphas_cumprod")}
    if file.training is not None:
        arrays["timesteps"] = np.array(file.timesteps)
        arrays["betas"] = np.array(file.training.betas)
        arrays["training_alphas_cumprod"] = np.array(file.training.alphas_cumprod)
    return arrays


def _diffusers(
    file: ScheduleFile, out: Path, scheduler: str | None, prediction_type: PredictionType
) -> list[str]:
    kind = scheduler_named(scheduler, file.sampler)
    if kind.saved is None:
        raise SchedrlError(
            f"--scheduler {kind.name}: as diffusers saves it, it only spaces steps evenly; EulerDiscreteScheduler is "
            "the same sampler on any levels (in Python, ScheduleFile.to_diffusers makes one that keeps the grid)"
        )
    training = file.required_training()
    config = scheduler_config(kind, training, prediction_type)
    placed = file.placed(whole=kind.saved == "whole")
    argument = "sigmas" if kind.saved == "sigmas" else "timesteps"
    given: list[float] = placed.sigmas.tolist() if kind.saved == "sigmas" else placed.timesteps.tolist()
    if kind.saved == "whole":
        given = [int(step) for step in given]
    elif kind.saved == "timesteps":
        # The class interpolates sigma linearly between whole steps; at these timesteps it finds the levels again.
        known = training.sigmas
        given = np.interp(placed.sigmas[:-1], known, np.arange(len(known))).tolist()
    files.ensure_folder(out, "-o")
    grid = {"scheduler": kind.name, "argument": argument, argument: given}
    files.write_text(out / "scheduler_config.json", files.dump_json(config))
    files.write_text(out / "grid.json", files.dump_json(grid))
    used = (
        f"diffusers.{kind.name}.from_pretrained('{out}') has the training schedule; the grid is in "
        f"{out / 'grid.json'}: pass it to set_timesteps({argument}=...), or to a pipeline as {argument}."
    )
    return [used, *placed.sentences()]


def _array(dtype: Any, used: str) -> Callable[[ScheduleFile, Path], list[str]]:
    def write(file: ScheduleFile, out: Path) -> list[str]:
        stream = io.BytesIO()
        np.save(stream, sigma_array(file).astype(dtype), allow_pickle=False)
        files.write_bytes(out, stream.getvalue())
        return [used.format(out=out), *_notes(file)]

    return write


def _text(file: ScheduleFile, out: Path) -> list[str]:
    text = sigma_text(file)
    files.write_text(out, text + "\n")
    return [f"paste into the field for custom sigmas: {text}", *_notes(file)]


def _csv(file: ScheduleFile, out: Path) -> list[str]:
    files.write_text(out, csv_table(file))
    return []


def _npz(file: ScheduleFile, out: Path) -> list[str]:
    stream = io.BytesIO()
    np.savez(stream, **npz_arrays(file))  # type: ignore[arg-type, unused-ignore]
    files.write_bytes(out, stream.getvalue())
    return []


def _notes(file: ScheduleFile) -> list[str]:
    return [] if np.isfinite(file.sigmas[0]) else file.placed().sentences()


_WRITERS: dict[str, Callable[[ScheduleFile, Path], list[str]]] = {
    "edm": _array(np.float64, "numpy.load('{out}') is EDM's t_steps, [N+1], the last 0"),
    "k-diffusion": _array(
        np.float32, "torch.from_numpy(numpy.load('{out}')) is the argument sigmas of k-diffusion's samplers"
    ),
    "comfyui": _text,
    "a1111": _text,
    "csv": _csv,
    "npz": _npz,
}

FORMATS: tuple[str, ...] = ("diffusers", *_WRITERS)
"""Names of the formats."""
