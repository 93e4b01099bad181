"""How far a Gaussian stands for the images, in sentences."""

from __future__ import annotations

import numpy as np

from schedrl.sources.gaussian.measurement import SpectrumMeasurement

__all__ = ["measured_numbers", "trust"]


def measured_numbers(measurement: SpectrumMeasurement) -> dict[str, float]:
    """What a file keeps of it."""
    numbers = {
        "dimension": float(measurement.dimension),
        "directions": float(len(measurement.eigenvalues)),
        "variance_below_floor": measurement.below_floor,
        "variance_taken_as_uncorrelated": measurement.approximate,
        "residual_correlation": measurement.residual_correlation,
    }
    if len(measurement.kurtosis):
        low, middle, high = np.quantile(measurement.kurtosis, [0.1, 0.5, 0.9]).tolist()
        numbers |= {"kurtosis_10": low, "kurtosis_median": middle, "kurtosis_90": high}
    return numbers


def trust(measurement: SpectrumMeasurement) -> list[str]:
    """How far exact errors of the Gaussian can be trusted for the images.

    Args:
        measurement: Of the images.

    Returns:
        Sentences, each with the number it is about.
    """
    m = measurement
    first = (
        f"{m.count} images of {m.dimension} numbers; {len(m.eigenvalues)} directions vary by at least the floor, a "
        f"standard deviation of {m.floor:g}; the others hold {100.0 * m.below_floor:.2g} % of the variance."
    )
    said = [first]
    if m.count < 2 * m.dimension:
        said.append(
            f"{m.count / m.dimension:.2g} images per dimension are few: the largest eigenvalues come out too "
            f"large, the smallest too small"
            + (
                f", and at most {m.count - 1} are not 0."
                if m.count <= m.dimension and m.approximate == 0.0
                else "."
            )
        )
    if m.approximate > 0.0:
        said.append(
            f"{100.0 * m.approximate:.2g} % of the variance is in cosine coefficients that are taken to be "
            f"uncorrelated; their correlation with the others is {m.residual_correlation:.2g} on average. Small "
            f"eigenvalues are evened out by that, and the KL with them: trust the order of the grids, not its value."
        )
    if len(m.kurtosis):
        low, middle, high = np.quantile(m.kurtosis, [0.1, 0.5, 0.9]).tolist()
        said.append(
            f"Kurtosis along principal directions: {middle:.2f} in the middle, {low:.2f} to {high:.2f} for most; a "
            f"Gaussian has 3. {_meaning(low, middle, high, m.approximate)}"
        )
    return said


def _meaning(low: float, middle: float, high: float, approximate: float) -> str:
    off = max(abs(middle - 3.0), 0.5 * (high - 3.0), 0.5 * (3.0 - low))
    if off < 0.5:
        sure = "the order of the grids" if approximate > 0.0 else "KL and the order of the grids"
        return f"The images are close to Gaussian along these: {sure} can be trusted."
    if off < 3.0:
        return (
            "The images are not Gaussian, moderately: take the order of grids that differ clearly as a guide, and not "
            "the KL as that of a network."
        )
    return (
        "The images are far from Gaussian: the grid fits their covariance alone; compare samples of the network before "
        "relying on it."
    )
