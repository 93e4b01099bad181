"""How well a Gaussian describes the images, in sentences."""

from __future__ import annotations

import numpy as np

from schedrl.sources.gaussian.measurement import SpectrumMeasurement


def measured_numbers(measurement: SpectrumMeasurement) -> dict[str, float]:
    """The numbers that a schedule file keeps of a measurement."""
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


def trust(measurement: SpectrumMeasurement, *, looked_at: bool) -> list[str]:
    """Sentences on how far the Gaussian's exact errors can be trusted for the images and a network.

    Args:
        measurement: Of the images.
        looked_at: Whether the network's error was given.
    """
    m = measurement
    first = (
        f"{m.count} images of {m.dimension} numbers. {len(m.eigenvalues)} directions vary by at least the floor, a "
        f"standard deviation of {m.floor:g}; the other directions hold {100.0 * m.below_floor:.2g} % of the variance."
    )
    said = [first]
    if m.count < 2 * m.dimension:
        zeros = (
            f", and at most {m.count - 1} are not 0"
            if m.count <= m.dimension and m.approximate == 0.0
            else ""
        )
        said.append(
            f"{m.count / m.dimension:.2g} images per dimension are few: the largest eigenvalues are overestimated and "
            f"the smallest underestimated{zeros}."
        )
        if m.count < m.dimension:
            said[-1] += " So few say nothing about how the images vary: do not trust these errors."
    if m.approximate > 0.0:
        said.append(
            f"{100.0 * m.approximate:.2g} % of the variance is in cosine coefficients that are treated as "
            f"uncorrelated; their correlation with the others is {m.residual_correlation:.2g} on average. This smooths "
            "the small eigenvalues and changes the KL: trust the order of the grids, not the KL itself."
        )
    if len(m.kurtosis):
        low, middle, high = np.quantile(m.kurtosis, [0.1, 0.5, 0.9]).tolist()
        said.append(
            f"Kurtosis along principal directions: median {middle:.2f}, 10 % to 90 % quantile {low:.2f} to {high:.2f}; "
            f"a Gaussian has 3. {_meaning(m, low, middle, high)}"
        )
    if not looked_at:
        said.append(
            "The network was not looked at. `schedrl schedule tune --model FOLDER` tries steps on it and measures them."
        )
    return said


def _meaning(m: SpectrumMeasurement, low: float, middle: float, high: float) -> str:
    if m.count < m.dimension:
        return "Of so few images this too says nothing."
    off = max(abs(middle - 3.0), 0.5 * (high - 3.0), 0.5 * (3.0 - low))
    if off < 0.5:
        said = "The images are close to Gaussian along these directions"
        if m.count < 2 * m.dimension:
            return f"{said}, as far as so few can show."
        sure = "the order of the grids" if m.approximate > 0.0 else "the KL and the order of the grids"
        return f"{said}: {sure} can be trusted for the exact denoiser."
    if off < 3.0:
        return (
            "The images are moderately non-Gaussian. Where two grids differ clearly, trust their order; do not expect "
            "the KL of a network to be this one."
        )
    return (
        "The images are far from Gaussian. The grid only fits their covariance: compare samples of your network before "
        "you rely on it."
    )
