"""What an episode of a sampling environment looks like: its grid against the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.schedules.conversions import FloatArray, logsnr_from_sigma

if TYPE_CHECKING:
    from schedrl.environments.sampling.runs import SamplingRuns


def reference_sigmas(runs: SamplingRuns, run: int) -> FloatArray:
    """The reference grid of a run, ``[N + 1]``."""
    rows = np.array([run])
    problems = SamplingProblems(runs.variant, runs.batch.take(rows), runs.total[rows])
    return np.asarray(problems.reference()[0])


def draw_lines(runs: SamplingRuns) -> list[str]:
    """A line per run: steps, present sigma, and how far the expected final error is below the reference's."""
    return [f"{runs.variant.id} {_progress(runs, run)}" for run in range(runs.num_runs)]


def draw_pictures(runs: SamplingRuns) -> list[NDArray[np.uint8]]:
    """An RGB image ``[height, width, 3]`` per run: log-SNR of its grid and of the reference against the step."""
    return [_picture(runs, run) for run in range(runs.num_runs)]


def _progress(runs: SamplingRuns, run: int) -> str:
    taken, total = int(runs.total[run] - runs.remaining[run]), int(runs.total[run])
    gain = float(runs.reference_error[run] - runs.expected[run])
    shown = f", log error {gain:+.4f} below the reference's" if runs.variant.reward.needs_prediction else ""
    return f"step {taken}/{total}, sigma {runs.sigma[run]:.4g}{shown}"


def _picture(runs: SamplingRuns, run: int) -> NDArray[np.uint8]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), dpi=90, layout="constrained")
    axes = figure.subplots()
    walked = runs.levels[run, : int(runs.total[run] - runs.remaining[run]) + 1]
    drawn: list[tuple[FloatArray, str, dict[str, Any]]] = [
        (reference_sigmas(runs, run), "reference", {"color": "0.6", "marker": ".", "linestyle": "--"}),
        (walked, "walked", {"color": "#D55E00", "marker": "o"}),
    ]
    for sigmas, name, style in drawn:
        logsnr = logsnr_from_sigma(sigmas)
        inside = np.isfinite(logsnr)
        axes.plot(np.arange(len(sigmas))[inside], logsnr[inside], label=name, **style)
    axes.set(
        xlabel="step",
        ylabel="log-SNR λ (natural log)",
        title=_progress(runs, run),
        xlim=(0, int(runs.total[run])),
    )
    axes.title.set_fontsize(9)
    axes.legend(fontsize=8, frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return picture
