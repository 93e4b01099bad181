"""CMA-ES, asked for a generation at a time: what the searches over grids and over action sequences share."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray


class CMAES:
    """CMA-ES (package ``cma``, extra ``search``) over actions in [−1, 1], from the reference, which is 0.

    Args:
        size: Numbers in a point.
        spread: Standard deviation at the start.
        rng: All that is random comes from here.
        population: Points of a generation; the package's own choice when absent.
    """

    def __init__(
        self, size: int, spread: float, rng: np.random.Generator, population: int | None = None
    ) -> None:
        try:
            import cma
        except ImportError:
            raise SchedrlError(
                "search 'cma-es': needs the package cma: pip install 'schedrl[search]'"
            ) from None
        # It draws from the generator handed to it; left alone it would use NumPy's global one.
        options: dict[str, Any] = {
            "bounds": [-1.0, 1.0],
            "seed": np.nan,
            "verbose": -9,
            "randn": lambda *shape: rng.standard_normal(shape),
        }
        if population is not None:
            options["popsize"] = population
        # CMA-ES is not for a single dimension; a second one that nothing depends on does no harm.
        self._size = size
        self._strategy = cma.CMAEvolutionStrategy(np.zeros(max(size, 2)), spread, options)
        self._asked: list[Any] = []

    def ask(self) -> FloatArray:
        """The next generation ``[population, size]``."""
        self._asked = self._strategy.ask()
        return np.array(self._asked)[:, : self._size]

    def tell(self, scores: FloatArray) -> None:
        """Scores ``[population]`` of the last generation; lower is better."""
        self._strategy.tell(self._asked, scores.tolist())

    def mean(self) -> FloatArray:
        """The middle of the distribution ``[size]``, within the bounds."""
        middle = np.asarray(self._strategy.result.xfavorite, dtype=np.float64)[: self._size]
        return np.asarray(np.clip(middle, -1.0, 1.0))
