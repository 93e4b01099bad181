"""Measurements of a trained network: the bound, the likelihood, and the quality of its samples."""
