"""Public image sets: scikit-learn's digits, and MNIST, Fashion-MNIST and CIFAR-10 in torchvision's folder layout.

Data folders are only read. Unpacked and downloaded files go to the user's cache, under a temporary name first, so that
processes can share it and a kill leaves no partial files.
"""

from __future__ import annotations

import gzip
import http.client
import math
import os
import shutil
import struct
import tarfile
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np

from schedrl.data.image_data import ImageCount, ImageData, describe, search_places
from schedrl.data.splits import Labels, Levels, Pixels
from schedrl.errors import MissingDataError, SchedrlError
from schedrl.files import cache_dir, locked_folder, write_chunks


class Digits(ImageData):
    """1,797 handwritten digits, 1x8x8, 17 grey levels: scikit-learn's ``load_digits``.

    Needs no files. By default 250 images are held out for validation and 250 for testing. Source: Alpaydin and Kaynak,
    Optical Recognition of Handwritten Digits, 1998.

    Examples:
        >>> spec = Digits(limit=100)
        >>> Digits.model_validate_json(spec.model_dump_json()) == spec
        True
    """

    name: Literal["digits"] = "digits"

    def read(self, paths: tuple[Path, ...]) -> Pixels:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

        images, labels = load_digits(return_X_y=True)
        return Pixels(
            images=np.asarray(images).astype(np.uint8).reshape(-1, 1, 8, 8),
            labels=np.asarray(labels).astype(np.int64),
            levels=17,
        )


class _TorchvisionData(ImageData):
    """A set with an official test part, from which ``test`` is drawn, and ``validation`` from the training part."""

    validation: ImageCount = 5000
    test: ImageCount = 10000

    torchvision_name: ClassVar[str]
    _alternative: ClassVar[str] = ""

    @abstractmethod
    def _found(self, folder: Path) -> tuple[list[Path], list[str]]:
        """The files in a data folder that :meth:`read` needs, and the names of the missing ones."""

    def locate(self) -> tuple[Path, ...]:
        places = [*search_places(self.root), (downloads_dir(), "downloads")]
        candidates = [self._found(folder) for folder, _ in places]
        # The first complete folder; else the one with most of the set gives the best message.
        found, lacking = min(candidates, key=lambda candidate: len(candidate[1]))
        if lacking:
            raise MissingDataError(
                f"{self.name}: missing {', '.join(lacking)}{self._alternative}; "
                f"looked in {describe(places)}; "
                f"set SCHEDRL_DATA to a folder that has them, or call with download=True / pass --download"
            )
        return tuple(found)

    def download(self) -> None:
        from torchvision import datasets  # type: ignore[import-untyped, unused-ignore]

        dataset: Any = getattr(datasets, self.torchvision_name)
        target = downloads_dir()
        try:
            part = target / ".part"
            with locked_folder(target, wait=True):
                shutil.rmtree(part, ignore_errors=True)  # of a kill
                part.mkdir()
                try:
                    dataset(str(part), download=True)
                    merge_tree(part, target)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            reason = " ".join(str(error).split())
            raise MissingDataError(f"{self.name}: download into {target} failed ({reason})") from None


