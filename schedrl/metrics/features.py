"""Named networks whose features images are compared by.

``digits-cnn`` and ``fashion-cnn`` are small classifiers, trained by ``scripts/train_features.py`` on the set's training
images and shipped with the package. ``pca`` is fitted to the reference images. ``inception`` is the network of FID:
the Inception of 2015-12-05 that Heusel et al. 2017 (arXiv 1706.08500) used, as torch-fidelity runs it. Distances over
different features cannot be compared, so every result carries the name.

FID's weights are 92 MB under their authors' licence. They are not shipped and never downloaded: the user gives their
path or puts them into the user's cache. With any other weights the distance is a Fréchet distance over an Inception
network, and :attr:`InceptionFeatures.standard` is false.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from schedrl.data import ImageShape
from schedrl.diffusion.training_spec import Width
from schedrl.errors import SchedrlError, Spec, unknown_name
from schedrl.files import cache_dir, read_model

Images = NDArray[np.float32]
Features = NDArray[np.float64]

_SHIPPED = Path(__file__).with_name("weights")

_BATCH = 256
"""Images that a classifier is shown at once."""

_INCEPTION_BATCH = 50

WEIGHTS_FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
"""Names of the same file: pytorch-fid's and torch-fidelity's."""

_STANDARD = "6726825d"
"""How the SHA-256 of the standard weights begins; their authors put it into the file's name."""

_SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + WEIGHTS_FILES[1]


class FeatureExtractor(Protocol):
    """Maps images to vectors."""

    @property
    def name(self) -> str:
        """Name that a distance over its features carries."""

    @property
    def identity(self) -> str:
        """Hash of everything that determines the features."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def features(self, images: Images) -> Features:
        """Vectors ``[n, dimension]`` of images ``[n, C, H, W]`` in [−1, 1]."""


class Classifier(nn.Module):
    """Three convolutions and two linear maps; the input of the last map is the feature vector.

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


class ClassifierCard(Spec):
    """Origin of shipped weights.

    Attributes:
        data: Image set they were trained on.
        data_fingerprint: Hash of its images and split.
        image_shape: ``(C, H, W)``.
        widths: Channels of the convolutions.
        dimension: Of the features.
        test_accuracy: Share of test images with the right label.
        command: Command that trained them.
        seed: Of the training.
    """

    data: str
    data_fingerprint: str
    image_shape: ImageShape
    widths: tuple[Width, Width, Width]
    dimension: Width
    test_accuracy: float
    command: str
    seed: int


