"""Diffusion networks and their training: a population of independent runs in one batched computation.

Importing this package loads no torch, so that specs can be checked without it; its modules do:
:mod:`~schedrl.diffusion.unet`, :mod:`~schedrl.diffusion.process`, :mod:`~schedrl.diffusion.samplers`,
:mod:`~schedrl.diffusion.population`.
"""
