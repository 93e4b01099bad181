"""Base class of the image sets, and the folders their files are looked for in."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from schedrl.data.splits import Pixels
from schedrl.errors import Spec

ImageCount = Annotated[int, Field(ge=1, le=10**9)]
"""A number of images."""

_Side = Annotated[int, Field(ge=1, le=4096)]

ImageShape = tuple[_Side, _Side, _Side]
"""``(C, H, W)`` in a file."""

Place = tuple[Path, str]
"""A folder, and the setting that named it."""


class ImageData(Spec):
    """Base of the image sets. A new set is one subclass and its entry in :data:`schedrl.data.AnyData`.

    Attributes:
        name: Tag of the set, a ``Literal`` in each subclass.
        validation: Number of images held out for validation, at least 1.
        test: Number of images held out for testing, at least 1.
        split_seed: Seed of the division into parts.
        limit: Most training images; None uses all.
        root: Folder of the files, searched before ``$SCHEDRL_DATA`` and ``./data``.
    """

    name: str
    validation: ImageCount = 250
    test: ImageCount = 250
    split_seed: int = Field(default=0, ge=0)
    limit: ImageCount | None = None
    root: str | None = None

    def locate(self) -> tuple[Path, ...]:
        """Find the files without reading them.

        Returns:
            The argument of :meth:`read`; empty if the set needs no files.

        Raises:
            MissingDataError: Says in one line what is missing, which folders were searched, and how to get it.
        """
        return ()

    def download(self) -> None:
        """Download the files into the cache; sets that cannot be downloaded do nothing."""

    @abstractmethod
    def read(self, paths: tuple[Path, ...]) -> Pixels:
        """Read all images from the files that :meth:`locate` found."""


def search_places(root: str | None, *, extra: Iterable[Place] = ()) -> list[Place]:
    """Absolute folders in the order of search: ``root``, ``extra``, ``$SCHEDRL_DATA``, ``./data``."""
    named = [(root, "root"), *extra, (os.environ.get("SCHEDRL_DATA"), "SCHEDRL_DATA"), ("data", "./data")]
    unique: dict[Path, str] = {}
    for path, origin in named:
        if path:
            unique.setdefault(Path(path).expanduser().absolute(), origin)
    return list(unique.items())


def describe(places: Sequence[Place]) -> str:
    """Name the folders in an error message."""
    notes = ("" if os.path.isdir(path) else ", no such folder" for path, _ in places)
    return ", ".join(f"{path} ({origin}{note})" for (path, origin), note in zip(places, notes, strict=True))
