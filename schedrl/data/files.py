"""Where files of image sets are, and the user's cache for what is unpacked or downloaded.

Data folders are only ever read. What has to be written goes to the cache, ``$XDG_CACHE_HOME/schedrl`` or
``~/.cache/schedrl``, under a temporary name first, so that processes can share it and a kill leaves no half
files.
"""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from schedrl.errors import SchedrlError
from schedrl.files import write_chunks

__all__ = [
    "Place",
    "cache_dir",
    "describe",
    "downloads_dir",
    "merge_tree",
    "search_places",
    "unpack_gz",
    "unpack_tar",
]

_CHUNK = 1 << 20
_CACHE_HINT = "; set XDG_CACHE_HOME to a writable folder"
_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError)

Place = tuple[Path, str]
"""A folder to look in, and who named it."""


def cache_dir() -> Path:
    """The user's cache folder for this package; it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "schedrl"


def downloads_dir() -> Path:
    """The folder in the cache that downloads go to, laid out like a data folder."""
    return cache_dir() / "downloads"


def search_places(root: str | None, *, extra: Iterable[Place] = ()) -> list[Place]:
    """The folders to look in, best first: ``root``, ``extra``, ``$SCHEDRL_DATA``, ``./data``.

    Args:
        root: The ``root`` field of a specification.
        extra: More folders, between ``root`` and the environment variable.

    Returns:
        Absolute folders without repetitions, each with the name of what it comes from.
    """
    places: list[Place] = []
    if root:
        places.append((_absolute(root), "root"))
    places += extra
    if variable := os.environ.get("SCHEDRL_DATA"):
        places.append((_absolute(variable), "SCHEDRL_DATA"))
    places.append((_absolute("data"), "./data"))
    unique: dict[Path, str] = {}
    for path, origin in places:
        unique.setdefault(path, origin)
    return list(unique.items())


def describe(places: Sequence[Place]) -> str:
    """Name the folders in an error message."""
    notes = ("" if os.path.isdir(path) else ", no such folder" for path, _ in places)
    return ", ".join(f"{path} ({origin}{note})" for (path, origin), note in zip(places, notes, strict=True))


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def unpack_gz(source: Path, kind: str) -> Path:
    """Unpack a .gz file into the cache, once.

    The folder it goes to is named after size and CRC of ``source``, so another file of the same name never
    stands in for it; the unpacked file is checked against that CRC at every call.

    Args:
        source: The .gz file, which may be in a read-only folder.
        kind: Subfolder of the cache, the name of the set.

    Returns:
        The unpacked file.

    Raises:
        SchedrlError: If ``source`` is damaged, or the cache cannot be written to.
    """
    crc, length = _gz_trailer(source)
    folder = cache_dir() / "unpacked" / kind / f"{source.stat().st_size}-{crc:08x}"
    target = folder / source.name.removesuffix(".gz")
    if not _matches(target, crc, length):
        write_chunks(target, _gunzip(source), hint=_CACHE_HINT)
    return target


def _gz_trailer(source: Path) -> tuple[int, int]:
    """CRC-32 and length (modulo 2^32) of the content, as RFC 1952 stores them at a file's end."""
    try:
        with source.open("rb") as stream:
            stream.seek(-8, os.SEEK_END)
            crc, length = struct.unpack("<II", stream.read(8))
    except OSError as error:
        raise _damaged(source, error) from None
    return crc, length


def _matches(path: Path, crc: int, length: int) -> bool:
    try:
        if path.stat().st_size % 2**32 != length:
            return False
        actual = 0
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                actual = zlib.crc32(chunk, actual)
    except OSError:
        return False
    return actual == crc


def _gunzip(source: Path) -> Iterator[bytes]:
    try:
        with gzip.open(source) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except _UNREADABLE as error:
        raise _damaged(source, error) from None


def unpack_tar(source: Path, kind: str, members: Sequence[str]) -> Path:
    """Unpack some files of a .tar.gz file into the cache, once.

    Args:
        source: The archive, which may be in a read-only folder.
        kind: Subfolder of the cache, the name of the set.
        members: Paths inside the archive; nothing else is unpacked.

    Returns:
        The folder that has the members at their paths.

    Raises:
        SchedrlError: If ``source`` is damaged or lacks a member, or the cache cannot be written to.
    """
    crc, _ = _gz_trailer(source)
    folder = cache_dir() / "unpacked" / kind / f"{source.stat().st_size}-{crc:08x}"
    wanted = {PurePosixPath(name) for name in members if not (folder / name).is_file()}
    if not wanted:
        return folder
    try:
        with tarfile.open(source, "r:gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                stream = archive.extractfile(member) if name in wanted and member.isfile() else None
                if stream is not None:
                    write_chunks(folder / name, [stream.read()], hint=_CACHE_HINT)
                    wanted.remove(name)
    except _UNREADABLE as error:
        raise _damaged(source, error) from None
    if wanted:
        raise _damaged(source, f"without {', '.join(sorted(map(str, wanted)))}")
    return folder


def merge_tree(source: Path, target: Path) -> None:
    """Move every file under ``source`` to the same path under ``target``, replacing what is there.

    Both must be on one file system; each file appears at once, so a second process may do the same.
    """
    for path in sorted(source.rglob("*")):
        if path.is_file():
            destination = target / path.relative_to(source)
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, destination)


def _damaged(source: Path, reason: object) -> SchedrlError:
    return SchedrlError(f"{source}: damaged or unreadable ({reason}); get the file again")
