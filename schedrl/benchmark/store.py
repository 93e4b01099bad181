"""Results on disk: JSON Lines, appended one whole line per run, never rewritten, by several processes at once."""

from __future__ import annotations

import errno
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import ConfigDict

from schedrl.errors import SchedrlError, Spec, parse
from schedrl.files import lock, parse_object, whole_lines

RESULTS = "results.jsonl"

_FORMAT: Literal[1] = 1
_BEGIN = b'{"format": 1,'


class Line(Spec, ABC):
    """Something measured, as one line of a result file.

    Attributes:
        format: Version of what a line holds; a line without it is of version 1.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    format: Literal[1] = _FORMAT

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """Tells measurements apart: a measurement whose key a file has is not done again."""

    def line(self) -> str:
        """The line, without its end. NaN is an error, not a value."""
        # Plain Python first: pydantic's own JSON would silently turn NaN into null.
        return json.dumps(self.model_dump(), allow_nan=False, ensure_ascii=False)


LineT = TypeVar("LineT", bound=Line)


class ResultStore(Generic[LineT]):
    """A file of results, open for more, by several processes at once.

    A writer holds a lock on the file, and a line is one write at its end. A last line without its end is therefore
    what a kill cut short, never what another process is about to finish: it is dropped, and :attr:`note` says so.
    Where the system or the file system has no locks, one process at a time may write. A file that holds anything else
    than results is left as it is. A symbolic link stands for the file that it names.

    Args:
        path: The file; created with the first result.
        model: The model of its lines.

    Raises:
        SchedrlError: It is not a file of such results, or cannot be written.
    """

    def __init__(self, path: Path, model: type[LineT]) -> None:
        self.path, self.model = path, model
        self.note: str | None = None
        self._found: dict[Hashable, LineT] = {}
        self._end = self._lines = 0
        if os.path.exists(path) and not os.path.isfile(path):
            kind = "is a folder" if os.path.isdir(path) else "is a device or a pipe"
            raise SchedrlError(f"result file {path}: cannot be read: {kind}; give a file")
        self.refresh()

    @property
    def results(self) -> list[LineT]:
        """All results of the file, in its order."""
        return list(self._found.values())

    def __contains__(self, key: Hashable) -> bool:
        return key in self._found

    def refresh(self) -> None:
        """Read what other processes have added."""
        with self._locked() as file:
            self._catch_up(file)

    def append(self, results: Iterable[LineT]) -> None:
        """Add results that the file does not hold yet, all of them flushed to the disk or none."""
        wanted = list(results)
        with self._locked() as file:
            self._catch_up(file)
            added: dict[Hashable, LineT] = {}
            for result in wanted:
                if result.key not in self._found:
                    added.setdefault(result.key, result)
            content = "".join(f"{result.line()}\n" for result in added.values()).encode()
            if not content:
                return
            try:
                if os.write(file, content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            except OSError:
                os.ftruncate(file, self._end)  # the lock keeps others from writing meanwhile
                raise
        self._end += len(content)
        self._lines += len(added)
        self._found |= added

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file's descriptor, locked against other writers."""
        try:
            file = os.open(
                self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
            )
            try:
                lock(file)
                yield file
            finally:
                os.close(file)  # which also unlocks it
        except OSError as error:
            raise SchedrlError(
                f"result file {self.path}: cannot be written: {error.strerror or error}"
            ) from None

    def _catch_up(self, file: int) -> None:
        """Read on from the end of the last reading, and drop a last line that was cut short."""
        size = os.fstat(file).st_size
        if size < self._end:
            raise SchedrlError(
                f"result file {self.path}: was cut while it was in use; nothing was added to it"
            )
        os.lseek(file, self._end, os.SEEK_SET)
        parts = []
        while part := os.read(file, size - self._end + 1):
            parts.append(part)
        kept, self._lines = _parse_lines(self.path, b"".join(parts), self.model, self._found, self._lines)
        self._end += kept
        if self._end < size:
            os.ftruncate(file, self._end)
            self.note = f"{self.path}: the last line was cut short and is dropped; its run is done again"


def read_results(path: Path, model: type[LineT]) -> list[LineT]:
    """Results of a file, which is left as it is; a last line that was cut short is left out."""
    if not os.path.isfile(path):
        raise SchedrlError(f"result file {path}: is not there; `schedrl benchmark` writes it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SchedrlError(f"result file {path}: cannot be read: {error.strerror or error}") from None
    found: dict[Hashable, LineT] = {}
    _parse_lines(path, content, model, found)
    return list(found.values())


def _parse_lines(
    path: Path, content: bytes, model: type[LineT], found: dict[Hashable, LineT], number: int = 0
) -> tuple[int, int]:
    """Add the results of whole lines, of which ``number`` came before, to ``found``; of two alike the first counts.

    Returns:
        The number of bytes that hold whole lines, and of lines up to their end.
    """
    # Without a whole line before it, only how it begins tells whether a kill cut it short.
    kept = content.rfind(b"\n") + 1
    for line in whole_lines(content, b"" if found or kept else _BEGIN, f"result file {path}"):
        number += 1
        if not line.strip():
            continue
        what = f"result file {path}: line {number}"
        fields = parse_object(line, f"{what} is not a result")
        if (version := fields.get("format", _FORMAT)) != _FORMAT:
            raise SchedrlError(
                f"{what} is of format {version}, and this version of schedrl reads format {_FORMAT} only; give "
                "another file"
            )
        result = parse(model, fields, f"{what} is not a result")
        found.setdefault(result.key, result)
    return kept, number
