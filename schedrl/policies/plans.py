"""Hand-made ways of placing a sampler's steps: named grids, closed forms, dilations, the exact optimum.

A plan sees the source, which an agent only observes, and gives the whole grid at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schedrl.environments.sampling.env import SamplingEnv, SamplingVectorEnv
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.errors import SchedrlError, Spec
from schedrl.policies.policy import BatchPolicy, Rows, State
from schedrl.schedules import AnyGridLaw, Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import Sigma

__all__ = [
    "AnyPlan",
    "DilationPlan",
    "FlowOptimumPlan",
    "GeodesicPlan",
    "GridPolicy",
    "InterpolantPlan",
    "LawPlan",
    "LevelsPlan",
    "OptimumPlan",
    "Plan",
    "ReferencePlan",
    "TangentPlan",
]


class Plan(Protocol):
    """A rule that gives every problem a grid."""

    @property
    def name(self) -> str:
        """Name in an agent's file."""

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """Descending levels ``[B, greatest N + 1]``; shorter grids repeat their last level.

        Raises:
            SchedrlError: The rule does not apply to these sources.
        """


class ReferencePlan(Spec):
    """The grid that the environment's actions are relative to."""

    name: Literal["reference"] = "reference"

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """What action 0 throughout gives."""
        return problems.reference()


class LawPlan(Spec):
    """A named grid of :mod:`schedrl.schedules`, between its own end points.

    Attributes:
        grid: The law.
    """

    name: Literal["law"] = "law"
    grid: AnyGridLaw

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """The same grid for every source.

        Raises:
            SchedrlError: It stops before data, where its error would not be that of a sample.
        """
        if (last := self.grid.grid(int(problems.total[0])).sigmas[-1]) > 0.0:
            raise SchedrlError(
                f"plan 'law': grid '{self.grid.name}' must end at 0, as every other does (ends at {last:g})"
            )
        return _by_steps(problems, lambda part, n: np.tile(self.grid.grid(n).sigma_array, (len(part), 1)))


