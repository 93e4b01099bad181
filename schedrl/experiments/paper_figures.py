"""Figures of the experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from schedrl.experiments.row_runs import RowRuns
from schedrl.report.figures import FAINT, HAND_MADE, LEARNED, STYLES, new_axes

LineStyles = Mapping[str, dict[str, Any]]
"""Matplotlib's line properties, by row."""

_TRACES = {
    "gain": "K",
    "threshold": "threshold τ",
    "gradient_norm": "gradient norm ‖∇L‖",
    "rate": "learning rate η_t",
}

_MARKERS = ("o", "s", "^")
"""One for each third of the rows, because colours repeat."""


def line_styles(names: Sequence[str], learned: Sequence[str]) -> LineStyles:
    """A colour and a dash pattern for every row; those of the learned rows stand out."""
    styles: dict[str, dict[str, Any]] = {}
    ours = [name for name in names if name in learned]
    for place, name in enumerate(names):
        own = name in learned
        pattern = ours.index(name) if own else place // len(HAND_MADE) * 2 + place
        styles[name] = {
            "color": LEARNED if own else HAND_MADE[place % len(HAND_MADE)],
            "linestyle": STYLES[pattern % len(STYLES)],
            "linewidth": 2.4 if own else 1.3,
        }
    return styles


def quality_figure(
    table: Sequence[RowRuns], styles: LineStyles, title: str, *, seconds: bool = False
) -> Figure:
    """Mean validation bound against optimizer steps, or against seconds; without rows of which a run diverged."""
    figure, axes = new_axes(9.0, 5.0)
    for row in table:
        if not row.diverged:
            along = np.array(row.runs[0].steps) * (row.step_seconds if seconds else 1.0)
            axes.plot(
                along, np.mean([run.bounds for run in row.runs], axis=0), label=row.row, **styles[row.row]
            )
    label = "seconds of training, a run's share of the machine" if seconds else "optimizer steps"
    axes.set(xlabel=label, ylabel="validation bound (bits/dim, log scale)", title=title)
    _plain_log_scale(axes)
    return _with_legend(figure, axes)


def traces_figure(table: Sequence[RowRuns], styles: LineStyles, title: str) -> Figure:
    """K, τ, gradient norm and η_t against optimizer steps: means over seeds, and single runs behind K and τ."""
    figure = Figure(figsize=(12.0, 7.0), layout="constrained")
    handles: dict[str, Any] = {}
    for axes, (field, label) in zip(figure.subplots(2, 2).flat, _TRACES.items(), strict=True):
        for row in table:
            steps = row.runs[0].steps
            lines = [getattr(run.traces, field) for run in row.runs]
            whole = [line for line in lines if len(line) == len(steps)]
            if not whole:
                continue
            if field in ("gain", "threshold"):
                for line in whole:
                    axes.plot(steps, line, color=FAINT, linewidth=0.5, zorder=1)
            (handles[row.row],) = axes.plot(steps, np.mean(whole, axis=0), label=row.row, **styles[row.row])
        axes.set(xlabel="optimizer steps", ylabel=label)
        axes.grid(color="0.92", linewidth=0.5)
        if field == "rate":
            axes.set_yscale("log")
    if handles:
        figure.legend(handles.values(), handles.keys(), fontsize=8, frameon=False, loc="outside right center")
    figure.suptitle(title)
    return figure


def frechet_figure(table: Sequence[RowRuns], styles: LineStyles, ways: Sequence[str], title: str) -> Figure:
    """Fréchet distances with their intervals, by way of sampling."""
    figure, axes = new_axes(9.0, 5.0)
    for place, row in enumerate(table):
        shift = (place / max(len(table) - 1, 1) - 0.5) * 0.7
        for number, way in enumerate(ways):
            if (found := row.frechet(way)) is not None:
                axes.errorbar(
                    number + shift, found.value, yerr=found.half_width, capsize=2, markersize=4,
                    fmt=_MARKERS[place * len(_MARKERS) // len(table)], color=styles[row.row]["color"],
                    label=row.row if number == 0 else None,
                )  # fmt: skip
    axes.set(xticks=range(len(ways)), xticklabels=ways, ylabel="Fréchet distance (log scale)", title=title)
    _plain_log_scale(axes, "y")
    return _with_legend(figure, axes)


def surrogate_figure(table: Sequence[RowRuns], styles: LineStyles, title: str) -> Figure:
    """Relative error of the feature that a sampler uses for t−1, against λ, for rows that have it."""
    figure, axes = new_axes(9.0, 4.5)
    for row in table:
        runs, style = [run for run in row.runs if run.surrogate_error], styles[row.row]
        if runs:
            levels = runs[0].surrogate_levels
            error = np.mean([run.surrogate_error for run in runs], axis=0)
            still = np.mean([run.standing_still for run in runs], axis=0)
            axes.plot(levels, error, label=f"{row.row}: predicted t−1", **style)
            axes.plot(levels, still, **(style | {"linestyle": ":"}), label=f"{row.row}: F(t) instead")
    axes.set(xlabel="log-SNR", ylabel="relative error of F(t−1)", title=title)
    axes.set_yscale("log")
    axes.grid(color="0.9", which="both", linewidth=0.5)
    return _with_legend(figure, axes)


def _plain_log_scale(axes: Axes, grid: Any = "both") -> None:
    """A logarithmic axis with plain numbers."""
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(ScalarFormatter())
    axes.grid(color="0.9", which="both", axis=grid, linewidth=0.5)


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