class ClassifierFeatures:
    """Features of a shipped classifier.

    Args:
        name: Of the weights' file.
        folder: Of the weights.
    """

    def __init__(self, name: str, folder: Path = _SHIPPED) -> None:
        self.name = name
        what = f"feature extractor '{name}':"
        weights, card = folder / f"{name}.safetensors", folder / f"{name}.json"
        for path in (card, weights):
            if not os.path.isfile(path):
                raise SchedrlError(
                    f"{what} {path} is missing; the package ships it, and scripts/train_features.py makes it again "
                    f"(nothing was downloaded)"
                )
        self.card = read_model(card, ClassifierCard, what)
        try:
            with torch.device("meta"):  # no initial weights: they would draw from torch's global generator
                self._network = Classifier(self.card.image_shape, self.card.widths, self.card.dimension)
            content = weights.read_bytes()
            tensors = {name: tensor.float() for name, tensor in load_tensors(content).items()}
            self._network.load_state_dict(tensors, assign=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise SchedrlError(f"{what} {weights} is damaged: {' '.join(str(error).split())}") from None
        self._network.eval().requires_grad_(False)
        self.identity = hashlib.sha256(content).hexdigest()
        self.dimension = self.card.dimension

    def features(self, images: Images) -> Features:
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
        components: Most components to use; images of few pixels, or few images, have fewer.
    """

    name: Literal["pca"] = "pca"

    def __init__(self, reference: Images, components: int = 32) -> None:
        rows = reference.reshape(len(reference), -1).astype(np.float64)
        self._mean = rows.mean(axis=0)
        # Of the covariance, whose size is that of an image and not of the set.
        _, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
        self._axes = vectors[:, ::-1][:, : min(components, len(rows) - 1)]
        self._shape = reference.shape[1:]
        self.dimension = self._axes.shape[1]
        parts = (self._mean.tobytes(), np.ascontiguousarray(self._axes).tobytes(), repr(self._shape).encode())
        self.identity = hashlib.sha256(b"".join(parts)).hexdigest()

    def features(self, images: Images) -> Features:
        if images.shape[1:] != self._shape:
            raise SchedrlError(
                f"feature extractor 'pca': fitted to images of shape {tuple(self._shape)} "
                f"(got {tuple(images.shape[1:])})"
            )
        projected: Features = (images.reshape(len(images), -1).astype(np.float64) - self._mean) @ self._axes
        return projected


class InceptionFeatures:
    """The 2048 pooled features of FID's Inception network.

    Images are rounded to 256 grey levels, as files hold them; one channel is repeated three times.

    Args:
        weights: The file; looked for in the cache when absent.
        device: Where the network runs.

    Raises:
        SchedrlError: There is no such file, it does not hold this network's weights, or torch-fidelity is missing.
    """

    name: Literal["inception"] = "inception"
    dimension = 2048

    def __init__(self, weights: str | Path | None = None, device: str | torch.device = "cpu") -> None:
        path = find_weights(weights)
        with path.open("rb") as file:
            self.identity = hashlib.file_digest(file, "sha256").hexdigest()
        self.standard = self.identity.startswith(_STANDARD)
        """Whether these are the weights that FID is defined by."""
        self._device = torch.device(device)
        self._network = _inception(path).to(self._device)

    def features(self, images: Images) -> Features:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise SchedrlError(
                f"feature extractor 'inception': needs images [n, 1 or 3, H, W] (got shape {images.shape})"
            )
        parts = [np.empty((0, self.dimension))]
        for begin in range(0, len(images), _INCEPTION_BATCH):
            part = images[begin : begin + _INCEPTION_BATCH].astype(np.float64).clip(-1.0, 1.0)
            pixels = torch.from_numpy(np.rint((part + 1.0) * 127.5).astype(np.uint8)).to(self._device)
            (pooled,) = self._network(pixels.expand(-1, 3, -1, -1))
            parts.append(pooled.double().cpu().numpy())
        return np.concatenate(parts)


def find_weights(path: str | Path | None = None) -> Path:
    """The file of the Inception weights.

    Args:
        path: The file; one of :data:`WEIGHTS_FILES` in the cache folder's ``weights`` when absent.

    Raises:
        SchedrlError: It is not there; says where to get it and where to put it.
    """
    folder = cache_dir() / "weights"
    candidates = [folder / name for name in WEIGHTS_FILES] if path is None else [Path(path).expanduser()]
    for candidate in candidates:
        if os.path.isfile(candidate):
            return candidate
    looked = str(candidates[0]) if path is not None else f"{folder} as {' or '.join(WEIGHTS_FILES)}"
    raise SchedrlError(
        f"feature extractor 'inception': no weights at {looked}; get {_SOURCE} and put it into {folder}, "
        f"or give its path as weights (nothing was downloaded)"
    )


def _inception(path: Path) -> Any:
    """torch-fidelity's network with the weights of a file."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise SchedrlError(
            "feature extractor 'inception': needs the package torch-fidelity: pip install 'schedrl[metrics]'"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle of another protocol: the error says enough
            # Tensors only: a file that would run code is refused. torch-fidelity would run it, so it gets a copy.
            tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
        copy = io.BytesIO()
        torch.save(tensors, copy)
        copy.seek(0)
        with torch.random.fork_rng(devices=[]):  # its initial weights would draw from the global generator
            return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=copy)
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SchedrlError(f"feature extractor 'inception': {path} is not its weights: {reason}") from None


EXTRACTORS = ("digits-cnn", "fashion-cnn", "inception", "pca")
"""Names that :func:`extractor` knows."""


def extractor(name: str, reference: Images, weights: str | Path | None = None) -> FeatureExtractor:
    """A feature extractor by name.

    Args:
        name: One of :data:`EXTRACTORS`.
        reference: Images that distances will be measured to; ``pca`` is fitted to them.
        weights: File of ``inception``'s weights; looked for in the user's cache when absent.
    """
    if name not in EXTRACTORS:
        raise unknown_name("feature extractor", name, EXTRACTORS)
    if name == "inception":
        return InceptionFeatures(weights)
    if weights is not None:
        raise SchedrlError(f"weights: only for feature extractor 'inception' (got '{weights}' for '{name}')")
    return PCAFeatures(reference) if name == "pca" else ClassifierFeatures(name)
