"""The user's own images: folders of pictures and .npz archives, good and bad."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from schedrl import data
from schedrl.data.own import Npz
from schedrl.errors import MissingDataError, SchedrlError

SMALL: dict[str, Any] = {"validation": 2, "test": 2}


def levels_of(split: data.ImageSplit) -> np.ndarray:
    """All images as integer grey levels, [n, C, H, W], in the split's order."""
    images = np.concatenate([split.train, split.validation, split.test]).astype(float)
    return np.rint((images + 1) * 255 / 2).astype(np.uint8)


def as_set(images: np.ndarray) -> set[bytes]:
    return {np.ascontiguousarray(image).tobytes() for image in images}


def write_pictures(folder: Path, images: np.ndarray, suffix: str = ".png") -> None:
    """Write uint8 [n, H, W] or [n, H, W, 3] as pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}{suffix}")


@pytest.fixture
def pixels() -> np.ndarray:
    """Ten random colour pictures, uint8 [10, 6, 6, 3]."""
    return np.random.default_rng(3).integers(0, 256, (10, 6, 6, 3), dtype=np.uint8)


def test_pictures_of_the_right_size_are_untouched(tmp_path: Path, pixels: np.ndarray) -> None:
    write_pictures(tmp_path / "set", pixels[:4])
    write_pictures(tmp_path / "set" / "sub" / "folder", pixels[4:], suffix=".BMP")
    (tmp_path / "set" / "notes.txt").write_text("not a picture")
    (tmp_path / "set" / "._000.png").write_text("what macOS leaves behind")
    split = data.load(data.ImageFolder(path=str(tmp_path / "set"), size=6, **SMALL))
    assert split.name == "folder"
    assert split.image_shape == (3, 6, 6)
    assert split.levels == 256
    assert split.labels is None
    assert as_set(levels_of(split)) == as_set(pixels.transpose(0, 3, 1, 2))


def test_order_of_pictures_does_not_depend_on_the_file_system(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "set", pixels)
    prints = []
    for backwards in (False, True):

        def walk(folder: Path, backwards: bool = backwards, **_: Any) -> Any:
            yield str(folder), [], sorted((path.name for path in folder.iterdir()), reverse=backwards)

        monkeypatch.setattr(os, "walk", walk)
        # Another limit, so that the second is not answered from memory; it is more than there is.
        spec = data.ImageFolder(path=str(tmp_path / "set"), size=6, limit=100 + backwards, **SMALL)
        prints.append(data.load(spec).fingerprint())
    assert prints[0] == prints[1]


def test_grey(tmp_path: Path, pixels: np.ndarray) -> None:
    write_pictures(tmp_path / "set", pixels[..., 0])
    split = data.load(data.ImageFolder(path=str(tmp_path / "set"), size=6, channels=1, **SMALL))
    assert split.image_shape == (1, 6, 6)
    assert as_set(levels_of(split)) == as_set(pixels[..., 0])


def test_mixed_sizes_are_scaled_and_cropped_in_the_centre(tmp_path: Path) -> None:
    """Wide and tall pictures with white outer parts, and a small one: the grey centre is what is left.

    A Lanczos kernel reaches three pixels of the result, so the white may show in a margin of that width.
    """
    wide = np.full((20, 60, 3), 255, dtype=np.uint8)
    wide[:, 20:40] = 40
    tall = np.full((60, 20, 3), 255, dtype=np.uint8)
    tall[20:40] = 80
    small = np.full((2, 2, 3), 120, dtype=np.uint8)
    (tmp_path / "set").mkdir()
    for name, array in (("wide", wide), ("tall", tall), ("small", small)):
        Image.fromarray(array).save(tmp_path / "set" / f"{name}.png")
    split = data.load(data.ImageFolder(path=str(tmp_path / "set"), size=10, validation=1, test=1))
    images = levels_of(split)
    assert images.shape == (3, 3, 10, 10)
    assert sorted(int(image[0, 5, 5]) for image in images) == [40, 80, 120]
    assert all((image[:, 3:7, 3:7] == image[0, 5, 5]).all() for image in images)
    assert any((image == 120).all() for image in images)
    centres = {np.float32(-1 + 2 * k / 255) for k in range(256)}
    assert set(np.unique(split.train)) <= centres


def test_exif_orientation_and_palette(tmp_path: Path) -> None:
    upright = np.zeros((4, 4, 3), dtype=np.uint8)
    upright[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    folder = tmp_path / "set"
    folder.mkdir()
    Image.fromarray(upright[::-1].copy()).save(folder / "turned.png", exif=exif)
    Image.fromarray(upright).convert("P").save(folder / "palette.gif")
    Image.fromarray(upright).convert("RGBA").save(folder / "alpha.png")
    split = data.load(data.ImageFolder(path=str(folder), size=4, validation=1, test=1))
    assert all((image == upright.transpose(2, 0, 1)).all() for image in levels_of(split))


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    spec = data.ImageFolder(path="nowhere", size=8, root=str(tmp_path / "r"))
    with pytest.raises(MissingDataError, match="folder: missing folder 'nowhere'") as caught:
        data.load(spec, download=True)
    message = str(caught.value)
    assert message == data.missing(spec)
    assert f"{tmp_path / 'r' / 'nowhere'} (root)" in message
    assert f"{tmp_path / 'work' / 'nowhere'} (working directory)" in message
    assert "\n" not in message


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "readme.txt").write_text("empty")
    spec = data.ImageFolder(path=str(tmp_path / "set"), size=8)
    with pytest.raises(SchedrlError, match=r"no pictures in .*set; looked for .*\.png"):
        data.load(spec)
    assert "no pictures" in (data.missing(spec) or "")


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(SchedrlError, match="is a file; path must be a folder"):
        data.load(data.ImageFolder(path=str(tmp_path / "file.png"), size=8))


def test_too_few_pictures(tmp_path: Path, pixels: np.ndarray) -> None:
    write_pictures(tmp_path / "set", pixels)
    with pytest.raises(SchedrlError, match="folder: 10 images are too few for test=250 and validation=250"):
        data.load(data.ImageFolder(path=str(tmp_path / "set"), size=6))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, None])
def test_unreadable_picture_is_named(tmp_path: Path, pixels: np.ndarray, content: bytes | None) -> None:
    write_pictures(tmp_path / "set", pixels)
    broken = tmp_path / "set" / "004.png"
    broken.write_bytes(broken.read_bytes()[:-60] if content is None else content)
    with pytest.raises(SchedrlError, match=r"cannot read picture .*set.004\.png") as caught:
        data.load(data.ImageFolder(path=str(tmp_path / "set"), size=6, **SMALL))
    assert "\n" not in str(caught.value)


def test_sixteen_bits_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    write_pictures(tmp_path / "set", pixels)
    Image.fromarray(np.full((6, 6), 40000, dtype=np.uint16)).save(tmp_path / "set" / "deep.png")
    with pytest.raises(SchedrlError, match=r"deep\.png has more than 8 bits per channel"):
        data.load(data.ImageFolder(path=str(tmp_path / "set"), size=6, **SMALL))


def npz(tmp_path: Path, array: Any, key: str = "images", **fields: Any) -> Npz:
    """Write an archive and return its specification."""
    np.savez(tmp_path / "set.npz", **{key: array})
    return Npz(path=str(tmp_path / "set.npz"), key=key, **SMALL, **fields)


@pytest.mark.parametrize(
    ("axes", "layout"),
    [((0, 1, 2, 3), None), ((0, 1, 2, 3), "NHWC"), ((0, 3, 1, 2), None), ((0, 3, 1, 2), "NCHW")],
)
def test_npz_layouts(tmp_path: Path, pixels: np.ndarray, axes: tuple[int, ...], layout: str | None) -> None:
    split = data.load(npz(tmp_path, pixels.transpose(axes), layout=layout))
    assert split.image_shape == (3, 6, 6)
    assert split.train.flags.c_contiguous
    assert as_set(levels_of(split)) == as_set(pixels.transpose(0, 3, 1, 2))


def test_npz_grey_and_key(tmp_path: Path, pixels: np.ndarray) -> None:
    split = data.load(npz(tmp_path, pixels[..., 0], key="x"))
    assert split.image_shape == (1, 6, 6)
    assert as_set(levels_of(split)) == as_set(pixels[..., 0])


def test_npz_any_number_of_channels_when_the_layout_is_given(tmp_path: Path) -> None:
    array = np.arange(10 * 2 * 4 * 4, dtype=np.uint16).astype(np.uint8).reshape(10, 2, 4, 4)
    assert data.load(npz(tmp_path, array, layout="NCHW")).image_shape == (2, 4, 4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_npz_floats_return_to_their_levels(
    tmp_path: Path, pixels: np.ndarray, dtype: Any, low: float, high: float
) -> None:
    scaled = (low + pixels.astype(np.float64) / 255 * (high - low)).astype(dtype)
    split = data.load(npz(tmp_path, scaled, low=low, high=high))
    assert as_set(levels_of(split)) == as_set(pixels.transpose(0, 3, 1, 2))


@given(hnp.arrays(np.float64, (5, 2, 3), elements=st.floats(-3, 5)))
@settings(deadline=None, max_examples=50)
def test_npz_floats_go_to_the_nearest_level(array: np.ndarray) -> None:
    levels = Npz(path="x", low=-3.0, high=5.0)._levels(array)
    assert levels.dtype == np.uint8
    step = 8 / 255
    assert np.abs(levels * step - 3 - array).max() <= step / 2 + 1e-12


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((9, 6, 6), np.int64), "must be uint8 or floating-point .got int64"),
        (np.zeros((9, 6, 6), bool), "got bool"),
        (np.zeros((9, 6, 6), complex), "got complex128"),
        (np.zeros((9, 6), np.uint8), "three axes .NHW. or four"),
        (np.zeros((9, 6, 6, 3, 1), np.uint8), "three axes .NHW. or four"),
        (np.zeros((0, 6, 6), np.uint8), "non-empty array NHW"),
        (np.zeros((9, 3, 6, 3), np.uint8), "may be NHWC or NCHW; set layout"),
        (np.zeros((9, 6, 6, 4), np.uint8), "may be NHWC or NCHW; set layout"),
        (np.full((9, 6, 6), np.nan), "NaN or infinite"),
        (np.full((9, 6, 6), np.inf), "NaN or infinite"),
        (np.full((9, 6, 6), 255.0), "values from 255 to 255; low=0 and high=1 must enclose them"),
        (np.full((9, 6, 6), -0.01), "values from -0.01"),
        (np.zeros((4, 6, 6), np.uint8), "npz: 4 images are too few"),
    ],
)
def test_npz_bad_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(SchedrlError, match=message) as caught:
        data.load(npz(tmp_path, array))
    assert "\n" not in str(caught.value)


def test_npz_wrong_layout(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(SchedrlError, match=r"must be a non-empty array NHW \(got shape \(10, 6, 6, 3\)\)"):
        data.load(npz(tmp_path, pixels, layout="NHW"))


def test_npz_missing_key_lists_the_keys(tmp_path: Path, pixels: np.ndarray) -> None:
    np.savez(tmp_path / "set.npz", pictures=pixels, names=np.arange(3))
    with pytest.raises(SchedrlError, match=r"no key 'images' in .*set\.npz; it has: pictures, names"):
        data.load(Npz(path=str(tmp_path / "set.npz")))


class Explode:
    """Unpickling this fails the test."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Name what unpickling would call."""
        return pytest.fail, ("something was unpickled",)


