"""Rules that place all steps of a sampler at once, from the source: named grids, closed forms, dilations, optima."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schedrl.environments.sampling.env import SamplingEnv, SamplingVectorEnv
from schedrl.environments.sampling.gaussian_source import GaussianBatch
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.errors import SchedrlError, Spec
from schedrl.policies.policy import BatchPolicy, Rows, State
from schedrl.schedules import AnyGridLaw, Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import Sigma


class GridRule(Protocol):
    """A rule that gives every problem a grid."""

    @property
    def name(self) -> str:
        """Name in an agent's file."""

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """Descending sigmas ``[B, greatest N + 1]``; shorter grids repeat their last value.

        Raises:
            SchedrlError: The rule does not apply to these sources.
        """


class ReferenceRule(Spec):
    """The grid that the environment's actions are relative to."""

    name: Literal["reference"] = "reference"

    def grids(self, problems: SamplingProblems) -> FloatArray:
        return problems.reference()


class _RuleByN(Spec):
    """A rule that places the grids of all problems of one N at once."""

    name: str

    def place(self, part: SamplingProblems, n: int) -> FloatArray:
        """Grids ``[B, n + 1]``, or ``[1, n + 1]`` where all are the same, of problems of ``n`` steps."""
        raise NotImplementedError

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """Grids of all problems, those of equal N at once."""
        grids = np.zeros((len(problems), problems.width))
        for n in np.unique(problems.total).tolist():
            rows = np.flatnonzero(problems.total == n)
            placed = self.place(problems.take(rows), n)
            grids[rows, : n + 1] = placed
            grids[rows, n + 1 :] = placed[:, -1:]
        return grids

    def _gaussian(self, problems: SamplingProblems) -> GaussianBatch:
        """The problems' Gaussian sources; for a network, the Gaussian of its data as a batch of one for all rows.

        A rule then gives what would be right if the data were Gaussian and the network exact.
        """
        try:
            gaussian: GaussianBatch = problems.batch.gaussian
        except SchedrlError as error:
            raise SchedrlError(f"plan '{self.name}': {error} ({problems.variant.id})") from None
        return gaussian


class LawRule(_RuleByN):
    """A named grid of :mod:`schedrl.schedules`, between its own end points.

    Attributes:
        grid: The law.
    """

    name: Literal["law"] = "law"
    grid: AnyGridLaw

    def place(self, part: SamplingProblems, n: int) -> FloatArray:
        grid = self.grid.grid(n)
        if (last := grid.sigmas[-1]) > 0.0:  # its error would not be that of a sample
            raise SchedrlError(
                f"plan 'law': grid '{self.grid.name}' must end at 0, as every other does (ends at {last:g})"
            )
        return grid.sigma_array[None]


