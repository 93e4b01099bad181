r"""The distance of a sampler's images from those of the exact flow, for a Gaussian: an error beside the divergence.

From the same noise :math:`z` the flow arrives at :math:`\sqrt\lambda\, z` along each eigenvector and DDIM at
:math:`\sqrt{v}\, z`, with :math:`v` its output variance (THEORY 2.1). The expected squared distance is the sum of
:math:`(\sqrt{v} - \sqrt\lambda)^2`. The distance weights a direction by its variance; the divergence asks
which share of its own variance each direction loses. So directions that hardly vary matter to the divergence as much
as any other, and to the distance not at all.

A network is not the exact denoiser. Where its prediction has an error of its own in every call, that adds a variance to
each direction, which later steps shrink as they shrink the state (THEORY 2.6). :class:`NetworkError` says how large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from schedrl.errors import SchedrlError, unknown_name
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.recursions import cosine_sine, output_variances, transition

FlowSampler = Literal["ddim", "heun"]
"""The deterministic samplers, which approximate the flow."""

Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What a network predicts: the noise, v = αε - σx₀, or the clean images."""

_USUAL_ERRORS: dict[FlowSampler, dict[Prediction, float]] = {
    "ddim": {"epsilon": 1e-2, "v_prediction": 1e-1, "sample": 1e-5},
    "heun": {"epsilon": 1e-2, "v_prediction": 1e-2, "sample": 1e-3},
}


@dataclass(frozen=True)
class NetworkError:
    """The error of a network's predictions: independent in each pixel and each call, with mean 0.

    Attributes:
        variance: Of one pixel of the prediction; one number, or one at each of ``logsnr``.
        prediction: What the network predicts.
        logsnr: Rising; between them the variance is interpolated in its logarithm, beyond them it stays as at the end.

    Examples:
        >>> NetworkError((1e-4,), "v_prediction").amplified(np.array([np.inf, 1.0]))
        array([0.0001, 0.0001])
    """

    variance: tuple[float, ...]
    prediction: Prediction = "epsilon"
    logsnr: tuple[float, ...] = (0.0,)

    @classmethod
    def usual(cls, prediction: Prediction, sampler: FlowSampler = "ddim") -> NetworkError:
        """What to assume of a network that was not looked at.

        These are no typical errors: with them no grid was much worse than the defaults of diffusers on the networks of
        docs/how-to/schedule-for-your-data.md.
        """
        if prediction not in get_args(Prediction):
            raise unknown_name("prediction", prediction, get_args(Prediction))
        return cls((_USUAL_ERRORS[sampler][prediction],), prediction)

    def __post_init__(self) -> None:
        if self.prediction not in get_args(Prediction):
            raise unknown_name("prediction", self.prediction, get_args(Prediction))
        if not self.variance or not all(0.0 <= value < math.inf for value in self.variance):
            raise SchedrlError(
                f"network error: a variance must be finite and not negative (got {list(self.variance)})"
            )
        if len(self.logsnr) != len(self.variance) or not (np.diff(self.logsnr) > 0.0).all():
            raise SchedrlError(
                f"network error: logsnr must rise, with one variance at each (got {list(self.logsnr)} and "
                f"{len(self.variance)} variances)"
            )

    def amplified(self, sigmas: FloatArray) -> FloatArray:
        """Variance that a DDIM step from each level adds to x, over the squared sine of the angle that it turns by."""
        cosine, sine = cosine_sine(sigmas)
        with np.errstate(divide="ignore"):
            values = np.interp(-2.0 * np.log(sigmas), self.logsnr, np.log(self.variance))
            share = {"epsilon": cosine, "v_prediction": np.ones_like(sine), "sample": sine}[self.prediction]
            return np.asarray(np.exp(values) / np.square(share))


