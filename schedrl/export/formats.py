"""Writing a schedule file in another tool's format."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from schedrl import files
from schedrl.errors import SchedrlError, unknown_name
from schedrl.export.diffusers_objects import default_scheduler, diffusers_config
from schedrl.export.placement import Placed, on_training_law, required_law
from schedrl.export.schedule_file import ScheduleFile
from schedrl.export.tables import csv_table, npz_arrays, sigma_array, sigma_text

__all__ = ["FORMATS", "convert", "placement_notes"]


def convert(
    file: ScheduleFile, to: str, out: Path, scheduler: str | None = None, prediction_type: str = "epsilon"
) -> list[str]:
    """Write a schedule file for another tool.

    Args:
        file: The schedule.
        to: One of ``FORMATS``.
        out: The file to write; for ``"diffusers"`` a folder.
        scheduler: Class of diffusers; None is the one for the file's sampler.
        prediction_type: What the network predicts; for diffusers.

    Returns:
        Sentences: how it is used, what was changed on the way, and what that costs.

    Raises:
        SchedrlError: No such format, the file lacks what it needs, or the place cannot be written.
    """
    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
    if to == "diffusers":
        return _diffusers(file, out, scheduler, prediction_type)
    if out.is_dir():
        raise SchedrlError(f"-o {out}: is a folder; {to} is a single file")
    return _WRITERS[to](file, out)


def placement_notes(placed: Placed) -> list[str]:
    """What a placement changed and what that costs, as sentences."""
    notes = [f"{note}." for note in placed.notes]
    if placed.kl is not None and notes:
        before, after = placed.kl
        notes.append(f"Exact KL: {before:.6g} nats before, {after:.6g} after ({after - before:+.3g}).")
    elif notes:
        notes.append("What it costs is not known: the file has no spectrum.")
    return notes


def _diffusers(file: ScheduleFile, out: Path, scheduler: str | None, prediction_type: str) -> list[str]:
    name = scheduler or default_scheduler(file)
    if name == "DDIMScheduler":
        raise SchedrlError(
            "--scheduler DDIMScheduler: as saved by diffusers it only spaces steps evenly; EulerDiscreteScheduler is "
            "the same sampler with any levels (in Python, ScheduleFile.to_diffusers makes a DDIMScheduler that can)"
        )
    config = diffusers_config(file, name, prediction_type)  # type: ignore[arg-type]
    placed = on_training_law(file, whole=name in ("DDPMScheduler", "DPMSolverMultistepScheduler"))
    known = required_law(file).sigmas
    argument, given = "timesteps", placed.timesteps.tolist()
    if name == "EulerDiscreteScheduler":
        argument, given = "sigmas", placed.sigmas.tolist()
    elif name == "HeunDiscreteScheduler":
        # Heun's class reads sigma off linearly between whole steps, and so finds the levels again.
        given = np.interp(placed.sigmas[:-1], known, np.arange(len(known))).tolist()
    else:
        given = [int(step) for step in given]
    files.ensure_folder(out, "-o")
    grid = {"scheduler": name, "argument": argument, argument: given}
    files.write_text(out / "scheduler_config.json", files.dump_json(config))
    files.write_text(out / "grid.json", files.dump_json(grid))
    used = (
        f"diffusers.{name}.from_pretrained('{out}') has the training law; the grid is in {out / 'grid.json'}: "
        f"set_timesteps({argument}=...), or the pipeline's argument {argument}."
    )
    return [used, *placement_notes(placed)]


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
    return [f"paste into the field for one's own sigmas: {text}", *_notes(file)]


def _csv(file: ScheduleFile, out: Path) -> list[str]:
    files.write_text(out, csv_table(file))
    return []


def _npz(file: ScheduleFile, out: Path) -> list[str]:
    stream = io.BytesIO()
    np.savez(stream, **npz_arrays(file))  # type: ignore[arg-type, unused-ignore]
    files.write_bytes(out, stream.getvalue())
    return []


def _notes(file: ScheduleFile) -> list[str]:
    """What :func:`sigma_array` changed."""
    if np.isfinite(file.sigmas[0]):
        return []
    return placement_notes(on_training_law(file, whole=False))


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
"""Names of formats."""
