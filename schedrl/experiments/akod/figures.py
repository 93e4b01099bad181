"""Figures of the experiment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from schedrl.experiments.akod.table import Entry
from schedrl.experiments.figures import curves_figure, line_styles

__all__ = ["frechet_figure", "quality_figure", "surrogate_figure"]

_MARKERS = ("o", "s", "^")
"""One a third of the rows, since colours come again."""

_LEARNED = ("dko", "akod", "dko-dsc", "akod-dsc")


def quality_figure(table: Sequence[Entry], title: str, *, seconds: bool = False) -> Figure:
    """Mean validation bound against optimizer steps, or against the seconds of a run."""
    styles = line_styles([entry.row for entry in table], _LEARNED)
    curves = {
        entry.row: (
            np.array(entry.runs[0].steps) * (entry.step_seconds if seconds else 1.0),
            np.mean([run.bounds for run in entry.runs], axis=0),
        )
        for entry in table
        if not entry.diverged
    }
    along = "seconds of training, a run's share of the machine" if seconds else "optimizer steps"
    return curves_figure(curves, styles, along, title)


def frechet_figure(table: Sequence[Entry], ways: Sequence[str], title: str) -> Figure:
    """Fréchet distances by way of sampling, with their intervals."""
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.subplots()
    styles = line_styles([entry.row for entry in table], _LEARNED)
    for place, entry in enumerate(table):
        shift = (place / max(len(table) - 1, 1) - 0.5) * 0.7
        for number, way in enumerate(ways):
            if (found := entry.frechet(way)) is not None:
                axes.errorbar(
                    number + shift, found.value, yerr=found.half_width, capsize=2, markersize=4,
                    fmt=_MARKERS[place * len(_MARKERS) // len(table)], color=styles[entry.row]["color"],
                    label=entry.row if number == 0 else None,
                )  # fmt: skip
    axes.set(xticks=range(len(ways)), xticklabels=ways, ylabel="Fréchet distance (log scale)", title=title)
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(ScalarFormatter())
    axes.grid(color="0.9", which="both", axis="y", linewidth=0.5)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def surrogate_figure(table: Sequence[Entry], title: str) -> Figure | None:
    """Error of the feature that a sampler has for t−1, against log-SNR; None without MSFI."""
    shown = [entry for entry in table if any(run.surrogate_error for run in entry.runs)]
    if not shown:
        return None
    figure = Figure(figsize=(9.0, 4.5), layout="constrained")
    axes = figure.subplots()
    styles = line_styles([entry.row for entry in table], _LEARNED)
    for entry in shown:
        runs = [run for run in entry.runs if run.surrogate_error]
        levels, style = runs[0].surrogate_levels, styles[entry.row]
        error = np.mean([run.surrogate_error for run in runs], axis=0)
        still = np.mean([run.standing_still for run in runs], axis=0)
        axes.plot(levels, error, label=f"{entry.row}: predicted t−1", **style)
        axes.plot(levels, still, **(style | {"linestyle": ":"}), label=f"{entry.row}: t in its place")
    axes.set(xlabel="log-SNR", ylabel="relative error of F(t−1)", title=title)
    axes.set_yscale("log")
    axes.grid(color="0.9", which="both", linewidth=0.5)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
