"""Style of all figures, and the figures of training environments.

Matplotlib's object interface is used throughout; readers with colour blindness can tell the colours apart.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from schedrl.benchmark.aggregates import Aggregate, AggregateRow
from schedrl.benchmark.training_summary import TrainingRow, TrainingSummary
from schedrl.environments.training.rendering import tile
from schedrl.policies.agents import Role
from schedrl.policies.progress import TrainingProgress
from schedrl.report.compute import ComputeGains
from schedrl.report.document import Image, Sentences
from schedrl.schedules import Schedule
from schedrl.stats.intervals import Interval

# Okabe & Ito 2008. Vermillion is kept for learned agents, violet for searched ones.
LEARNED = "#D55E00"
SEARCHED = "#5B2A86"
HAND_MADE = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
FAINT = "0.8"

_LOOKS: dict[Role, tuple[str, str]] = {
    "learned": (LEARNED, "D"),
    "searched": (SEARCHED, "^"),
    "hand-made": (HAND_MADE[0], "o"),
    "random": ("0.4", "x"),
}
"""Colour and marker of the points of each role."""

_COLUMNS = 5
"""Panels side by side."""


@dataclass(frozen=True)
class ScheduleCurve:
    """A schedule in a figure.

    Attributes:
        label: Its name; None draws it faintly and without a name.
        schedule: The schedule.
        role: Role of the row that it belongs to.
    """

    label: str | None
    schedule: Schedule
    role: Role = "hand-made"


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    FigureCanvasAgg(figure)
    # Names are users' own: a dollar sign in one begins no formula. The numbers of log axes are formulas.
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis) if axis.get_scale() == "log"]
    ticks = [tick for axis in axes for tick in (*axis.majorTicks, *axis.minorTicks)]
    numbers = {label for tick in ticks for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in numbers:
            text.set_parse_math(False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name may have characters that the font lacks
        figure.savefig(buffer, format="png", dpi=150)  # enough for paper
    return buffer.getvalue()


def image(name: str, figure: Figure, caption: str, alt: str = "") -> Image:
    """A figure as a block of a report.

    Args:
        name: Names its file in ``figures/``; other characters than letters, digits, ``.`` and ``_`` become ``-``.
        figure: The figure.
        caption: What it shows.
        alt: Description for readers who cannot see it; the caption's first sentence when absent.
    """
    alt = alt or f"Figure: {caption.split('. ')[0].rstrip('.')}."
    file = re.sub(r"[^\w.]+", "-", name).strip("-")
    return Image(f"figures/{file}.png", png(figure), alt, caption, round(96.0 * figure.get_figwidth()))


def worded_image(words: Sentences, name: str, figure: Figure, *values: Any) -> Image:
    """A figure as a block of a report, with the sentences ``name`` as its caption and ``name_alt`` as its description.

    Both sentences take ``values``.
    """
    caption = getattr(words, name)(*values)
    return image(name.replace("_", "-"), figure, caption, getattr(words, f"{name}_alt")(*values))


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel; its size is in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def schedules_figure(curves: Sequence[ScheduleCurve], limits: tuple[float, float]) -> Figure:
    """log-SNR against u. ``limits``: measured range, (data end, noise end)."""
    figure, axes = new_axes(9.0, 4.8)
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


def densities_figure(curves: Sequence[ScheduleCurve], limits: tuple[float, float]) -> Figure:
    """One panel per schedule: the density of its training noise over λ, with the first learned one as a line."""
    rows = -(-len(curves) // _COLUMNS)
    figure = Figure(figsize=(10.0, 0.6 + 1.35 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    edges, width = _cells(limits)
    made = [np.diff(curve.schedule.fraction_above(edges)) / width for curve in curves]
    chosen = next((place for place, curve in enumerate(curves) if curve.role == "learned"), None)
    # A schedule that puts all its noise into a few cells would flatten the others.
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


def noise_figure(curves: Sequence[ScheduleCurve], limits: tuple[float, float]) -> Figure:
    """Where training noise lies: density over log-SNR, and share below each noise-to-signal ratio."""
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
        title="Training noise over λ",
        ylim=(0.0, None),
    )
    left.invert_xaxis()  # data on the left, noise on the right, as in the other panel
    right.axvspan(np.exp(-0.5 * limits[0]), np.exp(-0.5 * limits[1]), color="0.95", zorder=0)
    right.set(
        xlabel="noise-to-signal ratio σ/α (log scale)",
        ylabel="share of training noise below",
        title="Training noise over σ/α",
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
    _forest(left, places, rows, [row.test_bound for row in rows], ".3f")
    left.set(xlabel="test bound (bits/dim, lower is better)", title="Mean and 95 % interval")
    left.set_ylim(-0.6, len(rows) - 0.4)
    left.set_yticks(places, [row.name for row in rows])
    for text, row in zip(left.get_yticklabels(), rows, strict=True):
        if row.role in ("learned", "searched"):
            text.set_color(_LOOKS[row.role][0])
            text.set_fontweight("bold")
    differences = [row.difference if row.difference is not None else Interval(0.0, 0.0, 0.0) for row in rows]
    _forest(right, places, rows, differences, "+.3f")
    right.axvline(0.0, color="0.4", linewidth=0.8)
    right.set(
        xlabel=f"row minus {summary.reference} (bits/dim)",
        title=f"Paired difference; right of 0, {summary.reference} is better",
    )
    return figure


def learning_figure(rows: Sequence[TrainingProgress], name: str) -> Figure:
    figure, axes = new_axes(7.5, 4.0)
    steps = np.array([row.timesteps for row in rows], dtype=np.float64)
    means = np.array([row.return_mean for row in rows])
    spread = np.array([row.return_std for row in rows])
    axes.fill_between(steps, means - spread, means + spread, color=LEARNED, alpha=0.2, linewidth=0)
    label = "mean of an update ± standard deviation over its runs"
    axes.plot(steps, means, color=LEARNED, marker=".", linewidth=1.0, label=label)
    if (window := _window(len(rows))) > 1:
        label = f"mean of {window} updates"
        axes.plot(*_smooth(steps, means), color="black", linewidth=1.8, label=label)
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


def bins_figure(
    edges: NDArray[np.float64], rows: Mapping[str, tuple[Role, Sequence[Interval]]], reference: str
) -> Figure:
    """Differences to the reference by cell of λ: of each row its role and a paired difference per cell, bits/dim.

    ``edges``, ``[cells + 1]``, run from λ_max on.
    """
    figure, axes = new_axes(9.0, 4.6)
    middles, width = 0.5 * (edges[:-1] + edges[1:]), abs(float(edges[1] - edges[0]))
    styles = _line_styles(role for role, _ in rows.values())
    for place, ((name, (_, cells)), style) in enumerate(zip(rows.items(), styles, strict=True)):
        values = np.array([cell.value for cell in cells])
        reach = np.array([cell.half_width if np.isfinite(cell.half_width) else 0.0 for cell in cells])
        # Side by side, so that no bar hides another.
        shift = 0.5 * width * ((place + 0.5) / len(rows) - 0.5)
        axes.errorbar(
            middles + shift, values, yerr=reach, label=name, capsize=2, elinewidth=0.9,
            **{**style, "linewidth": min(style["linewidth"], 1.8)},
        )  # fmt: skip
    axes.axhline(0.0, color="0.3", linewidth=0.9)
    axes.set(
        xlabel="log-SNR λ (data on the left)",
        ylabel=f"row minus {reference}, bits/dim per cell",
        title=f"Where the test bound differs; above 0, {reference} is better there",
    )
    axes.invert_xaxis()
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False)
    return figure


def compute_figure(gains: ComputeGains) -> Figure:
    """Gain over the reference schedule against optimizer steps; hand-made schedules are lines, since they cost none."""
    figure, axes = new_axes(9.0, 5.0)
    styles = _line_styles(curve.role for curve in gains.curves)
    for curve, style in zip(gains.curves, styles, strict=True):
        if curve.role == "learned":
            axes.plot(curve.optimizer_steps, curve.gain, **{**style, "linewidth": 0.7, "alpha": 0.5})
            label = f"{curve.name}, during training"
            axes.plot(*_smooth(curve.optimizer_steps, curve.gain), label=label, **style)
        else:
            label = f"{curve.name}, best so far"
            axes.plot(curve.optimizer_steps, curve.gain, drawstyle="steps-post", label=label, **style)
    axes.axhline(0.0, color="0.3", linewidth=0.9)
    seen = [float(value) for curve in gains.curves for value in curve.gain[len(curve.gain) // 4 :]]
    for point, style in zip(gains.finals, _line_styles(point.role for point in gains.finals), strict=True):
        if point.role == "hand-made":
            axes.axhline(point.gain.value, label=f"{point.name}, at no cost", **style)
            seen.append(point.gain.value)
    for point in gains.finals:
        if point.role == "hand-made" or point.optimizer_steps == 0:
            continue
        half = point.gain.half_width if np.isfinite(point.gain.half_width) else 0.0
        seen += [point.gain.value - half, point.gain.value + half]
        colour, marker = _LOOKS[point.role]
        axes.errorbar(
            point.optimizer_steps, point.gain.value, yerr=half, fmt=marker, markersize=7, capsize=3, color=colour,
            markeredgecolor="black", zorder=6, label=f"{point.name}, on held-out seeds",
        )  # fmt: skip
    low, high = min([*seen, 0.0]), max([*seen, 0.0])
    margin = 0.08 * max(high - low, 1e-6)
    axes.set(
        xscale="log",
        ylim=(low - margin, high + margin),
        xlabel="optimizer steps spent to find the agent (log scale)",
        ylabel=f"return minus return of {gains.base}, bits/dim",
        title="Gain against the compute of learning and searching",
    )
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure


def profiles_figure(rows: Sequence[AggregateRow], base: str) -> Figure:
    """Share of runs of all environments whose score exceeds a threshold, with each threshold's interval."""
    figure, axes = new_axes(9.0, 4.6)
    for row, style in zip(rows, _line_styles(row.role for row in rows), strict=True):
        profile = row.profile
        axes.plot(profile.thresholds, profile.share, drawstyle="steps-post", label=row.name, **style)
        axes.fill_between(
            profile.thresholds, profile.low, profile.high,
            step="post", color=style["color"], alpha=0.12, linewidth=0,
        )  # fmt: skip
    axes.axvline(0.0, color="0.3", linewidth=0.9)
    axes.set(
        xlabel=f"threshold: bits/dim better than {base} on the same seed",
        ylabel="share of runs above it",
        title="Performance profiles; higher and further right is better",
        ylim=(0.0, 1.02),
    )
    axes.legend(fontsize=8, frameon=False)
    return figure


