"""Searches for one open-loop sequence of actions in a training environment, as data: what each is and its settings.

Each looks in the environment's own action space, relative to its reference, so it can express what a learned policy
can, but for reacting to what it sees. All runs of a round share their seeds (common random numbers).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schedrl.errors import Spec

__all__ = [
    "AnySequenceSearch",
    "BestStaticSearch",
    "CMAESSequenceSearch",
    "HalvingSequenceSearch",
    "RandomSequenceSearch",
    "SequenceSearchSpec",
    "TPESequenceSearch",
]

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class _PopulationSearch(Spec):
    """A search that goes on in rounds, and tries its best candidates again at the end.

    A score is how much more a candidate returned than the reference did on the same seed, so scores of different
    rounds can be compared. The best of many noisy scores is flattered by chance; fresh seeds decide among a few.

    Attributes:
        population: Runs in a round, the reference among them.
        finalists: Candidates that are tried again on fresh seeds, beside the reference.
        final_share: Share of the budget that is kept for that.
    """

    population: Annotated[int, Field(ge=3, le=1024)] = 32
    finalists: Annotated[int, Field(ge=1, le=64)] = 7
    final_share: Share = 0.25


class RandomSequenceSearch(_PopulationSearch):
    """Normally distributed actions around the reference; every sequence of a small discrete space.

    Attributes:
        spread: Standard deviation of actions, which are cut to [−1, 1].
    """

    name: Literal["random"] = "random"
    spread: Annotated[float, Field(gt=0.0)] = 0.4


class TPESequenceSearch(_PopulationSearch):
    """Optuna's tree-structured Parzen estimator (package ``optuna``, extra ``search``), asked for a round at a time.

    Attributes:
        startup: Trials drawn evenly before the estimator is used.
    """

    name: Literal["tpe"] = "tpe"
    startup: Annotated[int, Field(ge=1)] = 32


class CMAESSequenceSearch(_PopulationSearch):
    """CMA-ES (package ``cma``, extra ``search``) from the reference; continuous actions only.

    Its last mean is among the finalists.

    Attributes:
        spread: Standard deviation of actions at the start.
    """

    name: Literal["cma-es"] = "cma-es"
    spread: Annotated[float, Field(gt=0.0)] = 0.3


class HalvingSequenceSearch(Spec):
    """Successive halving: many candidates on few seeds, the better half on twice as many, down to one.

    How many candidates begin is the greatest power of two whose rounds the budget pays for.

    Attributes:
        seeds: Seeds of the first round, at least. What the powers of two leave of the budget goes to the last round.
        spread: Standard deviation of the candidates' actions around the reference, which is one of them.
    """

    name: Literal["halving"] = "halving"
    seeds: Annotated[int, Field(ge=1, le=1024)] = 1
    spread: Annotated[float, Field(gt=0.0)] = 0.4


class BestStaticSearch(Spec):
    """The best of the catalogue's hand-made schedules, as the actions can express them, and the reference.

    Attributes:
        seeds: Seeds that each is tried on, or as many as the budget pays for.
    """

    name: Literal["best-static"] = "best-static"
    seeds: Annotated[int, Field(ge=1, le=1024)] = 8


SequenceSearchSpec = (
    RandomSequenceSearch | TPESequenceSearch | CMAESSequenceSearch | HalvingSequenceSearch | BestStaticSearch
)
"""Settings of any of the searches."""

AnySequenceSearch = Annotated[SequenceSearchSpec, Field(discriminator="name")]
"""The same, chosen by ``name``."""
