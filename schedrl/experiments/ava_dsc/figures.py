"""Figures of the experiment."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from schedrl.experiments.ava_dsc.records import Run
from schedrl.experiments.figures import curves_figure, line_styles
from schedrl.report.figures import FAINT

__all__ = ["quality_figure", "traces_figure"]

_TRACES = {
    "gain": "K",
    "threshold": "threshold τ",
    "gradient_norm": "gradient norm ‖∇L‖",
    "rate": "learning rate η_t",
}


def quality_figure(rows: dict[str, list[Run]], title: str) -> Figure:
    """Mean validation bound against optimizer steps; rows whose runs diverged are left out."""
    kept = {name: runs for name, runs in rows.items() if all(run.diverged_at is None for run in runs)}
    curves = {
        name: (np.array(runs[0].steps, dtype=np.float64), np.mean([run.bounds for run in runs], axis=0))
        for name, runs in kept.items()
    }
    return curves_figure(curves, line_styles(list(rows)), "optimizer steps", title)


def traces_figure(rows: dict[str, list[Run]], title: str) -> Figure:
    """K, τ, gradient norm and η_t over training: means over seeds, single runs faintly behind K and τ."""
    figure = Figure(figsize=(12.0, 7.0), layout="constrained")
    shown: dict[str, Any] = {}
    styles = line_styles(list(rows))
    for axes, (field, label) in zip(figure.subplots(2, 2).flat, _TRACES.items(), strict=True):
        for name, runs in rows.items():
            lines = [(run.steps, getattr(run.traces, field)) for run in runs]
            whole = [line for steps, line in lines if line and len(line) == len(steps)]
            if not whole:
                continue
            steps = runs[0].steps
            if field in ("gain", "threshold"):
                for line in whole:
                    axes.plot(steps, line, color=FAINT, linewidth=0.5, zorder=1)
            axes.plot(steps, np.mean(whole, axis=0), label=name, **styles[name])
        axes.set(xlabel="optimizer steps", ylabel=label)
        axes.grid(color="0.92", linewidth=0.5)
        if field == "rate":
            axes.set_yscale("log")
        handles, names = axes.get_legend_handles_labels()
        shown |= dict(zip(names, handles, strict=True))
    if shown:
        figure.legend(shown.values(), shown.keys(), fontsize=8, frameon=False, loc="outside right center")
    figure.suptitle(title)
    return figure
