"""Figures of the experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from schedrl.benchmark.ava_dsc.records import Run
from schedrl.benchmark.figures import FAINT, HAND_MADE, LEARNED, STYLES

__all__ = ["quality_figure", "traces_figure"]

_TRACES = {
    "gain": "K",
    "threshold": "threshold τ",
    "gradient_norm": "gradient norm ‖∇L‖",
    "rate": "learning rate η_t",
}


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    styles: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        learned = name.endswith("-ppo")
        colour = LEARNED if learned else HAND_MADE[place % len(HAND_MADE)]
        styles[name] = {
            "color": colour,
            "linestyle": "-" if learned else STYLES[(place // len(HAND_MADE) * 2 + place) % len(STYLES)],
            "linewidth": 2.4 if learned else 1.3,
        }
    return styles


def quality_figure(rows: dict[str, list[Run]], title: str) -> Figure:
    """Mean validation bound against optimizer steps; rows whose runs diverged are left out."""
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.subplots()
    styles = _styles(list(rows))
    for name, runs in rows.items():
        if any(run.diverged_at is not None for run in runs):
            continue
        steps, bounds = runs[0].steps, np.mean([run.bounds for run in runs], axis=0)
        axes.plot(steps, bounds, label=name, **styles[name])
    axes.set(xlabel="optimizer steps", ylabel="validation bound (bits/dim, log scale)", title=title)
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(ScalarFormatter())
    axes.grid(color="0.9", which="both", linewidth=0.5)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def traces_figure(rows: dict[str, list[Run]], title: str) -> Figure:
    """K, τ, gradient norm and η_t over training: means over seeds, single runs faintly behind K and τ."""
    figure = Figure(figsize=(12.0, 7.0), layout="constrained")
    shown: dict[str, Any] = {}
    styles = _styles(list(rows))
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
