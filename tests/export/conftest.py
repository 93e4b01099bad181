"""Schedule files, and diffusers' schedulers run by hand beside the package's own samplers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from schedrl.export import Provenance, ScheduleFile
from schedrl.schedules import get, grid

Make = Callable[..., ScheduleFile]


@pytest.fixture(scope="session")
def make() -> Make:
    """The file of a named grid between the ends of a law of 1000 steps."""

    def of(
        law: str = "linear",
        steps: int = 10,
        sampler: str = "ddim",
        name: str = "karras",
        eigenvalues: Any = None,
        **fields: Any,
    ) -> ScheduleFile:
        schedule = get(law)
        ends = np.exp(-0.5 * schedule.logsnr_steps(1000))[[0, -1]].tolist()
        given = {"sigma_min": ends[0], "sigma_max": ends[1], **fields}
        spectrum = None if eigenvalues is None else np.array(eigenvalues, dtype=np.float64)
        made = grid(name, steps, **given)
        return ScheduleFile.of(made, sampler, Provenance(method=name), schedule, 1000, spectrum)

    return of
