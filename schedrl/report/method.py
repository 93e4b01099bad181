"""How a comparison was measured, with what, and the commands that do it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from schedrl.benchmark.manifest import TrainingManifest, TrainingManifestRow
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import TrainingSummary
from schedrl.errors import AgentFileError
from schedrl.policies.agent_files import read_description
from schedrl.report.document import Block, Bullets, Code, Heading

__all__ = ["method_blocks"]


def method_blocks(
    folder: Path, manifest: TrainingManifest, results: Sequence[TrainingResult], summary: TrainingSummary
) -> list[Block]:
    """The last sections of a report.

    Args:
        folder: Of the comparison.
        manifest: What it is about.
        results: Its runs.
        summary: Its table.
    """
    variant, last = manifest.variant, results[-1]
    grid = variant.test_bound or variant.bound
    seeds = f"{summary.seeds[0]} to {summary.seeds[-1]}" if len(summary.seeds) > 1 else str(summary.seeds[0])
    training = variant.training
    trained = (
        f"Every run trains a U-Net with channels {list(training.network.channels)} from scratch on "
        f"`{variant.data.name}`: {variant.optimizer_steps} steps of {training.optimizer.name}, learning rate "
        f"{training.optimizer.learning_rate:g}, batches of {training.batch_size}."
    )
    measured = (
        f"The bound is measured on test images at {grid.levels} fixed noise levels between λ = {grid.logsnr_max:g} "
        f"and {grid.logsnr_min:g}, with fixed noise; no agent is rewarded for test images. Protocol fingerprint "
        f"`{last.protocol}`, equal for all rows."
    )
    held_out = (
        f"Held-out seeds {seeds}: other initial weights, batches and noise than in any training of an agent. All "
        "agents run on the same seeds, which pairs them."
    )
    minutes = sum(result.seconds for result in results) / 60.0
    items = (
        f"Environment `{variant.id}`, fingerprint `{variant.fingerprint()}`: {variant.description}.",
        trained,
        measured,
        held_out,
        f"{len(results)} runs, {minutes:.1f} minutes of training in all, from {_span(results)}.",
        f"Hardware: {_some(result.hardware for result in results)}.",
        f"Software: {_some(_software(result) for result in results)}.",
        f"Revision of schedrl: {_some(f'`{result.revision}`' for result in results if result.revision) or 'unknown'}.",
    )
    return [
        Heading("How it was measured"),
        Bullets(items),
        Heading("Again"),
        Code("\n".join([*_trainings(folder, manifest), *_commands(manifest, summary)])),
    ]


def _some(values: Iterable[str]) -> str:
    """What occurs, each once."""
    return "; ".join(dict.fromkeys(values))


def _software(result: TrainingResult) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(result.versions.items()))


def _span(results: Sequence[TrainingResult]) -> str:
    first, last = min(r.created for r in results), max(r.created for r in results)
    return first if first == last else f"{first} to {last}"


def _trainings(folder: Path, manifest: TrainingManifest) -> list[str]:
    """The commands that trained the learned agents, as comments where their folders are at hand."""
    lines = []
    for row in manifest.rows:
        if row.folder is None:
            continue
        try:
            made = read_description(folder / row.folder)
        except AgentFileError:
            continue
        words = ["schedrl", "train", "--env", made.variant.id, "--algo", "ppo", "-n", str(made.timesteps)]
        lines.append(f"# {row.agent}: {shlex.join([*words, '--seed', str(made.seed)])}")
    return lines


def _commands(manifest: TrainingManifest, summary: TrainingSummary) -> list[str]:
    agents = dict.fromkeys(_word(row) for row in manifest.rows)
    words = ["schedrl", "benchmark", "--env", summary.env_id, "--seeds", str(len(manifest.seeds))]
    words += ["--first-seed", str(manifest.seeds[0]), "--agents", ",".join(agents), *_form(manifest.rows)]
    if manifest.reference is not None:
        words += ["--reference", manifest.reference]
    if manifest.samples is not None:
        words += ["--samples", str(manifest.samples.count)]
    for key, value in manifest.overrides.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return [shlex.join([*words, "-f", "FOLDER"]), "schedrl report FOLDER"]


def _word(row: TrainingManifestRow) -> str:
    """How the command line names a row's agent."""
    if row.folder is None:
        return row.agent
    # A policy that is shipped has its name, wherever the package lies.
    shipped = row.agent == "ppo" and Path(row.folder).parts[-3:-1] == ("agents", "trained")
    return row.agent if shipped else f"{row.agent}={row.folder}"


def _form(rows: Sequence[TrainingManifestRow]) -> list[str]:
    """The forms of hand-made laws that were asked for, unless both were."""
    exact = {row.agent for row in rows if row.form == "exact"}
    if not exact:
        return ["--form", "action"]
    return [] if any(row.form == "action" and row.agent in exact for row in rows) else ["--form", "exact"]
