"""The spectrum of an image set, once in a process."""

from __future__ import annotations

from functools import cache

import numpy as np

from schedrl import data
from schedrl.data import AnyData
from schedrl.schedules.conversions import FloatArray
from schedrl.sources import Gaussian

__all__ = ["image_spectrum"]


@cache
def image_spectrum(images: AnyData, floor: float) -> FloatArray:
    """Eigenvalues of the training images' covariance, floored, descending.

    Raises:
        SchedrlError: The images are missing.
    """
    return np.array(Gaussian.from_images(data.load(images).train, floor=floor).eigenvalues)
