"""The user's own images: a folder of pictures, or an array in an .npz file."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from schedrl.data.image_data import ImageData, search_places
from schedrl.data.splits import Levels, Pixels
from schedrl.errors import MissingDataError, SchedrlError
from schedrl.provenance import require_memory

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


class _OwnData(ImageData):
    """Images at a user's path."""

    path: str = Field(min_length=1)

    def _resolve(self, what: str) -> Path:
        """The first existing ``path``."""
        path = Path(self.path).expanduser()
        if path.is_absolute():
            places = [(path, "path")]
        else:
            folders = search_places(self.root, extra=[(Path.cwd(), "working directory")])
            places = [(folder / path, origin) for folder, origin in folders]
        for candidate, _ in places:
            if os.path.exists(candidate):
                return candidate
        looked = ", ".join(f"{candidate} ({origin})" for candidate, origin in places)
        raise MissingDataError(
            f"{self.name}: missing {what} '{self.path}'; looked for {looked}; "
            f"correct path, root or SCHEDRL_DATA"
        )


class ImageFolder(_OwnData):
    """The pictures in a folder and its subfolders, 256 levels, without labels.

    Pictures of another size are scaled with a Lanczos filter until they cover size x size pixels, and then cropped to
    the centre; the result has 256 levels again. EXIF orientation is applied, transparency is dropped, and of an
    animation only the first frame is read. Order: by path below the folder.

    Attributes:
        path: The folder. A relative path is searched in ``root``, the working directory, ``$SCHEDRL_DATA`` and
            ``./data``, in this order.
        size: Height and width of the images in pixels.
        channels: 1 for grey, 3 for colour; pictures are converted.
    """

    name: Literal["folder"] = "folder"
    size: int = Field(ge=1, le=1024)
    channels: Literal[1, 3] = 3

    def locate(self) -> tuple[Path, ...]:
        folder = self._resolve("folder")
        if not os.path.isdir(folder):
            raise SchedrlError(f"{self.name}: {folder} is a file; path must be a folder of pictures")
        if next(picture_files(folder), None) is None:
            raise MissingDataError(
                f"{self.name}: no pictures in {folder}; looked for files {' '.join(SUFFIXES)}"
            )
        return (folder,)

    def read(self, paths: tuple[Path, ...]) -> Pixels:
        (folder,) = paths
        pictures = sorted(picture_files(folder), key=lambda picture: picture.relative_to(folder).as_posix())
        pixels = len(pictures) * self.channels * self.size**2
        require_memory(9.0 * pixels, f"folder: the pictures of {folder}", "lower size, or give fewer")
        images = np.empty((len(pictures), self.channels, self.size, self.size), dtype=np.uint8)
        for image, picture in zip(images, pictures, strict=True):
            image[:] = self._picture(picture)
        return Pixels(images=images)

    def _picture(self, path: Path) -> Levels:
        """One picture as uint8 [C, size, size]."""
        from PIL import Image, ImageOps

        try:
            with Image.open(path, formats=FORMATS) as picture:
                if picture.mode.startswith(("I", "F")):
                    raise SchedrlError(
                        f"{self.name}: picture {path} has more than 8 bits per channel (mode {picture.mode})"
                    )
                turned = ImageOps.exif_transpose(picture).convert("L" if self.channels == 1 else "RGB")
        except SchedrlError:
            raise
        except Exception as error:  # a damaged file can make Pillow's parsers raise almost anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise SchedrlError(f"{self.name}: cannot read picture {path} ({reason})") from None
        return fitted_pixels(turned, self.size)


def fitted_pixels(picture: Any, side: int) -> Levels:
    """A grey or colour Pillow image, scaled and cropped, as uint8 [C, side, side]."""
    from PIL import Image, ImageOps

    fitted = ImageOps.fit(picture, (side, side), method=Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8).reshape(side, side, -1).transpose(2, 0, 1)


def picture_files(folder: Path) -> Iterator[Path]:
    """Paths of the picture files below a folder, without hidden ones, in no particular order."""

    def fail(error: OSError) -> None:
        raise SchedrlError(f"folder: cannot list {error.filename} ({error.strerror})")

    for parent, _, names in os.walk(folder, onerror=fail):
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(parent, name)


