"""A trained network in a folder: ``model.safetensors`` and ``model.json``. Loading executes nothing."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from schedrl.diffusion.engines.choice import memory_budget
from schedrl.diffusion.engines.torch_engine import bytes_per_image
from schedrl.diffusion.noise_law import NoiseLaw
from schedrl.diffusion.operations import GroupedOperations, from_channels, to_channels
from schedrl.diffusion.prediction import NetworkPredictor, network_denoiser
from schedrl.diffusion.process import alpha_sigma, to_x0
from schedrl.diffusion.samplers import SamplerName, sample
from schedrl.diffusion.spec import LOGSNR_LIMIT, TrainingSpec
from schedrl.diffusion.unet import UNet
from schedrl.errors import SchedrlError, Spec
from schedrl.files import dump_json, write_arrays, write_text
from schedrl.schedules import AnySchedule, Grid
from schedrl.schedules.base import as_count

__all__ = ["DESCRIPTION", "WEIGHTS", "FittedModel", "ModelFile"]

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


class ModelFile(Spec):
    """Contents of ``model.json``.

    Attributes:
        format: Version of the layout.
        training: How it was trained; its network's shape among it.
        image_shape: ``(C, H, W)``.
        schedule: The noise it was trained with.
        num_train_timesteps: T, or None for continuous training.
        steps: Optimizer steps taken.
        seed: Of weights, batches and noise.
        data: What it was trained on, as the command line had it.
        versions: Of the software.
    """

    format: Literal[1] = 1
    training: TrainingSpec
    image_shape: tuple[int, int, int]
    schedule: AnySchedule
    num_train_timesteps: int | None
    steps: int
    seed: int
    data: dict[str, Any]
    versions: dict[str, str]


class FittedModel:
    """A trained network.

    Args:
        network: Its averaged weights, for one run.
        description: What is known of it.
    """

    def __init__(self, network: UNet, description: ModelFile) -> None:
        self.network, self.description = network, description
        self._law = NoiseLaw.of([description.schedule], description.num_train_timesteps, betas=True)

    def save(self, folder: Path) -> None:
        """Write both files, each whole or not at all.

        Raises:
            SchedrlError: The folder cannot be written.
        """
        tensors = {name: p.detach().cpu().numpy() for name, p in self.network.named_parameters()}
        write_arrays(folder / WEIGHTS, {name: np.ascontiguousarray(array) for name, array in tensors.items()})
        write_text(folder / DESCRIPTION, dump_json(self.description.model_dump(mode="json")))

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> FittedModel:
        """Load what :meth:`save` wrote.

        Raises:
            SchedrlError: A file is missing or damaged.
        """
        path = Path(folder)
        try:
            text = (path / DESCRIPTION).read_text(encoding="utf-8")
            description = ModelFile.model_validate(json.loads(text))
            network = UNet(description.training.network, description.image_shape)
            network.load_state_dict(load_tensors((path / WEIGHTS).read_bytes()))
        except OSError as error:
            raise SchedrlError(f"model {path}: cannot be read: {error.strerror or error}") from None
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise SchedrlError(f"model {path}: {DESCRIPTION}: field '{field}': {problem['msg']}") from None
        except (ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:160]
            raise SchedrlError(f"model {path}: is damaged or another version's: {reason}") from None
        return cls(network.to(device), description)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.network.parameters()).device

    def predictor(self) -> NetworkPredictor:
        """Noise estimates for z ``[1, n, C, H, W]`` at log-SNR ``[1, n]``; a new one for every sampling."""
        told = self.description.training.network.modulation
        return NetworkPredictor(self.network, self.description.training, self._log_beta if told else None)

    def predict_epsilon(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """Noise estimates for z ``[1, n, C, H, W]`` at log-SNR ``[1, n]``, each image for itself: for measurements.

        As many images are shown to the network at once as the memory budget has room for.
        """
        predict, size = self.predictor(), self._at_once
        parts = [slice(begin, begin + size) for begin in range(0, z.shape[1], size)]
        return torch.cat([predict(z[:, part], logsnr[:, part]) for part in parts], dim=1)

    @torch.no_grad()
    def denoise(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """Clean images for z ``[n, C, H, W]`` at log-SNR ``[n]``, each for itself and not clipped.

        They come from the network's output directly: at much noise the way over a noise estimate in float32 would lose
        digits. A network with MSFI predicts its neighbours from ``z`` alone, as in measurements.
        """
        spec, level = self.description.training, logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        alpha, sigma = (part.to(z.dtype) for part in alpha_sigma(level.double(), z.ndim))
        if spec.network.msfi is not None:
            noise = self.predict_epsilon(z[None], level[None].to(z.dtype))[0]
            return to_x0("epsilon", noise, z, alpha, sigma)
        told = self._log_beta if spec.network.modulation else None
        ops, parts = GroupedOperations(1), []
        for begin in range(0, len(z), self._at_once):
            part = slice(begin, begin + self._at_once)
            own = level[None, part].to(z.dtype)
            encoded = self.network.encode(ops, to_channels(z[None, part]), own)
            out = self.network.decode(ops, encoded, (), None if told is None else told(own))
            parts.append(from_channels(out, 1)[0])
        return to_x0(spec.prediction_type, torch.cat(parts), z, alpha, sigma)

    def sample(
        self, count: int, grid: Grid, sampler: SamplerName = "ddim", *, seed: int = 0, at_once: int = 64
    ) -> Tensor:
        """Images ``[count, C, H, W]`` in [−1, 1].

        Args:
            count: How many.
            grid: Levels to step through.
            sampler: Which sampler.
            seed: Of the starting noise, and of DDPM's.
            at_once: How many are drawn side by side. It decides memory, and which image gets which noise.

        Raises:
            SchedrlError: ``count`` or ``at_once`` is not a whole number of at least 1.
        """
        count, at_once = as_count("count", count), as_count("at_once", at_once)
        sigmas = grid.sigma_array.tolist()
        generator = torch.Generator(self.device).manual_seed(seed)
        parts = []
        for begin in range(0, count, at_once):
            denoise = network_denoiser(self.predictor(), self.description.training, sigmas)
            shape = (1, min(at_once, count - begin), *self.description.image_shape)
            parts.append(sample(sampler, denoise, shape, sigmas, generator)[0].clamp(-1.0, 1.0))
        return torch.cat(parts)

    @cached_property
    def _at_once(self) -> int:
        with torch.enable_grad():  # what is counted is what would be kept for a gradient
            each = bytes_per_image(self.network, self.description.image_shape)
        return max(1, memory_budget(self.device) // each)

    def _log_beta(self, logsnr: Tensor) -> Tensor:
        return self._law.log_beta_at(slice(None), logsnr)
