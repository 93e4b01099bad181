"""What a folder of results is about: which environment, which seeds, which rows. Written beside the results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from schedrl.benchmark.results import SamplingResult, TrainingResult
from schedrl.benchmark.sampling_tasks import SamplingPlan
from schedrl.benchmark.store import RESULTS, read_results
from schedrl.benchmark.training_tasks import Plan
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec
from schedrl.files import dump_json, write_text
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import AnyAgent, Form

__all__ = [
    "MANIFEST",
    "SamplingManifest",
    "SamplingManifestRow",
    "Several",
    "TrainingManifest",
    "TrainingManifestRow",
    "family_of",
    "load_sampling",
    "load_training",
    "read_json_model",
    "read_manifest",
    "relative",
    "write_sampling_manifest",
    "write_training_manifest",
]

MANIFEST = "benchmark.json"

ModelT = TypeVar("ModelT", bound=Spec)


class TrainingManifestRow(Spec):
    """A row of the table.

    Attributes:
        agent: Its label.
        form: How it was measured.
        agent_hash: Hash of the agent.
        folder: Of a trained agent, with its learning curve; relative to the manifest when inside its folder.
    """

    agent: str
    form: Form
    agent_hash: str
    folder: str | None = None


class TrainingManifest(Spec):
    """Contents of ``benchmark.json``.

    Attributes:
        format: Version of the layout.
        variant: The environment, whole.
        seeds: Held-out seeds.
        rows: The rows.
        reference: Label of the agent that the others are compared with.
        results: Where the results are; relative to the manifest when inside its folder.
        notes: What was left out, and why.
        overrides: Changes that made the variant out of the registered one.
        samples: What was drawn from every trained network and measured.
    """

    format: Literal[1] = 1
    variant: TrainingVariant
    seeds: tuple[int, ...]
    rows: tuple[TrainingManifestRow, ...]
    reference: str | None = None
    results: str = RESULTS
    notes: tuple[str, ...] = ()
    overrides: dict[str, Any] = Field(default_factory=dict)
    samples: SampleSpec | None = None


def write_training_manifest(
    folder: Path,
    plan: Plan,
    results: Path,
    *,
    reference: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    within: Path | None = None,
) -> TrainingManifest:
    """Describe a comparison in its folder.

    Args:
        folder: Where to.
        plan: The comparison.
        results: The file that its runs are in.
        reference: Label of the agent that the others are compared with.
        overrides: Changes that made the plan's variant out of the registered one.
        within: Folder that is moved as a whole, if that is not ``folder``: paths inside it are relative.
    """
    rows = []
    for row in plan.measurements:
        agent = row.entry.agent
        path = None if agent.files is None else relative(agent.files, folder, within)
        rows.append(
            TrainingManifestRow(agent=row.entry.label, form=row.form, agent_hash=row.agent_hash, folder=path)
        )
    manifest = TrainingManifest(
        variant=plan.variant,
        seeds=tuple(plan.seeds),
        rows=tuple(rows),
        reference=reference,
        results=relative(results, folder, within),
        notes=tuple(plan.notes),
        overrides=dict(overrides or {}),
        samples=plan.samples,
    )
    write_text(folder / MANIFEST, dump_json(manifest.model_dump(mode="json")))
    return manifest


def read_manifest(folder: Path) -> TrainingManifest:
    """Read the description of a comparison of training runs.

    Raises:
        SchedrlError: It is missing or damaged.
    """
    return read_json_model(folder, TrainingManifest)


class Several(Spec):
    """Contents of ``benchmark.json`` for a protocol with several environments; each has a folder of its own.

    Attributes:
        format: Version of the layout.
        family: Tells it from a comparison in one environment.
        parts: Names of the folders.
    """

    format: Literal[1] = 1
    family: Literal["several"] = "several"
    parts: tuple[str, ...]


def family_of(folder: Path) -> str:
    """The family of environments that a folder's comparison is about; ``training`` unless it says otherwise."""
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("family", "training"))
    except (OSError, ValueError, AttributeError):
        return "training"  # reading it as such says what is wrong


def read_json_model(folder: Path, model: type[ModelT]) -> ModelT:
    """A folder's ``benchmark.json`` as a model.

    Raises:
        SchedrlError: It is missing or damaged.
    """
    path = folder / MANIFEST
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SchedrlError(
            f"{folder}: no comparison to report: {MANIFEST}: {error.strerror or error}; "
            "`schedrl benchmark -f FOLDER` makes one"
        ) from None
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise SchedrlError(f"{path}: field '{field}': {problem['msg']}") from None
    except ValueError as error:
        raise SchedrlError(f"{path}: is not JSON: {error}") from None


