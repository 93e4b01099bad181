"""Samples of trained networks, and how far they are from the data."""
