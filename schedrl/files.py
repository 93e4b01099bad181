"""Files: written to a temporary name and renamed, so that they are whole or absent; read as JSON or TOML; locks."""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import secrets
import shlex
import stat
import sys
import tempfile
import tomllib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedrl.errors import SchedrlError, SpecT, parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_BINARY = getattr(os, "O_BINARY", 0)

_MOST_BYTES, _MOST_DEEP = 2**26, 64
"""Largest JSON or TOML file, and the most levels of brackets in one."""


def cache_dir() -> Path:
    """The user's cache folder for this package: ``$XDG_CACHE_HOME/schedrl`` or ``~/.cache/schedrl``.

    It need not exist yet. A user without a home gets one below the system's folder for temporary files.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG specification says to ignore a relative path
        return Path(base) / "schedrl"
    try:
        return Path.home() / ".cache" / "schedrl"
    except RuntimeError:
        return _temporary_cache()


@lru_cache(maxsize=1)
def _temporary_cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"schedrl-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder):
        folder = Path(tempfile.mkdtemp(prefix="schedrl-"))
    logging.getLogger("schedrl").warning("this user has no home: the cache is %s; set XDG_CACHE_HOME", folder)
    return folder


def is_private(folder: Path) -> bool:
    """Whether no other user can write to a folder, or put another one in its place."""
    if not hasattr(os, "geteuid"):  # Windows
        return True
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        found = place.stat()
        # The mode of a folder above is that of the user's umask, and groups of one user are common.
        writable = 0o022 if place == folder else 0o002 if not found.st_mode & stat.S_ISVTX else 0
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & writable:
            return False
    return True


def read_model(
    path: Path, model: type[SpecT], what: str, *, error: type[SchedrlError] = SchedrlError
) -> SpecT:
    """Read a JSON file, or a TOML file by its suffix, as a pydantic model.

    Args:
        path: The file.
        model: The model.
        what: How to name the file in a message, for example ``"agent file"``; the path is added.
        error: What to raise.

    Raises:
        SchedrlError: In one line: the file cannot be read, is not JSON or TOML, or does not fit the model.
    """
    content = read_object(path, what, error=error)
    try:
        return parse(model, content, f"{what} {path}")
    except SchedrlError as problem:
        raise error(str(problem)) from None


def read_object(path: Path, what: str, *, error: type[SchedrlError] = SchedrlError) -> dict[str, Any]:
    """Read a JSON object, or a TOML file by its suffix; see :func:`read_model`."""
    try:
        with path.open("rb") as file:  # which may be a device that never ends
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES >> 20} MiB")
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{what} {path}: cannot be read: {reason}") from None
    return parse_object(text, f"{what} {path}", toml=path.suffix == ".toml", error=error)


def parse_object(
    text: str | bytes, what: str, *, toml: bool = False, error: type[SchedrlError] = SchedrlError
) -> dict[str, Any]:
    """Parse a JSON or TOML object; see :func:`parse_value`.

    Args:
        text: The text, or its bytes in UTF-8.
        what: How to name it in a message.
        toml: It is TOML.
        error: What to raise.

    Examples:
        >>> parse_object('{"levels": 3}', "grid")
        {'levels': 3}
        >>> parse_object("[[", "grid")
        Traceback (most recent call last):
        schedrl.errors.SchedrlError: grid: is not JSON: Expecting value: line 1 column 3 (char 2)
    """
    content = parse_value(text, what, toml=toml, error=error)
    if not isinstance(content, dict):
        raise error(f"{what}: must hold one JSON object (got {type(content).__name__})")
    return content


def parse_value(
    text: str | bytes, what: str, *, toml: bool = False, error: type[SchedrlError] = SchedrlError
) -> Any:
    """Parse JSON or TOML.

    Errors, besides what the formats refuse: NaN and Infinity, over 64 levels of brackets, and text that is not Unicode
    (halves of surrogate pairs). So whatever is read can be checked, copied and written again.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        content = tomllib.loads(decoded) if toml else json.loads(decoded, parse_constant=_refuse)
        if (
            decoded.count("[") + decoded.count("{") + toml * decoded.count(".") > _MOST_DEEP
            or "\\u" in decoded
        ):
            _check_parts(content, 0)
    except (ValueError, RecursionError) as problem:
        reason = "it is nested too deeply" if isinstance(problem, RecursionError) else problem
        raise error(f"{what}: is not {'TOML' if toml else 'JSON'}: {reason}") from None
    return content