def scores_figure(total: Aggregate) -> Figure:
    """Interquartile means over environments with their intervals, the best on top."""
    rows = list(reversed(total.rows))
    figure, axes = new_axes(9.0, 1.4 + 0.26 * len(rows))
    values = np.array([row.score.value for row in rows])
    # Schedules that are bad beyond any common scale are numbers at the edge.
    quarter = float(np.quantile(values, 0.25))
    floor, reach_up = quarter - 0.25 * (float(values.max()) - quarter), float(values.max()) - quarter
    for place, row in enumerate(rows):
        if row.score.value < floor:
            _at_edge(axes, place, f"← {row.score.value:+.3f}", "left")
            continue
        ends = [[row.score.value - row.score.low], [row.score.high - row.score.value]]
        reach = np.where(np.isfinite(ends), np.maximum(ends, 0.0), 0.0)
        colour, marker = _LOOKS[row.role]
        axes.errorbar(row.score.value, place, xerr=reach, fmt=marker, color=colour, markersize=5, capsize=2)
    axes.axvline(0.0, color="0.3", linewidth=0.9)
    axes.set_yticks(np.arange(len(rows)), [row.name for row in rows])
    axes.set(
        xlim=(floor, float(values.max()) + max(0.25 * reach_up, 1e-6)),
        ylim=(-0.6, len(rows) - 0.4),
        xlabel=f"bits/dim better than {total.base}, interquartile mean over environments and seeds",
        title=f"Ranking over {len(total.environments)} environments, 95 % intervals",
    )
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


