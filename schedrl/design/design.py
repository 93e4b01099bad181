"""From images to a schedule file and a comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedrl.data.image_streams import ImageStream
from schedrl.design.baselines import baselines, errors, off_flow
from schedrl.design.placing import place
from schedrl.design.trust import measured_numbers
from schedrl.export import Provenance, ScheduleFile, TrainingSchedule
from schedrl.schedules import Grid
from schedrl.sources.gaussian.measurement import SpectrumMeasurement, SpectrumMeter

__all__ = ["Compared", "Design", "design", "measure"]

_SAMPLERS = ("ddim", "ddpm", "heun")
_MOST_SHOWN = 50


@dataclass(frozen=True)
class Compared:
    """One grid's exact errors.

    Attributes:
        name: What it is.
        grid: Its levels at the asked number of steps.
        by_sampler: KL in nats at that number of steps.
        by_steps: KL of the asked sampler by number of steps, each grid placed anew.
        off_flow: Distance of the asked sampler's images to the flow's, as a share of the images' spread, at that number
            of steps; None for a sampler that follows no flow.
    """

    name: str
    grid: Grid
    by_sampler: dict[str, float]
    by_steps: dict[int, float]
    off_flow: float | None


@dataclass(frozen=True)
class Design:
    """What was found.

    Attributes:
        file: The schedule.
        rows: The chosen grid, then the others.
        notes: What had to be changed, as sentences.
    """

    file: ScheduleFile
    rows: list[Compared]
    notes: list[str]


def measure(stream: ImageStream, floor: float) -> SpectrumMeasurement:
    """The spectrum of a stream of images.

    Args:
        stream: The images.
        floor: Least standard deviation kept.

    Raises:
        SchedrlError: No image can be read, or they do not vary.
    """
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
    law: TrainingSchedule,
) -> Design:
    """Place a grid for measured images and compare it.

    Args:
        stream: What was measured.
        measurement: What was found.
        method: As :func:`~schedrl.design.placing.place` takes it.
        sampler: What for.
        n: Number of steps.
        law: What the network was trained on.

    Raises:
        SchedrlError: The method does not exist, or cannot do this.
    """
    from schedrl.provenance import revision, software

    spectrum = measurement.eigenvalues
    ends = float(law.sigmas[0]), float(law.sigmas[-1])
    chosen, notes = place(method, spectrum, n, sampler, ends)
    # Twice as many steps are shown only where placing them costs seconds: the optimum's cost grows with N cubed.
    steps = sorted(
        {max(n // 2, 1), n, *([2 * n] if 2 * n <= min(_MOST_SHOWN, law.num_train_timesteps) else [])}
    )
    grids: dict[int, dict[str, Grid]] = {}
    for count in steps:
        grids[count] = baselines(law, count)
        if count == n:
            grids[count][method] = chosen
        elif not method.startswith("agent:") or 4 <= count <= 32:
            grids[count][method] = place(method, spectrum, count, sampler, ends)[0]
    rows = [
        Compared(
            name,
            grids[n][name],
            errors(spectrum, grids[n][name], _SAMPLERS),
            {
                count: errors(spectrum, made[name], (sampler,))[sampler]
                for count, made in grids.items()
                if name in made
            },
            off_flow(spectrum, grids[n][name], sampler),
        )
        for name in (method, *baselines(law, n))
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
    file = ScheduleFile.of(chosen, sampler, provenance, law.schedule, law.num_train_timesteps, spectrum)
    return Design(file, rows, notes)
