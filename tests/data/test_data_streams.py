"""A folder as it is on a disk is read as far as it can be, with an account of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schedrl.data import ImageFolder
from schedrl.data.image_streams import ArrayStream, FolderStream
from schedrl.errors import MissingDataError, SchedrlError

RNG = np.random.default_rng(0)


def save(path: Path, shape: tuple[int, ...] = (8, 8, 3), mode: str | None = None) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(path)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Five colour pictures, and one of everything that folders hold."""
    for index in range(5):
        save(tmp_path / f"a{index}.png")
    save(tmp_path / "grey.png", (8, 8))
    save(tmp_path / "clear.png", (8, 8, 4))
    save(tmp_path / "palette.gif", mode="P")
    save(tmp_path / "odd.jpg", (7, 13, 3))
    Image.fromarray(np.full((8, 8), 32896, dtype=np.uint16)).save(tmp_path / "deep.png")
    whole = (tmp_path / "a0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_everything_readable_is_read_and_the_rest_named(mixed: Path) -> None:
    stream = FolderStream(mixed)
    images = np.concatenate(list(stream.blocks(3)))
    assert images.shape == (10, 3, 8, 8)
    assert images.dtype == np.float32
    report = stream.report
    assert (report.found, report.read) == (12, 10)
    assert [name for name, _ in report.skipped] == ["cut.png", "empty.jpg"]
    assert report.changed["converted from grey to colour"] == 2
    assert report.changed["had transparency, which was dropped"] == 1
    assert report.changed["brought from 16 bits to 8"] == 1
    assert report.changed["scaled or cropped to 8 x 8"] == 1
    said = " ".join(report.sentences())
    assert "skipped 2 of 12 files, the first of them cut.png" in said
    # 32896 = 128 * 257
    assert np.isclose(images, 128 / 127.5 - 1.0, atol=1e-6).all(axis=(1, 2, 3)).sum() == 1


def test_reads_what_training_reads(tmp_path: Path) -> None:
    for index in range(6):
        save(tmp_path / f"{index}.png", (11, 9, 3))
    strict = ImageFolder(path=str(tmp_path), size=8)
    expected = strict.read(strict.locate()).images
    got = np.concatenate(list(FolderStream(tmp_path, 8).blocks(4)))
    np.testing.assert_allclose(got, expected / 127.5 - 1.0, atol=1e-6)


def test_size_and_channels_are_those_of_the_pictures(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path / f"{index}.png", (20, 30))
    save(tmp_path / "other.png", (50, 40))
    assert FolderStream(tmp_path).shape == (1, 20, 20)
    assert FolderStream(tmp_path, 16, 3).shape == (3, 16, 16)
    save(tmp_path / "colour.png")
    assert FolderStream(tmp_path).shape[0] == 3
    large = tmp_path / "large"
    large.mkdir()
    save(large / "0.png", (300, 200))
    assert FolderStream(large).shape == (1, 128, 128)


def test_limit_spreads_over_the_folder(tmp_path: Path) -> None:
    for index in range(9):
        Image.fromarray(np.full((4, 4), 10 * index, dtype=np.uint8)).save(tmp_path / f"{index}.png")
    images = np.concatenate(list(FolderStream(tmp_path, limit=3).blocks()))
    np.testing.assert_allclose(images[:, 0, 0, 0], np.array([0, 40, 80]) / 127.5 - 1.0, atol=1e-6)


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no pictures in"):
        FolderStream(tmp_path)
    with pytest.raises(MissingDataError, match="there is no folder"):
        FolderStream(tmp_path / "none")
    (tmp_path / "broken.png").write_bytes(b"broken")
    with pytest.raises(SchedrlError, match=r"none of the pictures in .* can be read; the first, broken.png"):
        FolderStream(tmp_path)
    with pytest.raises(SchedrlError, match="none of the pictures"):
        list(FolderStream(tmp_path, 8, 1).blocks())


@pytest.mark.parametrize(
    ("options", "match"), [((0, 1), "size"), ((8, 2), "channels"), ((8, 1, 1), "images")]
)
def test_wrong_numbers(tmp_path: Path, options: tuple[int, ...], match: str) -> None:
    save(tmp_path / "0.png")
    with pytest.raises(SchedrlError, match=match):
        FolderStream(tmp_path, *options)


def test_arrays_are_scaled_by_their_levels() -> None:
    levels = np.array([0, 8, 16], dtype=np.uint8).reshape(3, 1, 1, 1)
    (block,) = ArrayStream("three", levels, levels=17).blocks()
    assert block.ravel().tolist() == [-1.0, 0.0, 1.0]
    blocks = list(ArrayStream("floats", np.zeros((5, 1, 2, 2), dtype=np.float32)).blocks(2))
    assert [len(block) for block in blocks] == [2, 2, 1]
