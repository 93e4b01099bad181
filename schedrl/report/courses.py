"""What learning and searching had reached after how much compute, on one axis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedrl import schedules
from schedrl.benchmark.manifest import TrainingManifest
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.searches import SEARCHES
from schedrl.benchmark.training_summary import Role, TrainingSummary, named_groups
from schedrl.environments.definition import Variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agent_files import read_description
from schedrl.policies.agents import SEQUENCE, SequenceAgent, parse_agent
from schedrl.policies.progress import read_progress
from schedrl.stats.intervals import Interval, paired_difference

__all__ = ["Course", "Courses", "Reached", "courses_of"]

_LINES = 4
"""Hand-made rows that are drawn."""


@dataclass(frozen=True)
class Course:
    """Where an agent stood while it was being found.

    Attributes:
        name: Of its row.
        role: Learned or searched.
        optimizer_steps: ``[n]``, spent by then.
        gain: ``[n]``, return minus that of the reference law. Of a training the mean of an update's episodes,
            exploration included; of a search that of its best candidate so far on the seeds of its round.
    """

    name: str
    role: Role
    optimizer_steps: NDArray[np.float64]
    gain: NDArray[np.float64]


@dataclass(frozen=True)
class Reached:
    """What a row came to on held-out seeds.

    Attributes:
        name: Of the row.
        role: What it is.
        optimizer_steps: That finding it cost.
        gain: Return minus that of the reference law, paired by seed.
    """

    name: str
    role: Role
    optimizer_steps: int
    gain: Interval


@dataclass(frozen=True)
class Courses:
    """Everything on the axis of compute.

    Attributes:
        base: Name of the row that is the law of action 0, which gains are over.
        courses: Trainings and searches, as far as their records are at hand.
        reached: Learned and searched rows, and the best hand-made ones.
        notes: What is missing, and why.
    """

    base: str
    courses: tuple[Course, ...]
    reached: tuple[Reached, ...]
    notes: tuple[str, ...] = field(default=())


def courses_of(
    folder: Path, manifest: TrainingManifest, results: Sequence[TrainingResult], summary: TrainingSummary
) -> Courses | None:
    """Collect courses and what they led to.

    Args:
        folder: Of the comparison; searches are looked for there and beside its results.
        manifest: What it is about.
        results: Its runs.
        summary: Its table.

    Returns:
        None where gains have no common zero: the reward is not the bound, the law of action 0 is not a row, or nothing
        was learned or searched.
    """
    groups = named_groups(results)
    base = _base(manifest.variant, groups)
    if base is None or summary.reward != "bound":
        return None
    wanted = [row.name for row in summary.rows if row.role in ("learned", "searched")]
    if not wanted:
        return None
    zero = float(np.mean([result.episode_return for result in groups[base]]))
    made: list[Course] = []
    notes: list[str] = []
    for name in wanted:
        found = _course(name, groups[name], folder, manifest, zero)
        if isinstance(found, Course):
            made.append(found)
        else:
            notes.append(found)
    hand_made = [row.name for row in summary.rows if row.role == "hand-made" and row.name != base]
    reached = [_reached(summary, groups, name, base) for name in [*wanted, *hand_made[:_LINES]]]
    return Courses(base, tuple(made), tuple(point for point in reached if point is not None), tuple(notes))


def _base(variant: TrainingVariant, groups: dict[str, list[TrainingResult]]) -> str | None:
    """The row that does what action 0 does: through the actions if it is there, else the law as written."""
    reference = getattr(variant.action, "reference", None)
    if reference is None:
        return None
    label = next(
        (
            group[0].agent
            for group in groups.values()
            if group[0].form == "exact"
            and all(schedules.from_dict(schedule) == reference for schedule in group[0].schedule)
        ),
        None,
    )
    rows = {group[0].form: name for name, group in groups.items() if group[0].agent == label}
    return rows.get("action", rows.get("exact"))


def _course(
    name: str, group: Sequence[TrainingResult], folder: Path, manifest: TrainingManifest, zero: float
) -> Course | str:
    """The course of a row, or why there is none."""
    first = group[0]
    row = next(row for row in manifest.rows if (row.agent, row.agent_hash) == (first.agent, first.agent_hash))
    if first.kind == "sequence":
        agent = _search(folder, manifest, row.agent_hash)
        if agent is None or not agent.history:
            return f"The course of {name} is not at hand."
        steps = [point.optimizer_steps for point in agent.history]
        return Course(name, "searched", np.array(steps, float), np.array([p.best for p in agent.history]))
    training = folder / row.folder if row.folder is not None else None
    progress = read_progress(training) if training is not None else []
    if training is None or not progress:
        return f"The training curve of {name} is not at hand."
    trained = read_description(training).variant
    if _returns_of(trained) != _returns_of(manifest.variant):
        return f"{name} was trained in another environment, `{trained.id}`, whose returns are others."
    a_step = manifest.variant.optimizer_steps / manifest.variant.episode_steps
    return Course(
        name,
        "learned",
        np.array([point.timesteps * a_step for point in progress]),
        np.array([point.return_mean - zero for point in progress]),
    )


def _returns_of(variant: Variant) -> dict[str, Any]:
    """What decides returns: all of an environment but its name and what is measured on test images."""
    return variant.model_dump(mode="json", exclude={"id", "description", "test_bound"})


def _search(folder: Path, manifest: TrainingManifest, digest: str) -> SequenceAgent | None:
    """A search's record, found by the hash of what it found."""
    # A comparison in one environment has its searches beside its results, one in several in each one's folder.
    places = dict.fromkeys([folder, (folder / manifest.results).parent])
    for path in [path for place in places for path in sorted((place / SEARCHES).glob(f"*/{SEQUENCE}"))]:
        try:
            agent = parse_agent(json.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError, TypeError, SchedrlError):
            continue  # another's file; the one that is wanted was read when the row was measured
        if isinstance(agent, SequenceAgent) and agent.definition_hash() == digest:
            return agent
    return None


def _reached(
    summary: TrainingSummary, groups: dict[str, list[TrainingResult]], name: str, base: str
) -> Reached | None:
    row = summary.row(name)
    ours = {result.seed: result.episode_return for result in groups[name]}
    theirs = {result.seed: result.episode_return for result in groups[base]}
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return None
    gain = paired_difference([ours[seed] for seed in shared], [theirs[seed] for seed in shared])
    return Reached(name, row.role, row.search_steps, gain)
