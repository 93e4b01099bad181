"""Data distributions with an exact denoiser, and their best sampling grids."""

from schedrl.sources.curie_weiss import CurieWeiss
from schedrl.sources.gaussian import (
    AnySpectrumFamily,
    FixedSpectrum,
    Gaussian,
    LogUniformSpectrum,
    PowerLawSpectrum,
    SpectrumFamily,
)
from schedrl.sources.interpolants import Interpolant
from schedrl.sources.mixture import GaussianMixture

__all__ = [
    "AnySpectrumFamily",
    "CurieWeiss",
    "FixedSpectrum",
    "Gaussian",
    "GaussianMixture",
    "Interpolant",
    "LogUniformSpectrum",
    "PowerLawSpectrum",
    "SpectrumFamily",
]
