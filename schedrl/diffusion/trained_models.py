"""Trained networks for sampling: the folder of a fitted model, a network from diffusers, and models by name.

A fitted model is ``model.safetensors`` and ``model.json``; loading executes no code. A network from diffusers is called
as ``unet(x, t).sample``; it reads one of the T steps of its training and estimates the noise, the clean image or the
velocity. The samplers of this package pass log-SNR and want the clean image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from schedrl.data import AnyData, DataSpec, ImageShape
from schedrl.diffusion.engines.choice import memory_budget
from schedrl.diffusion.engines.torch_engine import bytes_per_image
from schedrl.diffusion.layers import GroupedOperations, from_channels, to_channels
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.prediction import NetworkPredictor, network_denoiser
from schedrl.diffusion.process import alpha_sigma, to_x0
from schedrl.diffusion.run_stream import folded_seed
from schedrl.diffusion.samplers import SamplerName, sample
from schedrl.diffusion.training_spec import LOGSNR_LIMIT, PredictionType, TrainingSpec
from schedrl.diffusion.unet import UNet
from schedrl.errors import SchedrlError, Spec, parse, unknown_name
from schedrl.files import dump_json, read_model, write_arrays, write_text
from schedrl.schedules import AnySchedule, Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count

__all__ = [
    "SHIPPED",
    "BatchDenoiser",
    "DiffusersPrediction",
    "FittedModel",
    "ModelFile",
    "NoisePredictor",
    "SampledModel",
    "UNetDenoiser",
    "find_model",
    "register_predictor",
]

DiffusersPrediction = Literal["epsilon", "sample", "v_prediction"]
"""The prediction types by diffusers' names."""

_OURS: dict[str, PredictionType] = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}


class UNetDenoiser:
    """A diffusers U-Net as a :data:`~schedrl.diffusion.samplers.Denoiser`.

    Log-SNR between two of the T steps becomes a fractional step, by linear interpolation; log-SNR beyond the table
    becomes its first or last step. A state with more noise than the network was trained on counts as one at its
    noisiest step: otherwise a noise estimate would be divided by almost zero.

    Args:
        unet: Called as ``unet(x, t)`` with ``x`` ``[n, C, H, W]`` and ``t`` ``[n]`` float; its result has ``.sample``.
        alphas_cumprod: ᾱ of its T steps, falling, inside (0, 1).
        prediction_type: Its estimate, by diffusers' name.

    Examples:
        >>> from types import SimpleNamespace
        >>> no_noise = lambda x, t: SimpleNamespace(sample=0.0 * x)
        >>> denoise = UNetDenoiser(no_noise, [0.8, 0.2])
        >>> denoise(torch.ones(1, 1, 2, 2), torch.tensor(0.0)).max()  # 1 / sqrt(0.5)
        tensor(1.4142)
    """

    def __init__(
        self,
        unet: Callable[[Tensor, Tensor], Any],
        alphas_cumprod: Sequence[float] | NDArray[Any] | Tensor,
        prediction_type: DiffusersPrediction = "epsilon",
    ) -> None:
        if prediction_type not in get_args(DiffusersPrediction):
            raise unknown_name("prediction_type", str(prediction_type), _OURS)
        table = torch.as_tensor(alphas_cumprod).detach().cpu().double().numpy()
        if table.ndim != 1 or len(table) < 2 or not np.isfinite(table).all():
            raise SchedrlError(
                f"alphas_cumprod: at least two finite numbers are needed (shape {table.shape})"
            )
        if not ((table > 0.0) & (table < 1.0)).all() or not (np.diff(table) < 0.0).all():
            raise SchedrlError("alphas_cumprod: must fall from step to step inside (0, 1)")
        self.unet, self.prediction_type = unet, prediction_type
        # np.interp needs ascending numbers.
        self._levels = np.log(table / (1.0 - table))[::-1]
        self._steps = np.arange(len(table), dtype=np.float64)[::-1]

    def timestep(self, logsnr: Tensor) -> Tensor:
        """Fractional steps in [0, T − 1] of log-SNR, float32 and shaped alike."""
        found = np.interp(logsnr.detach().cpu().double().numpy(), self._levels, self._steps)
        return torch.as_tensor(found, dtype=torch.float32, device=logsnr.device)

    @torch.no_grad()
    def __call__(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """Clean images of states ``[..., C, H, W]`` at log-SNR ``[...]``, or a scalar."""
        images = z.reshape(-1, *z.shape[-3:])
        level = logsnr.to(z.device).expand(z.shape[:-3]).reshape(-1)
        output = self.unet(images, self.timestep(level)).sample.to(z.dtype)
        alpha, sigma = alpha_sigma(level.double().clamp(min=float(self._levels[0])), images.ndim)
        kind = _OURS[self.prediction_type]
        return to_x0(kind, output, images, alpha.to(z.dtype), sigma.to(z.dtype)).reshape(z.shape)


WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


class ModelFile(Spec):
    """Contents of ``model.json``.

    Attributes:
        format: Version of the layout.
        training: How it was trained, with the network's shape.
        image_shape: ``(C, H, W)``.
        schedule: Its training schedule.
        num_train_timesteps: T, or None for continuous training.
        steps: Optimizer steps taken.
        seed: Of weights, batches and noise.
        data: The image set, as given on the command line.
        versions: Of the software.
    """

    format: Literal[1] = 1
    training: TrainingSpec
    image_shape: ImageShape
    schedule: AnySchedule
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] | None
    steps: int
    seed: int
    data: dict[str, Any]
    versions: dict[str, str]


