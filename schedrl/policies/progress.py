"""The learning curve of a training as a small CSV file, one line per update."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from schedrl.errors import AgentFileError, SchedrlError
from schedrl.files import whole_lines, write_text

PROGRESS = "progress.csv"


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands after an update: a line of the curve.

    Attributes:
        timesteps: Environment steps taken by then.
        seconds: Wall-clock time by then.
        return_mean: Mean return of the update's episodes, in the environment's unit, exploration included.
        return_std: Their standard deviation.
    """

    timesteps: int
    seconds: float
    return_mean: float
    return_std: float

    @property
    def line(self) -> str:
        return "{},{:.3f},{:.6f},{:.6f}\n".format(*astuple(self))


_HEADER = ",".join(field.name for field in fields(TrainingProgress)) + "\n"


def append_progress(folder: Path, row: TrainingProgress) -> None:
    """Add a line to the folder's curve."""
    path = folder / PROGRESS
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(row.line if file.tell() else _HEADER + row.line)
    except OSError as error:
        raise SchedrlError(f"cannot write {path}: {error.strerror or error}") from None


def read_progress(folder: Path) -> list[TrainingProgress]:
    """The folder's curve; empty when there is none. A last line that a kill cut short is left out."""
    path = folder / PROGRESS
    try:
        lines = whole_lines(path.read_bytes(), _HEADER.encode(), str(path), error=AgentFileError)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AgentFileError(f"{path}: cannot be read: {error}") from None
    return [_row(path, number, line) for number, line in enumerate(lines[1:], start=2)]


def trim_progress(folder: Path, timesteps: int) -> None:
    """Remove the lines beyond ``timesteps``: these updates will be done again."""
    kept = [row.line for row in read_progress(folder) if row.timesteps <= timesteps]
    if (folder / PROGRESS).is_file():
        write_text(folder / PROGRESS, "".join([_HEADER, *kept]))


def _row(path: Path, number: int, line: bytes) -> TrainingProgress:
    try:
        timesteps, *others = line.split(b",")
        values = [float(value) for value in others]
        if not all(map(math.isfinite, values)):
            raise ValueError
        return TrainingProgress(int(timesteps), *values)
    except (ValueError, TypeError):
        raise AgentFileError(f"{path}: line {number} is damaged: {line[:60]!r}") from None