class Npz(_OwnData):
    """An array of images in a NumPy .npz archive, 256 levels, without labels; never unpickles anything.

    uint8 arrays are used unchanged. In floating-point arrays ``low`` is black and ``high`` is white; values in between
    are rounded to the nearest of 256 levels, values outside are an error.

    Attributes:
        path: The archive. A relative path is searched in ``root``, the working directory, ``$SCHEDRL_DATA`` and
            ``./data``, in this order.
        key: Name of the array in the archive.
        layout: Axes of the array: "NHW", "NHWC" or "NCHW". None: three axes are NHW; of four, the channel axis is the
            second or the last, whichever has length 1 or 3. If both or neither have, the layout must be given.
        low: Black in a floating-point array.
        high: White in a floating-point array.
    """

    name: Literal["npz"] = "npz"
    key: str = "images"
    layout: Literal["NHW", "NHWC", "NCHW"] | None = None
    low: float = 0.0
    high: float = 1.0

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high (low={self.low}, high={self.high})")
        return self

    def locate(self) -> tuple[Path, ...]:
        path = self._resolve("file")
        if os.path.isdir(path):
            raise SchedrlError(f"{self.name}: {path} is a folder; path must be an .npz file")
        return (path,)

    def read(self, paths: tuple[Path, ...]) -> Pixels:
        (path,) = paths
        levels = self._levels(self._array(path))
        layout = self.layout or self._guess_layout(levels.shape)
        if levels.ndim != len(layout) or levels.size == 0:
            raise self._bad(f"must be a non-empty array {layout} (got shape {levels.shape})")
        if layout == "NHW":
            levels = levels[:, None]
        elif layout == "NHWC":
            levels = levels.transpose(0, 3, 1, 2)
        return Pixels(images=levels)

    def _array(self, path: Path) -> npt.NDArray[Any]:
        try:
            with path.open("rb") as stream:
                archive = np.load(stream, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise SchedrlError(f"{self.name}: {path} is an .npy file; write it with numpy.savez")
                if self.key not in archive.files:
                    keys = ", ".join(archive.files) or "nothing"
                    raise SchedrlError(f"{self.name}: no key '{self.key}' in {path}; it has: {keys}")
                self._check_header(archive, path)
                array = archive[self.key]
        except SchedrlError:
            raise
        # RuntimeError: an encrypted archive, or a compression that this Python does not know.
        except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = " ".join(str(error).split())
            raise SchedrlError(
                f"{self.name}: cannot read {path} as an .npz file without pickles ({reason})"
            ) from None
        if not isinstance(array, np.ndarray):  # np.load hands out foreign members as bytes
            raise self._bad("is not a NumPy array")
        return array

    def _check_header(self, archive: Any, path: Path) -> None:
        """Refuse, before NumPy allocates it, an array that its part of the archive cannot hold, or the memory not."""
        names = {member.filename for member in archive.zip.infolist()}
        name = self.key if self.key in names else f"{self.key}.npy"
        member = archive.zip.getinfo(name)
        with archive.zip.open(name) as stream:
            if stream.read(6) != b"\x93NUMPY":
                return  # NumPy hands it out as bytes
            stream.seek(0)
            if np.lib.format.read_magic(stream)[0] == 1:
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        size = math.prod(shape)
        # Deflate packs at most 1032 bytes into one; other methods pack more, into more than a header.
        most = (
            1032 * member.compress_size if member.compress_type == zipfile.ZIP_DEFLATED else member.file_size
        )
        if size * dtype.itemsize > min(most, member.file_size):
            raise self._bad(f"is damaged: its header says shape {shape}, and its data is shorter")
        # As it is, as float64 and as float32, and divided into parts.
        require_memory(
            size * (dtype.itemsize + 16.0), f"npz: the images of {path}", "write fewer or smaller ones"
        )

    def _levels(self, array: npt.NDArray[Any]) -> Levels:
        """Round to 256 levels."""
        if array.dtype == np.uint8:
            return array
        if array.dtype.kind != "f":
            raise self._bad(f"must be uint8 or floating-point (got {array.dtype})")
        if array.size and not np.isfinite(array).all():
            raise self._bad("has NaN or infinite values")
        scaled = (array.astype(np.float64) - self.low) / (self.high - self.low)
        # A millionth outside is rounding by the program that wrote the file.
        if array.size and (scaled.min() < -1e-6 or scaled.max() > 1.0 + 1e-6):
            raise self._bad(
                f"has values from {array.min():g} to {array.max():g}; "
                f"low={self.low:g} and high={self.high:g} must enclose them"
            )
        return np.rint(255.0 * np.clip(scaled, 0.0, 1.0)).astype(np.uint8)

    def _guess_layout(self, shape: tuple[int, ...]) -> str:
        if len(shape) == 3:
            return "NHW"
        if len(shape) != 4:
            raise self._bad(f"must have three axes (NHW) or four (NHWC, NCHW) (got shape {shape})")
        first, last = shape[1] in (1, 3), shape[3] in (1, 3)
        if first == last:
            raise self._bad(f"has shape {shape}, which may be NHWC or NCHW; set layout to one of them")
        return "NCHW" if first else "NHWC"

    def _bad(self, problem: str) -> SchedrlError:
        return SchedrlError(f"{self.name}: array '{self.key}' of '{self.path}' {problem}")
