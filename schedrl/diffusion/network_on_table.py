"""A network of any origin, with the T noise levels that it was trained on: what solvers sample from.

Folders of diffusers pipelines are read by diffusers, from safetensors only; folders of ``schedrl fit`` by this package;
anything else is a function that returns a :class:`NetworkOnTable`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from schedrl.diffusion.run_stream import folded_seed
from schedrl.diffusion.solvers import SolverName, solve
from schedrl.errors import SchedrlError, unknown_name
from schedrl.files import read_object
from schedrl.schedules.conversions import FloatArray

PREDICTIONS = ("epsilon", "sample", "v_prediction", "flow")
"""What a network can predict; ``flow`` is the velocity ε − x₀ of rectified flow."""

Timesteps = tuple[float, ...]
"""Descending training steps that a sampler visits, counted from 0; clean data follow the last."""


@dataclass(eq=False)
class NetworkOnTable:
    """A network and the noise levels that it was trained on.

    Attributes:
        predict: ``predict(x, t) -> output`` for float32 states ``[n, C, H, W]`` and what the network is told of their
            level, float32 ``[n]``.
        alphas: [T] α of the training steps, from data to noise.
        sigmas: [T] σ of the training steps.
        shape: ``(C, H, W)``.
        prediction_type: ``"epsilon"``, ``"sample"``, ``"v_prediction"``, or ``"flow"`` for rectified flow's ε − x₀.
        told: [T] what the network is told of each level; 0 … T − 1 when absent.
        name: What to call it.
        offset: What diffusers' ``steps_offset`` adds to the steps of the spacing ``leading``.
        at_once: Images in one call.
        images: Images that the network has been shown.
    """

    predict: Callable[[Tensor, Tensor], Tensor]
    alphas: FloatArray
    sigmas: FloatArray
    shape: tuple[int, int, int]
    prediction_type: str = "epsilon"
    told: FloatArray | None = None
    name: str = "network"
    offset: int = 0
    at_once: int = 64
    images: int = 0

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTIONS:
            raise unknown_name("prediction_type", self.prediction_type, PREDICTIONS)
        if not (np.diff(self.sigmas) > 0.0).all() or not (np.diff(self.alphas) < 0.0).all():
            raise SchedrlError(
                f"network {self.name}: alphas must fall and sigmas must rise from step to step"
            )
        if self.prediction_type == "epsilon" and self.alphas[-1] == 0.0:
            raise SchedrlError(
                f"network {self.name}: it predicts noise, and its schedule ends in pure noise (zero terminal SNR), "
                "where that tells nothing about the image; set prediction_type to what it was trained to predict, or "
                "save it with rescale_betas_zero_snr=false"
            )
        self._steps = np.arange(len(self.alphas), dtype=np.float64)
        with np.errstate(divide="ignore"):
            self.half_logsnr = np.log(self.alphas) - np.log(self.sigmas)

    @property
    def num_train_timesteps(self) -> int:
        return len(self.alphas)

    def point(self, t: float) -> tuple[float, float]:
        """α and σ of a training step, read off linearly in log-SNR between two of them."""
        low = int(np.floor(t))
        if low == t:
            return float(self.alphas[low]), float(self.sigmas[low])
        share = t - low
        ends = self.half_logsnr[low : low + 2]
        variance = self.alphas[low] ** 2 + self.sigmas[low] ** 2
        if not np.isfinite(ends).all() or not np.isclose(variance, 1.0):
            alpha, sigma = (float(np.interp(t, self._steps, part)) for part in (self.alphas, self.sigmas))
            return alpha, sigma
        r = float(np.exp(-((1.0 - share) * ends[0] + share * ends[1])))
        return 1.0 / float(np.sqrt(1.0 + r * r)), r / float(np.sqrt(1.0 + r * r))

    @torch.no_grad()
    def clean(self, x: Tensor, t: float) -> Tensor:
        """Its estimate of the clean images at a training step, float64.

        Raises:
            SchedrlError: Its answer is shaped otherwise, or is not finite.
        """
        alpha, sigma = self.point(t)
        told = t if self.told is None else float(np.interp(t, self._steps, self.told))
        shown = x.float()
        self.images += len(x)
        parts = [self.predict(part, torch.full((len(part),), told)) for part in shown.split(self.at_once)]
        output = torch.cat(parts)
        if output.shape != x.shape:
            raise SchedrlError(
                f"network: its answer must be shaped as the images, {tuple(x.shape)} (got {tuple(output.shape)})"
            )
        if not torch.isfinite(output).all():
            raise SchedrlError(f"network: its answer at training step {t:g} is not finite (NaN or infinity)")
        output = output.double()
        if self.prediction_type == "epsilon":
            return (x - sigma * output) / alpha
        if self.prediction_type == "v_prediction":
            return alpha * x - sigma * output
        if self.prediction_type == "flow":
            return x - sigma * output
        return output

    def noise(self, count: int, seed: int) -> Tensor:
        """Starting noise, float64; an image's own does not depend on how many there are."""
        generator = torch.Generator().manual_seed(folded_seed(seed, 63))
        return torch.stack(
            [torch.randn(self.shape, generator=generator, dtype=torch.float64) for _ in range(count)]
        )

    def sample(self, solver: SolverName, timesteps: Timesteps, start: Tensor) -> Tensor:
        """Samples of a grid from given noise."""
        return solve(solver, self.along(timesteps), start, self.points(timesteps))

    def along(self, timesteps: Timesteps) -> Callable[[Tensor, int], Tensor]:
        """The estimate of clean images by place on a grid."""
        return lambda x, place: self.clean(x, timesteps[place])

    def points(self, timesteps: Timesteps) -> list[tuple[float, float]]:
        """α and σ along a grid, clean data at its end."""
        return [*(self.point(t) for t in timesteps), (1.0, 0.0)]


