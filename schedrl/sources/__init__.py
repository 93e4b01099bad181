"""Data laws with an exact denoiser, and their best sampling grids."""

from schedrl.sources.gaussian import (
    AnySpectrumFamily,
    FixedSpectrum,
    Gaussian,
    LogUniformSpectrum,
    PowerLawSpectrum,
    SpectrumFamily,
)

__all__ = [
    "AnySpectrumFamily",
    "FixedSpectrum",
    "Gaussian",
    "LogUniformSpectrum",
    "PowerLawSpectrum",
    "SpectrumFamily",
]
