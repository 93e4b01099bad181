"""What a sampler does to states ``[images, pixels, rows]``, given estimates of the clean images."""

from __future__ import annotations

import numpy as np

from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.recursions import cosine_sine

__all__ = ["ddim_step", "heun_step", "mean_square", "noise_of"]


def mean_square(states: FloatArray) -> FloatArray:
    """Over the images and pixels of every row, ``[rows]``, summed in one order however many rows there are."""
    rows = np.ascontiguousarray(np.moveaxis(states, -1, 0)).reshape(states.shape[-1], -1)
    return np.asarray(np.square(rows).mean(axis=1))


def noise_of(z: FloatArray, clean: FloatArray, sigma: FloatArray | float) -> FloatArray:
    """The noise that is left of states when their clean images are taken out."""
    cosine, sine = cosine_sine(np.asarray(sigma, dtype=np.float64))
    return np.asarray((z - cosine * clean) / sine)


def ddim_step(
    z: FloatArray, clean: FloatArray, sigma: FloatArray | float, sigma_next: FloatArray | float
) -> FloatArray:
    """DDIM from level to level (η = 0); levels broadcast against states."""
    cosine, sine = cosine_sine(np.asarray(sigma_next, dtype=np.float64))
    return np.asarray(cosine * clean + sine * noise_of(z, clean, sigma))


def heun_step(
    z: FloatArray,
    clean: FloatArray,
    ahead: FloatArray,
    clean_ahead: FloatArray,
    sigma: FloatArray | float,
    sigma_next: FloatArray | float,
) -> FloatArray:
    """Heun's correction of a DDIM step, of z / alpha in sigma (Karras et al. 2022, algorithm 1).

    Args:
        z: States at ``sigma``, which is finite.
        clean: Estimates there.
        ahead: States at ``sigma_next`` by DDIM.
        clean_ahead: Estimates there.
        sigma: Level, broadcasts against states.
        sigma_next: Level, above 0.
    """
    here, there = np.asarray(sigma, dtype=np.float64), np.asarray(sigma_next, dtype=np.float64)
    slope = 0.5 * (noise_of(z, clean, here) + noise_of(ahead, clean_ahead, there))
    (cosine, _), (cosine_next, _) = cosine_sine(here), cosine_sine(there)
    return np.asarray(cosine_next * (z / cosine + (there - here) * slope))
