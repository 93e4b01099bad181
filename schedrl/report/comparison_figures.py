"""Figures that put rows beside each other: over cells of log-SNR, over compute, over several environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from schedrl.benchmark.aggregates import Aggregate, AggregateRow
from schedrl.benchmark.training_summary import Role
from schedrl.report.courses import Courses
from schedrl.report.figures import HAND_MADE, LEARNED, SEARCHED, line_style
from schedrl.stats.intervals import Interval

__all__ = ["bins_figure", "courses_figure", "profiles_figure", "scores_figure"]

_MARKERS: dict[Role, str] = {"learned": "D", "searched": "^", "hand-made": "o", "random": "x"}
_COLOURS: dict[Role, str] = {
    "learned": LEARNED,
    "searched": SEARCHED,
    "hand-made": HAND_MADE[0],
    "random": "0.4",
}


def bins_figure(
    edges: NDArray[np.float64], rows: Mapping[str, tuple[Role, Sequence[Interval]]], reference: str
) -> Figure:
    """Differences to the reference by cell of λ.

    Args:
        edges: ``[cells + 1]``, from λ_max on.
        rows: Of every row its role and a paired difference per cell, bits/dim.
        reference: Name of the row that they are to.
    """
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    axes = figure.subplots()
    middles, width = 0.5 * (edges[:-1] + edges[1:]), abs(float(edges[1] - edges[0]))
    counts: dict[Role, int] = {}
    for place, (name, (role, cells)) in enumerate(rows.items()):
        style = line_style(role, counts.setdefault(role, 0))
        counts[role] += 1
        values = np.array([cell.value for cell in cells])
        reach = np.array([cell.half_width if np.isfinite(cell.half_width) else 0.0 for cell in cells])
        # Bars side by side, or they would hide each other.
        shift = 0.5 * width * ((place + 0.5) / len(rows) - 0.5)
        axes.errorbar(
            middles + shift, values, yerr=reach, label=name, capsize=2, elinewidth=0.9,
            **{**style, "linewidth": min(style["linewidth"], 1.8)},
        )  # fmt: skip
    axes.axhline(0.0, color="0.3", linewidth=0.9)
    axes.set(
        xlabel="log-SNR λ (data on the left)",
        ylabel=f"row minus {reference}, bits/dim a cell",
        title=f"Where the test bound differs; above 0, {reference} is better there",
    )
    axes.invert_xaxis()
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False)
    return figure


def courses_figure(courses: Courses) -> Figure:
    """Gain over the law of action 0 against optimizer steps; hand-made laws as lines, since they cost none."""
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.subplots()
    counts: dict[Role, int] = {}
    styles = {}
    for course in courses.courses:
        style = styles[course.name] = line_style(course.role, counts.setdefault(course.role, 0))
        counts[course.role] += 1
        if course.role == "learned":
            axes.plot(course.optimizer_steps, course.gain, **{**style, "linewidth": 0.7, "alpha": 0.5})
            steps, gain = _smooth(course.optimizer_steps, course.gain)
            axes.plot(steps, gain, label=f"{course.name}, while it learned", **style)
        else:
            label = f"{course.name}, best so far"
            axes.plot(course.optimizer_steps, course.gain, drawstyle="steps-post", label=label, **style)
    axes.axhline(0.0, color="0.3", linewidth=0.9)
    seen = [float(value) for course in courses.courses for value in course.gain[len(course.gain) // 4 :]]
    for index, point in enumerate(p for p in courses.reached if p.role == "hand-made"):
        axes.axhline(point.gain.value, label=f"{point.name}, at no cost", **line_style("hand-made", index))
        seen.append(point.gain.value)
    for point in courses.reached:
        if point.role == "hand-made" or point.optimizer_steps == 0:
            continue
        half = point.gain.half_width if np.isfinite(point.gain.half_width) else 0.0
        seen += [point.gain.value - half, point.gain.value + half]
        axes.errorbar(
            point.optimizer_steps, point.gain.value, yerr=half, fmt=_MARKERS[point.role], markersize=7, capsize=3,
            color=_COLOURS[point.role], markeredgecolor="black", zorder=6, label=f"{point.name}, on held-out seeds",
        )  # fmt: skip
    low, high = min([*seen, 0.0]), max([*seen, 0.0])
    margin = 0.08 * max(high - low, 1e-6)
    axes.set(
        xscale="log",
        ylim=(low - margin, high + margin),
        xlabel="optimizer steps spent on finding it (log scale)",
        ylabel=f"return minus that of {courses.base}, bits/dim",
        title="What learning and searching had reached, against compute",
    )
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure


def profiles_figure(rows: Sequence[AggregateRow], base: str) -> Figure:
    """Share of runs of all environments whose score exceeds a threshold, with each threshold's interval."""
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    axes = figure.subplots()
    counts: dict[Role, int] = {}
    for row in rows:
        style = line_style(row.role, counts.setdefault(row.role, 0))
        counts[row.role] += 1
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
    figure = Figure(figsize=(9.0, 1.4 + 0.26 * len(rows)), layout="constrained")
    axes = figure.subplots()
    values = np.array([row.score.value for row in rows])
    # Laws that are bad beyond any common scale are cut off, and their number written at the edge.
    quarter = float(np.quantile(values, 0.25))
    floor, reach_up = quarter - 0.25 * (float(values.max()) - quarter), float(values.max()) - quarter
    for place, row in enumerate(rows):
        if row.score.value < floor:
            axes.annotate(
                f"← {row.score.value:+.3f}", (0.0, place), xycoords=("axes fraction", "data"),
                va="center", fontsize=8, color="0.3",
            )  # fmt: skip
            continue
        ends = [[row.score.value - row.score.low], [row.score.high - row.score.value]]
        reach = np.where(np.isfinite(ends), np.maximum(ends, 0.0), 0.0)
        axes.errorbar(
            row.score.value, place, xerr=reach, fmt=_MARKERS[row.role],
            color=_COLOURS[row.role], markersize=5, capsize=2,
        )  # fmt: skip
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


def _smooth(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of an eighth of the updates at a time: updates differ in their episodes' luck."""
    window = max(len(values) // 8, 1)
    return steps[window - 1 :], np.convolve(values, np.full(window, 1.0 / window), mode="valid")
