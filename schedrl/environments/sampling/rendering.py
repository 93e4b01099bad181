"""What an episode of a sampling environment looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schedrl.schedules.conversions import FloatArray, logsnr_from_sigma

if TYPE_CHECKING:
    from schedrl.environments.sampling.runs import SamplingRuns

__all__ = ["draw_line", "draw_picture", "reference_levels", "walked_levels"]


def walked_levels(runs: SamplingRuns, run: int) -> FloatArray:
    """Levels visited so far."""
    return runs.levels[run, : int(runs.total[run] - runs.remaining[run]) + 1]


def reference_levels(runs: SamplingRuns, run: int) -> FloatArray:
    """Levels of the reference grid."""
    total = int(runs.total[run])
    places = np.arange(total, -1, -1) / total
    rows = np.full(total + 1, run)
    levels = runs.reference.sigma(places, runs.total[rows], runs.batch.take(rows))
    return np.append(runs.reference.first_level, levels[1:])


def draw_line(runs: SamplingRuns, run: int) -> str:
    """One line: steps, present level, and the gain on the reference's final error to expect."""
    taken, total = int(runs.total[run] - runs.remaining[run]), int(runs.total[run])
    gain = float(runs.reference_error[run] - runs.expected[run])
    shown = f", log error {gain:+.4f} below the reference's" if runs.variant.reward.needs_prediction else ""
    return f"{runs.variant.id} step {taken}/{total}, sigma {runs.sigma[run]:.4g}{shown}"


def draw_picture(runs: SamplingRuns, run: int) -> NDArray[np.uint8]:
    """RGB ``[height, width, 3]``: the grid in log-SNR against the steps, the reference beside it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), dpi=90, layout="constrained")
    axes = figure.subplots()
    drawn: list[tuple[FloatArray, str, dict[str, Any]]] = [
        (reference_levels(runs, run), "reference", {"color": "0.6", "marker": ".", "linestyle": "--"}),
        (walked_levels(runs, run), "walked", {"color": "#D55E00", "marker": "o"}),
    ]
    for levels, name, style in drawn:
        logsnr = logsnr_from_sigma(levels)
        inside = np.isfinite(logsnr)
        axes.plot(np.arange(len(levels))[inside], logsnr[inside], label=name, **style)
    axes.set(
        xlabel="step",
        ylabel="log-SNR λ (natural log)",
        title=draw_line(runs, run).removeprefix(f"{runs.variant.id} "),
        xlim=(0, int(runs.total[run])),
    )
    axes.title.set_fontsize(9)
    axes.legend(fontsize=8, frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return picture
