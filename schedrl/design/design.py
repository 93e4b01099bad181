"""From images to a schedule file, compared with the grids that tools use without looking at the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schedrl.data.image_streams import ImageStream
from schedrl.design.methods import place
from schedrl.design.trust import measured_numbers
from schedrl.errors import SchedrlError
from schedrl.export import Provenance, ScheduleFile, TrainingSchedule
from schedrl.export.training_schedule import exact_kl
from schedrl.provenance import revision, software
from schedrl.schedules import Grid, get, grid
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.flow import flow_distance
from schedrl.sources.gaussian.measurement import SpectrumMeasurement, SpectrumMeter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ComparedGrid",
    "Design",
    "design",
    "diffusers_steps",
    "flow_error",
    "kl_by_sampler",
    "measure",
    "usual_grids",
]

_SAMPLERS = ("ddim", "ddpm", "heun")
_MOST_SHOWN = 50


@dataclass(frozen=True)
class ComparedGrid:
    """One grid's exact errors.

    Attributes:
        name: How it was placed.
        grid: Its levels at the requested number of steps.
        by_sampler: KL in nats at that number of steps.
        by_steps: KL of the requested sampler by number of steps, each grid placed anew.
        flow_error: As :func:`flow_error`, of the requested sampler at that number of steps.
    """

    name: str
    grid: Grid
    by_sampler: dict[str, float]
    by_steps: dict[int, float]
    flow_error: float | None


@dataclass(frozen=True)
class Design:
    """A designed schedule.

    Attributes:
        file: The schedule.
        rows: The chosen grid, then the usual ones.
        notes: What had to be changed, as sentences.
    """

    file: ScheduleFile
    rows: list[ComparedGrid]
    notes: list[str]

    def figure(self) -> Figure:
        """Levels by share of the steps taken, and exact errors by number of steps."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.0, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for row in self.rows:
            chosen = {"linewidth": 2.4, "color": "black", "zorder": 3}
            style: dict[str, Any] = chosen if row is self.rows[0] else {"linewidth": 1.1}
            levels = row.grid.sigma_array[:-1]
            finite = np.isfinite(levels)
            taken = np.arange(len(levels)) / len(levels)
            left.plot(taken[finite], levels[finite], marker=".", label=row.name, **style)
            counts = [count for count, error in row.by_steps.items() if np.isfinite(error)]
            right.plot(counts, [row.by_steps[count] for count in counts], marker="o", **style)
        left.set(xlabel="share of the steps taken", ylabel="σ / α", yscale="log", title="noise levels")
        title = f"error with {self.file.sampler}"
        right.set(xlabel="steps N", ylabel="exact KL, nats", xscale="log", yscale="log", title=title)
        ticks = sorted({count for row in self.rows for count in row.by_steps})
        right.set_xticks(ticks, [str(count) for count in ticks])
        right.minorticks_off()
        figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize="small")
        return figure


def measure(stream: ImageStream, floor: float) -> SpectrumMeasurement:
    """The spectrum of a stream of images; ``floor`` is the smallest standard deviation kept."""
    meter = SpectrumMeter(stream.shape)
    for block in stream.blocks():
        meter.update(block)
    return meter.measure(floor)


