"""The Inception network that FID is defined by, with weights that the user has.

FID is the Fréchet distance over the 2048 pooled features of one network: the Inception of 2015-12-05 that Heusel et al.
2017 (arXiv 1706.08500) used, converted to PyTorch. Its weights are 92 MB under their authors' licence and are not
shipped. They are read from a path that is given, or from the user's cache, and never fetched. With any other weights
the distance is a Fréchet distance over an Inception network, and :attr:`InceptionFeatures.standard` is false.

The network differs from torchvision's in its pooling and in how it enlarges images, as TensorFlow 1 did both;
``torch-fidelity`` and ``pytorch-fid`` describe it in the same way, and tests hold ours to theirs.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import inception as blocks

from schedrl.errors import SchedrlError
from schedrl.files import cache_dir

__all__ = ["WEIGHTS_FILES", "InceptionFeatures", "find_weights"]

Images = NDArray[np.float32]
Features = NDArray[np.float64]

WEIGHTS_FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
"""Names of one file: pytorch-fid's and torch-fidelity's."""

_STANDARD = "6726825d"
"""How the SHA-256 of the standard weights begins; their authors put it into the name."""

_SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + WEIGHTS_FILES[1]

_SIDE = 299
"""Pixels that images are enlarged to."""

_BATCH = 50
"""Images at once."""

Pool = Callable[[Tensor], Tensor]


class _Pooled(nn.Module):
    """A block of torchvision's whose pooling branch, the last, pools as the network of 2015 does."""

    def __init__(self, block: nn.Module, pool: Pool) -> None:
        super().__init__()
        self.block = block
        self._pool = pool

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = self.block._forward(x)  # type: ignore[operator]
        branch: Any = self.block.branch_pool
        outputs[-1] = branch(self._pool(x))
        return torch.cat(outputs, dim=1)


def _mean_pool(x: Tensor) -> Tensor:
    # TensorFlow does not count the border of zeros.
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _max_pool(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=1, padding=1)


def _layers() -> dict[str, nn.Module]:
    """Layers in their order, named as in the weights' file; pooling has no weights."""
    conv = blocks.BasicConv2d
    return {
        "Conv2d_1a_3x3": conv(3, 32, kernel_size=3, stride=2),
        "Conv2d_2a_3x3": conv(32, 32, kernel_size=3),
        "Conv2d_2b_3x3": conv(32, 64, kernel_size=3, padding=1),
        "pool_1": nn.MaxPool2d(3, stride=2),
        "Conv2d_3b_1x1": conv(64, 80, kernel_size=1),
        "Conv2d_4a_3x3": conv(80, 192, kernel_size=3),
        "pool_2": nn.MaxPool2d(3, stride=2),
        "Mixed_5b": _Pooled(blocks.InceptionA(192, pool_features=32), _mean_pool),
        "Mixed_5c": _Pooled(blocks.InceptionA(256, pool_features=64), _mean_pool),
        "Mixed_5d": _Pooled(blocks.InceptionA(288, pool_features=64), _mean_pool),
        "Mixed_6a": blocks.InceptionB(288),
        "Mixed_6b": _Pooled(blocks.InceptionC(768, channels_7x7=128), _mean_pool),
        "Mixed_6c": _Pooled(blocks.InceptionC(768, channels_7x7=160), _mean_pool),
        "Mixed_6d": _Pooled(blocks.InceptionC(768, channels_7x7=160), _mean_pool),
        "Mixed_6e": _Pooled(blocks.InceptionC(768, channels_7x7=192), _mean_pool),
        "Mixed_7a": blocks.InceptionD(768),
        "Mixed_7b": _Pooled(blocks.InceptionE(1280), _mean_pool),
        # Where all others take means, the last block takes the largest.
        "Mixed_7c": _Pooled(blocks.InceptionE(2048), _max_pool),
    }


