"""From images to a schedule file, compared with the grids that tools use without looking at the data."""

from __future__ import annotations

import math
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
from schedrl.schedules import Grid, grid
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.flow import NetworkError, Prediction, flow_distance
from schedrl.sources.gaussian.measurement import SpectrumMeasurement, SpectrumMeter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MOST_SHOWN = 50

_MOST_FOR_EPSILON = 500.0
"""Above this level the error of a network that predicts epsilon, times the level, exceeds any image."""


@dataclass(frozen=True)
class ComparedGrid:
    """One grid's exact errors.

    Attributes:
        name: How it was placed.
        grid: Its levels at the requested number of steps.
        by_steps: What the method minimises, by number of steps, each grid placed anew.
        other: The other measure at the requested number of steps, if there is one.
    """

    name: str
    grid: Grid
    by_steps: dict[int, float]
    other: float | None


@dataclass(frozen=True)
class Design:
    """A designed schedule.

    Attributes:
        file: The schedule.
        rows: The chosen grid, then the usual ones; errors are :func:`flow_error` for method flow, else KL in nats.
        notes: What had to be changed and what was assumed, as sentences.
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
        label = "off the flow" if self.file.provenance.method == "flow" else "exact KL, nats"
        right.set(xlabel="steps N", ylabel=label, xscale="log", yscale="log", title=title)
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
    prediction: Prediction = "epsilon",
    network_error: NetworkError | None = None,
) -> Design:
    """Place a grid for measured images and compare it.

    Args:
        stream: The images that were measured.
        measurement: Of these.
        method: As for :func:`~schedrl.design.methods.place`.
        sampler: What the grid is for.
        n: Number of steps.
        training: What the network was trained on.
        prediction: What the network predicts.
        network_error: Of the network, for method flow; None assumes the usual error of this prediction.
    """
    spectrum = measurement.eigenvalues
    assumed = network_error is None
    network_error = network_error or NetworkError.usual(prediction, "heun" if sampler == "heun" else "ddim")
    ends = float(training.sigmas[0]), float(training.sigmas[-1])

    def placed(count: int) -> tuple[Grid, list[str]]:
        if method == "flow" and network_error.prediction == "epsilon" and ends[1] > _MOST_FOR_EPSILON:
            spacing = "leading" if sampler == "heun" else "trailing"
            note = (
                f"epsilon says nothing of the images at the training schedule's end, σ / α = {ends[1]:.4g}, and no "
                f"closed form was safe there: the steps are diffusers' {spacing} spacing"
            )
            return usual_grids(training, count)[f"diffusers {spacing}"], [note]
        return place(method, spectrum, count, sampler, ends, network_error, measurement.mean_squares)

    chosen, notes = placed(n)
    # Twice as many steps are shown only where placing them takes seconds: the optimum's cost grows with N cubed.
    steps = {max(n // 2, 1), n, *([2 * n] if 2 * n <= min(_MOST_SHOWN, training.num_train_timesteps) else [])}
    grids: dict[int, dict[str, Grid]] = {}
    for count in sorted(steps):
        grids[count] = usual_grids(training, count)
        if count == n:
            grids[count][method] = chosen
        elif not method.startswith("agent:") or 4 <= count <= 32:
            grids[count][method] = placed(count)[0]

    def measures(made: Grid) -> tuple[float, float | None]:
        divergence = kl_by_sampler(spectrum, made, (sampler,))[sampler]
        off = flow_error(spectrum, made, sampler, network_error, ends[1], measurement.mean_squares)
        return (off, divergence) if method == "flow" and off is not None else (divergence, off)

    # A grid that two tools share is one row, and a level's rounding makes no other grid.
    names: dict[str, list[str]] = {method: [method]}
    for name in usual_grids(training, n):
        sigmas = grids[n][name].sigmas
        same = (first for first in names if np.allclose(grids[n][first].sigmas, sigmas, rtol=0.01))
        names.setdefault(next(same, name), []).append(name)
    rows = [
        ComparedGrid(
            ", ".join(shared) + (" (starts later)" if grids[n][name].sigmas[0] < 0.99 * ends[1] else ""),
            grids[n][name],
            {count: measures(made[name])[0] for count, made in grids.items() if name in made},
            measures(grids[n][name])[1],
        )
        for name, shared in names.items()
    ]
    if method == "flow":
        if assumed:
            notes.append(
                f"the variance of the network's error in {prediction} is taken to be {network_error.variance[0]:g}; "
                "--network-error takes a measured one"
            )
        notes.append(
            f"the training schedule ends at σ / α = {ends[1]:.4g}; there pure noise stands for noisy images, which "
            f"puts even the network's exact flow {100.0 * start_error(spectrum, ends[1]):.2g} % off whatever the steps"
        )
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
    spacings of diffusers' DDIM.
    """
    ends = {"sigma_min": float(training.sigmas[0]), "sigma_max": float(training.sigmas[-1])}
    total = training.num_train_timesteps
    made = {
        "uniform in t": grid("uniform", n, schedule=training.schedule, num_train_timesteps=total),
        "Karras": grid("karras", n, **ends),
        "kl_optimal (AYS)": grid("tangent", n, final_zero=True, **ends),
    }
    for spacing in ("leading", "trailing"):
        steps = diffusers_steps(total, n, spacing)
        made[f"diffusers {spacing}"] = Grid(sigmas=(*training.sigmas[steps].tolist(), 0.0))
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


def flow_error(
    eigenvalues: FloatArray,
    made: Grid,
    sampler: Any,
    network_error: NetworkError | None = None,
    origin: float = math.inf,
    mean_squares: FloatArray | None = None,
) -> float | None:
    """Distance between a sampler's images and the flow's from the same pure noise, relative to the images' spread.

    The root of the expected squared distance over that of the variance; arguments as for
    :func:`~schedrl.sources.gaussian.flow.flow_distance`. None for a sampler that follows no flow, and for Heun's where
    it cannot start.
    """
    levels = made.sigma_array
    if sampler == "ddpm" or (sampler == "heun" and np.isinf(levels[0])):
        return None
    distance = flow_distance(
        eigenvalues, levels, sampler, network_error=network_error, origin=origin, mean_squares=mean_squares
    )
    return float(np.sqrt(distance / eigenvalues.mean()))


def start_error(eigenvalues: FloatArray, first: float) -> float:
    """As :func:`flow_error`, what a start in pure noise at a level costs however many steps follow."""
    late = np.sqrt((1.0 + first**2) / (eigenvalues + first**2)) - 1.0
    return float(np.sqrt((eigenvalues * late**2).mean() / eigenvalues.mean()))
