"""The schedule that a network trained on, and the grids that a network of this schedule can be sampled on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from schedrl.errors import SchedrlError, Spec, parse
from schedrl.schedules import AnySchedule, Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.sources import Gaussian

_TOLERANCE = 1e-6
"""How far a derived number may be from its own formula: more than printing loses, less than any edit changes."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class TrainingSchedule(Spec):
    """The noise that the network was trained on.

    Attributes:
        schedule: By name with its parameters; ``{"name": "betas", "betas": [...]}`` is any list.
        num_train_timesteps: T.
        betas: [T], those of the schedule.
        alphas_cumprod: [T], the cumulative product of ``1 - betas``.
    """

    schedule: AnySchedule
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    betas: tuple[Share, ...]
    alphas_cumprod: tuple[Share, ...]

    @classmethod
    def of(cls, schedule: AnySchedule, num_train_timesteps: int = 1000) -> Self:
        """The schedule with its arrays at T = ``num_train_timesteps``."""
        fields = {
            "schedule": schedule,
            "num_train_timesteps": num_train_timesteps,
            "betas": schedule.betas(num_train_timesteps).tolist(),
            "alphas_cumprod": schedule.alphas_cumprod(num_train_timesteps).tolist(),
        }
        return parse(cls, fields, "training schedule")

    @property
    def sigmas(self) -> FloatArray:
        """Noise-to-signal ratio of the steps, [T], rising; step i of 1 … T is entry i - 1."""
        return np.exp(-0.5 * self.schedule.logsnr_steps(self.num_train_timesteps))

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        steps, name = self.num_train_timesteps, f"the schedule '{self.schedule.name}'"
        require_agreement("betas", self.betas, self.schedule.betas(steps), name)
        require_agreement(
            "alphas_cumprod", self.alphas_cumprod, self.schedule.alphas_cumprod(steps), "the betas"
        )
        return self


def require_agreement(
    field: str, given: Sequence[float], derived: FloatArray, source: str, scale: float | None = None
) -> None:
    """Check an array that could be derived.

    Args:
        field: Its name.
        given: What the file holds.
        derived: What follows from the rest of the file.
        source: What it follows from, for the message.
        scale: Size of its numbers; None compares each number with its own size.

    Raises:
        ValueError: They differ; the text names the first entry that does.
    """
    if len(given) != len(derived):
        raise ValueError(f"{field}: must have {len(derived)} entries, by {source} (got {len(given)})")
    values = np.array(given)
    with np.errstate(invalid="ignore"):
        allowed = _TOLERANCE * (np.maximum(np.abs(derived), 1e-3) if scale is None else scale)
        agree = (values == derived) | (np.abs(values - derived) <= allowed)
    if not agree.all():
        index = int(np.flatnonzero(~agree)[0])
        raise ValueError(
            f"{field}[{index}] = {given[index]:.8g} contradicts {source}, by which it is {derived[index]:.8g}"
        )


@dataclass(frozen=True)
class Placed:
    """Noise levels at which a network can be evaluated.

    Attributes:
        sigmas: [N+1] descending and finite, ending at 0.
        timesteps: [N] timesteps that the network receives, counted from 0 … T - 1; whole numbers on request.
        notes: What was changed, as sentences without a full stop.
        kl: Exact KL of the sampler's output from the data's Gaussian, in nats, before and after the change; None
            without a spectrum.
    """

    sigmas: FloatArray
    timesteps: FloatArray
    notes: tuple[str, ...]
    kl: tuple[float, float] | None

    @property
    def cost(self) -> float | None:
        """Nats that the change costs; negative where it helps."""
        return None if self.kl is None else self.kl[1] - self.kl[0]

    def sentences(self) -> list[str]:
        """What was changed and what that costs, for people."""
        said = [f"{note}." for note in self.notes]
        if said and self.kl is not None:
            before, after = self.kl
            said.append(f"Exact KL: {before:.6g} nats before, {after:.6g} after ({after - before:+.3g}).")
        elif said:
            said.append("The cost of this is unknown, because the file has no spectrum.")
        return said


