"""Environments in which an agent places the few steps of a sampler on an exact source or a trained network."""
