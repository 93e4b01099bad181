"""Pictures of a run: its schedule, the bound per level, the loss curve, samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schedrl.schedules import Schedule, grid

if TYPE_CHECKING:
    from schedrl.environments.training.runs import TrainingRuns

__all__ = ["RunPicture", "draw_line", "draw_picture", "sample_images"]

_SAMPLES = 8
_SAMPLER_STEPS = 20
_SAMPLE_SEED = 11


@dataclass(frozen=True)
class RunPicture:
    """What a picture shows.

    Attributes:
        title: Variant, phase and bound.
        schedules: Of the phases so far.
        levels: λ of the bound's grid, ``[levels]``.
        mse: Validation ε error there, ``[levels]``.
        loss: Training loss per optimizer step.
        samples: Images ``[n, C, H, W]`` in [−1, 1].
    """

    title: str
    schedules: list[Schedule]
    levels: NDArray[np.float64]
    mse: NDArray[np.float64]
    loss: NDArray[np.float64]
    samples: NDArray[np.float32]

    @classmethod
    def of(cls, runs: TrainingRuns) -> list[RunPicture]:
        """Look at every run of a population."""
        variant, samples = runs.variant, sample_images(runs, _SAMPLES)
        return [
            cls(
                title=f"{variant.id}  phase {runs.phase[run]}/{variant.episode.phases}  "
                f"bound {runs.current[run]:.3f} bits/dim",
                schedules=list(runs.history[run]),
                levels=variant.bound.grid,
                mse=runs.mse[run],
                loss=np.concatenate(losses).astype(np.float64) if losses else np.zeros(0),
                samples=samples[run],
            )
            for run, losses in enumerate(runs.losses)
        ]


def sample_images(runs: TrainingRuns, count: int) -> NDArray[np.float32]:
    """Samples of every run by 20 DDIM steps between the measurement's end points, ``[runs, count, C, H, W]``.

    All runs start from the same noise, so their samples can be compared image by image.
    """
    import torch

    from schedrl.diffusion.prediction import network_denoiser
    from schedrl.diffusion.samplers import ddim

    population = runs.population
    limits = runs.variant.bound
    sigmas = grid(
        "uniform-logsnr", _SAMPLER_STEPS, logsnr_max=limits.logsnr_max, logsnr_min=limits.logsnr_min
    ).sigma_array.tolist()
    generator = torch.Generator(population.device).manual_seed(_SAMPLE_SEED)
    start = torch.randn((count, *population.image_shape), generator=generator, device=population.device)
    denoise = network_denoiser(population.predict_epsilon, population.spec, sigmas)
    drawn = ddim(denoise, start.expand(runs.num_runs, *start.shape), sigmas)
    images: NDArray[np.float32] = np.nan_to_num(drawn.cpu().numpy()).clip(-1.0, 1.0)
    return images


def draw_line(picture: RunPicture) -> str:
    """One line of text."""
    last = picture.schedules[-1].name if picture.schedules else "none yet"
    loss = f"{picture.loss[-1]:.4f}" if picture.loss.size else "-"
    return f"{picture.title}  schedule {last}  loss {loss}"


def draw_picture(picture: RunPicture) -> NDArray[np.uint8]:
    """RGB image ``[height, width, 3]``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(picture.title)
    axes = figure.subplots(2, 2)
    u = np.linspace(0.0, 1.0, 201)
    for number, schedule in enumerate(picture.schedules, start=1):
        axes[0, 0].plot(u, schedule.logsnr(u), label=f"phase {number}")
    axes[0, 0].set(xlabel="u (data to noise)", ylabel="log-SNR", title="Schedule")
    if 0 < len(picture.schedules) <= 6:
        axes[0, 0].legend(fontsize="small")
    axes[0, 1].plot(picture.levels, picture.mse, marker="o")
    axes[0, 1].set(xlabel="log-SNR", ylabel="ε error", title="Validation error per level", yscale="log")
    axes[1, 0].plot(picture.loss, linewidth=0.8)
    axes[1, 0].set(xlabel="optimizer step", ylabel="loss", title="Training loss under the schedule")
    axes[1, 1].imshow(tile(picture.samples, gap=1), vmin=-1.0, vmax=1.0, cmap="gray")
    axes[1, 1].set(title="Samples (DDIM, 20 steps)", xticks=[], yticks=[])
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def tile(images: NDArray[np.float32], columns: int = 4, gap: int = 0) -> NDArray[np.float32]:
    """Arrange ``[n, C, H, W]`` in [−1, 1] in a grid, ``gap`` grey pixels right of and below each image.

    Returns:
        Grey images: ``[rows * (H + gap), columns * (W + gap)]`` in [−1, 1]. Colours: the same with a last axis of 3,
        in [0, 1].
    """
    rows = -(-len(images) // columns)
    images = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, gap)))
    padded = np.concatenate([images, -np.ones((rows * columns - len(images), *images.shape[1:]), np.float32)])
    channels, height, width = images.shape[1:]
    sheet = padded.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    return sheet[..., 0] if channels == 1 else np.float32(0.5) * (sheet + np.float32(1.0))
