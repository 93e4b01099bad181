"""Measurements of a trained network: the variational bound, and the quality of its samples."""
