"""Gymnasium environments in which an agent decides the noise schedule of a training run.

Importing this package loads neither torch nor the models of variants; :mod:`~schedrl.environments.training.env` does.
"""
