"""What the reports of all families of environments share: their form, learning curves, and how it was measured."""

from __future__ import annotations

import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from schedrl.benchmark.manifest import Manifest
from schedrl.benchmark.results import Result
from schedrl.environments.definition import Variant
from schedrl.errors import AgentFileError
from schedrl.files import ensure_folder
from schedrl.policies.agent_files import read_description
from schedrl.policies.agents import slug
from schedrl.policies.progress import read_progress
from schedrl.report.document import Block, Bullets, Code, Heading, Sentences, Table
from schedrl.report.figures import image, learning_figure
from schedrl.stats.intervals import Interval

_WORDS = Sentences("common.txt.j2")

VariantT = TypeVar("VariantT", bound=Variant)
ResultT = TypeVar("ResultT", bound=Result)


class FamilyReport(ABC, Generic[VariantT, ResultT]):
    """The report of a benchmark in one environment. Each family of environments has its own subclass.

    Args:
        folder: The benchmark's folder.

    Raises:
        SchedrlError: The benchmark is missing or damaged, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest, self.results = self._load()
        ensure_folder(folder / "figures", "report folder")

    @abstractmethod
    def _load(self) -> tuple[Manifest[VariantT], list[ResultT]]:
        """What the folder holds."""

    @abstractmethod
    def blocks(self, listen: Callable[[str], None]) -> list[Block]:
        """The report; ``listen`` is given each step before it begins."""

    @staticmethod
    def together(reports: Sequence[Any]) -> list[Block]:
        """What several environments of this family say together: nothing, unless the family says otherwise."""
        return []

    @staticmethod
    @abstractmethod
    def table(summary: Any, *, full: bool) -> Table:
        """The table of one environment, for a report (``full``) or a terminal; learned agents are in ``**``."""

    @staticmethod
    @abstractmethod
    def explanation(summary: Any) -> str:
        """What the table's columns mean."""

    @staticmethod
    @abstractmethod
    def conclusions(summary: Any) -> list[str]:
        """What follows from the table, one statement per line, whichever way it went."""

    @staticmethod
    @abstractmethod
    def picture(task: Any) -> bytes:
        """A PNG file of the first run of a task."""

    @staticmethod
    @abstractmethod
    def statistics(results: Any) -> list[tuple[str, str]]:
        """What one agent came to: names and values."""

    @property
    def seeds(self) -> str:
        """The first and the last of the held-out seeds."""
        seeds = sorted({result.seed for result in self.results})
        return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])

    def learning(self) -> list[Block]:
        """Learning curves of the trained agents; empty if no folder has one."""
        blocks: list[Block] = []
        for name, folder in self.manifest.folders(self.folder).items():
            if progress := read_progress(folder):
                caption = _WORDS.learning(name, progress[-1].seconds / 60.0)
                figure = learning_figure(progress, name)
                blocks.append(image(f"learning-{name}", figure, caption, _WORDS.learning_alt(name, progress)))
        return [Heading("Learning"), *blocks] if blocks else []

    def method(self, facts: Sequence[str], options: Sequence[str] = ()) -> list[Block]:
        """How it was measured, with what, and the commands that measure it again.

        Args:
            facts: What the family has to say about the measurement.
            options: Further options of ``schedrl benchmark``.
        """
        manifest, results, env_id = self.manifest, self.results, self.manifest.variant.id
        software = (
            ", ".join(f"{name} {number}" for name, number in sorted(r.versions.items())) for r in results
        )
        items = (
            _WORDS.environment(manifest.variant),
            *facts,
            f"Hardware: {_each(result.hardware for result in results)}.",
            f"Software: {_each(software)}.",
            f"Revision of schedrl: {_each(f'`{r.revision}`' for r in results if r.revision) or 'unknown'}.",
        )
        words = ["schedrl", "benchmark", "--env", env_id, "--seeds", str(len(manifest.seeds))]
        words += ["--first-seed", str(manifest.seeds[0]), "--agents"]
        words += [",".join(_word(label, name, env_id) for label, name in manifest.names().items()), *options]
        for key, value in manifest.overrides.items():
            words += ["--set", f"{key}={json.dumps(value)}"]
        commands = [*self._trainings(), shlex.join([*words, "-f", "FOLDER"]), "schedrl report FOLDER"]
        return [
            Heading("How it was measured"),
            Bullets(items),
            Heading("Measure it again"),
            Code("\n".join(commands)),
        ]

    def _trainings(self) -> list[str]:
        """The commands that trained the learned agents, as comments, for those whose folders are there."""
        lines = []
        for label, folder in self.manifest.folders(self.folder).items():
            try:
                made = read_description(folder)
            except AgentFileError:
                continue
            words = ["schedrl", "train", "--env", made.variant.id, "--algo", "ppo", "-n", str(made.timesteps)]
            lines.append(f"# {label}: {shlex.join([*words, '--seed', str(made.seed)])}")
        return lines


def shown(value: Interval | None, spec: str, *, interval: bool = True) -> str:
    """A number, with its interval if that is wanted; nothing for None."""
    return "" if value is None else f"{value:{spec}}" if interval else f"{value.value:{spec}}"


def _each(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _word(label: str, name: str, env_id: str) -> str:
    """An agent in ``--agents``. A policy that is shipped has its name, wherever the package lies."""
    shipped = Path(name).parts[-3:] == ("agents", "trained", f"{label}-{slug(env_id)}")
    return label if shipped or name == label else f"{label}={name}"