def flow_distance(
    eigenvalues: FloatArray,
    sigmas: FloatArray,
    sampler: FlowSampler = "ddim",
    weights: FloatArray | None = None,
    *,
    network_error: NetworkError | None = None,
    origin: float = math.inf,
    mean_squares: FloatArray | None = None,
) -> float:
    """Mean over directions of the expected squared distance between a sampler's images and the flow's.

    Args:
        eigenvalues: λ, ``[E]``.
        sigmas: Descending levels ``[N + 1]`` that end at 0. The sampler starts at the first in a state of variance 1,
            the flow in pure noise, so the distance includes a late start.
        sampler: Which sampler; Heun's first level must be finite.
        weights: Multiplicities, ``[E]``; None counts each direction once.
        network_error: Of the network that stands for the exact denoiser; None for the exact one.
        origin: Level at which the flow starts from pure noise.
        mean_squares: Square of the data's mean along each direction, ``[E]``; a late start misses some of it.

    Examples:
        >>> flow_distance(np.array([1.0]), np.array([np.inf, 0.0]))  # one step from noise leaves the mean
        1.0
    """
    return float(_distances(eigenvalues, sigmas, sampler, weights, network_error, origin, mean_squares))


def _distances(
    eigenvalues: FloatArray,
    sigmas: FloatArray,
    sampler: FlowSampler,
    weights: FloatArray | None,
    network_error: NetworkError | None,
    origin: float,
    mean_squares: FloatArray | None = None,
) -> FloatArray:
    """:func:`flow_distance` of several grids ``[..., N + 1]``."""
    target = np.sqrt(eigenvalues)
    if math.isfinite(origin):
        target = target * np.sqrt((1.0 + origin**2) / (eigenvalues + origin**2))
    arrived = np.sqrt(output_variances(eigenvalues, sigmas, sampler))
    squares = np.square(arrived - target)
    if mean_squares is not None:
        missed = arrived * cosine_sine(sigmas[..., :1])[0] - target * cosine_sine(np.array(origin))[0]
        squares = squares + mean_squares * np.square(missed)
    if network_error is not None:
        squares = squares + _error_variances(eigenvalues, sigmas, sampler, network_error)
    return np.asarray(np.average(squares, axis=-1, weights=weights))


def _error_variances(
    eigenvalues: FloatArray, sigmas: FloatArray, sampler: FlowSampler, network_error: NetworkError
) -> FloatArray:
    """Variance that a network's errors leave in the images, ``[..., E]``; THEORY 2.6."""
    cosine, sine = cosine_sine(sigmas)
    turned = np.square(sine[..., :-1] * cosine[..., 1:] - cosine[..., :-1] * sine[..., 1:])
    errors = network_error.amplified(sigmas[..., :-1])
    left = np.zeros((*sigmas.shape[:-1], len(eigenvalues)))
    last = sigmas.shape[-1] - 2
    for k in range(last + 1):
        r, ahead = sigmas[..., k, None], sigmas[..., k + 1, None]
        left *= transition(eigenvalues, r, ahead, sampler)[0]
        added = errors[..., k, None]
        if sampler == "heun" and k < last:
            bent = 1.0 - (r - ahead) * ahead / (eigenvalues + ahead * ahead)
            second = errors[..., k + 1, None] * np.square(cosine[..., k + 1, None] / cosine[..., k, None])
            added = 0.25 * (bent * bent * added + second)
        left += turned[..., k, None] * added
    return left


