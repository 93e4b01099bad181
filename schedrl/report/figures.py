"""Figures of a report. Matplotlib's object interface; colours that colour-blind readers can tell apart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from schedrl.benchmark.training_summary import Role, TrainingRow, TrainingSummary
from schedrl.environments.training.rendering import tile
from schedrl.policies.progress import ProgressRow
from schedrl.schedules import Schedule
from schedrl.stats.intervals import Interval

__all__ = [
    "Curve",
    "bounds_figure",
    "densities_figure",
    "learning_figure",
    "line_style",
    "noise_figure",
    "png",
    "samples_figure",
    "schedules_figure",
]

# Okabe & Ito 2008. Vermillion is kept for what was learned, violet for what was searched.
LEARNED = "#D55E00"
SEARCHED = "#5B2A86"
HAND_MADE = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
FAINT = "0.8"

_DPI = 150
"""Enough for paper."""

_COLUMNS = 5
"""Panels side by side."""


@dataclass(frozen=True)
class Curve:
    """A schedule in a figure.

    Attributes:
        label: Its name; None draws it faintly, without one.
        schedule: The law.
        role: What the row is that it belongs to.
    """

    label: str | None
    schedule: Schedule
    role: Role = "hand-made"


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def schedules_figure(curves: Sequence[Curve], limits: tuple[float, float]) -> Figure:
    """log-SNR against u. ``limits``: measured range, (data end, noise end)."""
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    axes = figure.subplots()
    u = np.linspace(0.0, 1.0, 501)
    for curve, style in _styled(curves):
        axes.plot(u, curve.schedule.logsnr(u), label=curve.label, **style)
    for limit in limits:
        axes.axhline(limit, color="0.5", linewidth=0.8, linestyle=(0, (2, 4)))
    axes.annotate("measured between these lines", (0.01, limits[1]), va="bottom", color="0.4", fontsize=8)
    axes.set(
        xlabel="u: share of training noise that is weaker (data to noise)",
        ylabel="log-SNR λ (natural log)",
        title="Schedules",
        xlim=(0.0, 1.0),
        ylim=(limits[1] - 4.0, limits[0] + 4.0),
    )
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure


def densities_figure(curves: Sequence[Curve], limits: tuple[float, float]) -> Figure:
    """One panel per schedule: the density of its training noise over λ, with the first learned one as a line."""
    rows = -(-len(curves) // _COLUMNS)
    figure = Figure(figsize=(10.0, 0.6 + 1.35 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    edges, width = _cells(limits)
    made = [np.diff(curve.schedule.fraction_above(edges)) / width for curve in curves]
    chosen = next((place for place, curve in enumerate(curves) if curve.role == "learned"), None)
    # A law that puts all its noise into a few cells would flatten the others.
    top = 1.5 * float(np.median([density.max() for density in made]))
    for axes, curve, density in zip(panels, curves, made, strict=False):
        colour = {"learned": LEARNED, "searched": SEARCHED}.get(curve.role, HAND_MADE[0])
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.45, linewidth=0.0)
        axes.axvspan(limits[1], limits[0], color="0.95", zorder=0)
        if chosen is not None:
            axes.stairs(made[chosen], edges, color=LEARNED, linewidth=1.1)
        axes.set_title(curve.label or "", fontsize=8)
        axes.tick_params(labelsize=7)
    panels[0].set(xlim=(edges[0], edges[-1]), ylim=(0.0, top))  # data on the left
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    figure.supxlabel("log-SNR λ (measured range shaded)", fontsize=9)
    figure.supylabel("density", fontsize=9)
    return figure


def noise_figure(curves: Sequence[Curve], limits: tuple[float, float]) -> Figure:
    """Where training noise lies: density over log-SNR, and shares below each noise level."""
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges, width = _cells(limits)
    middles = 0.5 * (edges[:-1] + edges[1:])
    fine = np.linspace(edges[0], edges[-1], 401)
    for curve, style in _styled(curves):
        density = np.diff(curve.schedule.fraction_above(edges)) / width
        left.step(middles, density, where="mid", label=curve.label, **style)
        right.plot(np.exp(-0.5 * fine), curve.schedule.fraction_above(fine), label=curve.label, **style)
    left.axvspan(limits[1], limits[0], color="0.95", zorder=0)
    left.set(
        xlabel="log-SNR λ (measured range shaded)",
        ylabel="density of training noise per unit of λ",
        title="Noise levels in λ",
        ylim=(0.0, None),
    )
    left.invert_xaxis()  # data on the left, noise on the right, as in the other panel
    right.axvspan(np.exp(-0.5 * limits[0]), np.exp(-0.5 * limits[1]), color="0.95", zorder=0)
    right.set(
        xlabel="noise-to-signal ratio σ/α (log scale)",
        ylabel="share of training noise below",
        title="Noise levels in σ",
        xscale="log",
        ylim=(0.0, 1.0),
    )
    right.legend(fontsize=8, frameon=False)
    return figure


def bounds_figure(summary: TrainingSummary) -> Figure:
    """Test bounds with their intervals, and differences to the reference."""
    rows = list(reversed(summary.rows))
    figure = Figure(figsize=(10.0, 1.6 + 0.27 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(rows))
    _forest(left, places, rows, [row.test_bound for row in rows], "{:.3f}")
    left.set(xlabel="test bound (bits/dim, lower is better)", title="Mean and 95 % interval")
    left.set_ylim(-0.6, len(rows) - 0.4)
    left.set_yticks(places, [row.name for row in rows])
    for text, row in zip(left.get_yticklabels(), rows, strict=True):
        if row.role in ("learned", "searched"):
            text.set_color(LEARNED if row.learned else SEARCHED)
            text.set_fontweight("bold")
    differences = [row.difference if row.difference is not None else Interval(0.0, 0.0, 0.0) for row in rows]
    _forest(right, places, rows, differences, "{:+.3f}")
    right.axvline(0.0, color="0.4", linewidth=0.8)
    right.set(
        xlabel=f"row minus {summary.reference} (bits/dim)",
        title=f"Paired difference; right of 0, {summary.reference} is better",
    )
    return figure


def learning_figure(rows: Sequence[ProgressRow], name: str) -> Figure:
    """Return against training."""
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    axes = figure.subplots()
    steps = np.array([row.timesteps for row in rows])
    means = np.array([row.return_mean for row in rows])
    spread = np.array([row.return_std for row in rows])
    axes.fill_between(steps, means - spread, means + spread, color=LEARNED, alpha=0.2, linewidth=0)
    axes.plot(
        steps, means, color=LEARNED, marker=".", linewidth=1.0, label="mean of an update ± std over its runs"
    )
    window = max(len(rows) // 8, 1)
    if window > 1:
        smooth = np.convolve(means, np.full(window, 1.0 / window), mode="valid")
        label = f"mean of {window} updates"
        axes.plot(steps[window - 1 :], smooth, color="black", linewidth=1.8, label=label)
    axes.set(
        xlabel="environment steps", ylabel="return (with exploration)", title=f"Learning curve of {name}"
    )
    axes.legend(fontsize=8, frameon=False)
    return figure


def samples_figure(named: Sequence[tuple[str, NDArray[np.float32]]]) -> Figure:
    """Panels of images ``[n, C, H, W]`` in [−1, 1], side by side."""
    figure = Figure(figsize=(3.3 * len(named), 3.7), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(1, len(named), squeeze=False)[0], named, strict=True):
        axes.imshow(tile(images, gap=1), vmin=-1.0, vmax=1.0, cmap="gray", interpolation="nearest")
        axes.set_title(name, fontsize=9)
        axes.set(xticks=[], yticks=[])
    return figure


def _cells(limits: tuple[float, float]) -> tuple[NDArray[np.float64], float]:
    """Edges from data to noise, and their distance.

    Twenty cells of the measured range, and as wide ones beyond it: they show the cells of an agent's own density.
    """
    width = (limits[0] - limits[1]) / 20.0
    return np.linspace(limits[0] + 6.0 * width, limits[1] - 6.0 * width, 33), width


def line_style(role: Role, index: int) -> dict[str, Any]:
    """Colour, dashes and width of the row of that number among those of its role: learned ones boldest and on top."""
    dashes = STYLES[(index + index // 6) % 6]
    if role == "learned":
        return {"color": LEARNED, "linestyle": dashes, "linewidth": 2.6, "zorder": 4}
    if role == "searched":
        return {"color": SEARCHED, "linestyle": dashes, "linewidth": 1.8, "zorder": 3}
    return {"color": HAND_MADE[index % 6], "linestyle": dashes, "linewidth": 1.4, "zorder": 2}


def _styled(curves: Sequence[Curve]) -> list[tuple[Curve, dict[str, Any]]]:
    """Curves without a name first, faint and below; then hand-made ones, searched ones, learned ones."""
    styled: list[tuple[Curve, dict[str, Any]]] = [
        (curve, {"color": FAINT, "linewidth": 0.9, "zorder": 1}) for curve in curves if curve.label is None
    ]
    for role in ("hand-made", "searched", "learned"):
        named = [curve for curve in curves if curve.label is not None and curve.role == role]
        styled += [(curve, line_style(curve.role, index)) for index, curve in enumerate(named)]
    return styled


def _forest(
    axes: Axes, places: NDArray[np.int64], rows: list[TrainingRow], values: list[Interval], shown: str
) -> None:
    """Points with error bars; what lies far from the rest is an arrow at the edge with its number."""
    middle = np.array([value.value for value in values])
    reach = np.array(
        [min(value.half_width, 1e3) if np.isfinite(value.half_width) else 0.0 for value in values]
    )
    cut = float(np.median(middle) + 2.0 * (np.median(middle) - middle.min()) + reach.max())
    inside = middle <= max(cut, float(np.sort(middle)[len(middle) // 2]))
    for place, row, value, half, fits in zip(places, rows, middle, reach, inside, strict=True):
        colour = HAND_MADE[0] if row.form == "exact" else HAND_MADE[1]
        marker = "o" if row.form == "exact" else "s"
        if row.role in ("learned", "searched"):
            colour, marker = (LEARNED, "D") if row.learned else (SEARCHED, "^")
        if fits:
            axes.errorbar(
                value, place, xerr=half, fmt=marker, color=colour, markersize=4, capsize=2, linewidth=1.2
            )
    low, high = (middle - reach)[inside].min(), (middle + reach)[inside].max()
    margin = 0.06 * max(high - low, 1e-6)
    axes.set_xlim(low - margin, high + (3.0 if (~inside).any() else 1.0) * margin)
    for place, value in zip(places[~inside], middle[~inside], strict=True):
        axes.annotate(
            f"{shown.format(value)} →", (1.0, place), xycoords=("axes fraction", "data"),
            ha="right", va="center", fontsize=8, color="0.3",
        )  # fmt: skip
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