def load_network(model: str, labels: Sequence[int] = ()) -> NetworkOnTable:
    """A network by what a user calls it.

    Args:
        model: The folder of a diffusers pipeline, the folder of a network of ``schedrl fit``, or ``module:function``,
            a function that takes nothing and returns a :class:`NetworkOnTable`.
        labels: Classes to sample, for a network that wants one; images take them in turn.

    Raises:
        SchedrlError: It is none of these, or the network cannot be sampled from noise alone.
    """
    folder = Path(model)
    if os.path.isfile(folder / "model_index.json"):
        return _pipeline(folder, labels)
    if labels:
        raise SchedrlError(
            f"--class: is for pipelines of diffusers whose network wants a class (got --model {model})"
        )
    if os.path.isfile(folder / "model.json"):
        return _fitted(folder)
    if ":" in model and not os.path.exists(folder):
        return _function(model)
    reason = (
        "has neither model_index.json nor model.json" if os.path.isdir(folder) else "there is no such folder"
    )
    raise SchedrlError(
        f"--model {model}: {reason}; give a folder that pipe.save_pretrained or `schedrl fit` wrote, or module:function"
    )


def _function(model: str) -> NetworkOnTable:
    module, _, name = model.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise SchedrlError(f"--model {model}: cannot be imported: {error}") from None
    if not isinstance(found, NetworkOnTable):
        raise SchedrlError(
            f"--model {model}: must return a schedrl.diffusion.network_on_table.NetworkOnTable (got "
            f"{type(found).__name__})"
        )
    return found


def _fitted(folder: Path) -> NetworkOnTable:
    from schedrl.diffusion.trained_models import FittedModel

    model = FittedModel.load(folder)
    steps = model.description.num_train_timesteps or 1000
    schedule = model.description.schedule
    logsnr = schedule.logsnr_steps(steps)
    table = np.arange(steps, dtype=np.float64)

    def clean(x: Tensor, t: Tensor) -> Tensor:
        return model.denoise(x, torch.from_numpy(np.interp(t.double().numpy(), table, logsnr)).to(x.dtype))

    half = 0.5 * logsnr
    alphas, sigmas = 1.0 / np.sqrt(1.0 + np.exp(-2.0 * half)), 1.0 / np.sqrt(1.0 + np.exp(2.0 * half))
    return NetworkOnTable(clean, alphas, sigmas, model.description.image_shape, "sample", name=str(folder))


