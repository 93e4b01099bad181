"""Figures of sampling environments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.sampling_summary import positive
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.rewards import ERROR_RANGE
from schedrl.report.figures import FAINT, HAND_MADE, LEARNED, STYLES, new_axes
from schedrl.schedules.conversions import FloatArray, logsnr_from_sigma
from schedrl.sources.gaussian.recursions import exact_variance, variance_trajectory


def grids_figure(grids: Mapping[str, FloatArray], learned: str | None) -> Figure:
    """log-SNR against the step, for the grids of one source; infinite ends are not drawn."""
    figure, axes = new_axes(7.5, 4.4)
    for (name, sigmas), style in zip(grids.items(), _styles(grids, learned), strict=True):
        logsnr = logsnr_from_sigma(sigmas)
        inside = np.isfinite(logsnr)
        axes.plot(np.arange(len(sigmas))[inside], logsnr[inside], label=name, **style)
    axes.set(xlabel="step (noise to data)", ylabel="log-SNR λ (natural log)", title="Where the sampler steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False)
    return figure


def loss_figure(problems: SamplingProblems, grids: Mapping[str, FloatArray], learned: str | None) -> Figure:
    """Log of each eigenvector's variance over that of the true marginal, step by step, for the first problem."""
    batch = problems.batch.gaussian
    spectrum = batch.eigenvalues[0][batch.weights[0] > 0.0]
    figure = Figure(figsize=(3.6 * len(grids), 3.8), layout="constrained")
    panels = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
    shades = np.linspace(0.05, 0.85, len(spectrum))
    from matplotlib import colormaps

    for axes, (name, sigmas) in zip(panels, grids.items(), strict=True):
        path = variance_trajectory(spectrum, sigmas, batch.sampler)
        # A step from infinity to 0 leaves no variance at all.
        lost = np.log(np.maximum(path, ERROR_RANGE[0]) / exact_variance(spectrum, sigmas[:, None]))
        for place, shade in enumerate(shades):
            named = axes is panels[-1] and place in (0, len(spectrum) - 1)
            label = f"λ = {spectrum[place]:.3g}" if named else None
            axes.plot(np.arange(len(sigmas)), lost[:, place], color=colormaps["viridis"](shade), label=label)
        axes.set(xlabel="step (noise to data)", title=name)
        if name == learned:
            axes.title.set_color(LEARNED)
    panels[0].set_ylabel("log (variance / true variance)")
    panels[-1].legend(fontsize=8, frameon=False, loc="center right")
    return figure


def profile_figure(
    results: Sequence[SamplingResult], names: Sequence[str], yardstick: str, learned: str | None
) -> Figure:
    """Share of sources on which an agent's error is within a factor of the yardstick's."""
    figure, axes = new_axes(7.5, 4.2)
    for name, style in zip(names, _styles(names, learned), strict=True):
        own = [result for result in results if result.agent == name]
        base = [result.optimum if yardstick == "optimum" else result.reference for result in own]
        errors = positive(np.array([result.error for result in own]))
        ratios = np.sort(errors / positive(np.array([value or 0.0 for value in base])))
        shares = np.arange(1, len(ratios) + 1) / len(ratios)
        axes.step(ratios, shares, where="post", label=name, **{**style, "marker": ""})
    axes.set(
        xlabel=f"factor: error divided by that of the {yardstick} (log scale)",
        ylabel="share of sources within this factor",
        title=f"Errors compared with the {yardstick}",
        xscale="log",
        ylim=(0.0, 1.02),
    )
    axes.legend(fontsize=8, frameon=False)
    axes.grid(color="0.92", linewidth=0.6)
    return figure


def steps_figure(steps: Sequence[int], errors: Mapping[str, FloatArray], learned: str | None) -> Figure:
    """Geometric mean of the error against N, with the rate 1/N² of first-order samplers."""
    figure, axes = new_axes(7.5, 4.6)
    for (name, values), style in zip(errors.items(), _styles(errors, learned), strict=True):
        shown = np.isfinite(values)
        axes.plot(np.array(steps)[shown], values[shown], label=name, **style)
    last = float(next(iter(errors.values()))[-1])
    guide = last * (steps[-1] / np.array(steps)) ** 2
    axes.plot(steps, guide, color=FAINT, linewidth=3.0, zorder=0, label="1/N²")
    axes.set(
        xlabel="sampler steps N", ylabel="KL divergence (nats), geometric mean", title="Error against steps"
    )
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=8, frameon=False)
    return figure


def modes_figure(
    dimensions: Sequence[float],
    parts: Mapping[str, Mapping[str, FloatArray]],
    targets: Mapping[str, float],
    learned: str | None,
) -> Figure:
    """The modes' balance and their width against the dimension."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    names = {"majority": "weight of the larger mode, p̂", "within_variance": "variance within a mode"}
    for axes, (part, label) in zip(panels, names.items(), strict=True):
        for (name, values), style in zip(parts.items(), _styles(parts, learned), strict=True):
            axes.plot(dimensions, values[part], label=name, **style)
        axes.axhline(targets[part], color="0.5", linewidth=0.9, linestyle=(0, (2, 3)))
        axes.annotate("true", (dimensions[0], targets[part]), va="bottom", color="0.4", fontsize=8)
        axes.set(xlabel="dimension d", title=label, xscale="log")
    panels[1].set_ylim(bottom=0.0)
    panels[0].legend(fontsize=8, frameon=False)
    return figure


def _styles(names: Iterable[str], learned: str | None) -> list[dict[str, Any]]:
    """Colour, dashes and markers of agents; the learned one stands out."""
    found: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        if name == learned:
            style = {"color": LEARNED, "linewidth": 2.4, "zorder": 4, "marker": "o", "markersize": 4}
        else:
            style = {"color": HAND_MADE[place % 6], "linestyle": STYLES[place % 6], "linewidth": 1.4}
            style.update(marker=".", markersize=5)
        found.append(style)
    return found
