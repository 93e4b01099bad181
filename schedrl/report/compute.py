"""What trainings and searches had gained after how much compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schedrl import schedules
from schedrl.benchmark.manifest import TrainingManifest
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.searches import SEARCHES
from schedrl.benchmark.training_summary import Groups, TrainingSummary, named_groups, paired_by_seed
from schedrl.environments.definition import Variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agent_files import read_description
from schedrl.policies.agents import SEQUENCE, Role, SequenceAgent, find
from schedrl.policies.progress import read_progress
from schedrl.schedules.conversions import FloatArray
from schedrl.stats.intervals import Interval

_HAND_MADE = 4
"""Hand-made rows that are drawn."""


@dataclass(frozen=True)
class GainCurve:
    """Progress of a training or a search.

    Attributes:
        name: Name of its row.
        role: Learned or searched.
        optimizer_steps: ``[n]``, optimizer steps spent so far.
        gain: ``[n]``, return minus that of the reference schedule, bits/dim. For a training, the mean over an update's
            episodes, with exploration; for a search, that of its best candidate so far on the seeds of its round.
    """

    name: str
    role: Role
    optimizer_steps: FloatArray
    gain: FloatArray


@dataclass(frozen=True)
class FinalGain:
    """What a row gains on held-out seeds.

    Attributes:
        name: Name of the row.
        role: Its role.
        optimizer_steps: Optimizer steps spent to find it.
        gain: Return minus that of the reference schedule, paired by seed, bits/dim.
    """

    name: str
    role: Role
    optimizer_steps: int
    gain: Interval


@dataclass(frozen=True)
class ComputeGains:
    """Gains against compute.

    Attributes:
        base: Name of the row that gains are differences to: the reference schedule, which action 0 reproduces.
        curves: Trainings and searches whose records were found.
        finals: Learned and searched rows, and the best hand-made ones.
        notes: What is missing, and why.
    """

    base: str
    curves: tuple[GainCurve, ...]
    finals: tuple[FinalGain, ...]
    notes: tuple[str, ...]


def compute_gains(
    folder: Path, manifest: TrainingManifest, results: Sequence[TrainingResult], summary: TrainingSummary
) -> ComputeGains | None:
    """Collect the progress of trainings and searches, and their results, from a benchmark's folder.

    Returns:
        None where gains have no common zero (the reward is not the bound, or the reference schedule is not a row) and
        where nothing was learned or searched.
    """
    groups = named_groups(results)
    base = _base(manifest.variant, groups)
    wanted = [row for row in summary.rows if row.role in ("learned", "searched")]
    if base is None or summary.reward != "bound" or not wanted:
        return None
    zero = float(np.mean([run.episode_return for run in groups[base]]))
    found = [_curve(row.name, groups[row.name][0], folder, manifest, zero) for row in wanted]
    hand_made = [row for row in summary.rows if row.role == "hand-made" and row.name != base]
    finals = []
    for row in [*wanted, *hand_made[:_HAND_MADE]]:
        gain = paired_by_seed(groups[row.name], groups[base], lambda run: run.episode_return)
        if gain is not None:
            finals.append(FinalGain(row.name, row.role, row.search_steps, gain))
    return ComputeGains(
        base,
        tuple(each for each in found if isinstance(each, GainCurve)),
        tuple(finals),
        tuple(each for each in found if isinstance(each, str)),
    )


def _base(variant: TrainingVariant, groups: Groups) -> str | None:
    """The row that does what action 0 does: through the actions if it is there, else the schedule as written."""
    reference = getattr(variant.action, "reference", None)
    for group in groups.values() if reference is not None else ():
        first = group[0]
        if first.form == "exact" and all(schedules.from_dict(each) == reference for each in first.schedule):
            rows = {other[0].form: name for name, other in groups.items() if other[0].agent == first.agent}
            return rows.get("action", rows["exact"])
    return None


def _curve(
    name: str, run: TrainingResult, folder: Path, manifest: TrainingManifest, zero: float
) -> GainCurve | str:
    """The progress of a row, one of whose runs is given; or why there is none."""
    row = next(row for row in manifest.rows if (row.label, row.agent_hash) == (run.agent, run.agent_hash))
    training = manifest.folders(folder).get(row.label)
    if training is None:
        history = _history(folder, manifest, row.agent_hash)
        if not history:
            return f"The record of the search {name} was not found."
        return GainCurve(name, "searched", *np.array(history, dtype=np.float64).T)
    if not (progress := read_progress(training)):
        return f"The learning curve of {name} was not found."
    trained = read_description(training).variant
    if _decides_returns(trained) != _decides_returns(manifest.variant):
        return f"{name} was trained in another environment, `{trained.id}`; its returns there cannot be compared."
    per_step = manifest.variant.optimizer_steps / manifest.variant.episode_steps
    steps = np.array([point.timesteps * per_step for point in progress])
    return GainCurve(name, "learned", steps, np.array([point.return_mean - zero for point in progress]))


def _decides_returns(variant: Variant) -> dict[str, Any]:
    """All of an environment except its name and what is measured on test images."""
    return variant.model_dump(mode="json", exclude={"id", "description", "test_bound"})


def _history(folder: Path, manifest: TrainingManifest, digest: str) -> list[tuple[int, float]]:
    """Optimizer steps and best gains of the search that found the agent with this hash; empty if there is no record."""
    # With one environment searches lie beside the results, with several in each environment's folder.
    places = dict.fromkeys([folder, (folder / manifest.results).parent])
    for path in [path for place in places for path in sorted((place / SEARCHES).glob(f"*/{SEQUENCE}"))]:
        try:
            agent = find(str(path.parent), manifest.variant.id)
        except SchedrlError:
            continue  # not the one that is wanted, which could be read when its row was measured
        if isinstance(agent, SequenceAgent) and agent.definition_hash() == digest:
            return [(point.optimizer_steps, point.best) for point in agent.history]
    return []