@pytest.mark.parametrize("kind", ["object array", "pickle", "npy"])
def test_npz_never_unpickles(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "set.npz"
    if kind == "object array":
        np.savez(path, images=np.array([Explode()], dtype=object))
        message = "without pickles .*allow_pickle=False"
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Explode()))
        message = "without pickles"
    else:
        with path.open("wb") as stream:
            np.save(stream, np.zeros((9, 2, 2), np.uint8))
        message = r"is an \.npy file; write it with numpy\.savez"
    with pytest.raises(SchedrlError, match=message):
        data.load(Npz(path=str(path), **SMALL))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text"])
def test_npz_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(SchedrlError, match=r"cannot read .*set\.npz"):
        data.load(Npz(path=str(tmp_path / "set.npz"), **SMALL))


def test_npz_with_a_foreign_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("images", b"not an array")
    with pytest.raises(SchedrlError, match=r"array 'images' of .* is not a NumPy array"):
        data.load(Npz(path=str(tmp_path / "set.npz")))


def test_npz_flipped_bits(tmp_path: Path, pixels: np.ndarray) -> None:
    spec = npz(tmp_path, pixels)
    path = tmp_path / "set.npz"
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(content)
    with pytest.raises(SchedrlError, match=r"cannot read .*set\.npz"):
        data.load(spec)


