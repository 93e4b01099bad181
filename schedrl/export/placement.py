"""A grid within what its network was trained on: levels of the law, or whole steps of it, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from schedrl.errors import SchedrlError
from schedrl.export.schedule_file import ScheduleFile, TrainingSchedule
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray

__all__ = ["Placed", "exact_kl", "on_training_law", "required_law"]


@dataclass(frozen=True)
class Placed:
    """Levels that a network can be evaluated at.

    Attributes:
        sigmas: [N+1] descending and finite, ending at 0.
        timesteps: [N] what the network is told, counted from 0 … T − 1; whole numbers if asked for.
        notes: What had to be changed, as sentences.
        kl: Exact divergence of the sampler's output from the file's spectrum, in nats, before and after the change;
            None if the file has no spectrum.
    """

    sigmas: FloatArray
    timesteps: FloatArray
    notes: tuple[str, ...]
    kl: tuple[float, float] | None

    @property
    def cost(self) -> float | None:
        """Nats that the change costs; negative if it helps."""
        return None if self.kl is None else self.kl[1] - self.kl[0]


def on_training_law(file: ScheduleFile, *, whole: bool) -> Placed:
    """Bring a file's grid to levels that its network knows.

    Levels beyond the law's last step, infinity among them, become that of the last step; positive ones below the
    first step's that of the first. What then coincides is left out.

    Args:
        file: The grid, with its training law.
        whole: Round to the nearest whole training steps, all of them different, as schedulers need that know no
            steps in between.

    Returns:
        The levels, and what the change costs.

    Raises:
        SchedrlError: The file has no law, does not end at 0, or has more steps than the law.

    Examples:
        >>> from schedrl.export.schedule_file import Provenance
        >>> from schedrl.schedules import get, grid
        >>> file = ScheduleFile.of(grid("tangent", 4), "ddim", Provenance(method="tangent"), get("linear"))
        >>> on_training_law(file, whole=True).timesteps
        array([999., 433., 258., 121.])
    """
    law = required_law(file)
    if file.sigmas[-1] != 0.0:
        raise SchedrlError(
            f"field 'sigmas': must end at 0, which is where these schedulers end (ends at {file.sigmas[-1]:g})"
        )
    steps, count = law.num_train_timesteps, file.num_steps
    if count > steps:
        raise SchedrlError(f"field 'sigmas': {count} steps are more than the {steps} of the training law")
    known = law.sigmas
    wanted = file.grid.sigma_array[:-1]
    inside = (wanted >= known[0] * (1.0 - 1e-12)) & (wanted <= known[-1] * (1.0 + 1e-12))
    timesteps = np.clip(np.array(file.timesteps or ())[:-1] - 1.0, 0.0, steps - 1.0)
    nearest = np.rint(timesteps)  # a whole step that interpolation missed by a rounding error is meant whole
    timesteps = np.where(np.abs(timesteps - nearest) < 1e-6, nearest, timesteps)
    notes = [] if inside.all() else [_beyond(wanted[~inside], known)]
    if whole:
        timesteps = _distinct(np.rint(timesteps))
        levels = known[timesteps.astype(np.int64)]
    else:
        clipped = np.clip(wanted, known[0], known[-1])
        kept = np.append(True, np.diff(clipped) < 0.0)
        levels, timesteps = clipped[kept], timesteps[kept]
        if not kept.all():
            notes.append(f"{count - int(kept.sum())} steps fell together and were left out")
    placed = np.append(levels, 0.0)
    moved = float(np.max(np.abs(np.log(levels / wanted)))) if whole and inside.all() else 0.0
    if moved > 1e-9:
        notes.append(f"rounded to whole training steps, which moves a level by at most {100.0 * moved:.2g} %")
    return Placed(placed, timesteps, tuple(notes), _cost(file, placed))


def exact_kl(eigenvalues: FloatArray, sigmas: FloatArray, sampler: str) -> float:
    """Divergence of the Gaussian source from a sampler's output on a grid, in nats.

    Infinity is pure noise; Heun, which cannot start there, starts from sigma = 10^6 of the data's greatest deviation.

    Args:
        eigenvalues: [E] of the covariance.
        sigmas: [N+1] descending.
        sampler: ``"ddim"``, ``"ddpm"`` or ``"heun"``.
    """
    from schedrl.sources import Gaussian

    levels = np.array(sigmas, dtype=np.float64)
    if sampler == "heun" and math.isinf(levels[0]):
        levels[0] = max(1e6 * float(np.sqrt(eigenvalues.max())), 2.0 * levels[1])
    return Gaussian(eigenvalues).kl(Grid(sigmas=tuple(levels.tolist())), sampler)  # type: ignore[arg-type]


def required_law(file: ScheduleFile) -> TrainingSchedule:
    """The law of a file that must have one.

    Raises:
        SchedrlError: It has none.
    """
    if file.training is None:
        raise SchedrlError(
            "field 'training': is needed here and the file has none; design it with --schedule, the law that the "
            "network was trained with"
        )
    return file.training


def _cost(file: ScheduleFile, placed: FloatArray) -> tuple[float, float] | None:
    if not file.eigenvalues:
        return None
    spectrum = np.array(file.eigenvalues)
    return exact_kl(spectrum, file.grid.sigma_array, file.sampler), exact_kl(spectrum, placed, file.sampler)


def _beyond(levels: FloatArray, known: FloatArray) -> str:
    shown = ", ".join(f"{level:.4g}" for level in levels[:3].tolist()) + (", …" if len(levels) > 3 else "")
    one = len(levels) == 1
    return (
        f"{'level' if one else 'levels'} {shown} {'lies' if one else 'lie'} outside the training law's "
        f"{known[0]:.4g} to {known[-1]:.4g} and {'was' if one else 'were'} moved to its end"
    )


def _distinct(timesteps: FloatArray) -> FloatArray:
    """Whole numbers, made strictly descending down to 0 at the least moves from the data end up."""
    steps = timesteps.copy()
    for k in range(len(steps)):
        steps[k] = max(steps[k], len(steps) - 1 - k)
    for k in range(1, len(steps)):
        steps[k] = min(steps[k], steps[k - 1] - 1)
    return steps
