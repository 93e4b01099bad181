"""Curves of many rows in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray

from schedrl.report.figures import HAND_MADE, LEARNED, STYLES

__all__ = ["curves_figure", "line_styles"]

Array = NDArray[np.float64]


def line_styles(names: Sequence[str], learned: Sequence[str] = ("ava-dsc-ppo",)) -> dict[str, dict[str, Any]]:
    """A colour and a dash pattern for every row; those of the learned ones stand out."""
    styles: dict[str, dict[str, Any]] = {}
    ours = [name for name in names if name in learned]
    for place, name in enumerate(names):
        own = name in learned
        colour = LEARNED if own else HAND_MADE[place % len(HAND_MADE)]
        pattern = ours.index(name) if own else place // len(HAND_MADE) * 2 + place
        styles[name] = {
            "color": colour,
            "linestyle": STYLES[pattern % len(STYLES)],
            "linewidth": 2.4 if own else 1.3,
        }
    return styles


def curves_figure(
    curves: Mapping[str, tuple[Array, Array]], styles: Mapping[str, dict[str, Any]], along: str, title: str
) -> Figure:
    """Validation bounds, on a logarithmic axis.

    Args:
        curves: Places and bounds of every row.
        styles: Of every row.
        along: Label of the places.
        title: Of the figure.
    """
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.subplots()
    for name, (places, bounds) in curves.items():
        axes.plot(places, bounds, label=name, **styles[name])
    axes.set(xlabel=along, ylabel="validation bound (bits/dim, log scale)", title=title)
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(ScalarFormatter())
    axes.grid(color="0.9", which="both", linewidth=0.5)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
