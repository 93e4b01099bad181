"""A sampler's grid for given images: measured, placed, and compared with the grids that tools use by default."""
