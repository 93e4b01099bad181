"""The report of a sampling comparison."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from schedrl.benchmark.manifest import SamplingManifest, load_sampling
from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.sampling_summary import SamplingSummary, summarise_sampling
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.rewards import log_error
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.files import ensure_folder
from schedrl.policies.agents import Agent
from schedrl.report.comparison import image, learning_blocks
from schedrl.report.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Paragraph,
    Table,
    write_document,
)
from schedrl.report.sampling import figures, show
from schedrl.schedules.conversions import FloatArray

__all__ = ["sampling_report_blocks", "write_sampling_report"]

_DRAWN = 6
"""Agents in a figure."""

_STEPS = (4, 6, 8, 10, 14, 20, 32)
"""Numbers of steps at which errors are drawn."""

_FEW = 32
"""Sources that errors against N are averaged over."""


def write_sampling_report(folder: Path, listen: Callable[[str], None] | None = None) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures/*.png`` into a comparison's folder.

    Args:
        folder: With ``benchmark.json`` and its results, as ``schedrl benchmark -f FOLDER`` leaves them.
        listen: Told what is being done.

    Returns:
        The HTML file.

    Raises:
        SchedrlError: The comparison is missing or damaged, or the folder cannot be written.
    """
    title = load_sampling(folder)[0].variant.id
    return write_document(folder, sampling_report_blocks(folder, listen), title)


def sampling_report_blocks(folder: Path, listen: Callable[[str], None] | None = None) -> list[Block]:
    """What :func:`write_sampling_report` writes."""
    manifest, results = load_sampling(folder)
    ensure_folder(folder / "figures", "report folder")
    summary = summarise_sampling(results)
    (listen or (lambda _: None))("figures")
    heads, rows = show.report_table(summary)
    return [
        Heading(f"Sampling grids in {summary.env_id}", 1),
        Bullets(tuple(show.findings(summary))),
        Heading("Results"),
        Table(heads, rows, left=1, caption=show.title(summary) + "."),
        Paragraph(show.explanation(summary)),
        *_pictures(folder, manifest, results, summary),
        *_method(manifest, results, summary),
    ]


def _pictures(
    folder: Path, manifest: SamplingManifest, results: Sequence[SamplingResult], summary: SamplingSummary
) -> list[Block]:
    agents = {row.label: _located(row.agent, folder) for row in manifest.rows}
    drawn = _chosen(summary)
    learned = summary.learned
    variant = manifest.variant
    first = SamplingProblems.drawn(variant, manifest.seeds[:1])
    grids = {name: agents[name].solve(first).sigmas[0, : int(first.total[0]) + 1] for name in drawn}
    blocks: list[Block] = [
        image(
            "profile",
            figures.profile_figure(results, drawn, summary.yardstick, learned),
            f"For each agent, the share of the {summary.num_sources} held-out sources on which its error is within a "
            f"factor of that of the {summary.yardstick}.",
        ),
        Heading("Grids"),
        image("grids", figures.grids_figure(grids, learned), "Grids of the first held-out source."),
    ]
    if variant.source.kind in ("gaussian", "images"):
        few = {name: grids[name] for name in drawn[:3]}
        blocks.append(
            image(
                "variance-along-the-sampler",
                figures.loss_figure(first, few, learned),
                "What each eigenvector has lost of its variance at each step, on the first held-out source. An error "
                "that is spread over the spectrum costs least.",
            )
        )
        blocks += _against_steps(
            variant, manifest.seeds[:_FEW], {name: agents[name] for name in drawn}, learned
        )
    elif variant.source.kind != "network":
        blocks += _against_dimension(variant, {name: agents[name] for name in drawn}, learned)
    folders = {row.label: folder / row.agent.files for row in manifest.rows if row.agent.files is not None}
    return [*blocks, *learning_blocks(folders)]


def _chosen(summary: SamplingSummary) -> list[str]:
    """Agents to draw: the learned one, the optimum, the best closed forms, and what people know."""
    names = [row.name for row in summary.rows if row.kind != "random"]
    wanted = [summary.learned, "grid-optimum", "grid-tangent", "grid-cosine", "grid-karras"]
    wanted += [name for name in ("dilated-vp", "dilated-ve", "uniform-vp", "uniform-ve") if name in names]
    wanted += [row.name for row in summary.rows if row.evaluations == 0 and row.kind == "grid"]
    wanted = [name for name in wanted if name in names] or [row.name for row in summary.rows]
    return [name for name in dict.fromkeys(wanted) if name is not None][:_DRAWN]