def best_flow_sigmas(
    eigenvalues: FloatArray,
    num_steps: int,
    sampler: FlowSampler = "ddim",
    weights: FloatArray | None = None,
    *,
    first: float = math.inf,
    least: float = 0.0,
    network_error: NetworkError | None = None,
    mean_squares: FloatArray | None = None,
) -> FloatArray:
    """The levels ``[N + 1]`` of least :func:`flow_distance`, by a quasi-Newton method.

    Args:
        eigenvalues: λ, ``[E]``, positive.
        num_steps: N, at least 1.
        sampler: Which sampler; Heun's first level must be finite.
        weights: Multiplicities, ``[E]``; None counts each direction once.
        first: The first level.
        least: Lower limit of the positive levels.
        network_error: Of the network that stands for the exact denoiser; the distance is then that from the flow that
            starts at ``first``. For epsilon, ``first`` must be finite.
        mean_squares: As for :func:`flow_distance`, with a network's error. The levels then start where it is best,
            below ``first``.

    Returns:
        The levels, from ``first`` to 0.

    Examples:
        >>> found = best_flow_sigmas(np.array([0.25]), 4)  # one spread: the tangent law through it
        >>> bool(np.allclose(found[1:-1], 0.5 * np.tan(np.pi / 8.0 * np.array([3, 2, 1])), rtol=1e-3))
        True
    """
    counts = np.ones_like(eigenvalues) if weights is None else weights
    free = _Levels(eigenvalues, counts, num_steps, sampler, first, 0.0, network_error, mean_squares).best()
    if num_steps == 1 or free[-2] >= least:
        return free
    return _Levels(eigenvalues, counts, num_steps, sampler, first, least, network_error, mean_squares).best()


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
        network_error: NetworkError | None = None,
        mean_squares: FloatArray | None = None,
    ) -> None:
        self.values, self.weights, self.sampler = eigenvalues, weights / weights.sum(), sampler
        self.first, self.least = first, least
        self.network_error, self.mean_squares = network_error, mean_squares
        self.scale = math.sqrt(math.sqrt(eigenvalues.max() * np.average(eigenvalues, weights=weights)))
        self.top, self.bottom = math.atan(first / self.scale), math.atan(least / self.scale)
        self.shares = num_steps - (least > 0.0) + (mean_squares is not None)
        # Where the flow would take a state of variance 1 from the first level.
        late = 1.0 if math.isinf(first) else np.sqrt((1.0 + first**2) / (eigenvalues + first**2))
        self.flow = np.sqrt(eigenvalues) * late

    def best(self) -> FloatArray:
        """The best levels, from evenly spaced angles."""
        from scipy.optimize import minimize

        start = np.zeros(self.shares)
        if self.network_error is not None:
            start[0] = 0.0 if self.mean_squares is None else -2.0
            found = minimize(self.error_and_differences, start, jac=True, method="L-BFGS-B")
        elif self.sampler == "ddim":
            found = minimize(self.error_and_slope, start, jac=True, method="L-BFGS-B")
        else:
            found = minimize(self.error, start, method="L-BFGS-B")
        return self.levels(found.x)

    def angles(self, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The angles of the levels between the two ends, and the shares."""
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return self.top - (self.top - self.bottom) * np.cumsum(shares, axis=-1)[..., :-1], shares

    def levels(self, logits: FloatArray) -> FloatArray:
        """The levels, ``[..., N + 1]``."""
        inside = self.scale * np.tan(self.angles(logits)[0])
        wide = np.ones((*logits.shape[:-1], 1))
        end = [self.least, 0.0] if self.least > 0.0 else [0.0]
        begin = [self.first] if self.mean_squares is None else []
        return np.concatenate([wide * begin, inside, wide * end], axis=-1)

    def error(self, logits: FloatArray) -> FloatArray:
        """Logarithm of the distance, [...]; with a network's error, from the flow that starts at ``first``."""
        origin = math.inf if self.network_error is None else self.first
        found = _distances(
            self.values,
            self.levels(logits),
            self.sampler,
            self.weights,
            self.network_error,
            origin,
            self.mean_squares,
        )
        return np.log(found)

    def error_and_differences(self, logits: FloatArray) -> tuple[float, FloatArray]:
        """The error and its gradient by central differences, all in one batch."""
        moves = 1e-5 * np.eye(len(logits))
        around = self.error(logits + np.vstack([0.0 * moves[:1], moves, -moves]))
        here, up, down = np.split(around, [1, len(moves) + 1])
        return float(here[0]), (up - down) / 2e-5

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
