"""What a folder of sampling results is about. Written beside the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from schedrl.benchmark.manifest import MANIFEST, read_json_model, relative
from schedrl.benchmark.sampling.comparison import SamplingPlan
from schedrl.benchmark.sampling.records import SamplingResult
from schedrl.benchmark.store import RESULTS, read_results
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError, Spec
from schedrl.files import dump_json, write_text
from schedrl.policies.agents import Agent

__all__ = ["SamplingManifest", "SamplingManifestRow", "load_sampling_comparison", "write_sampling_manifest"]


class SamplingManifestRow(Spec):
    """A row of the table.

    Attributes:
        label: Its name.
        agent_hash: Hash of the agent.
        agent: What it is; a trained one's folder is relative to the manifest when inside its folder.
    """

    label: str
    agent_hash: str
    agent: Agent = Field(discriminator="kind")


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
    """Describe a comparison in its folder; see :func:`schedrl.benchmark.manifest.write_manifest`."""
    rows = []
    for row in plan.rows:
        agent = row.entry.agent
        if agent.kind == "trained":
            agent = agent.model_copy(update={"path": relative(Path(agent.path), folder, within)})
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


def load_sampling_comparison(folder: Path) -> tuple[SamplingManifest, list[SamplingResult]]:
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