def find_weights(path: str | Path | None = None) -> Path:
    """Where the weights are.

    Args:
        path: The file; one of :data:`WEIGHTS_FILES` in the cache folder's ``weights`` when absent.

    Raises:
        SchedrlError: It is not there; says where to get it and where to put it.
    """
    folder = cache_dir() / "weights"
    candidates = [folder / name for name in WEIGHTS_FILES] if path is None else [Path(path).expanduser()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = str(candidates[0]) if path is not None else f"{folder} as {' or '.join(WEIGHTS_FILES)}"
    raise SchedrlError(
        f"feature extractor 'inception': no weights at {looked}; get {_SOURCE} and put it into {folder}, "
        f"or give its path as weights (nothing was downloaded)"
    )


class InceptionFeatures:
    """The 2048 pooled features of the Inception network of 2015.

    Args:
        weights: The file; looked for in the cache when absent.
        device: Where the network runs.

    Raises:
        SchedrlError: There is no such file, or it does not hold this network's weights.
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
        with torch.device("meta"):  # no initial weights: they would draw from torch's global generator
            layers = _layers()
        self._network = nn.Sequential(*layers.values())
        self._network.load_state_dict(_read(path, layers, self._network), assign=True)
        self._network.to(self._device).eval().requires_grad_(False)

    def features(self, images: Images) -> Features:
        """See :class:`schedrl.metrics.features.FeatureExtractor`.

        Images are rounded to 256 grey levels, as files hold them; one channel is repeated three times.

        Raises:
            SchedrlError: The images have neither one channel nor three.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise SchedrlError(
                f"feature extractor 'inception': needs images [n, 1 or 3, H, W] (got shape {images.shape})"
            )
        parts = [self._pooled(images[begin : begin + _BATCH]) for begin in range(0, len(images), _BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension))

    def _pooled(self, images: Images) -> Features:
        levels = np.rint((images.astype(np.float64).clip(-1.0, 1.0) + 1.0) * 127.5).astype(np.float32)
        z = torch.from_numpy(levels).to(self._device).expand(-1, 3, -1, -1)
        pooled = self._network((enlarged(z, _SIDE) - 128.0) / 128.0).mean(dim=(2, 3))
        found: Features = pooled.double().cpu().numpy()
        return found


def enlarged(images: Tensor, side: int) -> Tensor:
    """Images ``[n, C, H, W]`` at ``side`` x ``side`` pixels, linearly between pixels' corners as TensorFlow 1 did.

    Examples:
        >>> enlarged(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), 4)[0, 0, 0]
        tensor([0.0000, 0.5000, 1.0000, 1.0000])
    """
    for axis in (2, 3):
        size = images.shape[axis]
        place = torch.arange(side, dtype=torch.float32, device=images.device) * (size / side)
        low = place.long().clamp(max=size - 1)
        part = (place - low).view((-1, 1) if axis == 2 else (-1,))
        near = images.index_select(axis, low)
        far = images.index_select(axis, (low + 1).clamp(max=size - 1))
        images = near + (far - near) * part
    return images


def _read(path: Path, layers: dict[str, nn.Module], network: nn.Sequential) -> dict[str, Tensor]:
    """The file's tensors under the names that ``network`` has for them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle of another protocol: the error says enough
            # Tensors only: a file that would run code is refused.
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _unfit(path, reason) from None
    if not isinstance(content, dict):
        raise _unfit(path, f"it holds a {type(content).__name__}, not named tensors")
    found: dict[str, Tensor] = {}
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    for place, (name, layer) in enumerate(layers.items()):
        inner = "block." if isinstance(layer, _Pooled) else ""
        for key in layer.state_dict():
            own, theirs = f"{place}.{key}", f"{name}.{key.removeprefix(inner)}"
            wanted = shapes[own]
            if key.endswith("num_batches_tracked"):
                found[own] = torch.zeros((), dtype=torch.int64)  # of use in training only; some files lack it
            elif theirs not in content:
                raise _unfit(path, f"'{theirs}' is missing")
            elif (given := content[theirs]).shape != wanted:
                raise _unfit(path, f"'{theirs}' must have shape {tuple(wanted)} (got {tuple(given.shape)})")
            else:
                found[own] = given.float()
    return found


def _unfit(path: Path, reason: str) -> SchedrlError:
    return SchedrlError(f"feature extractor 'inception': {path} is not its weights: {reason}")
