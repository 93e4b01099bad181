"""Results on disk: JSON Lines, appended one whole line per run, never rewritten."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from schedrl.benchmark.forms import Form
from schedrl.errors import SchedrlError, Spec

__all__ = ["RESULTS", "Line", "Result", "ResultStore", "read_results"]

RESULTS = "results.jsonl"


class Line(Spec, ABC):
    """Something measured, as one line of a result file."""

    model_config = ConfigDict(serialize_by_alias=True)

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What makes two lines the same measurement: what has this key is not measured again."""

    def line(self) -> str:
        """The line, without its end. NaN is an error, not a value."""
        # Plain Python first: pydantic's own JSON would turn NaN into null and nobody would know.
        return json.dumps(self.model_dump(), allow_nan=False, ensure_ascii=False)


LineT = TypeVar("LineT", bound=Line)


class Result(Line):
    """One training run.

    Attributes:
        agent: Label of the row that it belongs to.
        kind: Kind of agent: ``schedule``, ``ava``, ``ava-dsc``, ``sequence``, ``random`` or ``trained``.
        agent_hash: Hash of the agent's definition; of its weights, for a trained one.
        form: How it was measured.
        env_id: The environment that the comparison is about.
        fingerprint: Of that environment.
        protocol: Of what results have in common that can be compared: data, training, measurement, optimizer steps.
        reward: Kind of reward that the return is made of.
        seed: Of ``reset``.
        test_bound: Bits/dim on test images.
        bound: Bits/dim on validation images.
        episode_return: Sum of rewards. Written ``return``.
        diverged: Whether the run diverged; its bounds then are those at which a run counts as diverged.
        optimizer_steps: Spent in the run.
        search_steps: Optimizer steps that finding the agent cost, over all its training runs; 0 for a hand-made law.
        seconds: Wall-clock time, the run's share of its population's.
        schedule: The schedule of every phase.
        versions: Of the software.
        hardware: Processor or GPU.
        created: When, UTC, ISO 8601.
    """

    agent: Annotated[str, Field(min_length=1)]
    kind: Literal["schedule", "ava", "ava-dsc", "sequence", "random", "trained"]
    agent_hash: str
    form: Form
    env_id: str
    fingerprint: str
    protocol: str
    reward: str
    seed: int
    test_bound: float
    bound: float
    episode_return: Annotated[float, Field(alias="return")]
    diverged: bool
    optimizer_steps: Annotated[int, Field(ge=0)]
    search_steps: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0.0)]
    schedule: tuple[dict[str, Any], ...]
    versions: dict[str, str]
    hardware: str
    created: str

    @property
    def key(self) -> tuple[str, str, str, str, str, int]:
        """Agent, form, environment and seed."""
        return self.agent, self.agent_hash, self.form, self.env_id, self.fingerprint, self.seed


class ResultStore(Generic[LineT]):
    """A file of results, open for more.

    What a kill cut short is a last line without its end: it is dropped here, and :attr:`note` says so.

    Args:
        path: The file; created with the first result.
        model: What its lines are.

    Raises:
        SchedrlError: It is not a file of such results, or cannot be written.
    """

    def __init__(self, path: Path, model: type[LineT]) -> None:
        self.path = path
        self.results, kept, self.note = _read(path, model)
        try:
            with path.open("ab") as file:
                if file.tell() > kept:
                    file.truncate(kept)
        except OSError as error:
            raise SchedrlError(f"result file {path}: cannot be written: {error.strerror or error}") from None
        self._keys = {result.key for result in self.results}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def append(self, results: Iterable[LineT]) -> None:
        """Add results, each line written whole and flushed to the disk.

        Raises:
            SchedrlError: The file cannot be written.
        """
        added = [result for result in results if result.key not in self._keys]
        content = "".join(f"{result.line()}\n" for result in added).encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(content)
                os.fsync(file.fileno())
        except OSError as error:
            raise SchedrlError(
                f"result file {self.path}: cannot be written: {error.strerror or error}"
            ) from None
        self.results += added
        self._keys |= {result.key for result in added}


def read_results(path: Path, model: type[LineT]) -> list[LineT]:
    """Results of a file, which is left as it is; a last line that was cut short is left out.

    Raises:
        SchedrlError: The file is not there, or is not a file of results.
    """
    if not path.is_file():
        raise SchedrlError(f"result file {path}: is not there; `schedrl benchmark` writes it")
    return _read(path, model)[0]


def _read(path: Path, model: type[LineT]) -> tuple[list[LineT], int, str | None]:
    """Results, the number of bytes that hold whole lines, and a note on what was dropped."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0, None
    except OSError as error:
        raise SchedrlError(f"result file {path}: cannot be read: {error.strerror or error}") from None
    kept = content.rfind(b"\n") + 1
    results = [
        _parse(path, number, line, model)
        for number, line in enumerate(content[:kept].split(b"\n")[:-1], start=1)
        if line.strip()
    ]
    note = (
        f"{path}: the last line was cut short and is dropped; its run is done again"
        if kept < len(content)
        else None
    )
    return results, kept, note


def _parse(path: Path, number: int, line: bytes, model: type[LineT]) -> LineT:
    try:
        return model.model_validate(json.loads(line))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        reason = f"field '{field}': {problem['msg']}"
    except ValueError:
        reason = "not JSON"
    raise SchedrlError(f"result file {path}: line {number} is not a result: {reason}")