def _pipeline(folder: Path, labels: Sequence[int]) -> NetworkOnTable:
    try:
        import diffusers
    except ImportError:
        raise SchedrlError(
            f"--model {folder}: diffusers is not installed, which reads it; pip install 'schedrl[export]'"
        ) from None
    index = read_object(folder / "model_index.json", "pipeline")
    part = next((name for name in ("unet", "transformer") if isinstance(index.get(name), list)), None)
    if part is None or "scheduler" not in index:
        raise SchedrlError(
            f"pipeline {folder}: needs a unet or a transformer, and a scheduler; it has {sorted(index)}"
        )
    class_name = str(index[part][-1])
    kind = getattr(diffusers, class_name, None)
    if kind is None or not hasattr(kind, "from_pretrained"):
        raise SchedrlError(
            f"pipeline {folder}: '{class_name}' is no network of diffusers {diffusers.__version__}"
        )
    try:
        network = kind.from_pretrained(
            folder / part, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        ).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise SchedrlError(
            f"pipeline {folder}: {part} cannot be read: {' '.join(str(error).split())[:200]}"
        ) from None
    settings: dict[str, Any] = dict(network.config)
    if settings.get("cross_attention_dim") is not None and class_name == "UNet2DConditionModel":
        raise SchedrlError(
            f"pipeline {folder}: its network wants a prompt's embedding; give --model module:function, which returns a "
            "NetworkOnTable that has one built in"
        )
    alphas, sigmas, told, prediction = _levels(folder, index)
    classes = int(settings.get("num_class_embeds") or settings.get("num_embeds_ada_norm") or 0)
    if classes and not labels:
        raise SchedrlError(
            f"pipeline {folder}: its network wants a class; give --class, from 0 to {int(classes) - 1}"
        )
    if labels and not classes:
        raise SchedrlError(f"--class: the network of pipeline {folder} takes none")
    if not all(0 <= label < classes for label in labels):
        raise SchedrlError(f"--class: must lie in 0 … {classes - 1} (got {list(labels)})")
    size = settings.get("sample_size")
    if size is None:
        raise SchedrlError(
            f"pipeline {folder}: its {part} has no sample_size, so the shape of images is not known"
        )
    height, width = (size, size) if isinstance(size, int) else size

    def predict(x: Tensor, t: Tensor) -> Tensor:
        more = {"class_labels": torch.tensor(labels)[torch.arange(len(x)) % len(labels)]} if labels else {}
        output: Tensor = network(x, t, **more).sample
        # Networks that learn a variance have twice the channels; the first half is the prediction.
        return output[:, : x.shape[1]]

    shape = int(settings["in_channels"]), int(height), int(width)
    return NetworkOnTable(
        predict, alphas, sigmas, shape, prediction, told, name=str(folder), offset=_offset(folder)
    )


def _offset(folder: Path) -> int:
    config = read_object(folder / "scheduler" / "scheduler_config.json", "scheduler")
    return int(config.get("steps_offset", 0))


_SCHEDULE_FIELDS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)
"""What diffusers makes its betas of."""


def _levels(folder: Path, index: dict[str, Any]) -> tuple[FloatArray, FloatArray, FloatArray | None, str]:
    """α, σ, what the network is told, and the prediction type, by the pipeline's own scheduler."""
    import diffusers

    config = read_object(folder / "scheduler" / "scheduler_config.json", "scheduler")
    steps = config.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or not 2 <= steps <= 100_000:
        raise SchedrlError(
            f"scheduler of {folder}: num_train_timesteps must lie in 2 … 100000 (got {steps!r})"
        )
    class_name = str(index["scheduler"][-1])
    if class_name.startswith("FlowMatch"):
        if config.get("use_dynamic_shifting"):
            raise SchedrlError(
                f"scheduler of {folder}: use_dynamic_shifting makes the levels depend on the image size; save the "
                "pipeline with a fixed shift"
            )
        shift = float(config.get("shift", 1.0))
        sigma = np.arange(1, steps + 1) / steps
        sigma = shift * sigma / (1.0 + (shift - 1.0) * sigma)
        return 1.0 - sigma, sigma, steps * sigma, "flow"
    names = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    given = {name: config[name] for name in names if config.get(name) is not None}
    try:
        scheduler: Any = diffusers.DDIMScheduler
        table = scheduler(**given).alphas_cumprod
    except (NotImplementedError, ValueError, TypeError) as error:
        raise SchedrlError(f"scheduler of {folder}: its schedule cannot be made: {error}") from None
    abar = table.double().numpy()
    prediction = str(config.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS:
        raise SchedrlError(
            f"scheduler of {folder}: prediction_type must be one of {PREDICTIONS} (got '{prediction}')"
        )
    return np.sqrt(abar), np.sqrt(1.0 - abar), None, prediction