def load_training(folder: Path) -> tuple[TrainingManifest, list[TrainingResult]]:
    """A folder's description and those of its results that it is about.

    Raises:
        SchedrlError: Files are missing or damaged, or hold none of the comparison's runs.
    """
    manifest = read_manifest(folder)
    results = select(manifest, read_results(folder / manifest.results, TrainingResult))
    if not results:
        raise SchedrlError(f"{folder / manifest.results}: holds no run of the comparison in {MANIFEST}")
    return manifest, results


def select(manifest: TrainingManifest, results: Sequence[TrainingResult]) -> list[TrainingResult]:
    """Results of the comparison, row by row in its order."""
    fingerprint, seeds = manifest.variant.fingerprint(), set(manifest.seeds)
    return [
        result
        for row in manifest.rows
        for result in results
        if (result.agent, result.form, result.agent_hash) == (row.agent, row.form, row.agent_hash)
        and result.fingerprint == fingerprint
        and result.seed in seeds
        and (None if result.quality is None else result.quality.spec) == manifest.samples
    ]


def relative(path: Path, folder: Path, within: Path | None = None) -> str:
    """A path as a manifest in ``folder`` holds it: relative inside it (or inside ``within``), else absolute."""
    path, folder = path.resolve(), folder.resolve()
    inside = path.is_relative_to(folder if within is None else within.resolve())
    return os.path.relpath(path, folder) if inside else str(path)


class SamplingManifestRow(Spec):
    """A row of the table.

    Attributes:
        label: Its name.
        agent_hash: Hash of the agent.
        agent: What it is; a trained one's folder is relative to the manifest when inside its folder.
    """

    label: str
    agent_hash: str
    agent: AnyAgent


class SamplingManifest(Spec):
    """Contents of ``benchmark.json``.

    Attributes:
        format: Version of the layout.
        family: Tells it from a comparison of training runs.
        variant: The environment, whole.
        seeds: Held-out seeds.
        rows: The agents.
        results: Where the results are; relative to the manifest when inside its folder.
        overrides: Changes that made the variant out of the registered one.
    """

    format: Literal[1] = 1
    family: Literal["sampling"] = "sampling"
    variant: SamplingVariant
    seeds: tuple[int, ...]
    rows: tuple[SamplingManifestRow, ...]
    results: str = RESULTS
    overrides: dict[str, Any] = Field(default_factory=dict)


def write_sampling_manifest(
    folder: Path,
    plan: SamplingPlan,
    results: Path,
    overrides: Mapping[str, Any] | None = None,
    within: Path | None = None,
) -> SamplingManifest:
    """Describe a comparison in its folder; see :func:`write_training_manifest`."""
    rows = []
    for row in plan.rows:
        agent: Any = row.entry.agent
        if agent.files is not None:
            agent = agent.relocated(relative(agent.files, folder, within))
        rows.append(SamplingManifestRow(label=row.entry.label, agent_hash=row.agent_hash, agent=agent))
    manifest = SamplingManifest(
        variant=plan.variant,
        seeds=tuple(plan.seeds),
        rows=tuple(rows),
        results=relative(results, folder, within),
        overrides=dict(overrides or {}),
    )
    write_text(folder / MANIFEST, dump_json(manifest.model_dump(mode="json")))
    return manifest


def load_sampling(folder: Path) -> tuple[SamplingManifest, list[SamplingResult]]:
    """A folder's description and those of its results that it is about, row by row.

    Raises:
        SchedrlError: Files are missing or damaged, or hold none of the comparison's runs.
    """
    manifest = read_json_model(folder, SamplingManifest)
    fingerprint, seeds = manifest.variant.fingerprint(), set(manifest.seeds)
    found = read_results(folder / manifest.results, SamplingResult)
    results = [
        result
        for row in manifest.rows
        for result in found
        if (result.agent, result.agent_hash) == (row.label, row.agent_hash)
        and result.fingerprint == fingerprint
        and result.seed in seeds
    ]
    if not results:
        raise SchedrlError(f"{folder / manifest.results}: holds no run of the comparison in {MANIFEST}")
    return manifest, results
