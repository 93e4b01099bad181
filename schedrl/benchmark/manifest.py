"""``benchmark.json``: what a folder of results is about, written beside the results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, model_validator

from schedrl.benchmark.results import Result, SamplingResult, TrainingResult
from schedrl.benchmark.store import RESULTS, read_results
from schedrl.benchmark.tasks import Part
from schedrl.environments.definition import Variant
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec
from schedrl.files import dump_json, read_model, read_object, write_text
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import AnyAgent, Form

MANIFEST = "benchmark.json"

VariantT = TypeVar("VariantT", bound=Variant)
ResultT = TypeVar("ResultT", bound=Result)
ModelT = TypeVar("ModelT", bound=Spec)


class ManifestRow(Spec):
    """A row of the table.

    Attributes:
        label: What the table calls the agent.
        agent_hash: Hash of the agent.
        form: How it was measured, in a training environment.
        agent: The agent; a trained one's folder is relative to the manifest when inside its folder. Files of format 1
            have only trained agents where networks are trained.
    """

    label: str
    agent_hash: str
    form: Form | None = None
    agent: AnyAgent | None = None

    @model_validator(mode="before")
    @classmethod
    def _format_1(cls, row: Any) -> Any:
        """Rows of training environments had the label as ``agent``, and a trained agent's ``folder``."""
        if not isinstance(row, dict) or not isinstance(label := row.get("agent"), str):
            return row
        path = row.get("folder")
        agent = None if path is None else {"kind": "trained", "name": "trained", "path": path}
        return {**{name: row[name] for name in row if name != "folder"}, "label": label, "agent": agent}


class Manifest(Spec, Generic[VariantT]):
    """Contents of ``benchmark.json`` for one environment.

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

    format: Literal[1, 2] = 2
    variant: VariantT
    seeds: tuple[int, ...]
    rows: tuple[ManifestRow, ...]
    reference: str | None = None
    results: str = RESULTS
    notes: tuple[str, ...] = ()
    overrides: dict[str, Any] = Field(default_factory=dict)
    samples: SampleSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _format_1(cls, content: Any) -> Any:
        """The variant says what ``family`` said."""
        if isinstance(content, dict) and content.get("family") == "sampling":
            return {name: value for name, value in content.items() if name != "family"}
        return content

    def folders(self, folder: Path) -> dict[str, Path]:
        """Folders of the trained agents, by label; the manifest lies in ``folder``."""
        agents = {row.label: row.agent for row in self.rows if row.agent is not None}
        return {label: folder / agent.files for label, agent in agents.items() if agent.files is not None}

    def names(self) -> dict[str, str]:
        """By label, the agents' names in the catalogue, or paths."""
        return {
            row.label: row.label if row.agent is None else str(row.agent.files or row.agent.name)
            for row in self.rows
        }

    def select(self, results: Sequence[ResultT]) -> list[ResultT]:
        """The results that it is about, row by row."""
        fingerprint, seeds = self.variant.fingerprint(), set(self.seeds)
        return [
            result
            for row in self.rows
            for result in results
            if result.row == (row.label, row.agent_hash, row.form, self.samples)
            and result.fingerprint == fingerprint
            and result.seed in seeds
        ]


TrainingManifest = Manifest[TrainingVariant]
SamplingManifest = Manifest[SamplingVariant]


class Several(Spec):
    """Contents of ``benchmark.json`` for a benchmark in several environments; each has a folder of its own.

    Attributes:
        format: Version of the layout.
        family: Tells it from a benchmark in one environment.
        parts: Names of the folders.
    """

    format: Literal[1] = 1
    family: Literal["several"] = "several"
    parts: tuple[Annotated[str, Field(pattern=r"^[\w.-]*[\w-][\w.-]*$")], ...]


def write_manifests(folder: Path, parts: Sequence[Part], results: Path) -> None:
    """Describe the results of a benchmark in its folder.

    Args:
        folder: Folder of the benchmark; with several parts, each gets its own folder in it.
        parts: One per environment.
        results: The file that all runs are in.
    """
    several = len(parts) > 1
    for part in parts:
        own = folder / part.folder if several else folder
        rows = []
        for task in part.tasks:
            (label, digest, form, _), agent = task.row, task.agent
            if agent.files is not None:
                agent = agent.relocated(_relative(agent.files, own, folder))
            row = {"label": label, "agent_hash": digest, "form": form, "agent": agent}
            rows.append(ManifestRow.model_validate(row))
        manifest = Manifest[Any](
            variant=part.variant,
            seeds=part.seeds,
            rows=tuple(rows),
            reference=part.reference,
            results=_relative(results, own, folder),
            notes=part.notes,
            overrides=dict(part.overrides),
            samples=part.samples,
        )
        _write(own, manifest)
    if several:
        _write(folder, Several(parts=tuple(part.folder for part in parts)))


def _write(folder: Path, content: Spec) -> None:
    write_text(folder / MANIFEST, dump_json(content.model_dump(mode="json")))


def _relative(path: Path, folder: Path, within: Path) -> str:
    """A path as seen from ``folder`` if it lies within the benchmark's folder, which may be moved; else absolute."""
    path = path.resolve()
    return os.path.relpath(path, folder.resolve()) if path.is_relative_to(within.resolve()) else str(path)


def family_of(folder: Path) -> str:
    """The family of a folder's benchmark, or ``several``; ``training`` where it cannot be read."""
    try:
        content = read_object(folder / MANIFEST, "manifest")
        return str(content.get("family") or content["variant"].get("family", "training"))
    except (ValueError, LookupError, AttributeError):
        return "training"  # reading it as such says what is wrong


def read_manifest(folder: Path, model: type[ModelT]) -> ModelT:
    """Read a folder's ``benchmark.json``."""
    if not os.path.isfile(folder.joinpath(MANIFEST)):
        raise SchedrlError(
            f"{folder}: no benchmark to report: {MANIFEST} is missing; `schedrl benchmark -f FOLDER` makes one"
        )
    return read_model(folder / MANIFEST, model, "manifest")


def load_training(folder: Path) -> tuple[TrainingManifest, list[TrainingResult]]:
    """The manifest and the results of a folder about a training environment."""
    return _load(folder, TrainingManifest, TrainingResult)


def load_sampling(folder: Path) -> tuple[SamplingManifest, list[SamplingResult]]:
    """The manifest and the results of a folder about a sampling environment."""
    return _load(folder, SamplingManifest, SamplingResult)


def _load(
    folder: Path, model: type[Manifest[VariantT]], result: type[ResultT]
) -> tuple[Manifest[VariantT], list[ResultT]]:
    manifest = read_manifest(folder, model)
    results = manifest.select(read_results(folder / manifest.results, result))
    if not results:
        raise SchedrlError(f"{folder / manifest.results}: holds no run of the benchmark in {MANIFEST}")
    return manifest, results