class _IdxData(_TorchvisionData):
    """A set in MNIST's four idx files, plain or as .gz."""

    def _found(self, folder: Path) -> tuple[list[Path], list[str]]:
        raw = Path(self.torchvision_name, "raw")
        found, lacking = [], []
        for part in ("train", "t10k"):
            for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
                versions = [folder / raw / name, folder / raw / f"{name}.gz"]
                present = [path for path in versions if os.path.isfile(path)]
                found += present[:1]
                if not present:
                    lacking.append(f"{(raw / name).as_posix()}[.gz]")
        return found, lacking

    def read(self, paths: tuple[Path, ...]) -> Pixels:
        train_images, train_labels, test_images, test_labels = paths
        images, labels = self._read_part(train_images, train_labels)
        held_out, held_out_labels = self._read_part(test_images, test_labels)
        return Pixels(images=images, labels=labels, test_images=held_out, test_labels=held_out_labels)

    def _read_part(self, images: Path, labels: Path) -> tuple[Levels, Labels]:
        from torchvision.datasets import mnist  # type: ignore[import-untyped, unused-ignore]

        # torchvision's reader has assertions for damaged files, so it gets only files that were checked.
        pictures = mnist.read_image_file(str(self._checked(images, (28, 28)))).numpy()
        classes = mnist.read_label_file(str(self._checked(labels, ()))).numpy()
        if len(pictures) != len(classes):
            raise SchedrlError(f"{labels}: {len(classes)} labels for {len(pictures)} images")
        return pictures[:, None], classes

    def _checked(self, path: Path, shape: tuple[int, ...]) -> Path:
        """The unpacked file, after a check that it holds uint8 items of this shape."""
        plain = unpack_gz(path, self.torchvision_name) if path.suffix == ".gz" else path
        length = 4 * (2 + len(shape))
        try:
            size = plain.stat().st_size
            with plain.open("rb") as stream:
                head = stream.read(length)
        except OSError as error:
            raise SchedrlError(f"{path}: cannot be read ({error.strerror})") from None
        magic, n, *items = struct.unpack(f">{2 + len(shape)}I", head.ljust(length, b"\0"))
        # The idx format: 0x08 for uint8, the number of axes, their lengths, the data.
        if magic != 0x0801 + len(shape) or tuple(items) != shape or size != length + n * math.prod(shape):
            kind = "28x28 uint8 images" if shape else "uint8 labels"
            raise SchedrlError(
                f"{path}: damaged: not an idx file of {kind}, or cut short; get the file again"
            )
        return plain


class MNIST(_IdxData):
    """70,000 handwritten digits, 1x28x28, 256 levels (LeCun, Cortes and Burges 1998).

    Read from ``ROOT/MNIST/raw/*-ubyte``, or from the ``*-ubyte.gz`` files there, which are unpacked once into the
    cache. By default 5,000 of the training images are for validation and the 10,000 official test images for testing.
    """

    name: Literal["mnist"] = "mnist"

    torchvision_name: ClassVar[str] = "MNIST"


class FashionMNIST(_IdxData):
    """70,000 grey pictures of clothes, 1x28x28, 256 levels (Xiao, Rasul and Vollgraf 2017).

    Read from ``ROOT/FashionMNIST/raw``; otherwise like :class:`MNIST`.
    """

    name: Literal["fashion-mnist"] = "fashion-mnist"

    torchvision_name: ClassVar[str] = "FashionMNIST"


class CIFAR10(_TorchvisionData):
    """60,000 colour pictures of ten classes, 3x32x32, 256 levels (Krizhevsky 2009).

    Read from ``ROOT/cifar-10-batches-py``, or from ``ROOT/cifar-10-python.tar.gz``, which is unpacked once
    into the cache. The batches are pickles; they are opened only if their MD5 sums are those in torchvision. Split as
    :class:`MNIST`.
    """

    name: Literal["cifar10"] = "cifar10"

    torchvision_name: ClassVar[str] = "CIFAR10"

    _folder: ClassVar[str] = "cifar-10-batches-py"
    _archive: ClassVar[str] = "cifar-10-python.tar.gz"
    _alternative: ClassVar[str] = f" (or {_archive})"
    _members: ClassVar[tuple[str, ...]] = tuple(
        f"cifar-10-batches-py/{name}"
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
    )

    def _found(self, folder: Path) -> tuple[list[Path], list[str]]:
        lacking = [name for name in self._members if not os.path.isfile(folder / name)]
        if lacking and os.path.isfile(folder / self._archive):
            return [folder / self._archive], []
        return [folder], lacking

    def read(self, paths: tuple[Path, ...]) -> Pixels:
        from torchvision import datasets  # type: ignore[import-untyped, unused-ignore]
        from torchvision.datasets.utils import (  # type: ignore[import-untyped, unused-ignore]
            check_integrity,
        )

        reader = datasets.CIFAR10
        (path,) = paths
        root = path if path.is_dir() else unpack_tar(path, self.torchvision_name, self._members)
        sums = [*reader.train_list, *reader.test_list, [reader.meta["filename"], reader.meta["md5"]]]
        for name, md5 in sums:
            batch = root / self._folder / name
            if not check_integrity(str(batch), md5):
                raise SchedrlError(
                    f"{batch}: damaged: its MD5 sum is not {md5}; remove it and get the set again"
                )
        train, test = (reader(str(root), train=part) for part in (True, False))
        return Pixels(
            images=train.data.transpose(0, 3, 1, 2),
            labels=np.asarray(train.targets, dtype=np.int64),
            test_images=test.data.transpose(0, 3, 1, 2),
            test_labels=np.asarray(test.targets, dtype=np.int64),
        )


