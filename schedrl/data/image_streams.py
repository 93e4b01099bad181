"""Images in blocks, to measure sets that exceed memory, with a report of skipped and changed files.

Training needs every picture, or an error (:mod:`schedrl.data.own`). Measuring a folder uses every readable picture and
reports the rest.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schedrl.data.own import FORMATS, SUFFIXES, fitted_pixels, picture_files
from schedrl.data.splits import Levels
from schedrl.errors import MissingDataError, SchedrlError

Images = npt.NDArray[np.float32]
Shape = tuple[int, int, int]

_PROBED = 256
_LARGEST_SIDE = 128
"""Largest side chosen automatically: a spectrum may have 3 x 128 x 128 numbers."""


@dataclass
class ReadReport:
    """Skipped and changed files.

    Attributes:
        found: Number of picture files.
        read: Number of pictures read.
        skipped: Path and reason of each picture that was not.
        changed: Number of changed pictures for each kind of change.
    """

    found: int = 0
    read: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    changed: Counter[str] = field(default_factory=Counter)

    def sentences(self) -> list[str]:
        said = [f"{count} of {self.read} pictures {what}" for what, count in sorted(self.changed.items())]
        if self.skipped:
            first, reason = self.skipped[0]
            more = "" if len(self.skipped) == 1 else ", the first of them"
            said.append(f"skipped {len(self.skipped)} of {self.found} files{more} {first}: {reason}")
        return said


class ImageStream(Protocol):
    """Images of one shape, in blocks."""

    @property
    def name(self) -> str:
        """Description of the images."""

    @property
    def shape(self) -> Shape:
        """Channels, height and width."""

    @property
    def report(self) -> ReadReport:
        """Skipped and changed files; complete after the last block."""

    def blocks(self, size: int = 256) -> Iterator[Images]:
        """The images, from the first, as ``[b, C, H, W]`` in [−1, 1] with b at most ``size``."""


class ArrayStream:
    """Images in memory.

    Args:
        name: Description of the images.
        images: ``[n, C, H, W]``, float in [−1, 1] or uint8.
        levels: Number of grey levels of uint8 images.
        limit: Most images, evenly spaced.
    """

    def __init__(
        self, name: str, images: Images | Levels, levels: int = 256, limit: int | None = None
    ) -> None:
        self.name, self._images, self._levels = name, images, levels
        self._chosen = _evenly(len(images), limit)
        channels, height, width = images.shape[1:]
        self.shape: Shape = (channels, height, width)
        self.report = ReadReport(found=len(self._chosen))

    def blocks(self, size: int = 256) -> Iterator[Images]:
        self.report = ReadReport(found=len(self._chosen))
        for begin in range(0, len(self._chosen), size):
            block = self._images[self._chosen[begin : begin + size]]
            if block.dtype == np.uint8:
                block = block.astype(np.float32) * np.float32(2.0 / (self._levels - 1)) - np.float32(1.0)
            self.report.read += len(block)
            yield np.asarray(block, dtype=np.float32)


class FolderStream:
    """Every readable picture in a folder and its subfolders, scaled and cropped to one size.

    As :class:`schedrl.data.ImageFolder`, but damaged files are skipped and 16-bit pictures are converted to 8 bits,
    and both are counted.

    Args:
        path: The folder.
        size: Height and width in pixels; None is the most frequent shorter side, 128 at most.
        channels: 1 for grey, 3 for colour; None is 1 if every sampled picture is grey.
        limit: Most files, evenly spaced in the order of their paths.
    """

    def __init__(
        self, path: str | Path, size: int | None = None, channels: int | None = None, limit: int | None = None
    ) -> None:
        folder = Path(path)
        if not os.path.isdir(folder):
            raise MissingDataError(f"folder: there is no folder {folder}")
        files = sorted(picture_files(folder), key=lambda file: file.relative_to(folder).as_posix())
        if not files:
            raise MissingDataError(f"folder: no pictures in {folder}; looked for files {' '.join(SUFFIXES)}")
        if channels not in (None, 1, 3):
            raise SchedrlError(f"field 'channels': must be 1 or 3 (got {channels})")
        self.name, self._folder = str(path), folder
        self._files = [files[index] for index in _evenly(len(files), limit)]
        found_size, found_channels = (size, channels) if size and channels else _probe(self._files, folder)
        side = size if size is not None else found_size or 0
        if not 1 <= side <= 1024:
            raise SchedrlError(f"field 'size': must be between 1 and 1024 pixels (got {side})")
        self.shape: Shape = (channels or found_channels or 3, side, side)
        self.report = ReadReport(found=len(self._files))

    def blocks(self, size: int = 256) -> Iterator[Images]:
        self.report = ReadReport(found=len(self._files))
        block = np.empty((size, *self.shape), dtype=np.uint8)
        filled = 0
        for file in self._files:
            picture = self._picture(file)
            if picture is None:
                continue
            block[filled] = picture
            filled += 1
            if filled == size:
                yield _signed(block)
                filled = 0
        if filled:
            yield _signed(block[:filled])
        if self.report.read == 0:
            raise _unreadable(self._folder, self.report.skipped)

    def _picture(self, path: Path) -> Levels | None:
        """One picture as uint8 [C, size, size]; None if it cannot be read."""
        from PIL import Image, ImageOps

        channels, side, _ = self.shape
        try:
            with Image.open(path, formats=FORMATS) as opened:
                changes = []
                picture: Any = ImageOps.exif_transpose(opened)
                if picture.mode.startswith("I"):
                    picture = _to_eight_bits(picture)
                    changes.append("brought from 16 bits to 8")
                if picture.mode == "F":
                    raise ValueError("floating-point pixels have no stated black and white")
                if picture.has_transparency_data:
                    changes.append("had transparency, which was dropped")
                wanted = "L" if channels == 1 else "RGB"
                bands = len(set(picture.getbands()) - {"A"})
                if picture.mode == "P":
                    picture = picture.convert("RGB")
                elif (bands == 1) != (channels == 1):
                    changes.append("converted from grey to colour" if bands == 1 else "converted to grey")
                if picture.size != (side, side):
                    changes.append(f"scaled or cropped to {side} x {side}")
                pixels = fitted_pixels(picture.convert(wanted), side)
        except Exception as error:  # a damaged file can make Pillow's parsers raise almost anything
            reason = " ".join(f"{type(error).__name__}: {error}".replace(str(path), path.name).split())
            self.report.skipped.append((path.relative_to(self._folder).as_posix(), reason))
            return None
        self.report.read += 1
        self.report.changed.update(changes)
        return pixels


def _evenly(count: int, limit: int | None) -> npt.NDArray[np.int64]:
    """At most ``limit`` evenly spaced indices below ``count``."""
    if limit is not None and limit < 2:
        raise SchedrlError(f"field 'images': must be at least 2 (got {limit})")
    if limit is None or count <= limit:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(np.int64)


def _signed(block: Levels) -> Images:
    return block.astype(np.float32) * np.float32(2.0 / 255.0) - np.float32(1.0)


def _to_eight_bits(picture: Any) -> Any:
    from PIL import Image

    values = np.asarray(picture).astype(np.float64)
    # Pillow reads 16-bit files in mode I as well; values that fit into 8 bits are kept.
    if picture.mode != "I" or values.max() > 255.0:
        values = values / 257.0
    return Image.fromarray(np.rint(np.clip(values, 0.0, 255.0)).astype(np.uint8))


def _probe(files: list[Path], folder: Path) -> tuple[int, int]:
    """The most frequent shorter side and the number of channels, from the headers of some files."""
    from PIL import Image

    sides: Counter[int] = Counter()
    grey, failed = True, []
    for index in _evenly(len(files), _PROBED):
        try:
            with Image.open(files[index], formats=FORMATS) as picture:
                sides[min(picture.size)] += 1
                grey &= picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")
        except Exception as error:  # as above
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            failed.append((files[index].relative_to(folder).as_posix(), reason))
    if not sides:
        raise _unreadable(folder, failed)
    most = max(sides.values())
    return min(max(side for side, count in sides.items() if count == most), _LARGEST_SIDE), 1 if grey else 3


def _unreadable(folder: Path, skipped: list[tuple[str, str]]) -> SchedrlError:
    first, reason = skipped[0]
    return SchedrlError(f"folder: none of the pictures in {folder} can be read; the first, {first}: {reason}")