class LevelsPlan(Spec):
    """Given levels, one grid for each number of steps: what a search found once, for every source.

    Attributes:
        levels: Grids of different length that end at 0.
    """

    name: Literal["levels"] = "levels"
    levels: Annotated[tuple[Grid, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_for_each_number(self) -> LevelsPlan:
        numbers = [grid.num_steps for grid in self.levels]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"levels: one for each number of steps is needed (got {numbers})")
        if any(grid.sigmas[-1] > 0.0 for grid in self.levels):
            raise ValueError("levels: must end at 0")
        return self

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """The same grid for every source.

        Raises:
            SchedrlError: There is none of as many steps.
        """
        known = {grid.num_steps: grid.sigma_array for grid in self.levels}

        def place(part: SamplingProblems, n: int) -> FloatArray:
            if n not in known:
                raise SchedrlError(
                    f"plan 'levels': has no grid of {n} steps; of {', '.join(map(str, sorted(known)))}"
                )
            return known[n][None]

        return _by_steps(problems, place)


class TangentPlan(Spec):
    """The tangent law from infinity to 0.

    Attributes:
        gamma: γ; ``"star"`` is each source's γ* (THEORY 3.6), ``"best"`` minimises the exact error at this N.
    """

    name: Literal["tangent"] = "tangent"
    gamma: Sigma | Literal["star", "best"] = "star"

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """σ = γ tan(πk/2N)."""
        from schedrl.sources.gaussian import laws

        def place(part: SamplingProblems, n: int) -> FloatArray:
            if self.gamma == "best":
                batch = _gaussian(part, self.name)
                gamma = laws.best_gamma(batch.eigenvalues, n, part.variant.sampler, weights=batch.weights)
            elif self.gamma == "star":
                gamma = part.batch.scales.near
            else:
                gamma = np.full(len(part), self.gamma)
            return laws.tangent_sigmas(gamma, n)

        return _by_steps(problems, place)


class GeodesicPlan(Spec):
    """The weighted geodesic: optimal for many DDIM steps on a Gaussian (THEORY 3.4)."""

    name: Literal["geodesic"] = "geodesic"

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """Equal lengths in the source's own metric."""
        from schedrl.sources.gaussian.geodesic import geodesic_sigmas

        def place(part: SamplingProblems, n: int) -> FloatArray:
            batch = _gaussian(part, self.name)
            return geodesic_sigmas(batch.eigenvalues, n, weights=batch.weights)

        return _by_steps(problems, place)


class OptimumPlan(Spec):
    """The exact optimum of the environment's sampler on a Gaussian, between the environment's end points."""

    name: Literal["optimum"] = "optimum"

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """Newton's method on the exact divergence."""
        from schedrl.sources.gaussian.optimum import best_sigmas

        first = problems.variant.action.reference.first_level

        def place(part: SamplingProblems, n: int) -> FloatArray:
            batch = _gaussian(part, self.name)
            return best_sigmas(
                batch.eigenvalues, n, part.variant.sampler, weights=batch.weights, sigma_max=first
            )

        return _by_steps(problems, place)


class FlowOptimumPlan(Spec):
    """For a network: the DDIM grid that would come closest to the flow if its data were Gaussian with their spectrum.

    What is least here is the distance that a network's images are scored by, and not the divergence.
    """

    name: Literal["flow-optimum"] = "flow-optimum"

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """A quasi-Newton method, once for each number of steps."""
        from schedrl.sources.gaussian.flow import best_flow_sigmas

        variant = problems.variant
        if variant.source.kind != "network" or variant.sampler != "ddim":
            raise SchedrlError(
                f"plan '{self.name}': needs a network sampled with ddim; {variant.id} has another source"
            )

        def place(part: SamplingProblems, n: int) -> FloatArray:
            return best_flow_sigmas(_gaussian(part, self.name).eigenvalues[0], n)[None]

        return _by_steps(problems, place)


class InterpolantPlan(Spec):
    """Uniform steps in the time of a linear interpolant, with variance-preserving or exploding scaling.

    Attributes:
        scaling: ``"vp"`` or ``"ve"``.
    """

    name: Literal["interpolant"] = "interpolant"
    scaling: Literal["vp", "ve"]

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """What paper D shows to lose the modes' balance (vp) or their width (ve)."""
        from schedrl.sources.dilations import uniform_grid

        return _by_row(
            problems,
            self.name,
            lambda n, d: uniform_grid(n, d, scaling=self.scaling, path="linear").sigma_array,
        )


class DilationPlan(Spec):
    """Paper D's dilated schedules: half of the steps where the mode is decided, half where it is filled.

    Attributes:
        scaling: ``"vp"`` or ``"ve"``.
        kappa: κ, how far the first phase reaches.
        second: ``"linear"`` as published, or the second half of the steps on the ``"tangent"`` law.
    """

    name: Literal["dilation"] = "dilation"
    scaling: Literal["vp", "ve"]
    kappa: Annotated[float, Field(gt=0.0)] = 3.0
    second: Literal["linear", "tangent"] = "linear"

    def grids(self, problems: SamplingProblems) -> FloatArray:
        """Needs an even number of steps."""
        from schedrl.sources import dilations

        variance = np.square(problems.batch.scales.near)

        def place(n: int, d: float, width: float) -> FloatArray:
            options: dict[str, Any] = {"kappa": self.kappa, "scaling": self.scaling}
            if self.second == "tangent":
                return dilations.dilated_tangent_grid(n, d, variance=width, **options).sigma_array
            return dilations.dilated_grid(n, d, path="linear", **options).sigma_array

        widths = iter(variance.tolist())
        return _by_row(problems, self.name, lambda n, d: place(n, d, next(widths)))


AnyPlan = Annotated[
    ReferencePlan
    | LawPlan
    | LevelsPlan
    | TangentPlan
    | GeodesicPlan
    | OptimumPlan
    | FlowOptimumPlan
    | InterpolantPlan
    | DilationPlan,
    Field(discriminator="name"),
]
"""Any plan, chosen by ``name``."""


def _by_steps(problems: SamplingProblems, place: Callable[[SamplingProblems, int], FloatArray]) -> FloatArray:
    """Grids of all problems, those of equal N at once."""
    grids = np.zeros((len(problems), problems.width))
    for n in np.unique(problems.total).tolist():
        rows = np.flatnonzero(problems.total == n)
        made = place(problems.take(rows), n)
        grids[rows, : n + 1] = made
        grids[rows, n + 1 :] = made[:, -1:]
    return grids


def _by_row(problems: SamplingProblems, name: str, place: Callable[[int, float], FloatArray]) -> FloatArray:
    """Grids of all problems, one after the other, from N and the source's dimension."""
    parameters = problems.batch.parameters()
    if "dimension" not in parameters:
        raise SchedrlError(f"plan '{name}': needs a source with a dimension; {problems.variant.id} has none")
    grids = np.zeros((len(problems), problems.width))
    rows: list[tuple[int, float]] = list(
        zip(problems.total.tolist(), parameters["dimension"].tolist(), strict=True)
    )
    for row, (n, dimension) in enumerate(rows):
        try:
            grids[row, : n + 1] = place(n, dimension)
        except SchedrlError as error:
            raise SchedrlError(f"plan '{name}': {error}") from None
    return grids


def _gaussian(problems: SamplingProblems, name: str) -> Any:
    """The problems' batch, if its sources are Gaussian; the Gaussian of a network's data, a batch of one for all rows.

    For a network a plan is then what would be right if the data were Gaussian and the network exact.
    """
    from schedrl.environments.sampling.gaussian import GaussianBatch
    from schedrl.environments.sampling.network import NetworkBatch

    if isinstance(problems.batch, NetworkBatch):
        try:
            return problems.batch.gaussian
        except SchedrlError as error:
            raise SchedrlError(f"plan '{name}': {error}") from None
    if not isinstance(problems.batch, GaussianBatch):
        raise SchedrlError(f"plan '{name}': needs a Gaussian source; {problems.variant.id} has another")
    return problems.batch


class GridPolicy(BatchPolicy):
    """A plan as a policy in an environment, through its actions: SB3's ``predict``.

    It looks at the environment's sources, not at observations. Grids that start at a finite level begin at the
    environment's first level instead.

    Args:
        plan: How grids are found.
        env: The environment it acts in, single or vectorised.
    """

    def __init__(self, plan: Plan, env: SamplingVectorEnv | SamplingEnv) -> None:
        vector = env.vector if isinstance(env, SamplingEnv) else env
        self.plan, self.runs = plan, vector.runs
        self._targets = np.zeros_like(self.runs.levels)

    def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
        """Actions that step to the plan's next levels."""
        runs = self.runs
        if len(rows) != runs.num_runs:
            raise SchedrlError(f"observation: one row per run is needed, {runs.num_runs}")
        fresh = np.flatnonzero(runs.remaining == runs.total)
        if len(fresh):
            problems = SamplingProblems(runs.variant, runs.batch, runs.total).take(fresh)
            grids = self.plan.grids(problems)
            self._targets[fresh] = 0.0
            self._targets[fresh, : grids.shape[1]] = grids
        taken = runs.total - runs.remaining
        wanted = self._targets[np.arange(runs.num_runs), np.minimum(taken + 1, runs.total)]
        actions = runs.variant.action.encode(runs.sigma, wanted, runs.remaining, runs.total, runs.batch)
        return actions, ()
