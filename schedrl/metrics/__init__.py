"""Measurements: the bound and the likelihood, samples' quality, and intervals for comparing what was measured."""