def design(
    stream: ImageStream,
    measurement: SpectrumMeasurement,
    method: str,
    sampler: str,
    n: int,
    training: TrainingSchedule,
) -> Design:
    """Place a grid for measured images and compare it.

    Args:
        stream: The images that were measured.
        measurement: Of these.
        method: As for :func:`~schedrl.design.methods.place`.
        sampler: What the grid is for.
        n: Number of steps.
        training: What the network was trained on.
    """
    spectrum = measurement.eigenvalues
    ends = float(training.sigmas[0]), float(training.sigmas[-1])
    chosen, notes = place(method, spectrum, n, sampler, ends)
    # Twice as many steps are shown only where placing them takes seconds: the optimum's cost grows with N cubed.
    steps = {max(n // 2, 1), n, *([2 * n] if 2 * n <= min(_MOST_SHOWN, training.num_train_timesteps) else [])}
    grids: dict[int, dict[str, Grid]] = {}
    for count in sorted(steps):
        grids[count] = usual_grids(training, count)
        if count == n:
            grids[count][method] = chosen
        elif not method.startswith("agent:") or 4 <= count <= 32:
            grids[count][method] = place(method, spectrum, count, sampler, ends)[0]
    rows = [
        ComparedGrid(
            name,
            grids[n][name],
            kl_by_sampler(spectrum, grids[n][name], _SAMPLERS),
            {
                count: kl_by_sampler(spectrum, made[name], (sampler,))[sampler]
                for count, made in grids.items()
                if name in made
            },
            flow_error(spectrum, grids[n][name], sampler),
        )
        for name in (method, *usual_grids(training, n))
    ]
    provenance = Provenance(
        method=method,
        data=stream.name,
        count=measurement.count,
        image_shape=stream.shape,
        floor=measurement.floor,
        measured=measured_numbers(measurement),
        versions={**software(), "numpy": np.__version__},
        revision=revision(),
    )
    file = ScheduleFile.of(
        chosen, sampler, provenance, training.schedule, training.num_train_timesteps, spectrum
    )
    return Design(file, rows, notes)


def usual_grids(training: TrainingSchedule, n: int) -> dict[str, Grid]:
    """The grids of N steps that people use without looking at their data, within a training schedule.

    Uniform in the schedule's steps, Karras' and Align Your Steps' closed form between the schedule's ends, and the even
    spacings of diffusers' DDIM on this schedule and on the two that its pipelines have.
    """
    ends = {"sigma_min": float(training.sigmas[0]), "sigma_max": float(training.sigmas[-1])}
    total = training.num_train_timesteps
    made = {
        "uniform in t": grid("uniform", n, schedule=training.schedule, num_train_timesteps=total),
        "Karras": grid("karras", n, **ends),
        "kl_optimal (AYS)": grid("tangent", n, final_zero=True, **ends),
    }
    schedules = {training.schedule.name: training}
    for name in ("linear", "scaled-linear"):
        schedules.setdefault(name, TrainingSchedule.of(get(name)))
    for name, other in schedules.items():
        for spacing in ("leading", "trailing"):
            if n <= other.num_train_timesteps:
                steps = diffusers_steps(other.num_train_timesteps, n, spacing)
                made[f"diffusers {spacing}, {name}"] = Grid(sigmas=(*other.sigmas[steps].tolist(), 0.0))
    return made


def diffusers_steps(num_train_timesteps: int, n: int, spacing: str) -> npt.NDArray[np.int64]:
    """The N timesteps of diffusers' DDIM, counted from 0, descending.

    Args:
        num_train_timesteps: T.
        n: N.
        spacing: ``"leading"`` (its default; pipelines of Stable Diffusion add 1) or ``"trailing"``.

    Examples:
        >>> diffusers_steps(1000, 4, "leading"), diffusers_steps(1000, 4, "trailing")
        (array([750, 500, 250,   0]), array([999, 749, 499, 249]))
    """
    if spacing == "leading":
        return (np.arange(n)[::-1] * (num_train_timesteps // n)).astype(np.int64)
    return np.round(np.arange(num_train_timesteps, 0, -num_train_timesteps / n)).astype(np.int64)[:n] - 1


def kl_by_sampler(eigenvalues: FloatArray, made: Grid, samplers: tuple[str, ...]) -> dict[str, float]:
    """Exact KL of a grid, in nats, by sampler; infinite where all variance is lost."""
    found = {}
    for sampler in samplers:
        try:
            found[sampler] = exact_kl(eigenvalues, made.sigma_array, sampler)
        except SchedrlError:
            found[sampler] = float("inf")
    return found


def flow_error(eigenvalues: FloatArray, made: Grid, sampler: Any) -> float | None:
    """Distance between a sampler's images and the flow's from the same pure noise, relative to the images' spread.

    The root of the expected squared distance over that of the variance. None for a sampler that follows no flow, and
    for Heun's where it cannot start.
    """
    levels = made.sigma_array
    if sampler == "ddpm" or (sampler == "heun" and np.isinf(levels[0])):
        return None
    return float(np.sqrt(flow_distance(eigenvalues, levels, sampler) / eigenvalues.mean()))