class FixedRule(_RuleByN):
    """Given grids, one for each number of steps: found once, used for every source.

    Attributes:
        levels: Grids of different length that end at 0.
    """

    name: Literal["levels"] = "levels"
    levels: Annotated[tuple[Grid, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_for_each_number(self) -> FixedRule:
        numbers = [grid.num_steps for grid in self.levels]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"levels: one for each number of steps is needed (got {numbers})")
        if any(grid.sigmas[-1] > 0.0 for grid in self.levels):
            raise ValueError("levels: must end at 0")
        return self

    def place(self, part: SamplingProblems, n: int) -> FloatArray:
        known = {grid.num_steps: grid.sigma_array for grid in self.levels}
        if n not in known:
            raise SchedrlError(
                f"plan 'levels': has no grid of {n} steps; of {', '.join(map(str, sorted(known)))}"
            )
        return known[n][None]


class TangentRule(_RuleByN):
    """The tangent law from infinity to 0: σ = γ tan(πk/2N).

    Attributes:
        gamma: γ; ``"star"`` is each source's γ* (THEORY 3.6), ``"best"`` minimises the exact error at this N.
    """

    name: Literal["tangent"] = "tangent"
    gamma: Sigma | Literal["star", "best"] = "star"

    def place(self, part: SamplingProblems, n: int) -> FloatArray:
        from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas
        from schedrl.sources.gaussian.laws import best_gamma

        if self.gamma == "best":
            batch = self._gaussian(part)
            gamma = best_gamma(batch.eigenvalues, n, part.variant.sampler, weights=batch.weights)
        elif self.gamma == "star":
            gamma = part.batch.near
        else:
            gamma = np.full(len(part), self.gamma)
        return tangent_sigmas(even_fractions(n), gamma[:, None])


class GeodesicRule(_RuleByN):
    """The weighted geodesic: optimal for many DDIM steps on a Gaussian (THEORY 3.4)."""

    name: Literal["geodesic"] = "geodesic"

    def place(self, part: SamplingProblems, n: int) -> FloatArray:
        """Steps of equal length in the source's own metric."""
        from schedrl.sources.gaussian.laws import geodesic_sigmas

        batch = self._gaussian(part)
        return geodesic_sigmas(batch.eigenvalues, n, weights=batch.weights)


class OptimumRule(_RuleByN):
    """The exact optimum of the environment's sampler on a Gaussian, between the environment's end points."""

    name: Literal["optimum"] = "optimum"

    def place(self, part: SamplingProblems, n: int) -> FloatArray:
        """Newton's method on the exact divergence."""
        from schedrl.sources.gaussian.optimum import best_sigmas

        batch, variant = self._gaussian(part), part.variant
        first = variant.action.reference.first_sigma
        return best_sigmas(batch.eigenvalues, n, variant.sampler, weights=batch.weights, sigma_max=first)


class FlowOptimumRule(_RuleByN):
    """For a network: the DDIM grid that would come closest to the flow if its data were Gaussian with their spectrum.

    It minimises the distance that a network's images are scored by, not the divergence.
    """

    name: Literal["flow-optimum"] = "flow-optimum"

    def place(self, part: SamplingProblems, n: int) -> FloatArray:
        """A quasi-Newton method, once for each number of steps."""
        from schedrl.sources.gaussian.flow import best_flow_sigmas

        if not part.variant.source.runs_network or part.variant.sampler != "ddim":
            raise SchedrlError(
                f"plan '{self.name}': needs a network sampled with ddim; {part.variant.id} has another source"
            )
        return best_flow_sigmas(self._gaussian(part).eigenvalues[0], n)[None]


class _RuleByDimension(Spec):
    """A rule for sources with a dimension, one problem after the other."""

    name: str

    def place_one(self, n: int, dimension: float, variance: float) -> Grid:
        """The grid of ``n`` steps for a source of this dimension and variance within a mode."""
        raise NotImplementedError

    def grids(self, problems: SamplingProblems) -> FloatArray:
        parameters = problems.batch.parameters()
        if "dimension" not in parameters:
            raise SchedrlError(
                f"plan '{self.name}': needs a source with a dimension; {problems.variant.id} has none"
            )
        grids = np.zeros((len(problems), problems.width))
        columns = (problems.total, parameters["dimension"], np.square(problems.batch.near))
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for row, (n, dimension, variance) in enumerate(rows):
            try:
                grids[row, : n + 1] = self.place_one(n, dimension, variance).sigma_array
            except SchedrlError as error:
                raise SchedrlError(f"plan '{self.name}': {error}") from None
        return grids


class InterpolantRule(_RuleByDimension):
    """Uniform steps in the time of a linear interpolant, with variance-preserving or exploding scaling.

    Aranguri et al. 2025 (arXiv 2501.00988) show that these lose the modes' balance (vp) or their width (ve).

    Attributes:
        scaling: ``"vp"`` or ``"ve"``.
    """

    name: Literal["interpolant"] = "interpolant"
    scaling: Literal["vp", "ve"]

    def place_one(self, n: int, dimension: float, variance: float) -> Grid:
        from schedrl.sources.interpolants import uniform_grid

        return uniform_grid(n, dimension, scaling=self.scaling, path="linear")


class DilationRule(_RuleByDimension):
    """The dilated schedules of Aranguri et al. 2025 (arXiv 2501.00988), for even N.

    Half of the steps are where the mode is decided, half where it is filled.

    Attributes:
        scaling: ``"vp"`` or ``"ve"``.
        kappa: κ, how far the first phase reaches.
        second: ``"linear"`` as published, or the second half of the steps on the ``"tangent"`` law.
    """

    name: Literal["dilation"] = "dilation"
    scaling: Literal["vp", "ve"]
    kappa: Annotated[float, Field(gt=0.0)] = 3.0
    second: Literal["linear", "tangent"] = "linear"

    def place_one(self, n: int, dimension: float, variance: float) -> Grid:
        from schedrl.sources.interpolants import dilated_grid, dilated_tangent_grid

        options: dict[str, Any] = {"kappa": self.kappa, "scaling": self.scaling}
        if self.second == "tangent":
            return dilated_tangent_grid(n, dimension, variance=variance, **options)
        return dilated_grid(n, dimension, path="linear", **options)


AnyGridRule = Annotated[
    ReferenceRule
    | LawRule
    | FixedRule
    | TangentRule
    | GeodesicRule
    | OptimumRule
    | FlowOptimumRule
    | InterpolantRule
    | DilationRule,
    Field(discriminator="name"),
]
"""Any rule, chosen by ``name``."""


class GridPolicy(BatchPolicy):
    """A rule as a policy in an environment, through its actions.

    It looks at the environment's sources, not at observations. Grids that start at a finite sigma begin at the
    environment's first one instead.

    Args:
        rule: How grids are found.
        env: The environment it acts in, single or vectorised.
    """

    def __init__(self, rule: GridRule, env: SamplingVectorEnv | SamplingEnv) -> None:
        vector = env.vector if isinstance(env, SamplingEnv) else env
        self.rule, self.runs = rule, vector.runs
        self._targets = np.zeros_like(self.runs.levels)

    def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
        runs = self.runs
        if len(rows) != runs.num_runs:
            raise SchedrlError(f"observation: one row per run is needed, {runs.num_runs}")
        fresh = np.flatnonzero(runs.remaining == runs.total)
        if len(fresh):
            grids = self.rule.grids(SamplingProblems(runs.variant, runs.batch, runs.total).take(fresh))
            self._targets[fresh] = 0.0
            self._targets[fresh, : grids.shape[1]] = grids
        taken = runs.total - runs.remaining
        wanted = self._targets[np.arange(runs.num_runs), np.minimum(taken + 1, runs.total)]
        return runs.variant.action.encode(runs.sigma, wanted, runs.remaining, runs.total, runs.batch), ()