def test_npz_missing_and_folder(tmp_path: Path) -> None:
    spec = Npz(path=str(tmp_path / "nowhere.npz"))
    with pytest.raises(MissingDataError, match=r"npz: missing file '.*nowhere\.npz'"):
        data.load(spec)
    assert "nowhere.npz" in (data.missing(spec) or "")
    with pytest.raises(SchedrlError, match=r"is a folder; path must be an \.npz file"):
        data.load(Npz(path=str(tmp_path)))


def test_relative_paths_are_looked_for_in_order(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root, working directory, SCHEDRL_DATA, ./data: each set has one grey level that tells it."""
    folders = {"root": 10, "work": 20, "variable": 30, "work/data": 40}
    for name, level in folders.items():
        (tmp_path / name).mkdir(exist_ok=True)
        np.savez(tmp_path / name / "set.npz", images=np.full((9, 2, 2), level, np.uint8))
    monkeypatch.setenv("SCHEDRL_DATA", str(tmp_path / "variable"))
    spec = Npz(path="set.npz", root=str(tmp_path / "root"), **SMALL)
    for name, level in folders.items():
        assert (levels_of(data.load(spec)) == level).all()
        (tmp_path / name / "set.npz").unlink()
    with pytest.raises(MissingDataError):
        data.load(spec)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    spec = npz(tmp_path, np.full((9, 2, 2), 10, np.uint8))
    first = data.load(spec)
    assert data.load(spec) is first
    npz(tmp_path, np.full((12, 2, 2), 20, np.uint8))
    assert (levels_of(data.load(spec)) == 20).all()
    assert (levels_of(first) == 10).all()
