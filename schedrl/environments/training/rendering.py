"""What a training run looks like: its schedules, the error per λ, the loss curve, samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schedrl.schedules import grid

if TYPE_CHECKING:
    from schedrl.environments.training.runs import TrainingRuns


_SAMPLES = 8
_SAMPLER_STEPS = 20
_SAMPLE_SEED = 11


def sample_images(runs: TrainingRuns, count: int) -> NDArray[np.float32]:
    """Samples of every run by 20 DDIM steps between the end points of the bound, ``[runs, count, C, H, W]``.

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


def draw_lines(runs: TrainingRuns) -> list[str]:
    """A line of text per run: phase, bound, schedule, loss."""
    lines = []
    for run, made in enumerate(runs.history):
        loss = f"{runs.losses[run][-1][-1]:.4f}" if runs.losses[run] else "-"
        lines.append(f"{_title(runs, run)}  schedule {made[-1].name if made else 'none yet'}  loss {loss}")
    return lines


def draw_pictures(runs: TrainingRuns) -> list[NDArray[np.uint8]]:
    """An RGB image ``[height, width, 3]`` per run."""
    samples = sample_images(runs, _SAMPLES)
    return [_picture(runs, run, samples[run]) for run in range(runs.num_runs)]


def _title(runs: TrainingRuns, run: int) -> str:
    variant = runs.variant
    progress = f"phase {runs.phase[run]}/{variant.episode.phases}"
    return f"{variant.id}  {progress}  bound {runs.current[run]:.3f} bits/dim"


def _picture(runs: TrainingRuns, run: int, samples: NDArray[np.float32]) -> NDArray[np.uint8]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(_title(runs, run))
    axes = figure.subplots(2, 2)
    u = np.linspace(0.0, 1.0, 201)
    for number, schedule in enumerate(runs.history[run], start=1):
        axes[0, 0].plot(u, schedule.logsnr(u), label=f"phase {number}")
    axes[0, 0].set(xlabel="u (data to noise)", ylabel="log-SNR", title="Schedule")
    if 0 < len(runs.history[run]) <= 6:
        axes[0, 0].legend(fontsize="small")
    axes[0, 1].plot(runs.variant.bound.grid, runs.mse[run], marker="o")
    axes[0, 1].set(xlabel="log-SNR", ylabel="ε error", title="Validation error", yscale="log")
    axes[1, 0].plot(np.concatenate([*runs.losses[run], np.zeros(0)]), linewidth=0.8)
    axes[1, 0].set(xlabel="optimizer step", ylabel="loss", title="Training loss under the schedule")
    axes[1, 1].imshow(tile(samples, gap=1), vmin=-1.0, vmax=1.0, cmap="gray")
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
