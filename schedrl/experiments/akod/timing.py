"""What an optimizer step of every row takes, all rows in turns, so that a busy machine hits all alike."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from schedrl import schedules
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.errors import SchedrlError, Spec
from schedrl.experiments.akod.rows import Row, Setting
from schedrl.experiments.drivers import started
from schedrl.files import dump_json, write_text
from schedrl.provenance import hardware

__all__ = ["TIMINGS", "Timings", "read_timings", "time_rows"]

TIMINGS = "timings.json"

_ROUNDS, _STEPS = 25, 5


class Timings(Spec):
    """Of one run of the machine.

    Attributes:
        setting: Hash of what was timed.
        step_seconds: By row, the median time of an optimizer step of one run, its share of all seeds together.
        spread: By row, the shortest and the longest of the rounds.
        rounds: How many there were.
        hardware: Processor or GPU.
    """

    setting: str
    step_seconds: dict[str, Annotated[float, Field(gt=0.0)]]
    spread: dict[str, tuple[float, float]]
    rounds: int
    hardware: str


def read_timings(folder: Path) -> Timings | None:
    """Those of a folder, if there are any.

    Raises:
        SchedrlError: The file is damaged.
    """
    path = folder / TIMINGS
    try:
        return Timings.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, ValidationError) as error:
        raise SchedrlError(f"{path}: is damaged; delete it: {' '.join(str(error).split())[:120]}") from None


def time_rows(
    folder: Path, setting: Setting, rows: tuple[Row, ...], seeds: tuple[int, ...], device: str
) -> Timings:
    """Time what is not timed yet; then all rows again, since only what is timed together can be compared."""
    found = read_timings(folder)
    wanted = {row.name for row in rows}
    if found is not None and found.setting == setting.fingerprint and wanted <= found.step_seconds.keys():
        return found
    law = schedules.get("cosine")  # no law makes a step longer
    made = {}
    for row in rows:
        training = setting.training(row)
        population = started(setting.variant, training, seeds, device)
        noise = ScheduleNoise.of([law] * len(seeds), setting.variant.timesteps, betas=training.reads_betas)
        population.train(noise, 2)
        made[row.name] = population, noise
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(_ROUNDS):
        for name, (population, noise) in made.items():
            began = time.perf_counter()
            population.train(noise, _STEPS)
            times[name].append((time.perf_counter() - began) / _STEPS / len(seeds))
    timings = Timings(
        setting=setting.fingerprint,
        step_seconds={name: float(np.median(each)) for name, each in times.items()},
        spread={name: (min(each), max(each)) for name, each in times.items()},
        rounds=_ROUNDS,
        hardware=hardware(device),
    )
    write_text(folder / TIMINGS, dump_json(timings.model_dump(mode="json")))
    return timings
