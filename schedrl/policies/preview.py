"""What a policy in training would decide now, drawn for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from schedrl import schedules
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.vector import PopulationEnv
from schedrl.schedules import Schedule, conversions

if TYPE_CHECKING:
    from schedrl.environments.training.env import TrainingVectorEnv

__all__ = ["draw_choice", "draw_grids", "draw_schedules", "preferred_schedules"]

_EPISODES = 4
"""Sources that a sampling policy's grids are drawn for."""


def draw_choice(model: Any, vector: PopulationEnv) -> Any:
    """A figure of what the policy decides without exploration; the environment is left as it is.

    Args:
        model: Anything with SB3's ``predict``.
        vector: The environment it learns in.
    """
    if isinstance(vector.variant, SamplingVariant):
        return draw_grids(model, vector.variant)
    from schedrl.environments.training.env import TrainingVectorEnv

    assert isinstance(vector, TrainingVectorEnv)
    return draw_schedules(preferred_schedules(model, vector))


def preferred_schedules(model: Any, vector: TrainingVectorEnv) -> list[Schedule]:
    """What a policy decides for the first phase of an episode, without exploration and without training anything."""
    runs, action = vector.runs, vector.variant.action
    before, sweep = runs.sweep, []
    try:
        runs.sweep = []
        for _ in range(action.num_knots):
            actions, _ = model.predict(vector.observe(), deterministic=True)
            sweep.append(np.asarray(actions))
            runs.sweep = list(sweep)
    finally:
        runs.sweep = before
    made, _ = action.schedules(np.stack(sweep), runs.memory, runs.limits)
    return made[:1]


def draw_schedules(made: list[Schedule]) -> Any:
    """A figure of log-SNR against u, the cosine law beside it."""
    figure, axes = _canvas()
    u = np.linspace(0.0, 1.0, 201)
    axes.plot(u, schedules.get("cosine").logsnr(u), color="0.7", label="cosine")
    for schedule in made:
        axes.plot(u, schedule.logsnr(u), label="chosen")
    axes.set(xlabel="u (data to noise)", ylabel="log-SNR")
    axes.legend()
    return figure


def draw_grids(model: Any, variant: SamplingVariant) -> Any:
    """A figure of the log-SNR of chosen steps on a few sources, relative to the reference's."""
    from schedrl.environments.sampling.rendering import reference_levels
    from schedrl.environments.sampling.runs import SamplingRuns

    runs = SamplingRuns(variant, _EPISODES)
    for run in range(_EPISODES):
        runs.streams.seed(run, run)
    runs.start(np.arange(_EPISODES))
    references = [reference_levels(runs, run) for run in range(_EPISODES)]
    walked: dict[int, Any] = {}
    while len(walked) < _EPISODES:
        actions, _ = model.predict(runs.observe(), deterministic=True)
        _, ended = runs.advance(np.asarray(actions)[:, 0].astype(np.float64))
        for run in np.flatnonzero(ended).tolist():
            walked.setdefault(run, runs.levels[run, : int(runs.total[run]) + 1].copy())
        if ended.any():
            runs.start(np.flatnonzero(ended))
    figure, axes = _canvas()
    for run in range(_EPISODES):
        logsnr, even = (
            conversions.logsnr_from_sigma(levels[1:-1]) for levels in (walked[run], references[run])
        )
        axes.plot(np.arange(1, len(logsnr) + 1), logsnr - even, marker=".", label=f"source {run}")
    axes.axhline(0.0, color="0.7")
    axes.set(xlabel="step", ylabel="log-SNR minus the reference's")
    axes.legend()
    return figure


def _canvas() -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    return figure, figure.subplots()
