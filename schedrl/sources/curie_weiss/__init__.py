"""The Curie-Weiss magnet: spins that agree, in one of two ways."""

from schedrl.sources.curie_weiss.batched import strata_outcome, strata_start, strata_step

__all__ = ["strata_outcome", "strata_start", "strata_step"]
