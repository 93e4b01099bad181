"""Image sets as arrays, divided into training, validation and test images.

A frozen specification names an image set; :func:`load` returns its images as an :class:`ImageSplit`:

>>> from schedrl import data
>>> split = data.load(data.Digits(validation=200, test=200))
>>> split.image_shape, split.levels, len(split.train)
((1, 8, 8), 17, 1397)

Files are searched in the specification's ``root``, in the folder of the environment variable ``SCHEDRL_DATA``, in
``./data``, and among earlier downloads (in ``~/.cache/schedrl``, or under ``XDG_CACHE_HOME``). Nothing is downloaded
without ``download=True``, and nothing is written into a data folder.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field

from schedrl.data.image_data import ImageData, ImageShape
from schedrl.data.own import ImageFolder, Npz
from schedrl.data.public_sets import CIFAR10, MNIST, Digits, FashionMNIST
from schedrl.data.splits import ImageSplit, cut, level_centres
from schedrl.errors import MissingDataError, SchedrlError, parse, unknown_name

__all__ = [
    "CIFAR10",
    "MNIST",
    "SHAPES",
    "AnyData",
    "DataSpec",
    "Digits",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "ImageShape",
    "ImageSplit",
    "Npz",
    "ensure",
    "get",
    "level_centres",
    "load",
    "missing",
    "names",
]

DataSpec = Digits | MNIST | FashionMNIST | CIFAR10 | ImageFolder | Npz
"""Every image set."""

AnyData = Annotated[DataSpec, Field(discriminator="name")]
"""Every image set, as the type of a pydantic field: ``name`` decides which."""

SHAPES: dict[str, tuple[int, int, int]] = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
}
"""``(C, H, W)`` of the sets whose images have one size, known without reading them."""

_BY_NAME: dict[str, type[DataSpec]] = {kind.model_fields["name"].default: kind for kind in get_args(DataSpec)}


def names() -> list[str]:
    """Names of all image sets, in alphabetical order.

    Examples:
        >>> names()
        ['cifar10', 'digits', 'fashion-mnist', 'folder', 'mnist', 'npz']
    """
    return sorted(_BY_NAME)


def get(name: str, **fields: Any) -> DataSpec:
    """The specification of an image set, one of :func:`names`, with the given fields.

    Examples:
        >>> get("digits", limit=10).limit
        10
    """
    if name not in _BY_NAME:
        raise unknown_name("image set", name, _BY_NAME)
    return parse(_BY_NAME[name], fields, f"image set '{name}'")


def missing(spec: DataSpec) -> str | None:
    """What is missing for a set, which folders were searched and how to get it, in one line; None if nothing is."""
    try:
        spec.locate()
    except SchedrlError as error:
        return str(error)
    return None


def ensure(spec: DataSpec, *, download: bool = False) -> None:
    """Make sure, before any work, that a set is there; download it if it is not and ``download`` allows it.

    Raises:
        MissingDataError: It is missing, or the download fails.
    """
    if (problem := missing(spec)) is not None:
        if not download:
            raise MissingDataError(problem)
        load(spec, download=True)


def load(spec: DataSpec, *, download: bool = False) -> ImageSplit:
    """Load an image set: float32 [n, C, H, W] in [-1, 1], divided into three parts.

    The last few sets stay in memory, so their arrays are shared and read-only. A set is read again when its files (for
    a folder: its own list of entries) have changed.

    Args:
        spec: The set and its division.
        download: Download missing files with torchvision.

    Raises:
        MissingDataError: Files are missing and ``download`` is False, or the download fails.
        SchedrlError: A file is damaged, or there are too few images.

    Examples:
        >>> load(Digits()).train.shape
        (1297, 1, 8, 8)
    """
    try:
        paths = spec.locate()
    except MissingDataError:
        if not download:
            raise
        spec.download()
        paths = spec.locate()
    stamps = tuple((status.st_size, status.st_mtime_ns) for status in (path.stat() for path in paths))
    return _load(spec, paths, stamps)


@lru_cache(maxsize=4)
def _load(spec: DataSpec, paths: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> ImageSplit:
    """Read and divide; ``stamps`` distinguish versions of the files."""
    parts = {"validation": spec.validation, "test": spec.test, "split_seed": spec.split_seed}
    return cut(spec.name, spec.read(paths), **parts, limit=spec.limit)
