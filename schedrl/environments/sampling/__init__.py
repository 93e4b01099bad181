"""Environments in which an agent places the few steps of a sampler on a source whose denoiser is exact.

Importing this package loads nothing but its models; :mod:`~schedrl.environments.sampling.env` has the environments.
"""
