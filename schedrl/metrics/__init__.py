"""Measurements: the variational bound, and intervals for comparing what was measured."""
