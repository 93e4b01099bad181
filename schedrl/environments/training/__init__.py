"""Environments in which an agent decides which noise a diffusion network trains on."""
