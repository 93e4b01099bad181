"""The Gaussian source: every sampler's error on it is exact, and so is the best grid.

:class:`Gaussian` is the source as a value. Below it, for many sources at once: what a sampler does to a variance
(:mod:`~schedrl.sources.gaussian.recursions`), how far that is from the source
(:mod:`~schedrl.sources.gaussian.divergences`), laws that place levels (:mod:`~schedrl.sources.gaussian.laws`), the
best levels (:mod:`~schedrl.sources.gaussian.optimum`), the variational bound
(:mod:`~schedrl.sources.gaussian.bound`) and families of spectra (:mod:`~schedrl.sources.gaussian.families`).
"""

from schedrl.sources.gaussian.families import (
    AnySpectrumFamily,
    FixedSpectrum,
    LogUniformSpectrum,
    PowerLawSpectrum,
    SpectrumFamily,
)
from schedrl.sources.gaussian.gaussian import Gaussian

__all__ = [
    "AnySpectrumFamily",
    "FixedSpectrum",
    "Gaussian",
    "LogUniformSpectrum",
    "PowerLawSpectrum",
    "SpectrumFamily",
]
