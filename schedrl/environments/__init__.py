"""Gymnasium environments: an agent decides the noise schedule of a training run, or the grid of a sampler.

Importing this package loads neither torch nor the models of variants.
"""