class FittedModel:
    """A trained network.

    Args:
        network: The averaged weights, for one run.
        description: The content of ``model.json``.
    """

    def __init__(self, network: UNet, description: ModelFile) -> None:
        self.network, self.description = network, description
        self._noise = ScheduleNoise.of([description.schedule], description.num_train_timesteps, betas=True)

    def save(self, folder: Path) -> None:
        """Write both files, each atomically."""
        tensors = {name: p.detach().cpu().numpy() for name, p in self.network.named_parameters()}
        write_arrays(folder / WEIGHTS, tensors)
        write_text(folder / DESCRIPTION, dump_json(self.description.model_dump(mode="json")))

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> FittedModel:
        """Load what :meth:`save` wrote."""
        path = Path(folder)
        description = read_model(path / DESCRIPTION, ModelFile, "model")
        with torch.device("meta"):  # what is allocated is as large as the file, whatever the description says
            network = UNet(description.training.network, description.image_shape)
        try:
            tensors = load_tensors((path / WEIGHTS).read_bytes())
            network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
        except OSError as error:
            raise SchedrlError(f"model {path}: cannot be read: {error.strerror or error}") from None
        except (ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:160]
            raise SchedrlError(f"model {path}: is damaged or another version's: {reason}") from None
        return cls(network.to(device), description)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def predictor(self) -> NetworkPredictor:
        """A predictor for one call of a sampler: z ``[1, n, C, H, W]`` at log-SNR ``[1, n]``."""
        return NetworkPredictor(self.network, self.description.training, self._log_beta)

    def predict_epsilon(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """Noise estimates for z ``[1, n, C, H, W]`` at log-SNR ``[1, n]``, independent between images."""
        predict, size = self.predictor(), self._at_once
        parts = [slice(begin, begin + size) for begin in range(0, z.shape[1], size)]
        return torch.cat([predict(z[:, part], logsnr[:, part]) for part in parts], dim=1)

    @torch.no_grad()
    def denoise(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """Clean images for z ``[n, C, H, W]`` at log-SNR ``[n]``, independent between images and not clipped.

        They are computed from the network's output directly: with much noise, a noise estimate in float32 in between
        would lose digits. A network with MSFI predicts its neighbours from ``z`` alone, as in measurements.
        """
        spec, level = self.description.training, logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        alpha, sigma = (part.to(z.dtype) for part in alpha_sigma(level.double(), z.ndim))
        if spec.network.msfi is not None:
            noise = self.predict_epsilon(z[None], level[None].to(z.dtype))[0]
            return to_x0("epsilon", noise, z, alpha, sigma)
        ops, parts = GroupedOperations(1), []
        for begin in range(0, len(z), self._at_once):
            part = slice(begin, begin + self._at_once)
            own = level[None, part].to(z.dtype)
            encoded = self.network.encode(ops, to_channels(z[None, part]), own)
            out = self.network.decode(ops, encoded, (), self._log_beta(own) if self._log_beta else None)
            parts.append(from_channels(out, 1)[0])
        return to_x0(spec.prediction_type, torch.cat(parts), z, alpha, sigma)

    def sample(
        self, count: int, grid: Grid, sampler: SamplerName = "ddim", *, seed: int = 0, at_once: int = 64
    ) -> Tensor:
        """Images ``[count, C, H, W]`` in [−1, 1].

        Args:
            count: Number of images.
            grid: The sampler's grid.
            sampler: The sampler.
            seed: Of the initial noise, and of DDPM's.
            at_once: Batch size. It determines the memory, and which image has which noise.
        """
        count, at_once = as_count("count", count), as_count("at_once", at_once)
        sigmas = grid.sigma_array.tolist()
        generator = torch.Generator(self.device).manual_seed(folded_seed(seed, 63))
        parts = []
        for begin in range(0, count, at_once):
            denoise = network_denoiser(self.predictor(), self.description.training, sigmas)
            shape = (1, min(at_once, count - begin), *self.description.image_shape)
            parts.append(sample(sampler, denoise, shape, sigmas, generator)[0].clamp(-1.0, 1.0))
        return torch.cat(parts)

    @cached_property
    def _at_once(self) -> int:
        with torch.enable_grad():  # the count is of tensors saved for a gradient
            each = bytes_per_image(self.network, self.description.image_shape)
        return max(1, memory_budget(self.device) // each)

    @property
    def _log_beta(self) -> Callable[[Tensor], Tensor] | None:
        if not self.description.training.network.modulation:
            return None
        return partial(self._noise.log_beta_at, slice(None))


_WEIGHTS = Path(__file__).with_name("weights")

SHIPPED = ("digits", "fashion")
"""Networks that the package ships, trained by ``scripts/train_sampled_network.py``."""

NoisePredictor = Callable[[Tensor, Tensor], Tensor]
"""``predict(z, logsnr) -> noise`` for states ``[n, C, H, W]`` at log-SNR ``[n]``."""

BatchDenoiser = Callable[[Tensor, Tensor], Tensor]
"""``denoise(z, logsnr) -> x0``, likewise."""

_LEAST_LOGSNR = -12.0
"""Least log-SNR at which clean images are computed from noise estimates: below, rounding would exceed the image."""

_numbers = count()


@dataclass(frozen=True, eq=False)
class SampledModel:
    """A network to sample with.

    Attributes:
        identity: Unique, also among models of the same name.
        image_shape: ``(C, H, W)``.
        denoise: Its estimate of the clean images.
        data: The image set it was trained on, if known.
        eigenvalues: Spectrum of the data if there are no images, descending.
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
    """Register a network under a name, for ``source.model`` of an environment. It replaces one of the same name.

    Args:
        name: Its name.
        predict: Its noise estimates; or
        denoise: its clean images, for example a :class:`UNetDenoiser`.
        image_shape: ``(C, H, W)``.
        data: The image set it was trained on, for closed-form grids and Fréchet distances.
        eigenvalues: Spectrum of the data's covariance instead, for closed-form grids only.

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
    """A network by name: ``digits``, ``fashion``, a registered one, or the folder of a :class:`FittedModel`."""
    if name in _registered:
        return _registered[name]
    folder = _WEIGHTS / name if name in SHIPPED else Path(name)
    if name not in SHIPPED and not os.path.isdir(folder):
        known = unknown_name("network", name, (*SHIPPED, *_registered))
        raise SchedrlError(f"{known}; or a folder that `schedrl fit` wrote (there is none here)")
    model = FittedModel.load(folder)
    digest = hashlib.sha256()
    for file in (WEIGHTS, DESCRIPTION):
        digest.update((folder / file).read_bytes())
    shape = model.description.image_shape
    data = parse(_Data, {"data": model.description.data}, f"model {folder}").data
    return SampledModel(digest.hexdigest()[:16], shape, model.denoise, data)


class _Data(Spec):
    data: AnyData


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
