"""A designed grid beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from schedrl.design.design import Compared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["design_figure"]


def design_figure(rows: Sequence[Compared], sampler: str) -> Figure:
    """Levels by share of the steps taken, and exact errors by number of steps.

    Args:
        rows: The chosen grid first.
        sampler: Whose errors.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, row in enumerate(rows):
        style = {"linewidth": 2.4, "color": "black", "zorder": 3} if place == 0 else {"linewidth": 1.1}
        levels = row.grid.sigma_array[:-1]
        finite = np.isfinite(levels)
        taken = np.arange(len(levels)) / len(levels)
        left.plot(taken[finite], levels[finite], marker=".", label=row.name, **style)
        counts = [count for count, error in row.by_steps.items() if np.isfinite(error)]
        right.plot(counts, [row.by_steps[count] for count in counts], marker="o", **style)
    left.set(xlabel="share of the steps taken", ylabel="σ / α", yscale="log", title="noise levels")
    right.set(
        xlabel="steps N", ylabel="exact KL, nats", xscale="log", yscale="log", title=f"error with {sampler}"
    )
    ticks = sorted({count for row in rows for count in row.by_steps})
    right.set_xticks(ticks, [str(count) for count in ticks])
    right.minorticks_off()
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    return figure
