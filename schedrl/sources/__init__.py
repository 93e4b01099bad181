"""Data laws with an exact denoiser, and their best sampling grids."""
