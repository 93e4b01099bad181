r"""The distance of a sampler's images to those of its own flow, for a Gaussian: another error than the divergence.

From the same noise :math:`z` the flow arrives at :math:`\sqrt\lambda\, z` along each eigenvector and DDIM at
:math:`\sqrt{v}\, z`, with :math:`v` its output variance (THEORY 2.1). The squared distance to expect is the sum of
:math:`(\sqrt{v} - \sqrt\lambda)^2`. It counts a direction by its variance; the divergence counts each by the share of
its own variance that is lost. Directions that hardly vary count as much as any for the one, and nothing for the other.
"""

from __future__ import annotations

import numpy as np

from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.recursions import output_variances

__all__ = ["best_flow_sigmas", "flow_distance"]


def flow_distance(eigenvalues: FloatArray, sigmas: FloatArray) -> float:
    """Mean over directions of the expected squared distance between DDIM's images and the flow's.

    Args:
        eigenvalues: λ, ``[E]``.
        sigmas: Descending levels ``[N + 1]`` that end at 0.

    Examples:
        >>> flow_distance(np.array([1.0]), np.array([np.inf, 0.0]))  # one step from noise leaves the mean
        1.0
    """
    variances = output_variances(eigenvalues, sigmas, "ddim")
    return float(np.square(np.sqrt(variances) - np.sqrt(eigenvalues)).mean())


def best_flow_sigmas(eigenvalues: FloatArray, num_steps: int) -> FloatArray:
    """The levels ``[N + 1]`` from infinity to 0 of least :func:`flow_distance`, by a quasi-Newton method.

    Args:
        eigenvalues: λ, ``[E]``, positive.
        num_steps: N, at least 1.

    Examples:
        >>> found = best_flow_sigmas(np.array([0.25]), 4)  # one spread: the tangent law through it
        >>> bool(np.allclose(found[1:-1], 0.5 * np.tan(np.pi / 8.0 * np.array([3, 2, 1])), rtol=1e-3))
        True
    """
    from scipy.optimize import minimize

    scale = float(np.sqrt(np.sqrt(eigenvalues.max() * eigenvalues.mean())))

    def levels(logits: FloatArray) -> FloatArray:
        # Shares of a right angle, which keeps the levels apart and in order.
        shares = np.exp(logits - logits.max())
        angles = np.cumsum(shares / shares.sum())[:-1]
        inside = scale * np.tan(0.5 * np.pi * (1.0 - angles))
        return np.concatenate([[np.inf], inside, [0.0]])

    found = minimize(
        lambda logits: np.log(flow_distance(eigenvalues, levels(logits))),
        np.zeros(num_steps),
        method="L-BFGS-B",
    )
    return levels(found.x)
