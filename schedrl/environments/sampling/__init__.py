"""Environments in which an agent places the few steps of a sampler on an exact source or a trained network.

Importing this package loads nothing but its models; :mod:`~schedrl.environments.sampling.env` has the environments.
"""
