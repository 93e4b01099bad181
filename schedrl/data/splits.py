"""Images as arrays: grey levels, and the cut into training, validation and test images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Levels = npt.NDArray[np.uint8]

SPLITS = ("train", "validation", "test")


def level_centres(levels: int) -> Images:
    """The values of 2 to 256 grey levels, float32 [levels] from -1 (black) to 1 (white).

    Level k is -1 + 2k/(levels - 1), computed in float64 and rounded once.

    Examples:
        >>> level_centres(5).tolist()
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    if not 2 <= levels <= 256:
        raise SchedrlError(f"levels: must be between 2 and 256 (got {levels})")
    return (-1.0 + 2.0 * np.arange(levels, dtype=np.float64) / (levels - 1)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """An image set cut into three disjoint parts.

    Everything in the process that loads the same set shares the arrays, so the constructor clears their write flags.

    Attributes:
        name: Name of the set, as in its specification.
        train: Images for gradients; float32 [n, C, H, W] in [-1, 1], C-contiguous. Every value is exactly one of
            ``level_centres(levels)``.
        validation: Images for rewards; like ``train``.
        test: Images for reports only; like ``train``.
        levels: Number of grey levels.
        labels: For "train", "validation" and "test" an int64 array [n] of class numbers; None if the set has none.
    """

    name: str
    train: Images
    validation: Images
    test: Images
    levels: int
    labels: Mapping[str, Labels] | None = None

    def __post_init__(self) -> None:
        for part in SPLITS:
            images: Images = getattr(self, part)
            if images.dtype != np.float32 or images.ndim != 4 or not images.flags.c_contiguous:
                raise SchedrlError(
                    f"{part}: must be a C-contiguous float32 array [n, C, H, W] "
                    f"(got {images.dtype} {images.shape})"
                )
            if images.shape[1:] != self.train.shape[1:]:
                raise SchedrlError(
                    f"{part}: images of shape {images.shape[1:]}, but train has {self.train.shape[1:]}"
                )
            images.flags.writeable = False
        if self.labels is None:
            return
        for part in SPLITS:
            labels = self.labels.get(part)
            if labels is None or labels.dtype != np.int64 or labels.shape != (len(getattr(self, part)),):
                raise SchedrlError(f"labels: '{part}' must be an int64 array with one entry for each image")
            labels.flags.writeable = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: channels, height, width."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    def fingerprint(self) -> str:
        """SHA-256 (hex) over number of levels, shapes, images and labels, but not the name.

        It is the same on every platform, so equal fingerprints mean the same images in the same order.
        """
        digest = hashlib.sha256(f"levels {self.levels}".encode())
        for part in SPLITS:
            images: Images = getattr(self, part)
            digest.update(f"; {part} {images.shape} ".encode())
            digest.update(images.astype("<f4", copy=False).data)
            if self.labels is not None:
                digest.update(b" labels ")
                digest.update(self.labels[part].astype("<i8", copy=False).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image set as integers, before the division into parts.

    Attributes:
        images: uint8 [n, C, H, W], values 0 … levels - 1.
        labels: int64 [n], or None.
        levels: Number of grey levels.
        test_images: The set's own test part, like ``images``; None if it has none.
        test_labels: Labels of ``test_images``, or None.
    """

    images: Levels
    labels: Labels | None = None
    levels: int = 256
    test_images: Levels | None = None
    test_labels: Labels | None = None


def cut(
    name: str, pixels: Pixels, *, validation: int, test: int, split_seed: int = 0, limit: int | None = None
) -> ImageSplit:
    """Divide an image set into training, validation and test images.

    The order is a permutation drawn from ``split_seed`` alone. Its first ``test`` images are for testing, the next
    ``validation`` for validation, the rest for training; if the set has its own test part, the ``test`` images are
    drawn from there. So a smaller test part is a subset of a larger one, and ``limit`` changes neither validation nor
    test.
    """
    rng = np.random.default_rng(split_seed)
    order = rng.permutation(len(pixels.images))
    if pixels.test_images is None:
        test_source, test_label_source = pixels.images, pixels.labels
        chosen_test, order = order[:test], order[test:]
        held_out = f"test={test} and validation={validation}"
    else:
        available = len(pixels.test_images)
        if test > available:
            raise SchedrlError(f"{name}: test={test}, but the official test set has {available} images")
        test_source, test_label_source = pixels.test_images, pixels.test_labels
        chosen_test = rng.permutation(available)[:test]
        held_out = f"validation={validation}"
    chosen_validation, chosen_train = order[:validation], order[validation:]
    if len(chosen_train) == 0:
        raise SchedrlError(
            f"{name}: {len(pixels.images)} images are too few for {held_out}; one must be left for training"
        )
    chosen_train = chosen_train[:limit]

    centres = level_centres(pixels.levels)
    labels = None
    if pixels.labels is not None and test_label_source is not None:
        labels = {
            "train": pixels.labels[chosen_train],
            "validation": pixels.labels[chosen_validation],
            "test": test_label_source[chosen_test],
        }
    return ImageSplit(
        name=name,
        # Indexing keeps the memory order of a transposed source, so contiguity has to be asked for.
        train=np.ascontiguousarray(centres[pixels.images[chosen_train]]),
        validation=np.ascontiguousarray(centres[pixels.images[chosen_validation]]),
        test=np.ascontiguousarray(centres[test_source[chosen_test]]),
        levels=pixels.levels,
        labels=labels,
    )
