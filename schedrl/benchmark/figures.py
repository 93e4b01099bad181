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

from schedrl.benchmark.table import Row, Summary
from schedrl.environments.training.rendering import tile
from schedrl.metrics.intervals import Interval
from schedrl.policies.progress import ProgressRow
from schedrl.schedules import Schedule

__all__ = [
    "Curve",
    "bounds_figure",
    "learning_figure",
    "noise_figure",
    "png",
    "samples_figure",
    "schedules_figure",
]

# Okabe & Ito 2008. Vermillion is kept for what was learned.
LEARNED = "#D55E00"
HAND_MADE = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
FAINT = "0.8"


@dataclass(frozen=True)
class Curve:
    """A schedule in a figure.

    Attributes:
        label: Its name; None draws it faintly, without one.
        schedule: The law.
        learned: Whether an agent chose it.
    """

    label: str | None
    schedule: Schedule
    learned: bool = False


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def schedules_figure(curves: Sequence[Curve], limits: tuple[float, float]) -> Figure:
    """log-SNR against u. ``limits``: measured range, (data end, noise end)."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
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
    axes.legend(fontsize=8, frameon=False)
    return figure


def noise_figure(curves: Sequence[Curve], limits: tuple[float, float]) -> Figure:
    """Where training noise lies: density over log-SNR, and shares below each noise level."""
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    # Twenty cells of the measured range, and as wide ones beyond it: they show the cells of an agent's own density.
    width = (limits[0] - limits[1]) / 20.0
    edges = np.linspace(limits[0] + 6.0 * width, limits[1] - 6.0 * width, 33)
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


def bounds_figure(summary: Summary) -> Figure:
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
        if row.learned:
            text.set_color(LEARNED)
            text.set_fontweight("bold")
    differences = [row.difference if row.difference is not None else Interval(0.0, 0.0, 0.0) for row in rows]
    _forest(right, places, rows, differences, "{:+.3f}")
    right.axvline(0.0, color="0.4", linewidth=0.8)
    right.set(
        xlabel=f"row minus {summary.reference} (bits/dim)",
        title=f"Paired difference and 95 % interval; right of 0, {summary.reference} is better",
    )
    right.title.set_fontsize(10)
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


def _styled(curves: Sequence[Curve]) -> list[tuple[Curve, dict[str, Any]]]:
    """Line styles: learned ones bold, named hand-made ones in their own colours, the others faint and below."""
    named = [curve for curve in curves if curve.label is not None and not curve.learned]
    learned = [curve for curve in curves if curve.learned]
    styled: list[tuple[Curve, dict[str, Any]]] = [
        (curve, {"color": FAINT, "linewidth": 0.9, "zorder": 1})
        for curve in curves
        if curve.label is None and not curve.learned
    ]
    for index, curve in enumerate(named):
        style = {"color": HAND_MADE[index % 6], "linestyle": STYLES[index % 6], "linewidth": 1.4, "zorder": 2}
        styled.append((curve, style))
    for index, curve in enumerate(learned):
        styled.append(
            (curve, {"color": LEARNED, "linestyle": STYLES[index % 6], "linewidth": 2.6, "zorder": 3})
        )
    return styled


def _forest(
    axes: Axes, places: NDArray[np.int64], rows: list[Row], values: list[Interval], shown: str
) -> None:
    """Points with error bars; what lies far from the rest is an arrow at the edge with its number."""
    middle = np.array([value.value for value in values])
    reach = np.array(
        [min(value.half_width, 1e3) if np.isfinite(value.half_width) else 0.0 for value in values]
    )
    cut = float(np.median(middle) + 2.0 * (np.median(middle) - middle.min()) + reach.max())
    inside = middle <= max(cut, float(np.sort(middle)[len(middle) // 2]))
    for place, row, value, half, fits in zip(places, rows, middle, reach, inside, strict=True):
        colour = LEARNED if row.learned else HAND_MADE[0] if row.form == "exact" else HAND_MADE[1]
        marker = "D" if row.learned else "o" if row.form == "exact" else "s"
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
