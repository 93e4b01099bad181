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

from pydantic import ConfigDict, ValidationError

from schedrl.errors import SchedrlError, Spec

__all__ = ["FORMAT", "RESULTS", "Line", "ResultStore", "read_results"]

RESULTS = "results.jsonl"

FORMAT: Literal[1] = 1
"""Version of what a line holds; lines without it are of the first."""


class Line(Spec, ABC):
    """Something measured, as one line of a result file.

    Attributes:
        format: Version of what a line holds.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    format: Literal[1] = FORMAT

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What makes two lines the same measurement: what has this key is not measured again."""

    def line(self) -> str:
        """The line, without its end. NaN is an error, not a value."""
        # Plain Python first: pydantic's own JSON would turn NaN into null and nobody would know.
        return json.dumps(self.model_dump(), allow_nan=False, ensure_ascii=False)


LineT = TypeVar("LineT", bound=Line)


class ResultStore(Generic[LineT]):
    """A file of results, open for more, by several processes at once.

    Whoever writes holds a lock on the file, and a line is one write at its end. A last line without its end is
    therefore what a kill cut short, never what another process is about to finish: it is dropped here, and
    :attr:`note` says so. Where the system or the file system has no locks, one process at a time may write.

    Args:
        path: The file; created with the first result.
        model: What its lines are.

    Raises:
        SchedrlError: It is not a file of such results, or cannot be written.
    """

    def __init__(self, path: Path, model: type[LineT]) -> None:
        self.path, self.model = path, model
        self.results: list[LineT] = []
        self.note: str | None = None
        self._keys: set[Hashable] = set()
        self._end = self._lines = 0
        if path.is_dir():
            raise SchedrlError(f"result file {path}: cannot be read: is a folder")
        self.refresh()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def refresh(self) -> None:
        """Take in what other processes have added.

        Raises:
            SchedrlError: Something else than results was added, or the file cannot be written.
        """
        with self._locked() as file:
            self._catch_up(file)

    def append(self, results: Iterable[LineT]) -> None:
        """Add results that the file does not hold yet, all of them flushed to the disk or none.

        Raises:
            SchedrlError: The file cannot be written.
        """
        wanted = list(results)
        with self._locked() as file:
            self._catch_up(file)
            added: dict[Hashable, LineT] = {}
            for result in wanted:
                if result.key not in self._keys:
                    added.setdefault(result.key, result)
            content = "".join(f"{result.line()}\n" for result in added.values()).encode()
            if not content:
                return
            try:
                if os.write(file, content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            except OSError:
                os.ftruncate(file, self._end)  # nobody else writes meanwhile
                raise
            self._end += len(content)
            self._lines += len(added)
        self.results += added.values()
        self._keys |= added.keys()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file's descriptor, locked against other writers."""
        try:
            file = os.open(
                self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
            )
            try:
                _lock(file)
                yield file
            finally:
                os.close(file)  # which also unlocks it
        except OSError as error:
            raise SchedrlError(
                f"result file {self.path}: cannot be written: {error.strerror or error}"
            ) from None

    def _catch_up(self, file: int) -> None:
        """Read on from where this store has read to, and drop a last line that was cut short."""
        size = os.fstat(file).st_size
        if size < self._end:
            raise SchedrlError(
                f"result file {self.path}: was cut while it was in use; nothing was added to it"
            )
        os.lseek(file, self._end, os.SEEK_SET)
        parts = []
        while part := os.read(file, size - self._end + 1):
            parts.append(part)
        fresh, kept = _parse_lines(self.path, b"".join(parts), self.model, self._lines)
        if self._end + kept < size:
            os.ftruncate(file, self._end + kept)
            self.note = f"{self.path}: the last line was cut short and is dropped; its run is done again"
        self._end += kept
        self._lines += len(fresh)
        # Two processes may have measured the same before there were locks: the first counts.
        for result in filter(None, fresh):
            if result.key not in self._keys:
                self._keys.add(result.key)
                self.results.append(result)


def read_results(path: Path, model: type[LineT]) -> list[LineT]:
    """Results of a file, which is left as it is; a last line that was cut short is left out.

    Raises:
        SchedrlError: The file is not there, or is not a file of results.
    """
    if not path.is_file():
        raise SchedrlError(f"result file {path}: is not there; `schedrl benchmark` writes it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SchedrlError(f"result file {path}: cannot be read: {error.strerror or error}") from None
    found, _ = _parse_lines(path, content, model)
    return list({result.key: result for result in reversed(found) if result is not None}.values())[::-1]


def _lock(file: int) -> None:
    """Wait until no other process writes. Without locks there is nothing to wait for."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # some network file systems
            raise


def _parse_lines(
    path: Path, content: bytes, model: type[LineT], before: int = 0
) -> tuple[list[LineT | None], int]:
    """A result per whole line, None for an empty one, and the number of bytes that hold whole lines."""
    kept = content.rfind(b"\n") + 1
    lines = content[:kept].split(b"\n")[:-1]
    return [
        _parse(path, number, line, model) if line.strip() else None
        for number, line in enumerate(lines, start=before + 1)
    ], kept


def _parse(path: Path, number: int, line: bytes, model: type[LineT]) -> LineT:
    try:
        content = json.loads(line)
        version = content.get("format", FORMAT) if isinstance(content, dict) else FORMAT
        if version != FORMAT:
            raise SchedrlError(
                f"result file {path}: line {number} is of format {version}, and this version of schedrl reads "
                f"format {FORMAT} only; give another file"
            )
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        reason = f"field '{field}': {problem['msg']}"
    except SchedrlError:
        raise
    except ValueError:
        reason = "not JSON"
    raise SchedrlError(f"result file {path}: line {number} is not a result: {reason}")
