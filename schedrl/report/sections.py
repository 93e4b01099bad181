"""Sections that all reports on benchmarks share: learning curves, how it was measured, and how to measure it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schedrl.benchmark.manifest import Manifest
from schedrl.benchmark.results import Result
from schedrl.errors import AgentFileError
from schedrl.policies.agent_files import read_description
from schedrl.policies.agents import slug
from schedrl.policies.progress import read_progress
from schedrl.report.document import Block, Bullets, Code, Heading, Sentences
from schedrl.report.figures import image, learning_figure

__all__ = ["learning_blocks", "method_blocks", "seed_span"]

_WORDS = Sentences("common.txt.j2")


def learning_blocks(folders: Mapping[str, Path]) -> list[Block]:
    """Learning curves of trained agents, by the agents' labels; empty if no folder has one."""
    blocks: list[Block] = []
    for name, folder in folders.items():
        if progress := read_progress(folder):
            caption = _WORDS.learning(name, progress[-1].seconds / 60.0)
            figure = learning_figure(progress, name)
            blocks.append(image(f"learning-{name}", figure, caption, _WORDS.learning_alt(name, progress)))
    return [Heading("Learning"), *blocks] if blocks else []


def method_blocks(
    folder: Path,
    manifest: Manifest[Any],
    results: Sequence[Result],
    facts: Sequence[str],
    options: Sequence[str] = (),
) -> list[Block]:
    """How a benchmark was measured, and the commands that measure it again.

    Args:
        folder: Folder of the benchmark.
        manifest: The benchmark.
        results: Its runs.
        facts: What else to say about the measurement.
        options: Further options of ``schedrl benchmark``.
    """
    revisions = [f"`{result.revision}`" for result in results if result.revision]
    software = (
        ", ".join(f"{name} {number}" for name, number in sorted(result.versions.items()))
        for result in results
    )
    items = (
        _WORDS.environment(manifest.variant),
        *facts,
        f"Hardware: {_each(result.hardware for result in results)}.",
        f"Software: {_each(software)}.",
        f"Revision of schedrl: {_each(revisions) or 'unknown'}.",
    )
    env_id = manifest.variant.id
    words = ["schedrl", "benchmark", "--env", env_id, "--seeds", str(len(manifest.seeds))]
    words += ["--first-seed", str(manifest.seeds[0]), "--agents"]
    words += [",".join(_word(label, name, env_id) for label, name in manifest.names().items()), *options]
    for key, value in manifest.overrides.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    commands = [
        *_trainings(manifest.folders(folder)),
        shlex.join([*words, "-f", "FOLDER"]),
        "schedrl report FOLDER",
    ]
    return [
        Heading("How it was measured"),
        Bullets(items),
        Heading("Measure it again"),
        Code("\n".join(commands)),
    ]


def seed_span(seeds: Sequence[int]) -> str:
    """The first and the last of consecutive seeds."""
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])


def _each(values: Iterable[str]) -> str:
    """All different values, each once."""
    return "; ".join(dict.fromkeys(values))


def _word(label: str, name: str, env_id: str) -> str:
    """An agent in ``--agents``. A policy that is shipped has its name, wherever the package lies."""
    shipped = Path(name).parts[-3:] == ("agents", "trained", f"{label}-{slug(env_id)}")
    return label if shipped or name == label else f"{label}={name}"


def _trainings(folders: Mapping[str, Path]) -> list[str]:
    """The commands that trained the learned agents, as comments, as far as their folders are there."""
    lines = []
    for label, folder in folders.items():
        try:
            made = read_description(folder)
        except AgentFileError:
            continue
        words = ["schedrl", "train", "--env", made.variant.id, "--algo", "ppo", "-n", str(made.timesteps)]
        lines.append(f"# {label}: {shlex.join([*words, '--seed', str(made.seed)])}")
    return lines