def place(
    grid: Grid, training: TrainingSchedule, sampler: str, eigenvalues: Sequence[float] = (), *, whole: bool
) -> Placed:
    """Move a grid to noise levels that the network was trained on.

    Levels above the schedule's last step, infinity among them, move to that step; positive levels below its first
    step move to that one. Of levels that then coincide, one stays.

    Args:
        grid: The levels, the last of them 0.
        training: What the network was trained on.
        sampler: ``"ddim"``, ``"ddpm"`` or ``"heun"``; for the cost.
        eigenvalues: Spectrum of the data, if known; for the cost.
        whole: Round to the nearest whole training steps, all of them different: some schedulers know no others.

    Raises:
        SchedrlError: The grid does not end at 0, or has more steps than the schedule.

    Examples:
        >>> from schedrl import schedules
        >>> linear = TrainingSchedule.of(schedules.get("linear"))
        >>> place(schedules.grid("tangent", 4), linear, "ddim", whole=True).timesteps
        array([999., 433., 258., 121.])
    """
    if grid.sigmas[-1] != 0.0:
        raise SchedrlError(
            f"field 'sigmas': must end at 0, where these schedulers end (ends at {grid.sigmas[-1]:g})"
        )
    steps, count = training.num_train_timesteps, grid.num_steps
    if count > steps:
        raise SchedrlError(f"field 'sigmas': {count} steps are more than the {steps} training steps")
    known = training.sigmas
    wanted = grid.sigma_array[:-1]
    inside = (wanted >= known[0] * (1.0 - 1e-12)) & (wanted <= known[-1] * (1.0 + 1e-12))
    timesteps = np.clip(grid.timesteps(training.schedule, steps)[:-1] - 1.0, 0.0, steps - 1.0)
    nearest = np.rint(timesteps)  # a whole step that interpolation missed by a rounding error is meant whole
    timesteps = np.where(np.abs(timesteps - nearest) < 1e-6, nearest, timesteps)
    notes = [] if inside.all() else [_outside(wanted[~inside], known)]
    if whole:
        timesteps = _distinct(np.rint(timesteps))
        levels = known[timesteps.astype(np.int64)]
    else:
        clipped = np.clip(wanted, known[0], known[-1])
        kept = np.append(True, np.diff(clipped) < 0.0)
        levels, timesteps = clipped[kept], timesteps[kept]
        if not kept.all():
            notes.append(f"{count - int(kept.sum())} steps coincided with others and were left out")
    placed = np.append(levels, 0.0)
    moved = float(np.max(np.abs(np.log(levels / wanted)))) if whole and inside.all() else 0.0
    if moved > 1e-9:
        notes.append(f"rounded to whole training steps, which moves a level by at most {100.0 * moved:.2g} %")
    spectrum = np.array(eigenvalues)
    kl = (
        (exact_kl(spectrum, grid.sigma_array, sampler), exact_kl(spectrum, placed, sampler))
        if len(spectrum)
        else None
    )
    return Placed(placed, timesteps, tuple(notes), kl)


def exact_kl(eigenvalues: FloatArray, sigmas: npt.ArrayLike, sampler: str) -> float:
    """Exact KL of a sampler's output from a Gaussian source, in nats.

    Infinity is pure noise. Heun's sampler cannot start there and starts from 10^6 standard deviations of the data.

    Args:
        eigenvalues: [E] of the covariance.
        sigmas: [N+1] descending.
        sampler: ``"ddim"``, ``"ddpm"`` or ``"heun"``.
    """
    levels = np.array(sigmas, dtype=np.float64)
    if sampler == "heun" and math.isinf(levels[0]):
        levels[0] = max(1e6 * float(np.sqrt(eigenvalues.max())), 2.0 * levels[1])
    return Gaussian(eigenvalues).kl(Grid(sigmas=tuple(levels.tolist())), sampler)  # type: ignore[arg-type]


def _outside(levels: FloatArray, known: FloatArray) -> str:
    shown = ", ".join(f"{level:.4g}" for level in levels[:3].tolist()) + (", …" if len(levels) > 3 else "")
    subject, lie, were = ("level", "lies", "was") if len(levels) == 1 else ("levels", "lie", "were")
    return (
        f"{subject} {shown} {lie} outside the training schedule's range, {known[0]:.4g} to {known[-1]:.4g}, and "
        f"{were} moved to its end"
    )


def _distinct(timesteps: FloatArray) -> FloatArray:
    """Whole numbers made strictly descending, by the smallest moves that keep them at 0 or above."""
    steps = timesteps.copy()
    for k in range(len(steps)):
        steps[k] = max(steps[k], len(steps) - 1 - k)
    for k in range(1, len(steps)):
        steps[k] = min(steps[k], steps[k - 1] - 1)
    return steps
