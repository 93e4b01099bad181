"""What every kind of source is to a sampling environment: a model in the variant, and a batch of drawn sources.

A batch holds the parameters of the sources, one row per environment. The *state* of the samplers is a tuple of arrays
whose last axis are the same rows. A batch advances a state but does not keep it, so the same step serves an episode,
the prediction of its end, and the evaluation of a given grid.

To add a kind, write a subclass of each and put the first into :data:`schedrl.environments.sampling.variant.AnySource`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from schedrl.data import AnyData
from schedrl.environments.sampling.rewards import SamplingReward
from schedrl.errors import SchedrlError, Spec
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.recursions import SamplerName

Features = tuple[tuple[str, int], ...]
"""Names and widths of parts of an observation."""

Rows = NDArray[np.int64]

Parts = dict[str, FloatArray]
"""The quantities that make up an error, by name, each ``[B]``."""

State = tuple[FloatArray, ...]
"""State of samplers; environments are the last axis of every array."""


class SourceBatch(ABC):
    """Sources of one kind, one row per environment.

    Attributes:
        near: Typical spread of the data, ``[B]``: γ* of a Gaussian source, σ within a mode of a mixture.
        far: Noise level at which the source first shows, ``[B]``: its largest spread, √d of a mixture.
        parameter_names: Names of the sources' parameters, which are attributes.
        by_row: Names of the arrays that depend on the source, ``[..., B]``.
        knows_optimum: Whether the best grid is known in closed form or by a search that needs no sampler runs.
    """

    near: FloatArray
    far: FloatArray
    parameter_names: ClassVar[tuple[str, ...]]
    by_row: ClassVar[tuple[str, ...]]
    knows_optimum: ClassVar[bool] = False

    @property
    def gaussian(self) -> Any:
        """The Gaussian sources themselves, or a batch of one Gaussian that stands for all rows.

        Raises:
            SchedrlError: There is none.
        """
        raise SchedrlError("needs a Gaussian source")

    def geodesic_angles(self) -> FloatArray:
        """atan(σ / near) at equal places along each source's geodesic, ``[places + 1, B]`` from 0 to π/2."""
        raise SchedrlError("action.reference: 'geodesic' is for Gaussian sources")

    def take(self, rows: Rows) -> Self:
        taken = copy(self)
        for name in ("near", "far", *self.by_row):
            setattr(taken, name, getattr(self, name)[..., rows])
        return taken

    @abstractmethod
    def start(self, rows: Rows) -> State:
        """States of samplers at pure noise, ``[..., rows]``."""

    @abstractmethod
    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """One sampler step in every row, from ``sigma`` to ``sigma_next`` ``[B]``; nothing changes in place."""

    @abstractmethod
    def deviation(self, state: State, other: State) -> FloatArray:
        """Distance of two states at the same sigma, ``[B]``; dynamic programming adds it up."""

    @abstractmethod
    def error(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> FloatArray:
        """Error of samplers at data, or at ``sigma``, ``[B]``, positive.

        It is exact where the grids they walked are given, ``[B, M + 1]``; from the state alone it may be rounded.
        """

    @abstractmethod
    def parts(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> Parts:
        """The parts of the error."""

    @abstractmethod
    def targets(self) -> Parts:
        """The parts for a sampler without error."""

    def grid_errors(self, grids: FloatArray) -> FloatArray:
        """Final errors ``[B]`` of grids ``[B, M + 1]``."""
        return self.error(run_grids(self, grids), grids[:, -1], grids)

    def grid_parts(self, grids: FloatArray) -> Parts:
        """Parts of the final errors of grids ``[B, M + 1]``."""
        return self.parts(run_grids(self, grids), grids[:, -1], grids)

    @abstractmethod
    def write_features(self, state: State, sigma: FloatArray, out: NDArray[np.float32]) -> None:
        """Write the source's part of the observation at ``sigma`` into ``out``, ``[entries, B]``."""

    def parameters(self) -> dict[str, FloatArray]:
        """Parameters of the sources by name, each ``[B, ...]``."""
        return {name: getattr(self, name) for name in self.parameter_names}


class SourceKind(Spec, ABC):
    """One way of drawing the source of an episode.

    Attributes:
        kind: Name in the variant.
        spectral: Whether a batch holds the spectra of Gaussian sources.
        has_spectrum: Whether grids can be computed from a spectrum, the source's own or that of a network's data.
        runs_network: Whether a sampler's step runs a trained network: it is costly, and a row's sums do not depend on
            the other rows.
    """

    kind: str
    spectral: ClassVar[bool] = False
    has_spectrum: ClassVar[bool] = False
    runs_network: ClassVar[bool] = False

    @property
    def title(self) -> str:
        return self.kind

    @property
    def accuracy(self) -> str:
        """A sentence on what the errors are and how accurate."""
        return "Errors are exact: no samples are drawn."

    @property
    def step_cost(self) -> str:
        """A sentence on what an environment step computes."""
        return "Each is one step of a sampler whose denoiser is exact; no network was trained inside."

    @property
    def image_sets(self) -> tuple[AnyData, ...]:
        return ()

    @property
    def dimensions(self) -> tuple[float, float] | None:
        """Smallest and largest dimension, where it is drawn."""
        return None

    @property
    @abstractmethod
    def num_uniforms(self) -> int:
        """Number of uniform random numbers that a source is a function of."""

    @property
    @abstractmethod
    def feature_widths(self) -> Features:
        """Entries of :meth:`SourceBatch.write_features`."""

    def check(self, sampler: SamplerName, reward: SamplingReward, first_sigma: float) -> None:
        """Raise ``ValueError`` if the rest of a variant does not fit; ``first_sigma`` is that of the reference grid."""

    @abstractmethod
    def batch(self, count: int, sampler: SamplerName) -> SourceBatch:
        """A batch of ``count`` sources, to be filled by :meth:`assign`.

        Raises:
            SchedrlError: Something that it needs is missing.
        """

    @abstractmethod
    def assign(self, batch: Any, rows: Rows, uniforms: FloatArray) -> None:
        """Draw new sources for some rows of its batch from ``[rows, num_uniforms]`` numbers in (0, 1)."""

    def probe(self, sampler: SamplerName) -> Self:
        """A source on which agents can be tried at little cost, after everything that this one needs was found.

        Raises:
            SchedrlError: Something that it needs is missing.
        """
        return self


def at_rows(state: State, rows: Rows) -> State:
    return tuple(part[..., rows] for part in state)


def run_grids(batch: SourceBatch, sigmas: FloatArray) -> State:
    """States at the end of given grids.

    Args:
        batch: The sources.
        sigmas: Descending grids ``[B, N + 1]``; a shorter one repeats its last sigma.
    """
    state = batch.start(np.arange(len(sigmas)))
    for step in range(sigmas.shape[1] - 1):
        now, after = sigmas[:, step], sigmas[:, step + 1]
        state = moved_rows(batch, state, now, after, now > after)
    return state


def moved_rows(
    batch: SourceBatch, state: State, sigma: FloatArray, sigma_next: FloatArray, moving: NDArray[np.bool_]
) -> State:
    """One step of the samplers that are ``moving``, ``[B]``; the others stay as they are."""
    if moving.all():
        return batch.advance(state, sigma, sigma_next)
    with np.errstate(invalid="ignore", divide="ignore"):  # a step of no length may be 0/0
        moved = batch.advance(state, sigma, sigma_next)
    return tuple(np.where(moving, new, old) for new, old in zip(moved, state, strict=True))
