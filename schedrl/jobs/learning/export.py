"""What was learned as a schedule file, for other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schedrl.benchmark.results import TrainingResult
from schedrl.export import Provenance, ScheduleFile
from schedrl.jobs.learning.job import LearningJob, learned_law
from schedrl.provenance import provenance
from schedrl.schedules import Grid

__all__ = ["write_law"]

_STEPS = 20
"""Of the grid that goes with the law: its quantiles, a place to begin. `schedrl schedule design` places steps."""


def write_law(job: LearningJob, results: Sequence[TrainingResult], path: Path, *, shift: bool = True) -> Path:
    """Write the learned law, with a grid of its quantiles.

    Args:
        job: The learning.
        results: Of its comparison.
        path: The file.
        shift: See :func:`learned_law`.

    Returns:
        The file.

    Raises:
        SchedrlError: It cannot be written.
    """
    law = learned_law(job, results, shift=shift)
    levels = law.logsnr(np.arange(_STEPS, 0, -1) / _STEPS)
    known = provenance("cpu")
    moved = job.proxy.logsnr_shift if shift else 0.0
    origin = Provenance(
        method=f"learned by PPO from {job.training.spec.total_timesteps} training runs",
        data=f"{job.proxy.count} images averaged to {job.proxy.size} pixels, log-SNR moved by {moved:+.3f}",
        count=job.proxy.count,
        versions=known["versions"],
        revision=known["revision"],
    )
    sigmas = (*np.exp(-0.5 * levels).tolist(), 0.0)
    ScheduleFile.of(Grid(sigmas=sigmas), "ddim", origin, law).write(path)
    return path
