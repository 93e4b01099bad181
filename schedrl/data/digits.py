"""Scikit-learn's 8x8 digits: small enough for tests, and installed with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from schedrl.data.base import ImageData
from schedrl.data.splits import Pixels

__all__ = ["Digits"]


class Digits(ImageData):
    """1,797 handwritten digits, 1x8x8, 17 grey levels: scikit-learn's ``load_digits``.

    Needs no files. Holds out 250 images for validation and 250 for testing unless told otherwise. Source:
    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, 1998.

    Examples:
        >>> spec = Digits(limit=100)
        >>> Digits.model_validate_json(spec.model_dump_json()) == spec
        True
    """

    name: Literal["digits"] = "digits"

    def read(self, paths: tuple[Path, ...]) -> Pixels:
        """Read the images from scikit-learn."""
        from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

        images, labels = load_digits(return_X_y=True)
        return Pixels(
            images=np.asarray(images).astype(np.uint8).reshape(-1, 1, 8, 8),
            labels=np.asarray(labels).astype(np.int64),
            levels=17,
        )
