"""Files: written to a temporary name and renamed, so that they are whole or absent; read as JSON or TOML."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedrl.errors import SchedrlError, SpecT, parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "cache_dir",
    "dump_json",
    "ensure_folder",
    "parse_object",
    "read_arrays",
    "read_model",
    "read_object",
    "write_arrays",
    "write_bytes",
    "write_chunks",
    "write_text",
]


def cache_dir() -> Path:
    """The user's cache folder for this package: ``$XDG_CACHE_HOME/schedrl`` or ``~/.cache/schedrl``.

    It need not exist yet.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "schedrl"


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
        text = path.read_bytes()
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{what} {path}: cannot be read: {reason}") from None
    return parse_object(text, f"{what} {path}", toml=path.suffix == ".toml", error=error)


def parse_object(
    text: str | bytes, what: str, *, toml: bool = False, error: type[SchedrlError] = SchedrlError
) -> dict[str, Any]:
    """Parse a JSON or TOML object. In JSON, NaN and Infinity are errors.

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
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        content = tomllib.loads(decoded) if toml else json.loads(decoded, parse_constant=_refuse)
    except (ValueError, RecursionError) as problem:
        reason = "it is nested too deeply" if isinstance(problem, RecursionError) else problem
        raise error(f"{what}: is not {'TOML' if toml else 'JSON'}: {reason}") from None
    if not isinstance(content, dict):
        raise error(f"{what}: must hold one JSON object (got {type(content).__name__})")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def write_chunks(path: Path, chunks: Iterable[bytes], *, hint: str = "") -> None:
    """Write a file so that a kill leaves the old one or the new one, never a part.

    Args:
        path: The file; its folder is made.
        chunks: The content. An error raised by it passes through, and nothing is left behind.
        hint: What the user can do when the folder cannot be written.

    Raises:
        SchedrlError: The folder cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; these are meant to be read.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise SchedrlError(f"cannot write {path}: {error.strerror or error}{hint}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """:func:`write_chunks` of one piece."""
    write_chunks(path, [content])


def write_text(path: Path, content: str) -> None:
    """:func:`write_bytes` of UTF-8 text."""
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