def _cells(limits: tuple[float, float]) -> tuple[NDArray[np.float64], float]:
    """Edges of cells from data to noise, and their width.

    Twenty cells divide the measured range, and equally wide ones lie beyond it; they resolve an agent's own density.
    """
    width = (limits[0] - limits[1]) / 20.0
    return np.linspace(limits[0] + 6.0 * width, limits[1] - 6.0 * width, 33), width


def _window(updates: int) -> int:
    """Updates in a moving mean: an eighth of all. Updates differ in their episodes' luck."""
    return max(updates // 8, 1)


def _smooth(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Moving means of ``values``, each at the last of its steps."""
    window = _window(len(values))
    return steps[window - 1 :], np.convolve(values, np.full(window, 1.0 / window), mode="valid")


def _line_styles(roles: Iterable[Role]) -> list[dict[str, Any]]:
    """Colours, dashes and widths of rows with these roles: learned ones boldest and on top."""
    counts: dict[Role, int] = {}
    styles = []
    for role in roles:
        index = counts[role] = counts.get(role, -1) + 1
        colour, width, order = {"learned": (LEARNED, 2.6, 4), "searched": (SEARCHED, 1.8, 3)}.get(
            role, (HAND_MADE[index % 6], 1.4, 2)
        )
        dashes = STYLES[(index + index // 6) % 6]
        styles.append({"color": colour, "linestyle": dashes, "linewidth": width, "zorder": order})
    return styles


def _styled(curves: Sequence[ScheduleCurve]) -> list[tuple[ScheduleCurve, dict[str, Any]]]:
    """Curves with their styles: those without a name faint and first, then hand-made, searched and learned ones."""
    faint = {"color": FAINT, "linewidth": 0.9, "zorder": 1}
    order: tuple[Role, ...] = ("hand-made", "searched", "learned")
    named = [curve for role in order for curve in curves if curve.label is not None and curve.role == role]
    styles = _line_styles(curve.role for curve in named)
    return [(curve, faint) for curve in curves if curve.label is None] + list(zip(named, styles, strict=True))


def _forest(
    axes: Axes, places: NDArray[np.int64], rows: list[TrainingRow], values: list[Interval], spec: str
) -> None:
    """Points with error bars. A point far from the rest is an arrow at the edge, with its number."""
    middle = np.array([value.value for value in values])
    reach = np.array(
        [min(value.half_width, 1e3) if np.isfinite(value.half_width) else 0.0 for value in values]
    )
    cut = float(np.median(middle) + 2.0 * (np.median(middle) - middle.min()) + reach.max())
    inside = middle <= max(cut, float(np.sort(middle)[len(middle) // 2]))
    for place, row, value, half, fits in zip(places, rows, middle, reach, inside, strict=True):
        colour, marker = _LOOKS[row.role]
        if row.role not in ("learned", "searched"):
            colour, marker = (HAND_MADE[0], "o") if row.form == "exact" else (HAND_MADE[1], "s")
        if fits:
            axes.errorbar(
                value, place, xerr=half, fmt=marker, color=colour, markersize=4, capsize=2, linewidth=1.2
            )
    low, high = (middle - reach)[inside].min(), (middle + reach)[inside].max()
    margin = 0.06 * max(high - low, 1e-6)
    axes.set_xlim(low - margin, high + (3.0 if (~inside).any() else 1.0) * margin)
    for place, value in zip(places[~inside], middle[~inside], strict=True):
        _at_edge(axes, place, f"{value:{spec}} →", "right")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _at_edge(axes: Axes, place: int, text: str, side: Literal["left", "right"]) -> None:
    """Text in row ``place``, at the left or right edge of the panel."""
    where = (float(side == "right"), place)
    axes.annotate(
        text, where, xycoords=("axes fraction", "data"), ha=side, va="center", fontsize=8, color="0.3"
    )
