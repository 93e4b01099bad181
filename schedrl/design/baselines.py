"""The grids that people use without asking what their data are, between the ends of a training law."""

from __future__ import annotations

import numpy as np

from schedrl.errors import SchedrlError
from schedrl.export import TrainingSchedule
from schedrl.export.training_schedule import exact_kl
from schedrl.schedules import Grid, get, grid
from schedrl.schedules.conversions import FloatArray

__all__ = ["baselines", "diffusers_steps", "errors", "off_flow"]


def baselines(law: TrainingSchedule, n: int) -> dict[str, Grid]:
    """Hand-made grids of N steps.

    Uniform in the law's steps, Karras' and Align Your Steps' closed form between the law's ends, and the even spacings
    of diffusers' DDIM on this law and on the two that its pipelines have.

    Args:
        law: What the network was trained on.
        n: Number of steps.
    """
    low, high = float(law.sigmas[0]), float(law.sigmas[-1])
    ends = {"sigma_min": low, "sigma_max": high}
    made = {
        "uniform in t": grid(
            "uniform", n, schedule=law.schedule, num_train_timesteps=law.num_train_timesteps
        ),
        "Karras": grid("karras", n, **ends),
        "kl_optimal (AYS)": grid("tangent", n, final_zero=True, **ends),
    }
    laws = {law.schedule.name: law}
    for name in ("linear", "scaled-linear"):
        laws.setdefault(name, TrainingSchedule.of(get(name)))
    for name, other in laws.items():
        for spacing in ("leading", "trailing"):
            if n <= other.num_train_timesteps:
                steps = diffusers_steps(other.num_train_timesteps, n, spacing)
                levels = [*other.sigmas[steps].tolist(), 0.0]
                made[f"diffusers {spacing}, {name}"] = Grid(sigmas=tuple(levels))
    return made


def diffusers_steps(
    num_train_timesteps: int, n: int, spacing: str
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The timesteps of diffusers' DDIM, [N], counted from 0, descending.

    Args:
        num_train_timesteps: T.
        n: N.
        spacing: ``"leading"`` (its default; pipelines of Stable Diffusion add 1) or ``"trailing"``.

    Examples:
        >>> diffusers_steps(1000, 4, "leading"), diffusers_steps(1000, 4, "trailing")
        (array([750, 500, 250,   0]), array([999, 749, 499, 249]))
    """
    if spacing == "leading":
        return (np.arange(n)[::-1] * (num_train_timesteps // n)).astype(np.int64)
    return np.round(np.arange(num_train_timesteps, 0, -num_train_timesteps / n)).astype(np.int64)[:n] - 1


def errors(eigenvalues: FloatArray, made: Grid, samplers: tuple[str, ...]) -> dict[str, float]:
    """Exact KL of a grid, in nats, by sampler; infinite where all variance is lost."""
    found = {}
    for sampler in samplers:
        try:
            found[sampler] = exact_kl(eigenvalues, made.sigma_array, sampler)
        except SchedrlError:
            found[sampler] = float("inf")
    return found


def off_flow(eigenvalues: FloatArray, made: Grid, sampler: str) -> float | None:
    """How far a sampler's images are off the flow's from the same pure noise, as a share of the images' own spread.

    The root of the expected squared distance over that of the variance. None for a sampler that follows no flow, or
    for Heun's where it cannot start.
    """
    from schedrl.sources.gaussian.flow import flow_distance

    levels = made.sigma_array
    if sampler == "ddpm" or (sampler == "heun" and np.isinf(levels[0])):
        return None
    distance = flow_distance(eigenvalues, levels, sampler)  # type: ignore[arg-type]
    return float(np.sqrt(distance / eigenvalues.mean()))
