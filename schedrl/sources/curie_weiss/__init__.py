"""The Curie-Weiss magnet: spins that agree, in one of two ways."""

from schedrl.sources.curie_weiss.batched import (
    strata_outcome,
    strata_start,
    strata_step,
    strata_weights,
)
from schedrl.sources.curie_weiss.denoisers import spontaneous_magnetisation
from schedrl.sources.curie_weiss.law import CurieWeiss, CurieWeissOutcome

__all__ = [
    "CurieWeiss",
    "CurieWeissOutcome",
    "spontaneous_magnetisation",
    "strata_outcome",
    "strata_start",
    "strata_step",
    "strata_weights",
]