_CACHE_HINT = "; set XDG_CACHE_HOME to a writable folder"
_LARGEST = 2**28
"""Bytes of a file of a set, unpacked; the largest has about 47 MB."""
_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError)


def downloads_dir() -> Path:
    """The cache folder of downloads, laid out like a data folder."""
    return cache_dir() / "downloads"


def unpack_gz(source: Path, kind: str) -> Path:
    """Unpack a .gz file into the cache, unless the unpacked file is there and has the right CRC.

    Args:
        source: The .gz file, which may be in a read-only folder.
        kind: Subfolder of the cache, the name of the set.

    Returns:
        The unpacked file.
    """
    folder, crc = _unpacked(source, kind)
    target = folder / source.name.removesuffix(".gz")
    try:
        if zlib.crc32(target.read_bytes()) == crc:
            return target
    except OSError:
        pass  # not unpacked yet
    try:
        with gzip.open(source) as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise EOFError(f"it unpacks to more than {_LARGEST >> 20} MiB")
    except _UNREADABLE as error:
        raise _damaged(source, error) from None
    write_chunks(target, [content], hint=_CACHE_HINT)
    return target


def _unpacked(source: Path, kind: str) -> tuple[Path, int]:
    """The cache folder of a file's content, and the content's CRC-32, which RFC 1952 puts at the end of the file.

    The folder is named after the file's size and CRC, so another file of the same name has another folder.
    """
    try:
        with source.open("rb") as stream:
            stream.seek(-8, os.SEEK_END)
            (crc,) = struct.unpack("<I", stream.read(4))
    except OSError as error:
        raise _damaged(source, error) from None
    return cache_dir() / "unpacked" / kind / f"{source.stat().st_size}-{crc:08x}", crc


def unpack_tar(source: Path, kind: str, members: Sequence[str]) -> Path:
    """Unpack some files of a .tar.gz file into the cache, once.

    Args:
        source: The archive, which may be in a read-only folder.
        kind: Subfolder of the cache, the name of the set.
        members: Paths inside the archive; nothing else is unpacked.

    Returns:
        The folder that has the members at their paths.
    """
    folder, _ = _unpacked(source, kind)
    wanted = {PurePosixPath(name) for name in members if not (folder / name).is_file()}
    if not wanted:
        return folder
    try:
        with tarfile.open(source, "r:gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                stream = archive.extractfile(member) if name in wanted and member.isfile() else None
                if stream is not None and member.size <= _LARGEST:
                    write_chunks(folder / name, [stream.read()], hint=_CACHE_HINT)
                    wanted.remove(name)
    except _UNREADABLE as error:
        raise _damaged(source, error) from None
    if wanted:
        raise _damaged(source, f"without {', '.join(sorted(map(str, wanted)))}")
    return folder


def merge_tree(source: Path, target: Path) -> None:
    """Move every file under ``source`` to the same path under ``target``, replacing what is there.

    Both must be on one file system. Each file is moved atomically, so several processes may do the same.
    """
    for path in sorted(source.rglob("*")):
        if path.is_file():
            destination = target / path.relative_to(source)
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, destination)


def _damaged(source: Path, reason: object) -> SchedrlError:
    return SchedrlError(f"{source}: damaged or unreadable ({reason}); get the file again")
