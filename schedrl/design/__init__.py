"""A sampler's grid for given images: measured, placed, compared with what tools do by themselves."""
