"""Intervals and comparisons: what a handful of seeds can say. NumPy only."""
