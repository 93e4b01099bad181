"""Schedule files as arrays, tables and lists of numbers."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
from numpy.typing import NDArray

from schedrl.errors import SchedrlError
from schedrl.export.placement import on_training_law
from schedrl.export.schedule_file import ScheduleFile
from schedrl.schedules.conversions import FloatArray

__all__ = ["csv_table", "npz_arrays", "sigma_array", "sigma_text"]


def sigma_array(file: ScheduleFile) -> FloatArray:
    """The sigmas that k-diffusion's and EDM's samplers take: finite, descending, the last 0.

    Args:
        file: The grid. One that begins at infinity begins at the last step of its training law instead; a finite one
            is not changed.

    Returns:
        [N+1].

    Raises:
        SchedrlError: The grid begins at infinity and there is no law.

    Examples:
        >>> from schedrl.export.schedule_file import Provenance
        >>> from schedrl.schedules import get, grid
        >>> tangent = ScheduleFile.of(grid("tangent", 2), "ddim", Provenance(method="tangent"), get("scaled-linear"))
        >>> sigma_array(tangent).round(3)
        array([14.615,  1.   ,  0.   ])
    """
    if math.isfinite(file.sigmas[0]):
        return file.grid.sigma_array
    if file.training is None:
        raise SchedrlError(
            "field 'sigmas': begins at infinity, which these samplers cannot; give the file a training law "
            "(--schedule), whose last step is then the first level"
        )
    return on_training_law(file, whole=False).sigmas


def sigma_text(file: ScheduleFile) -> str:
    """The sigmas with commas between them, for ComfyUI's and A1111's fields for one's own sigmas.

    Raises:
        SchedrlError: As :func:`sigma_array`.

    Examples:
        >>> from schedrl.export.schedule_file import Provenance
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
        # Where clean data would be step -1 of a count from zero, there is none.
        step = "" if file.timesteps is None or sigma == 0.0 else repr(max(file.timesteps[k] - 1.0, 0.0))
        writer.writerow([k, repr(sigma), repr(logsnr), repr(kept), step])
    return stream.getvalue()


def npz_arrays(file: ScheduleFile) -> dict[str, NDArray[np.float64]]:
    """The file's arrays by their names in it; those of the law are ``betas`` and ``training_alphas_cumprod``."""
    arrays = {name: np.array(getattr(file, name)) for name in ("sigmas", "logsnr", "alphas_cumprod")}
    if file.training is not None:
        arrays["timesteps"] = np.array(file.timesteps)
        arrays["betas"] = np.array(file.training.betas)
        arrays["training_alphas_cumprod"] = np.array(file.training.alphas_cumprod)
    return arrays
