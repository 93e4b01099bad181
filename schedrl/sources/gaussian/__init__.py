"""The Gaussian source: every sampler's error on it is exact, and so is the best grid.

:mod:`~schedrl.sources.gaussian.recursions` has what a sampler does to a variance,
:mod:`~schedrl.sources.gaussian.divergences` how far that is from the source.
"""