def _check_parts(value: Any, depth: int) -> None:
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict | list):
        if depth == _MOST_DEEP:
            raise RecursionError
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_parts(part, depth + 1)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def write_chunks(path: Path, chunks: Iterable[bytes], *, hint: str = "") -> None:
    """Write a file so that a kill leaves the old one or the new one, never a part.

    An old file's mode is kept. A symbolic link stays one: the file that it names is written. A device or a pipe, such
    as ``/dev/stdout``, is written to.

    Args:
        path: The file; its folder is made.
        chunks: The content. An error raised by it passes through, and nothing is left behind.
        hint: What the user can do when the folder cannot be written.

    Raises:
        SchedrlError: The folder cannot be written.
    """
    temporary: Path | None = None
    try:
        if _is_stream(path):
            with open(_open_stream(path), "wb") as file:
                file.writelines(chunks)
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary, locked = _open_temporary(target)
        with open(handle, "wb") as file:
            file.writelines(chunks)
            file.flush()
            with suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            os.fsync(handle)
            if locked:  # until it has its name, so that no other process takes it for what a kill left
                os.replace(temporary, target)
        if not locked:
            os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise SchedrlError(f"cannot write {path}: {error.strerror or error}{hint}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _open_temporary(target: Path) -> tuple[int, Path, bool]:
    """Open a new file beside ``target``, locked where there are locks, and remove those that a kill left."""
    start = f".{zlib.crc32(os.fsencode(target.name)):08x}-"  # as short for long names
    for left in target.parent.glob(f"{start}*.part"):
        with suppress(OSError), left.open("rb") as file:
            if lock(file.fileno(), wait=False):
                left.unlink()
    while True:
        path = target.with_name(f"{start}{secrets.token_hex(4)}.part")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        locked = lock(handle, wait=False)
        if locked is not False and path.exists():
            return handle, path, bool(locked)
        os.close(handle)  # another process has just taken it for such a file


def _is_stream(path: Path) -> bool:
    """Whether a path names a device or a pipe, or what this process has open."""
    if os.path.realpath(path.parent) in ("/dev", os.path.realpath("/dev/fd")):
        return True
    return path.exists() and not (path.is_file() or path.is_dir())


def _open_stream(path: Path) -> int:
    place = Path(os.readlink(path)) if str(path.parent) == "/dev" and path.is_symlink() else path
    if place.name.isdecimal() and os.path.realpath(place.parent) == os.path.realpath("/dev/fd"):
        return os.dup(int(place.name))  # opened anew, a file would be written from its beginning
    return os.open(path, os.O_WRONLY | os.O_APPEND)


def lock(file: int, *, wait: bool = True) -> bool | None:
    """Lock an open file against all others who lock it, until it is closed.

    Returns:
        Whether it is locked now; None where the system or the file system has no locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # some network file systems
            raise
        return None
    return True


@contextmanager
def curves_at_once() -> Iterator[None]:
    """Let TensorBoard's writers that are made here write at once, not in a thread, where a full disk goes unnoticed."""
    import tensorboard.summary.writer.event_file_writer as module  # type: ignore[import-untyped, unused-ignore]

    threaded = module._AsyncWriter
    module._AsyncWriter = lambda writer, *_: writer
    try:
        yield
    finally:
        module._AsyncWriter = threaded


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes from working in a folder while the block runs, where there are locks.

    Args:
        folder: The folder; it is made.
        wait: Wait for another process to end, rather than raise.

    Raises:
        SchedrlError: Another process works there; the line says which. Or the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666)
            if lock(file, wait=wait) is False:
                holder = " ".join(os.read(file, 300).decode(errors="replace").split())
                os.close(file)
                raise SchedrlError(
                    f"{folder}: {holder or 'another process'} works there; wait for its end, or give another folder"
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat()):
                    break
            os.close(file)  # removed by the process that held it
        os.ftruncate(file, 0)
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        os.write(file, f"process {os.getpid()} on {platform.node()} ({command[:200]})".encode())
    except OSError as error:
        raise SchedrlError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(file)


def whole_lines(
    content: bytes, begin: bytes, what: str, *, error: type[SchedrlError] = SchedrlError
) -> list[bytes]:
    r"""Lines of a file that grows line by line, without a last one that a kill cut short.

    Args:
        content: The file.
        begin: How its first line begins.
        what: How to name it in a message.
        error: What to raise.

    Raises:
        SchedrlError: It begins otherwise, so that a last line without its end may be anything.

    Examples:
        >>> whole_lines(b"step,loss\n1,0.5\n2,0.", b"step,", "curve")
        [b'step,loss', b'1,0.5']
        >>> whole_lines(b"my notes", b"step,", "curve")
        Traceback (most recent call last):
        schedrl.errors.SchedrlError: curve: is another file: it must begin with 'step,'; it is left as it is
    """
    if not (content.startswith(begin) or begin.startswith(content)):
        text = begin.decode().rstrip()
        raise error(f"{what}: is another file: it must begin with {text!r}; it is left as it is")
    return content.split(b"\n")[:-1]


def write_bytes(path: Path, content: bytes) -> None:
    write_chunks(path, [content])


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def dump_json(value: Any) -> str:
    """JSON for people and programs: indented, sorted, and an error instead of NaN."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays as one safetensors file, with text beside them in its header."""
    import numpy as np
    from safetensors.numpy import save

    content: dict[str, np.ndarray[Any, Any]] = {
        name: np.ascontiguousarray(array) for name, array in arrays.items()
    }
    write_bytes(path, save(content, metadata=dict(metadata or {})))


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays of a safetensors file by name, and the text in its header.

    Raises:
        ValueError: It is damaged.
        OSError: It cannot be read.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return arrays, dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def ensure_folder(path: Path, what: str) -> Path:
    """Create a folder and make sure that it can be written, before any work is done for it.

    Raises:
        SchedrlError: It cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise SchedrlError(f"{what} {path}: cannot be written: {error.strerror or error}") from None
    return path


def ensure_file(path: Path, what: str) -> Path:
    """Make sure that a file can be written, before any work is done for it; its folder is made.

    Raises:
        SchedrlError: It cannot.
    """
    try:
        stream, folder = _is_stream(path), path.is_dir()  # a name that is too long raises here
    except OSError as error:
        raise SchedrlError(f"{what} {path}: cannot be written: {error.strerror or error}") from None
    if folder or (stream and not os.access(path, os.W_OK)):
        raise SchedrlError(f"{what} {path}: {'is a folder' if folder else 'cannot be written'}")
    if not stream:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        ensure_folder(target.parent, f"{what}: folder")
    return path
