"""The Gaussian source: every sampler's error on it is exact, and so is the best grid.

:class:`Gaussian` is the source as a value. The modules below work on many sources at once: the effect of a sampler on a
variance (:mod:`~schedrl.sources.gaussian.recursions`), its distance from the source
(:mod:`~schedrl.sources.gaussian.divergences`) with derivatives (:mod:`~schedrl.sources.gaussian.objective`), laws that
place levels (:mod:`~schedrl.sources.gaussian.laws`), the best levels (:mod:`~schedrl.sources.gaussian.optimum`), the
distance from the flow (:mod:`~schedrl.sources.gaussian.flow`), the spectrum of images
(:mod:`~schedrl.sources.gaussian.measurement`) and families of spectra
(:mod:`~schedrl.sources.gaussian.spectrum_families`).
"""

from schedrl.sources.gaussian.source import Gaussian
from schedrl.sources.gaussian.spectrum_families import (
    AnySpectrumFamily,
    FixedSpectrum,
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