def _against_steps(
    variant: SamplingVariant, seeds: Sequence[int], agents: dict[str, Agent], learned: str | None
) -> list[Block]:
    errors: dict[str, FloatArray] = {name: np.full(len(_STEPS), np.nan) for name in agents}
    for place, steps in enumerate(_STEPS):
        fixed = {"steps": {"minimum": steps, "maximum": steps}}
        problems = SamplingProblems.drawn(variant.changed(fixed, variant.id), seeds)
        for name, agent in agents.items():
            values = problems.error(agent.solve(problems).sigmas)
            errors[name][place] = float(np.exp(log_error(values).mean()))
    trained = f"{variant.steps.minimum}" + (
        "" if variant.steps.minimum == variant.steps.maximum else f" to {variant.steps.maximum}"
    )
    caption = f"Geometric mean over {len(seeds)} held-out sources. The policy was trained at N = {trained}."
    return [
        Heading("More and fewer steps"),
        image("steps", figures.steps_figure(_STEPS, errors, learned), caption),
    ]


def _against_dimension(
    variant: SamplingVariant, agents: dict[str, Agent], learned: str | None
) -> list[Block]:
    source = variant.source
    assert source.kind in ("mixture", "curie-weiss")
    low, high = source.dimension
    # Unlike 10 to the power of a logarithm, the ends are exact.
    dimensions = np.geomspace(low, high, int(2 * np.log10(high / low)) + 1).tolist()
    parts: dict[str, dict[str, list[float]]] = {name: {} for name in agents}
    targets: dict[str, float] = {}
    for dimension in dimensions:
        change = {
            "source": {"dimension": [dimension, dimension]},
            "steps": {"minimum": variant.steps.maximum},
        }
        problems = SamplingProblems.drawn(variant.changed(change, variant.id), [0])
        targets = {name: float(values[0]) for name, values in problems.batch.targets().items()}
        for name, agent in agents.items():
            for part, values in problems.parts(agent.solve(problems).sigmas).items():
                parts[name].setdefault(part, []).append(float(values[0]))
    drawn = {name: {part: np.array(values) for part, values in own.items()} for name, own in parts.items()}
    caption = (
        f"At N = {variant.steps.maximum}: the weight of the larger mode and the variance within a mode, against the "
        "dimension. Both have to be right; uniform steps lose one or the other."
    )
    figure = figures.modes_figure(dimensions, drawn, targets, learned)
    return [Heading("From low to high dimension"), image("dimension", figure, caption)]


def _located(agent: Agent, folder: Path) -> Agent:
    """The agent, its folder as seen from here."""
    if agent.files is None:
        return agent
    if not (folder / agent.files / "agent.json").is_file():
        raise SchedrlError(f"agent folder {folder / agent.files}: is not there any more")
    return agent.relocated(str(folder / agent.files))


def _word(agent: Agent) -> str:
    """How the command line names an agent."""
    return agent.name if agent.files is None else str(agent.files)


def _accuracy(variant: SamplingVariant) -> str:
    source = variant.source
    if source.kind == "network":
        scored = (
            "Fréchet distances to the training images"
            if source.error == "frechet"
            else "distances to its own flow"
        )
        return (
            f"The network `{source.model}` is run; errors are {scored}, of {source.images} images an episode, the same "
            "noise for every agent."
        )
    if source.kind != "curie-weiss":
        return "Errors are exact: no samples are drawn."
    return (
        f"Errors are those of {source.samples} stratified samples with {source.strata} strata of spins, the same for "
        "every agent: good to a few percent."
    )


def _method(
    manifest: SamplingManifest, results: Sequence[SamplingResult], summary: SamplingSummary
) -> list[Block]:
    variant, last = manifest.variant, results[-1]
    software = ", ".join(f"{name} {number}" for name, number in sorted(last.versions.items()))
    first, final = manifest.seeds[0], manifest.seeds[-1]
    held_out = f"Held-out sources: seeds {first} to {final}, none of which a policy was trained on."
    if variant.source.kind == "images":
        held_out = (
            f"All episodes have the same source, that of a policy's training too; seeds {first} to {final} decide the "
            "number of steps alone, and intervals are over those."
        )
    items = (
        f"Environment `{variant.id}`, fingerprint `{variant.fingerprint()}`: {variant.description}.",
        f"Sampler `{variant.sampler}`. {_accuracy(variant)}",
        held_out,
        f"Hardware: {', '.join(sorted({result.hardware for result in results}))}. Software: {software}.",
    )
    words = ["schedrl", "benchmark", "--env", summary.env_id, "--seeds", str(len(manifest.seeds))]
    words += ["--first-seed", str(manifest.seeds[0]), "--agents"]
    words.append(
        ",".join(
            row.label if (name := _word(row.agent)) == row.label else f"{row.label}={name}"
            for row in manifest.rows
        )
    )
    for key, value in manifest.overrides.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    command = f"{shlex.join([*words, '-f', 'FOLDER'])}\nschedrl report FOLDER"
    return [Heading("How it was measured"), Bullets(items), Heading("Again"), Code(command)]
