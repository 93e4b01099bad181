"""Networks that a sampler is run with, by name: those that are shipped, a trained one's folder, or one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from schedrl.data import AnyData, DataSpec
from schedrl.diffusion.fitted import DESCRIPTION, WEIGHTS, FittedModel
from schedrl.diffusion.process import alpha_sigma, to_x0
from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules.conversions import FloatArray

__all__ = ["SHIPPED", "BatchDenoiser", "NoisePredictor", "SampledModel", "find_model", "register_predictor"]

_WEIGHTS = Path(__file__).with_name("weights")

SHIPPED = ("digits", "fashion")
"""Networks that come with the package, made by ``scripts/train_sampled_network.py``."""

NoisePredictor = Callable[[Tensor, Tensor], Tensor]
"""``predict(z, logsnr) -> noise`` for states ``[n, C, H, W]``, each at its own log-SNR ``[n]``."""

BatchDenoiser = Callable[[Tensor, Tensor], Tensor]
"""``denoise(z, logsnr) -> x0``, likewise."""

_LEAST_LOGSNR = -12.0
"""Of an estimate that is made from a noise estimate: further out its rounding would be larger than the image."""

_numbers = count()


@dataclass(frozen=True, eq=False)
class SampledModel:
    """A network to sample with.

    Attributes:
        identity: Tells it from every other, also from another of the same name.
        image_shape: ``(C, H, W)``.
        denoise: Its estimate of the clean images.
        data: The images it was trained on, where that is known.
        eigenvalues: Spectrum of the data where there are no images, descending.
    """

    identity: str
    image_shape: tuple[int, int, int]
    denoise: BatchDenoiser
    data: DataSpec | None = None
    eigenvalues: tuple[float, ...] | None = None


_registered: dict[str, SampledModel] = {}


def register_predictor(
    name: str,
    predict: NoisePredictor | None = None,
    image_shape: Sequence[int] = (),
    *,
    denoise: BatchDenoiser | None = None,
    data: DataSpec | None = None,
    eigenvalues: Sequence[float] | FloatArray | None = None,
) -> None:
    """Make a network known under a name, for ``source.model`` of an environment. A name that is taken is replaced.

    Args:
        name: What to call it.
        predict: Its noise estimates; or
        denoise: its clean images, as a :class:`~schedrl.diffusion.adapters.UNetDenoiser` has them.
        image_shape: ``(C, H, W)``.
        data: The images it was trained on: for closed-form grids and Fréchet distances.
        eigenvalues: Spectrum of the data's covariance instead, for closed-form grids alone.

    Raises:
        SchedrlError: The name is that of a shipped one, or both or neither of the two estimates are given.

    Examples:
        >>> register_predictor("nothing", lambda z, logsnr: 0.0 * z, (1, 2, 2), eigenvalues=[1.0, 0.25])
        >>> find_model("nothing").image_shape
        (1, 2, 2)
    """
    if name in SHIPPED:
        raise SchedrlError(f"name: '{name}' is a network that is shipped; choose another")
    if (predict is None) == (denoise is None):
        raise SchedrlError(f"network '{name}': give one of predict and denoise")
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise SchedrlError(f"image_shape: must be (C, H, W), each at least 1 (got {tuple(image_shape)})")
    spectrum = None if eigenvalues is None else tuple(sorted(map(float, eigenvalues), reverse=True))
    if spectrum is not None and (not spectrum or not 0.0 < spectrum[-1] <= spectrum[0] < float("inf")):
        raise SchedrlError(f"eigenvalues: must be positive and finite (network '{name}')")
    channels, height, width = (int(side) for side in image_shape)
    estimate = _from_noise(predict) if predict is not None else denoise
    assert estimate is not None
    _registered[name] = SampledModel(
        f"{name}#{next(_numbers)}", (channels, height, width), estimate, data, spectrum
    )


def find_model(name: str) -> SampledModel:
    """A network by name: ``digits``, ``fashion``, a registered one, or the folder of a :class:`FittedModel`.

    Raises:
        SchedrlError: There is none, or its files are missing or damaged.
    """
    if name in _registered:
        return _registered[name]
    folder = _WEIGHTS / name if name in SHIPPED else Path(name)
    if name not in SHIPPED and not folder.is_dir():
        known = unknown_name("network", name, (*SHIPPED, *_registered))
        raise SchedrlError(f"{known}; or a folder that `schedrl fit` wrote (there is none here)")
    model = FittedModel.load(folder)
    digest = hashlib.sha256()
    for file in (WEIGHTS, DESCRIPTION):
        digest.update((folder / file).read_bytes())
    shape = model.description.image_shape
    data: DataSpec = TypeAdapter(AnyData).validate_python(model.description.data)
    return SampledModel(digest.hexdigest()[:16], shape, model.denoise, data)


def _from_noise(predict: NoisePredictor) -> BatchDenoiser:
    @torch.no_grad()
    def denoise(z: Tensor, logsnr: Tensor) -> Tensor:
        level = logsnr.clamp(min=_LEAST_LOGSNR)
        alpha, sigma = (part.to(z.dtype) for part in alpha_sigma(level.double(), z.ndim))
        noise = predict(z, level)
        if noise.shape != z.shape:  # which might broadcast
            raise SchedrlError(
                f"predict: its answer must be shaped as the images, {tuple(z.shape)} (got {tuple(noise.shape)})"
            )
        return to_x0("epsilon", noise, z, alpha, sigma)

    return denoise
