"""Sets in torchvision's layout: plain and packed files, the cache, damage, missing files, downloads."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

from schedrl import data
from schedrl.data import public_sets
from schedrl.errors import MissingDataError, SchedrlError

SMALL: dict[str, Any] = {"validation": 10, "test": 12}


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def as_set(images: np.ndarray) -> set[bytes]:
    """The images as a set of byte strings of grey levels."""
    return {np.rint((image.astype(float) + 1) * 127.5).astype(np.uint8).tobytes() for image in images}


def check(split: data.ImageSplit, fake: Any) -> None:
    """The split has exactly the images of the fake set, each with its label."""
    assert split.image_shape == (1, 28, 28)
    assert split.levels == 256
    assert as_set(split.test) == {image.tobytes() for image in fake.test}
    assert as_set(split.train) | as_set(split.validation) == {image.tobytes() for image in fake.train}
    assert (len(split.train), len(split.validation), len(split.test)) == (30, 10, 12)
    assert split.labels is not None
    for part in ("train", "validation", "test"):
        corner = np.rint((getattr(split, part)[:, 0, 0, 0].astype(float) + 1) * 127.5).astype(int)
        assert split.labels[part].dtype == np.int64
        assert split.labels[part].tolist() == (corner % 10).tolist()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("kind", "folder"), [(data.MNIST, "MNIST"), (data.FashionMNIST, "FashionMNIST")])
def test_reads_what_was_written(tmp_path: Path, fake: Any, kind: Any, folder: str, packed: bool) -> None:
    root = fake.write(tmp_path / "root", folder, packed=packed)
    before = tree(root)
    spec = kind(root=str(root), **SMALL)
    assert data.missing(spec) is None
    check(data.load(spec), fake)
    assert tree(root) == before


def test_read_only_root_is_unpacked_into_the_cache_once(
    tmp_path: Path, cache: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fake.write(tmp_path / "root")
    folders = [root, root / "FashionMNIST", root / "FashionMNIST" / "raw"]
    for folder in folders:
        folder.chmod(0o555)
    try:
        check(data.load(data.FashionMNIST(root=str(root), **SMALL)), fake)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    unpacked = tree(cache)
    assert {Path(name).name: content for name, content in unpacked.items()} == fake.files
    monkeypatch.setattr(public_sets, "write_chunks", lambda *_, **__: pytest.fail("unpacked again"))
    check(data.load(data.FashionMNIST(root=str(root), split_seed=1, **SMALL)), fake)


def test_another_source_is_not_confused_with_the_cached_one(
    tmp_path: Path, cache: Path, make_fake: Callable[[int], Any]
) -> None:
    one, other = make_fake(1), make_fake(2)
    check(data.load(data.FashionMNIST(root=str(one.write(tmp_path / "one")), **SMALL)), one)
    check(data.load(data.FashionMNIST(root=str(other.write(tmp_path / "other")), **SMALL)), other)
    kept = {path.read_bytes() for path in cache.rglob("train-images-idx3-ubyte")}
    assert kept == {one.files["train-images-idx3-ubyte"], other.files["train-images-idx3-ubyte"]}
    # The same folder with other content, too: neither the disk cache nor the memory cache may answer.
    check(data.load(data.FashionMNIST(root=str(other.write(tmp_path / "one")), **SMALL)), other)


def test_a_damaged_cache_is_repaired(tmp_path: Path, cache: Path, fake: Any) -> None:
    root = str(fake.write(tmp_path / "root"))
    data.load(data.FashionMNIST(root=root, **SMALL))
    (unpacked,) = cache.rglob("train-images-idx3-ubyte")
    content = bytearray(unpacked.read_bytes())
    content[5000] ^= 1
    unpacked.write_bytes(content)
    check(data.load(data.FashionMNIST(root=root, split_seed=2, **SMALL)), fake)
    unpacked.write_bytes(content[:100])
    check(data.load(data.FashionMNIST(root=root, split_seed=3, **SMALL)), fake)


def test_many_unpack_at_once(tmp_path: Path, cache: Path, fake: Any) -> None:
    root = fake.write(tmp_path / "root")
    source = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    barrier = threading.Barrier(8)

    def unpack(_: int) -> bytes:
        barrier.wait()
        return public_sets.unpack_gz(source, "FashionMNIST").read_bytes()

    with ThreadPoolExecutor(8) as pool:
        contents = set(pool.map(unpack, range(8)))
    assert contents == {fake.files["train-images-idx3-ubyte"]}
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["train-images-idx3-ubyte"]


def test_an_unwritable_cache_is_named(tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SchedrlError, match=r"cannot write .*set XDG_CACHE_HOME to a writable folder"):
        data.load(data.FashionMNIST(root=str(fake.write(tmp_path / "root")), **SMALL))


def test_order_of_places(
    tmp_path: Path, make_fake: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_root, in_variable, here, downloaded = (make_fake(seed) for seed in (1, 2, 3, 4))
    downloaded.write(public_sets.downloads_dir())
    check(data.load(data.FashionMNIST(**SMALL)), downloaded)
    here.write(tmp_path / "work" / "data")
    check(data.load(data.FashionMNIST(**SMALL)), here)
    monkeypatch.setenv("SCHEDRL_DATA", str(in_variable.write(tmp_path / "variable")))
    check(data.load(data.FashionMNIST(**SMALL)), in_variable)
    check(data.load(data.FashionMNIST(root=str(in_root.write(tmp_path / "root")), **SMALL)), in_root)
    # A folder that lacks one file is passed over for the next.
    (tmp_path / "root" / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    check(data.load(data.FashionMNIST(root=str(tmp_path / "root"), **SMALL)), in_variable)


def test_missing_names_files_folders_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDRL_DATA", str(tmp_path))
    spec = data.FashionMNIST(root=str(tmp_path / "nowhere"))
    with pytest.raises(MissingDataError) as caught:
        data.load(spec)
    message = str(caught.value)
    assert message == data.missing(spec)
    assert "\n" not in message
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        assert f"FashionMNIST/raw/{name}-ubyte[.gz]" in message
    for place in (
        f"{tmp_path / 'nowhere'} (root, no such folder)",
        f"{tmp_path} (SCHEDRL_DATA)",
        f"{tmp_path / 'work' / 'data'} (./data, no such folder)",
    ):
        assert place in message
    assert "set SCHEDRL_DATA to a folder that has them" in message
    assert "download=True" in message
    assert "--download" in message


def test_missing_names_only_what_is_missing(tmp_path: Path, fake: Any) -> None:
    root = fake.write(tmp_path / "root")
    (root / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    message = data.missing(data.FashionMNIST(root=str(root)))
    assert message is not None
    assert "t10k-labels" in message
    assert "train-" not in message
    assert "t10k-images" not in message


def damage(content: bytes, how: str) -> bytes:
    """Damage a packed file."""
    if how == "cut short":
        return content[: len(content) // 2]
    if how == "flipped bit":
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
    if how == "not gzip":
        return b"<html>" + b"x" * 100
    if how == "empty":
        return b""
    raise AssertionError(how)


@pytest.mark.parametrize("how", ["cut short", "flipped bit", "not gzip", "empty"])
def test_damaged_packed_file_is_named(tmp_path: Path, cache: Path, fake: Any, how: str) -> None:
    root = fake.write(tmp_path / "root")
    path = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes(), how))
    with pytest.raises(SchedrlError, match=r"train-images-idx3-ubyte\.gz: damaged") as caught:
        data.load(data.FashionMNIST(root=str(root), **SMALL))
    assert "\n" not in str(caught.value)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08\x03",
        b"\0\0\x08\x03" + bytes([0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 784 - 1),
        b"\0\0\x08\x03" + bytes([0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 784 + 1),
        b"\0\0\x0d\x03" + bytes([0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 784),
        b"\0\0\x08\x03" + bytes([0, 0, 0, 2, 0, 0, 0, 14, 0, 0, 0, 56]) + bytes(2 * 784),
        b"\0\0\x08\x01" + bytes([0, 0, 0, 2]) + bytes(2),
    ],
    ids=["empty", "header only", "short", "long", "float", "14x56", "labels"],
)
def test_content_that_is_not_images_is_refused(
    tmp_path: Path, fake: Any, content: bytes, packed: bool
) -> None:
    fake.files["train-images-idx3-ubyte"] = content
    root = fake.write(tmp_path / "root", packed=packed)
    with pytest.raises(SchedrlError, match=r"root/.*train-images-idx3-ubyte.*not an idx file of 28x28 uint8"):
        data.load(data.FashionMNIST(root=str(root), **SMALL))


def test_labels_that_do_not_match_are_refused(tmp_path: Path, fake: Any) -> None:
    fake.files["train-labels-idx1-ubyte"] = fake.files["t10k-labels-idx1-ubyte"]
    with pytest.raises(SchedrlError, match="12 labels for 40 images"):
        data.load(data.FashionMNIST(root=str(fake.write(tmp_path / "root")), **SMALL))


def test_download_only_when_asked_and_only_into_the_cache(
    tmp_path: Path, cache: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets  # type: ignore[import-untyped, unused-ignore]

    calls = []

    class Fetched:
        def __init__(self, root: str, download: bool) -> None:
            calls.append((root, download))
            fake.write(Path(root))

    monkeypatch.setattr(datasets, "FashionMNIST", Fetched)
    (tmp_path / "root").mkdir()
    spec = data.FashionMNIST(root=str(tmp_path / "root"), **SMALL)
    with pytest.raises(MissingDataError):
        data.load(spec)
    assert calls == []
    left = public_sets.downloads_dir() / ".part" / "half"  # of a download that was killed
    left.parent.mkdir(parents=True)
    left.write_text("half")
    check(data.load(spec, download=True), fake)
    assert not left.parent.exists()
    ((folder, download),) = calls
    assert download
    assert Path(folder).is_relative_to(cache)
    assert tree(tmp_path / "root") == {}
    assert not Path(folder).exists()
    # From now on it is there, without asking.
    assert data.missing(spec) is None
    check(data.load(spec, download=True), fake)
    assert len(calls) == 1


@pytest.mark.parametrize("error", [RuntimeError("Error downloading x:\nTried y"), URLError("no network")])
def test_failed_download_is_one_line(error: Exception, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets  # type: ignore[import-untyped, unused-ignore]

    def fail(root: str, download: bool) -> None:
        Path(root, "half").write_text("half")
        raise error

    monkeypatch.setattr(datasets, "MNIST", fail)
    with pytest.raises(MissingDataError, match=r"mnist: download into .* failed") as caught:
        data.load(data.MNIST(), download=True)
    assert "\n" not in str(caught.value)
    assert tree(cache) == {}


@pytest.fixture
def fake_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """Six little batches whose MD5 sums torchvision is told to expect; images are uint8 [24, 3, 32, 32]."""
    from torchvision import datasets  # type: ignore[import-untyped, unused-ignore]

    images = np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)
    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    sums = []
    for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
        part = images[4 * i : 4 * i + 4]
        content = pickle.dumps(
            {"data": part.reshape(4, -1), "labels": [int(x) % 10 for x in part[:, 0, 0, 0]]}
        )
        (folder / name).write_bytes(content)
        sums.append([name, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({"label_names": list("abcdefghij")})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", sums[5:])
    meta_entry = {"filename": "batches.meta", "key": "label_names", "md5": hashlib.md5(meta).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta_entry)
    return tmp_path / "root", images


def pack(root: Path, skip: str = "") -> None:
    """Replace the folder of batches by the archive, with a member that wants to escape."""
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        for path in sorted((root / "cifar-10-batches-py").iterdir()):
            if path.name != skip:
                archive.add(path, f"cifar-10-batches-py/{path.name}")
            path.unlink()
        archive.addfile(tarfile.TarInfo("../escaped"), io.BytesIO())
    (root / "cifar-10-batches-py").rmdir()


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10(fake_cifar: tuple[Path, np.ndarray], cache: Path, packed: bool) -> None:
    root, images = fake_cifar
    if packed:
        pack(root)
    before = tree(root)
    spec = data.CIFAR10(root=str(root), validation=5, test=4)
    assert data.missing(spec) is None
    split = data.load(spec)
    assert split.image_shape == (3, 32, 32)
    assert (len(split.train), split.levels) == (15, 256)
    assert as_set(split.test) == {image.tobytes() for image in images[20:]}
    assert as_set(split.train) | as_set(split.validation) == {image.tobytes() for image in images[:20]}
    assert split.labels is not None
    corner = np.rint((split.train[:, 0, 0, 0].astype(float) + 1) * 127.5).astype(int)
    assert split.labels["train"].tolist() == (corner % 10).tolist()
    assert tree(root) == before
    assert not any(path.name == "escaped" for path in cache.parent.parent.rglob("*"))


class Explode:
    """Unpickling this fails the test."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Name what unpickling would call."""
        return pytest.fail, ("a pickle with an unknown MD5 sum was opened",)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_cifar10_opens_no_unknown_pickle(fake_cifar: tuple[Path, np.ndarray], name: str) -> None:
    root, _ = fake_cifar
    (root / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Explode()))
    with pytest.raises(SchedrlError, match=f"{name}: damaged: .*MD5"):
        data.load(data.CIFAR10(root=str(root), validation=5, test=4))


