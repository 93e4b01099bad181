"""Named networks whose features images are compared by.

``digits-cnn`` and ``fashion-cnn`` are small classifiers, trained here by ``scripts/train_features.py`` on the training
images of the set and shipped with the package; ``pca`` is fitted to the reference images themselves; ``inception`` is
the network of FID, whose weights the user must have (:mod:`schedrl.metrics.inception`). Distances over different
features cannot be compared, so a result carries the name.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from schedrl.errors import SchedrlError, unknown_name

__all__ = ["EXTRACTORS", "Classifier", "ClassifierCard", "FeatureExtractor", "PCAFeatures", "extractor"]

Images = NDArray[np.float32]
Features = NDArray[np.float64]

_WEIGHTS = Path(__file__).with_name("weights")

_BATCH = 256
"""Images at once."""

_COMPONENTS = 32
"""Most components of ``pca``."""


class FeatureExtractor(Protocol):
    """Maps images to vectors."""

    @property
    def name(self) -> str:
        """What a distance over its features is called after."""

    @property
    def identity(self) -> str:
        """Hash of all that decides the features: equal where they are."""

    @property
    def dimension(self) -> int:
        """Numbers per image."""

    def features(self, images: Images) -> Features:
        """Vectors ``[n, dimension]`` of images ``[n, C, H, W]`` in [−1, 1]."""


class Classifier(nn.Module):
    """Three convolutions and two linear maps; the features are what the last one sees.

    Args:
        image_shape: ``(C, H, W)``.
        widths: Channels of the convolutions; the last two halve the image.
        dimension: Of the features.
        classes: Number of labels.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        widths: tuple[int, int, int],
        dimension: int,
        classes: int = 10,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.image_shape = image_shape
        first, second, third = widths
        self.body = nn.Sequential(
            nn.Conv2d(channels, first, 3, padding=1), nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(),
            nn.Linear(third * (-(-height // 4)) * (-(-width // 4)), dimension), nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Linear(dimension, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[n, classes]``."""
        logits: Tensor = self.head(self.body(images))
        return logits


@dataclass(frozen=True)
class ClassifierCard:
    """What is known of shipped weights.

    Attributes:
        data: Image set they were trained on.
        data_fingerprint: Hash of its images and split.
        image_shape: ``(C, H, W)``.
        widths: Of the convolutions.
        dimension: Of the features.
        test_accuracy: Share of test images that it labels right.
        command: That made them.
        seed: Of the training.
    """

    data: str
    data_fingerprint: str
    image_shape: tuple[int, int, int]
    widths: tuple[int, int, int]
    dimension: int
    test_accuracy: float
    command: str
    seed: int

    @classmethod
    def read(cls, path: Path) -> ClassifierCard:
        """Read the card beside the weights."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name in ("image_shape", "widths"):
            content[name] = tuple(content[name])
        return cls(**content)


class ClassifierFeatures:
    """Features of a shipped classifier.

    Args:
        name: Of the weights' file.
        folder: Where it lies.

    Raises:
        SchedrlError: The weights are missing or damaged.
    """

    def __init__(self, name: str, folder: Path = _WEIGHTS) -> None:
        self.name = name
        path = folder / f"{name}.safetensors"
        try:
            self.card = ClassifierCard.read(folder / f"{name}.json")
            with torch.device("meta"):  # no initial weights: they would draw from torch's global generator
                self._network = Classifier(self.card.image_shape, self.card.widths, self.card.dimension)
            content = path.read_bytes()
            self._network.load_state_dict(load_tensors(content), assign=True)
        except FileNotFoundError as error:
            raise SchedrlError(
                f"feature extractor '{name}': {error.filename} is missing; the package ships it, and "
                f"scripts/train_features.py makes it again (nothing was downloaded)"
            ) from None
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise SchedrlError(f"feature extractor '{name}': {path} is damaged: {error}") from None
        self._network.eval().requires_grad_(False)
        self.identity = hashlib.sha256(content).hexdigest()
        self.dimension = self.card.dimension

    def features(self, images: Images) -> Features:
        """See :class:`FeatureExtractor`.

        Raises:
            SchedrlError: The images have another shape than those it was trained on.
        """
        if images.shape[1:] != self.card.image_shape:
            raise SchedrlError(
                f"feature extractor '{self.name}': needs images of shape {self.card.image_shape} "
                f"(got {tuple(images.shape[1:])})"
            )
        parts = [
            self._network.body(torch.from_numpy(np.array(images[i : i + _BATCH]))).double().numpy()
            for i in range(0, len(images), _BATCH)
        ]
        return np.concatenate(parts)


class PCAFeatures:
    """Coordinates along the leading principal components of the reference images.

    Args:
        reference: ``[n, C, H, W]`` in [−1, 1].
        components: How many, at most; fewer where there are fewer pixels or images.
    """

    def __init__(self, reference: Images, components: int = _COMPONENTS) -> None:
        rows = reference.reshape(len(reference), -1).astype(np.float64)
        self._mean = rows.mean(axis=0)
        # Of the covariance, whose size is that of an image and not of the set.
        _, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
        self._axes = vectors[:, ::-1][:, : min(components, len(rows) - 1)]
        self._shape = reference.shape[1:]
        self.dimension = self._axes.shape[1]
        parts = (self._mean.tobytes(), np.ascontiguousarray(self._axes).tobytes(), repr(self._shape).encode())
        self.identity = hashlib.sha256(b"".join(parts)).hexdigest()

    @property
    def name(self) -> Literal["pca"]:
        """``pca``."""
        return "pca"

    def features(self, images: Images) -> Features:
        """See :class:`FeatureExtractor`.

        Raises:
            SchedrlError: The images have another shape than the reference.
        """
        if images.shape[1:] != self._shape:
            raise SchedrlError(
                f"feature extractor 'pca': fitted to images of shape {tuple(self._shape)} "
                f"(got {tuple(images.shape[1:])})"
            )
        projected: Features = (images.reshape(len(images), -1).astype(np.float64) - self._mean) @ self._axes
        return projected


EXTRACTORS = ("digits-cnn", "fashion-cnn", "inception", "pca")
"""Names that :func:`extractor` knows."""


def extractor(name: str, reference: Images, weights: str | Path | None = None) -> FeatureExtractor:
    """A feature extractor by name.

    Args:
        name: One of :data:`EXTRACTORS`.
        reference: Images that distances will be measured to; ``pca`` is fitted to them.
        weights: File of ``inception``'s weights; looked for in the user's cache when absent.

    Raises:
        SchedrlError: There is no such extractor, its weights are missing, or it takes none.
    """
    if name not in EXTRACTORS:
        raise unknown_name("feature extractor", name, EXTRACTORS)
    if name == "inception":
        from schedrl.metrics.inception import InceptionFeatures  # torchvision is slow to import

        return InceptionFeatures(weights)
    if weights is not None:
        raise SchedrlError(f"weights: only for feature extractor 'inception' (got '{weights}' for '{name}')")
    return PCAFeatures(reference) if name == "pca" else ClassifierFeatures(name)
