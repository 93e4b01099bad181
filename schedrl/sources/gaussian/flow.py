r"""The distance of a sampler's images from those of the exact flow, for a Gaussian: an error beside the divergence.

From the same noise :math:`z` the flow arrives at :math:`\sqrt\lambda\, z` along each eigenvector and DDIM at
:math:`\sqrt{v}\, z`, with :math:`v` its output variance (THEORY 2.1). The expected squared distance is the sum of
:math:`(\sqrt{v} - \sqrt\lambda)^2`. The distance weights a direction by its variance; the divergence asks
which share of its own variance each direction loses. So directions that hardly vary matter to the divergence as much
as any other, and to the distance not at all.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.recursions import output_variances

__all__ = ["FlowSampler", "best_flow_sigmas", "flow_distance"]

FlowSampler = Literal["ddim", "heun"]
"""The deterministic samplers, which approximate the flow."""


def flow_distance(
    eigenvalues: FloatArray,
    sigmas: FloatArray,
    sampler: FlowSampler = "ddim",
    weights: FloatArray | None = None,
) -> float:
    """Mean over directions of the expected squared distance between a sampler's images and the flow's.

    Args:
        eigenvalues: λ, ``[E]``.
        sigmas: Descending levels ``[N + 1]`` that end at 0. The sampler starts at the first in a state of variance 1,
            the flow in pure noise, so the distance includes a late start.
        sampler: Which sampler; Heun's first level must be finite.
        weights: Multiplicities, ``[E]``; None counts each direction once.

    Examples:
        >>> flow_distance(np.array([1.0]), np.array([np.inf, 0.0]))  # one step from noise leaves the mean
        1.0
    """
    arrived = np.sqrt(output_variances(eigenvalues, sigmas, sampler))
    return float(np.average(np.square(arrived - np.sqrt(eigenvalues)), weights=weights))


def best_flow_sigmas(
    eigenvalues: FloatArray,
    num_steps: int,
    sampler: FlowSampler = "ddim",
    weights: FloatArray | None = None,
    *,
    first: float = math.inf,
    least: float = 0.0,
) -> FloatArray:
    """The levels ``[N + 1]`` of least :func:`flow_distance`, by a quasi-Newton method.

    Args:
        eigenvalues: λ, ``[E]``, positive.
        num_steps: N, at least 1.
        sampler: Which sampler; Heun's first level must be finite.
        weights: Multiplicities, ``[E]``; None counts each direction once.
        first: The first level.
        least: Lower limit of the positive levels.

    Returns:
        The levels, from ``first`` to 0.

    Examples:
        >>> found = best_flow_sigmas(np.array([0.25]), 4)  # one spread: the tangent law through it
        >>> bool(np.allclose(found[1:-1], 0.5 * np.tan(np.pi / 8.0 * np.array([3, 2, 1])), rtol=1e-3))
        True
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights
    free = _Levels(eigenvalues, counts, num_steps, sampler, first, 0.0).best()
    if num_steps == 1 or free[-2] >= least:
        return free
    return _Levels(eigenvalues, counts, num_steps, sampler, first, least).best()


class _Levels:
    """Levels as shares of an angle, which keeps them apart and in order.

    A ``least`` above 0 is the last positive level.
    """

    def __init__(
        self,
        eigenvalues: FloatArray,
        weights: FloatArray,
        num_steps: int,
        sampler: FlowSampler,
        first: float,
        least: float,
    ) -> None:
        self.values, self.weights, self.sampler = eigenvalues, weights / weights.sum(), sampler
        self.first, self.least = first, least
        self.scale = math.sqrt(math.sqrt(eigenvalues.max() * np.average(eigenvalues, weights=weights)))
        self.top, self.bottom = math.atan(first / self.scale), math.atan(least / self.scale)
        self.shares = num_steps if least == 0.0 else num_steps - 1
        # Where the flow would take a state of variance 1 from the first level.
        late = 1.0 if math.isinf(first) else np.sqrt((1.0 + first**2) / (eigenvalues + first**2))
        self.flow = np.sqrt(eigenvalues) * late

    def best(self) -> FloatArray:
        """The best levels, from evenly spaced angles."""
        from scipy.optimize import minimize

        start = np.zeros(self.shares)
        if self.sampler == "ddim":
            return self.levels(minimize(self.error_and_slope, start, jac=True, method="L-BFGS-B").x)
        return self.levels(minimize(self.error, start, method="L-BFGS-B").x)

    def angles(self, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The angles of the levels between the two ends, and the shares."""
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        return self.top - (self.top - self.bottom) * np.cumsum(shares)[:-1], shares

    def levels(self, logits: FloatArray) -> FloatArray:
        inside = self.scale * np.tan(self.angles(logits)[0])
        end = [self.least, 0.0] if self.least > 0.0 else [0.0]
        return np.concatenate([[self.first], inside, end])

    def error(self, logits: FloatArray) -> float:
        """Logarithm of the distance."""
        return math.log(flow_distance(self.values, self.levels(logits), self.sampler, self.weights))

    def error_and_slope(self, logits: FloatArray) -> tuple[float, FloatArray]:
        """The error and its gradient for DDIM, whose step multiplies a direction by the cosine of its turn there."""
        levels, spreads = self.levels(logits), np.sqrt(self.values)
        theta = np.arctan2(levels[:, None], spreads)
        turns = theta[:-1] - theta[1:]
        kept = np.cos(turns).prod(axis=0)
        miss = self.flow * kept - spreads
        distance = float(self.weights @ np.square(miss))
        # d log(kept) / d theta_k = tan(turn before k) - tan(turn after k), for the levels between the ends.
        inside = slice(1, self.shares)
        tangents = np.tan(turns)
        pull = (tangents[:-1] - tangents[1:])[: self.shares - 1]
        by_level = (pull * spreads / (self.values + np.square(levels[inside, None]))) @ (
            2.0 * self.weights * miss * self.flow * kept
        )
        angles, shares = self.angles(logits)
        by_angle = by_level * self.scale / np.square(np.cos(angles))
        # An angle falls by all shares before it: the slope of a share sums over the angles after it.
        by_share = -(self.top - self.bottom) * np.append(np.cumsum(by_angle[::-1])[::-1], 0.0)
        by_logit = shares * (by_share - shares @ by_share)
        return math.log(distance), by_logit / distance