def test_cifar10_damaged_archives(fake_cifar: tuple[Path, np.ndarray]) -> None:
    root, _ = fake_cifar
    pack(root, skip="data_batch_5")
    spec = data.CIFAR10(root=str(root), validation=5, test=4)
    with pytest.raises(SchedrlError, match=r"tar\.gz: damaged .*without cifar-10-batches-py/data_batch_5"):
        data.load(spec)
    archive = root / "cifar-10-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(SchedrlError, match=r"cifar-10-python\.tar\.gz: damaged"):
        data.load(spec)


def test_cifar10_missing_names_the_archive_too(tmp_path: Path) -> None:
    message = data.missing(data.CIFAR10(root=str(tmp_path)))
    assert message is not None
    assert "cifar-10-batches-py/data_batch_1" in message
    assert "(or cifar-10-python.tar.gz)" in message


def test_real_fashion_mnist(real_data: str) -> None:
    before = sorted(Path(real_data).rglob("*"))
    split = data.load(data.FashionMNIST(root=real_data))
    assert sorted(Path(real_data).rglob("*")) == before
    assert [len(part) for part in (split.train, split.validation, split.test)] == [55000, 5000, 10000]
    assert split.image_shape == (1, 28, 28)
    assert split.labels is not None
    counts = np.bincount(np.concatenate([split.labels["train"], split.labels["validation"]]))
    assert counts.tolist() == [6000] * 10
    assert np.bincount(split.labels["test"]).tolist() == [1000] * 10
    # The published mean of the 60,000 training images is 0.2860 of white.
    total = split.train.sum(dtype=np.float64) + split.validation.sum(dtype=np.float64)
    assert (total / (60000 * 784) + 1) / 2 == pytest.approx(0.2860, abs=5e-5)
    raw = Path(real_data, "FashionMNIST", "raw", "t10k-images-idx3-ubyte")
    content = raw.read_bytes() if raw.exists() else gzip.decompress(Path(f"{raw}.gz").read_bytes())
    items = np.frombuffer(content[16:], dtype=np.uint8).reshape(-1, 784)
    assert as_set(split.test) == {image.tobytes() for image in items}
