"""What every image set's specification has in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field

from schedrl.data.splits import Pixels
from schedrl.errors import Spec

__all__ = ["ImageData", "Place", "describe", "search_places"]

Place = tuple[Path, str]
"""A folder to look in, and who named it."""


class ImageData(Spec):
    """Base of the image sets. A new set is one subclass and its entry in :data:`schedrl.data.AnyData`.

    Attributes:
        name: Tag of the set, a ``Literal`` in each subclass.
        validation: Number of images held out for validation, at least 1.
        test: Number of images held out for testing, at least 1.
        split_seed: Seed that alone decides which image goes where.
        limit: Use at most so many training images; None uses all.
        root: Folder to look for the files in, before ``$SCHEDRL_DATA`` and ``./data``.
    """

    name: str
    validation: int = Field(default=250, ge=1)
    test: int = Field(default=250, ge=1)
    split_seed: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    root: str | None = None

    def locate(self) -> tuple[Path, ...]:
        """Find the files without reading them.

        Returns:
            What :meth:`read` needs; empty if it needs no files.

        Raises:
            MissingDataError: In one line: what is missing, where it was looked for, how to get it.
        """
        return ()

    def download(self) -> None:
        """Download the files into the cache; sets that cannot be downloaded do nothing."""

    @abstractmethod
    def read(self, paths: tuple[Path, ...]) -> Pixels:
        """Read all images.

        Args:
            paths: What :meth:`locate` returned.
        """


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
