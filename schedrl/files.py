"""Files that are whole or not there: write to a temporary name, then rename."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedrl.errors import SchedrlError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["dump_json", "ensure_folder", "write_arrays", "write_bytes", "write_chunks", "write_text"]


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
