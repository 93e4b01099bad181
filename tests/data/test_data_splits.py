"""Properties of the cut: disjoint, complete, reproducible, exactly at the level centres, read-only."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedrl import data
from schedrl.data.splits import ImageSplit, Pixels, cut, level_centres
from schedrl.errors import SchedrlError

PARTS = ("train", "validation", "test")


def numbered(n: int, start: int = 0) -> Pixels:
    """Images of 1x2x2 whose first two pixels are their number."""
    number = np.arange(start, start + n)
    images = np.zeros((n, 1, 2, 2), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = number % 256, number // 256
    return Pixels(images=images, labels=number)


def numbers(images: np.ndarray) -> list[int]:
    """Undo :func:`numbered`, by the inverse of the definition of the level centres."""
    levels = np.rint((images[:, 0, 0].astype(float) + 1) * 255 / 2).astype(int)
    return [int(low + 256 * high) for low, high in levels]


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int, int, int | None]:
    """Number of images, validation, test, seed, limit; at least one image is left for training."""
    n = draw(st.integers(3, 600))
    test = draw(st.integers(1, n - 2))
    validation = draw(st.integers(1, n - 1 - test))
    limit = draw(st.none() | st.integers(1, n))
    return n, validation, test, draw(st.integers(0, 2**64)), limit


@given(cuts())
@settings(deadline=None, max_examples=60)
def test_parts_are_disjoint_and_complete(arguments: tuple[int, int, int, int, int | None]) -> None:
    n, validation, test, seed, limit = arguments
    split = cut("set", numbered(n), validation=validation, test=test, split_seed=seed, limit=limit)
    parts = {part: numbers(getattr(split, part)) for part in PARTS}
    everything = parts["train"] + parts["validation"] + parts["test"]
    expected_train = n - validation - test if limit is None else min(limit, n - validation - test)
    assert [len(parts[part]) for part in PARTS] == [expected_train, validation, test]
    assert len(set(everything)) == len(everything)
    if limit is None:
        assert sorted(everything) == list(range(n))
    assert split.labels is not None
    assert all(split.labels[part].tolist() == parts[part] for part in PARTS)


@given(cuts())
@settings(deadline=None, max_examples=30)
def test_seed_alone_decides(arguments: tuple[int, int, int, int, int | None]) -> None:
    n, validation, test, seed, limit = arguments
    pixels = numbered(n)
    np.random.seed(n)  # noqa: NPY002  the global generator must not matter
    full = cut("set", pixels, validation=validation, test=test, split_seed=seed)
    limited = cut("set", pixels, validation=validation, test=test, split_seed=seed, limit=limit)
    assert numbers(full.validation) == numbers(limited.validation)
    assert numbers(full.test) == numbers(limited.test)
    assert numbers(full.train)[:limit] == numbers(limited.train)
    fewer = cut("set", pixels, validation=1, test=1, split_seed=seed)
    assert numbers(fewer.test) == numbers(full.test)[:1]


def test_another_seed_gives_another_cut() -> None:
    held_out = [
        tuple(numbers(cut("set", numbered(300), validation=50, test=50, split_seed=seed).test))
        for seed in range(20)
    ]
    assert len(set(held_out)) == 20


def test_an_official_test_part_is_never_mixed_with_training() -> None:
    train, test = numbered(30), numbered(20, start=1000)
    both = Pixels(images=train.images, labels=train.labels, test_images=test.images, test_labels=test.labels)
    split = cut("set", both, validation=10, test=20)
    assert sorted(numbers(split.test)) == list(range(1000, 1020))
    assert sorted(numbers(split.train) + numbers(split.validation)) == list(range(30))
    smaller = cut("set", both, validation=10, test=5)
    assert numbers(smaller.test) == numbers(split.test)[:5]
    # Not simply the first ones: MNIST's first 5,000 test images are easier than its last 5,000.
    assert numbers(smaller.test) != list(range(1000, 1005))
    with pytest.raises(SchedrlError, match=r"set: test=21, but the official test set has 20 images"):
        cut("set", both, validation=10, test=21)
    with pytest.raises(SchedrlError, match=r"set: 30 images are too few for validation=30"):
        cut("set", both, validation=30, test=20)


@pytest.mark.parametrize(("validation", "test"), [(5, 5), (9, 1), (1, 9), (40, 3), (3, 40)])
def test_too_few_images(validation: int, test: int) -> None:
    with pytest.raises(
        SchedrlError, match=f"10 images are too few for test={test} and validation={validation}"
    ):
        cut("set", numbered(10), validation=validation, test=test)


@pytest.mark.parametrize("levels", [2, 3, 17, 255, 256])
def test_level_centres_are_the_nearest_float32(levels: int) -> None:
    centres = level_centres(levels)
    assert centres.dtype == np.float32
    assert centres[0] == -1.0
    assert centres[-1] == 1.0
    for k, centre in enumerate(centres):
        exact = Fraction(-1) + Fraction(2 * k, levels - 1)
        neighbours = [np.nextafter(centre, np.float32(side)) for side in (-2, 2)]
        error = abs(Fraction(float(centre)) - exact)
        assert all(error <= abs(Fraction(float(other)) - exact) for other in neighbours)


@pytest.mark.parametrize("levels", [0, 1, 257])
def test_level_centres_refuses(levels: int) -> None:
    with pytest.raises(SchedrlError, match=f"between 2 and 256 .got {levels}"):
        level_centres(levels)


@pytest.mark.parametrize("transposed", [False, True])
def test_arrays_are_contiguous_float32_and_read_only(transposed: bool) -> None:
    images = np.arange(10 * 4 * 5 * 3, dtype=np.uint16).astype(np.uint8).reshape(10, 4, 5, 3)
    images = images.transpose(0, 3, 1, 2) if transposed else images
    split = cut("set", Pixels(images=images), validation=2, test=3)
    for part in PARTS:
        array = getattr(split, part)
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.base is None  # no writable array behind it
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0
    assert split.labels is None
    assert split.image_shape == ((3, 4, 5) if transposed else (4, 5, 3))


def test_labels_are_read_only() -> None:
    split = cut("set", numbered(10), validation=2, test=3)
    assert split.labels is not None
    with pytest.raises(ValueError, match="read-only"):
        split.labels["test"][0] = 0


def test_fingerprint_is_the_documented_hash() -> None:
    split = cut("set", numbered(6), validation=2, test=3)
    assert split.labels is not None
    expected = hashlib.sha256(b"levels 256")
    for part in PARTS:
        images = getattr(split, part)
        expected.update(f"; {part} {images.shape} ".encode() + images.astype("<f4").tobytes())
        expected.update(b" labels " + split.labels[part].astype("<i8").tobytes())
    assert split.fingerprint() == expected.hexdigest()


def test_fingerprint_tells_sets_apart() -> None:
    pixels = numbered(20)
    changed = pixels.images.copy()
    changed[7, 0, 1, 1] += 1
    variants = [
        cut("set", pixels, validation=4, test=4),
        cut("set", pixels, validation=4, test=4, split_seed=1),
        cut("set", pixels, validation=4, test=4, limit=11),
        cut("set", pixels, validation=3, test=4),
        cut("set", Pixels(images=pixels.images), validation=4, test=4),
        cut("set", Pixels(images=changed, labels=pixels.labels), validation=4, test=4),
        cut(
            "set",
            Pixels(images=pixels.images.reshape(20, 1, 4, 1), labels=pixels.labels),
            validation=4,
            test=4,
        ),
    ]
    prints = [variant.fingerprint() for variant in variants]
    assert len(set(prints)) == len(variants)
    assert cut("another name", pixels, validation=4, test=4).fingerprint() == prints[0]


def test_split_refuses_other_arrays() -> None:
    good = np.zeros((2, 1, 3, 3), dtype=np.float32)
    with pytest.raises(SchedrlError, match=r"test: must be a C-contiguous float32 array .*float64"):
        ImageSplit("set", good.copy(), good.copy(), good.astype(np.float64), 256)
    with pytest.raises(SchedrlError, match="validation: must be a C-contiguous"):
        ImageSplit(
            "set", good.copy(), np.asfortranarray(np.zeros((2, 2, 3, 3), np.float32)), good.copy(), 256
        )
    with pytest.raises(SchedrlError, match=r"test: images of shape \(1, 2, 2\), but train has \(1, 3, 3\)"):
        ImageSplit("set", good.copy(), good.copy(), np.zeros((2, 1, 2, 2), np.float32), 256)
    labels = {
        "train": np.zeros(2, np.int64),
        "validation": np.zeros(2, np.int64),
        "test": np.zeros(3, np.int64),
    }
    with pytest.raises(SchedrlError, match="labels: 'test' must"):
        ImageSplit("set", good.copy(), good.copy(), good.copy(), 256, labels)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

    split = data.load(data.Digits(validation=300, test=200, split_seed=5))
    assert (split.name, split.levels, split.image_shape) == ("digits", 17, (1, 8, 8))
    assert [len(getattr(split, part)) for part in PARTS] == [1297, 300, 200]
    assert split.labels is not None
    ours = [
        (image.tobytes(), int(label))
        for part in PARTS
        for image, label in zip(getattr(split, part), split.labels[part], strict=True)
    ]
    source = load_digits()
    # 2k/16 - 1 is exact in float32
    theirs = [
        ((image / 8 - 1).astype(np.float32).tobytes(), int(label))
        for image, label in zip(source.images, source.target, strict=True)
    ]
    assert sorted(ours) == sorted(theirs)
    assert set(np.unique(split.train)) == {np.float32(-1 + k / 8) for k in range(17)}
