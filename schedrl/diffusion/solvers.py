"""The solvers that people sample trained networks with, step by step: DDIM, Heun, DPM-Solver++ 2M and UniPC of order 2.

All of them work on the state x = α x₀ + σ ε of the network's own process and on its estimates of x₀. They are
diffusers' schedulers with their default settings, which a test holds them to; Euler in σ and Euler on rectified flow
are DDIM in other coordinates. A step is a function of the path so far, so that paths which share their first steps
share their cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

SolverName = Literal["ddim", "euler", "heun", "dpm++2m", "unipc"]
"""``euler`` is ``ddim``: the same map, in the coordinates of another scheduler."""

SOLVERS: tuple[SolverName, ...] = get_args(SolverName)

Point = tuple[float, float]
"""α and σ of a noise level."""

CleanEstimate = Callable[[Tensor, int], Tensor]
"""``estimate(x, place) -> x₀`` at the place-th level of the grid."""


@dataclass(frozen=True)
class Path:
    """A sampler's path up to some level.

    Attributes:
        state: x there.
        taken: Steps taken.
        estimates: The last two estimates of x₀, the newest first.
        points: α and σ where they were made.
        before: State from which the last step was taken; UniPC corrects that step.
        order: Order of the last step.
    """

    state: Tensor
    taken: int = 0
    estimates: tuple[Tensor, ...] = ()
    points: tuple[Point, ...] = ()
    before: Tensor | None = None
    order: int = 0


def calls(solver: SolverName, n: int) -> int:
    """Network evaluations of n steps to clean data: n, or 2n − 1 with Heun's.

    Examples:
        >>> calls("heun", 10), calls("unipc", 10)
        (19, 10)
    """
    return 2 * n - 1 if solver == "heun" else n


def solve(solver: SolverName, estimate: CleanEstimate, start: Tensor, points: Sequence[Point]) -> Tensor:
    """Walk a grid from its first level to its last.

    Args:
        solver: One of ``SOLVERS``.
        estimate: The network's estimate of clean images.
        start: State at the first level.
        points: [N+1] α and σ of the levels, from noise to data; the last has σ = 0.

    Returns:
        The state at the last level.
    """
    path = Path(start)
    while path.taken < len(points) - 1:
        path = advance(solver, estimate, path, points)
    return path.state


def advance(solver: SolverName, estimate: CleanEstimate, path: Path, points: Sequence[Point]) -> Path:
    """The path one step further along ``points``."""
    place, total = path.taken, len(points) - 1
    here, there = points[place], points[place + 1]
    clean = estimate(path.state, place)
    if solver in ("ddim", "euler"):
        return Path(_first_order(path.state, clean, here, there), place + 1)
    if solver == "heun":
        ahead = _first_order(path.state, clean, here, there)
        if there[1] > 0.0:
            ahead = _heun(path.state, clean, estimate(ahead, place + 1), here, there)
        return Path(ahead, place + 1)
    order = 1 if place in (0, total - 1) else 2
    estimates, marks = (clean, *path.estimates[:1]), (here, *path.points[:1])
    state = path.state
    if solver == "unipc" and path.before is not None:
        state = _corrected(path.before, clean, path.estimates, here, path.points, path.order)
    ahead = _multistep(state, estimates, marks, there, order)
    return Path(ahead, place + 1, estimates, marks, state, order)


def _first_order(x: Tensor, clean: Tensor, here: Point, there: Point) -> Tensor:
    """DDIM's step, finite for α = 0."""
    ratio = there[1] / here[1]
    return ratio * x + (there[0] - ratio * here[0]) * clean


def _heun(x: Tensor, clean: Tensor, second: Tensor, here: Point, there: Point) -> Tensor:
    """EDM's step of second order in r = σ/α."""
    if here[0] == 0.0:  # r is infinite: the trapezoid in 1/r
        return _first_order(x, 0.5 * (clean + second), here, there)
    r, to = here[1] / here[0], there[1] / there[0]
    y = x / here[0]
    slope = (y - clean) / r
    ahead = y + (to - r) * slope
    return there[0] * (y + 0.5 * (to - r) * (slope + (ahead - second) / to))


def _half_logsnr(point: Point) -> float:
    """log(α/σ), within what doubles can be subtracted."""
    alpha, sigma = point
    return math.inf if sigma == 0.0 else -math.inf if alpha == 0.0 else math.log(alpha / sigma)


def _multistep(
    x: Tensor, estimates: Sequence[Tensor], marks: Sequence[Point], there: Point, order: int
) -> Tensor:
    """DPM-Solver++ 2M's step, which is also UniPC's prediction: two estimates, drawn on to the middle of the step."""
    here, clean = marks[0], estimates[0]
    if order == 2 and len(estimates) == 2:
        step = _half_logsnr(there) - _half_logsnr(here)
        before = _half_logsnr(here) - _half_logsnr(marks[1])
        if math.isfinite(before):
            clean = clean + (0.5 * step / before) * (clean - estimates[1])
    return _first_order(x, clean, here, there)


def _corrected(
    before: Tensor,
    clean: Tensor,
    estimates: Sequence[Tensor],
    here: Point,
    marks: Sequence[Point],
    order: int,
) -> Tensor:
    """UniPC's correction (B₂) of the step to ``here`` by the estimate made there."""
    start = marks[0]
    h = _half_logsnr(here) - _half_logsnr(start)
    if not math.isfinite(h):  # from pure noise on: nothing to correct with
        return _multistep(before, estimates, marks, here, order)
    newest = clean - estimates[0]
    change = 0.5 * newest
    if order == 2:
        k = (_half_logsnr(marks[1]) - _half_logsnr(start)) / h
        if math.isfinite(k):
            phi1 = math.expm1(-h)
            phi2 = -phi1 / h - 1.0
            phi3 = -phi2 / h - 0.5
            first, second = phi2 / phi1, 2.0 * phi3 / phi1
            # Weights a, b of [[1, 1], [k, 1]] (a, b) = (first, second).
            old = (second - first) / (k - 1.0)
            change = (old / k) * (estimates[1] - estimates[0]) + (first - old) * newest
    return _first_order(before, estimates[0] + change, start, here)
