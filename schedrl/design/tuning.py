"""The steps that are best for a network at hand: candidates tried on its own samples, beside every default.

A grid is judged by the distance of its samples to a teacher's, from the same noise: the network's own deterministic
flow, followed in many small steps, as many as it takes for the teacher's own error to be a tenth of the best grid's.
Candidates are improved on one batch of noise, the winner is picked on another, and what is reported is measured on a
third. A default is among the candidates to pick from, so the pick is never worse than it on the second batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta as beta_distribution
from torch import Tensor

from schedrl.diffusion.network_on_table import NetworkOnTable, Timesteps
from schedrl.diffusion.solvers import Path, SolverName, advance, calls
from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.stats.intervals import Interval, mean


def even_timesteps(network: NetworkOnTable, n: int) -> Timesteps:
    """About n different whole steps from T − 1 to 0: half of them even in t, half in log-SNR."""
    levels = network.half_logsnr
    total = len(levels)
    finite = np.flatnonzero(np.isfinite(levels))
    wanted = np.linspace(levels[finite[0]], levels[finite[-1]], n)
    in_logsnr = np.interp(-wanted, -levels[finite], finite.astype(np.float64))
    in_t = np.linspace(0.0, total - 1.0, n)
    steps = np.unique(np.rint(0.5 * (np.sort(in_logsnr) + in_t)))
    return tuple(steps[::-1].tolist())


@dataclass(frozen=True)
class Teacher:
    """Where the network's flow takes some noise.

    Attributes:
        start: The noise ``[n, C, H, W]``.
        images: The end of its flow.
        steps: Steps in which the flow was followed.
        error: Estimate of the mean squared error of ``images``.
    """

    start: Tensor
    images: Tensor
    steps: int
    error: float


def make_teacher(network: NetworkOnTable, start: Tensor, steps: int, coarse: Tensor | None = None) -> Teacher:
    """Follow the flow by UniPC in many steps.

    Args:
        network: The network.
        start: Noise.
        steps: How many; about as many different training steps are visited.
        coarse: What half as many steps led to; made here when absent. Both have errors of second order, so the finer
            one is about a third of their distance from the flow.
    """
    if coarse is None:
        coarse = network.sample("unipc", even_timesteps(network, steps // 2), start)
    images = network.sample("unipc", even_timesteps(network, steps), start)
    return Teacher(start, images, steps, float((images - coarse).square().mean()) / 9.0)


def distances(images: Tensor, teacher: Tensor) -> FloatArray:
    """[n] mean squared distance of each image to the teacher's."""
    found: NDArray[np.float64] = (images - teacher).square().flatten(1).mean(1).numpy()
    return found


@dataclass(frozen=True)
class FlowPath:
    """What the network does along its own flow, at a few training steps: all that dynamic programming needs.

    Attributes:
        timesteps: [M] descending, T − 1 first.
        points: [M + 1] α and σ there, clean data last.
        gram: [2M + 1, 2M + 1] mean products of the states (M + 1 of them, clean data last) and the estimates (M).
    """

    timesteps: Timesteps
    points: list[tuple[float, float]]
    gram: FloatArray

    @classmethod
    def of(cls, network: NetworkOnTable, start: Tensor, count: int) -> FlowPath:
        """Follow the flow by UniPC through about ``count`` training steps."""
        timesteps = even_timesteps(network, count)
        points, estimate = network.points(timesteps), network.along(timesteps)
        states, estimates, path = [], [], Path(start)
        for _ in timesteps:
            path = advance("unipc", estimate, path, points)
            # UniPC corrects the state of a step once the network has seen it.
            states.append(start if path.before is None else path.before)
            estimates.append(path.estimates[0])
        rows = torch.stack([*states, path.state, *estimates]).flatten(1)
        return cls(timesteps, points, (rows @ rows.T / rows.shape[1]).numpy())

    def step_errors(self, solver: SolverName) -> FloatArray:
        """[M, M, M + 1] mean squared error of a step from the flow at i to j, when the step before began at h.

        h = i stands for no step before. Entries with j ≤ i or h > i are infinite.
        """
        count = len(self.timesteps)
        alpha, sigma = np.array(self.points).T
        with np.errstate(divide="ignore", invalid="ignore"):
            half = np.log(alpha) - np.log(sigma)
            ratio = sigma[None, :] / sigma[:-1, None]
        share = alpha[None, :] - ratio * alpha[:-1, None]
        errors = np.full((count, count, count + 1), np.inf)
        second = solver in ("dpm++2m", "unipc")
        for i in range(count):
            ends = np.arange(i + 1, count + 1)
            # Coefficients of [states, estimates] in the state that the step arrives at, minus the flow's.
            base = np.zeros((len(ends), 2 * count + 1))
            base[:, i] = ratio[i, ends]
            base[np.arange(len(ends)), ends] -= 1.0
            for h in range(i + 1) if second else (i,):
                rows = base.copy()
                weight = np.zeros(len(ends))
                if h < i and np.isfinite(half[h]):
                    weight = np.where(ends < count, 0.5 * (half[ends] - half[i]) / (half[i] - half[h]), 0.0)
                rows[:, count + 1 + i] += share[i, ends] * (1.0 + weight)
                rows[:, count + 1 + h] -= share[i, ends] * weight
                if solver == "heun":  # the trapezoid in r, its second estimate taken on the flow
                    rows = self._trapezoid(i, ends)
                errors[h, i, ends] = np.einsum("ea,ab,eb->e", rows, self.gram, rows).clip(0.0)
        if not second:
            errors[:] = errors[np.arange(count), np.arange(count)][None]
        return errors

    def _trapezoid(self, i: int, ends: NDArray[np.int64]) -> FloatArray:
        count = len(self.timesteps)
        alpha, sigma = np.array(self.points).T
        rows = np.zeros((len(ends), 2 * count + 1))
        for row, j in enumerate(ends.tolist()):
            ratio = sigma[j] / sigma[i]
            if j == count or alpha[i] == 0.0:
                rows[row, i] = ratio
                both = alpha[j] - ratio * alpha[i]
                shares = (both, 0.0) if j == count else (0.5 * both, 0.5 * both)
            else:
                r, to = sigma[i] / alpha[i], sigma[j] / alpha[j]
                h = 0.5 * (to - r)
                # y + h (y - D_i) / r + h (y' - D_j) / to, with y' = y + 2 h (y - D_i) / r
                rows[row, i] = alpha[j] * (1.0 + h / r + h / to * (1.0 + 2.0 * h / r)) / alpha[i]
                shares = (-alpha[j] * (h / r + 2.0 * h * h / (to * r)), -alpha[j] * h / to)
            rows[row, count + 1 + i] = shares[0]
            if j < count:
                rows[row, count + 1 + j] += shares[1]
            rows[row, j] -= 1.0
        return rows


def path_grids(path: FlowPath, solver: SolverName, n: int) -> dict[str, Timesteps]:
    """Grids of n steps by dynamic programming on the flow (as GITS and OptimalSteps do), in four ways of adding up.

    Errors of steps are taken as they are in the state x, or in x/α, in which an error of the images' own directions is
    carried on unchanged; and they add up as amounts, which is right when they point the same way, or as squares.
    """
    errors = path.step_errors(solver)
    count = len(path.timesteps)
    if n >= count:
        return {}
    alpha = np.array(path.points)[:, 0]
    found = {}
    for state, scale in (("x", np.ones(count + 1)), ("x/alpha", 1.0 / np.maximum(alpha, alpha[1] * 1e-3))):
        for power, name in ((0.5, "amounts"), (1.0, "squares")):
            cost = (errors * np.square(scale)) ** power
            found[f"dynamic programming, {name} in {state}"] = _shortest(cost, n, path.timesteps)
    return found


def _shortest(cost: FloatArray, n: int, timesteps: Timesteps) -> Timesteps:
    """The way of n steps from the first point to the end that costs least; ``cost[h, i, j]``."""
    count = len(timesteps)
    # best[i, j]: least cost of a way whose last step went from i to j.
    best = np.full((count, count + 1), np.inf)
    best[0] = cost[0, 0]
    back: list[NDArray[np.int64]] = []
    for _ in range(n - 1):
        # A way over h -> i, then i -> j.
        reach = best[:, :count, None] + cost
        back.append(reach.argmin(0))
        best = reach.min(0)
    j, i = count, int(best[:, count].argmin())
    places = [i]
    for table in reversed(back):
        i, j = int(table[i, j]), i
        places.append(i)
    return tuple(timesteps[place] for place in reversed(places))


@dataclass(frozen=True)
class Candidate:
    """A grid and where it comes from.

    Attributes:
        name: Where from.
        timesteps: Training steps that it visits.
        default: Whether it is a spacing that the solver's scheduler has by itself.
    """

    name: str
    timesteps: Timesteps
    default: bool = False


class Judge:
    """Distances of grids to a teacher on one batch of noise; a prefix that two grids share is walked once.

    Args:
        network: The network.
        solver: The solver.
        teacher: Of the batch.
    """

    def __init__(self, network: NetworkOnTable, solver: SolverName, teacher: Teacher) -> None:
        self.network, self.solver, self.teacher = network, solver, teacher
        self._known: dict[Timesteps, FloatArray] = {}
        self._last: tuple[Timesteps, list[Path]] = ((), [])

    def __call__(self, timesteps: Timesteps) -> FloatArray:
        """[n] squared distance of each image."""
        if timesteps not in self._known:
            known, paths = self._last
            # A step depends on where it goes: paths are shared up to the last common level.
            same = 0
            while same < min(len(known), len(timesteps)) and known[same] == timesteps[same]:
                same += 1
            keep = max(0, same - (1 if len(known) == len(timesteps) else 2))
            paths = paths[: keep + 1] or [Path(self.teacher.start)]
            points, estimate = self.network.points(timesteps), self.network.along(timesteps)
            while paths[-1].taken < len(timesteps):
                paths = [*paths, advance(self.solver, estimate, paths[-1], points)]
            self._last = (timesteps, paths)
            self._known[timesteps] = distances(paths[-1].state, self.teacher.images)
        return self._known[timesteps]


def improve(judge: Judge, timesteps: Timesteps, budget: int, top: float) -> Timesteps:
    """Move one step of a grid at a time, by less and less, as long as that brings its samples closer.

    Args:
        judge: Distances on one batch.
        timesteps: Where to begin; whole steps.
        budget: Images that the network may be shown.
        top: T − 1.
    """
    network = judge.network
    end = network.images + budget
    best = tuple(float(round(t)) for t in timesteps)
    least = float(judge(best).mean())
    share = 0.5
    while share > 0.02:
        moved = False
        for place in reversed(range(len(best))):
            for sign in (1.0, -1.0):
                if network.images >= end:
                    return best
                above = best[place - 1] if place else top + 1.0
                below = best[place + 1] if place + 1 < len(best) else -1.0
                room = (above if sign > 0.0 else below) - best[place]
                step = float(np.trunc(share * room)) or sign
                tried = best[place] + step
                if not below < tried < above:
                    continue
                candidate = (*best[:place], tried, *best[place + 1 :])
                found = float(judge(candidate).mean())
                if found < least:
                    best, least, moved = candidate, found, True
                    break
        if not moved:
            share *= 0.5
    return best


def default_grids(network: NetworkOnTable, solver: SolverName, n: int) -> dict[str, Timesteps]:
    """The spacings that diffusers' scheduler for a solver has by itself, at N = n.

    Evenly spaced training steps in three ways; Karras', exponential and Beta(0.6, 0.6) levels between the ends, which
    DDIM's class does not have; and Align Your Steps' closed form, which stands for its tables.
    """
    total = network.num_train_timesteps
    if solver in ("dpm++2m", "unipc"):
        ratio = total // (n + 1)
        leading = (np.arange(n + 1) * ratio)[:0:-1] + network.offset
        linspace = np.linspace(0.0, total - 1.0, n + 1).round()[:0:-1]
    else:
        leading = np.arange(n)[::-1] * (total // n) + network.offset
        linspace = np.linspace(0.0, total - 1.0, n)[::-1]
        linspace = linspace.round() if solver == "ddim" else linspace
    trailing = np.round(np.arange(total, 0.0, -total / n))[:n] - 1.0
    found = {"leading": leading, "trailing": trailing, "linspace": linspace}
    finite = np.flatnonzero(np.isfinite(network.half_logsnr))
    steps, log_r = finite.astype(np.float64), -network.half_logsnr[finite]
    low, high = log_r[0], log_r[-1]
    u = np.linspace(0.0, 1.0, n)
    levels = {
        "AYS closed form": np.log(
            np.tan((1.0 - u) * math.atan(math.exp(high)) + u * math.atan(math.exp(low)))
        )
    }
    if solver != "ddim":
        ends = math.exp(high / 7.0), math.exp(low / 7.0)
        levels["Karras"] = 7.0 * np.log(ends[0] + u * (ends[1] - ends[0]))
        levels["exponential"] = high + u * (low - high)
        shares = beta_distribution.ppf(1.0 - u, 0.6, 0.6)
        levels["beta"] = np.log(math.exp(low) + shares * (math.exp(high) - math.exp(low)))
    found |= {name: np.interp(level, log_r, steps) for name, level in levels.items()}
    return {
        name: tuple(np.clip(grid, 0.0, total - 1.0).tolist())
        for name, grid in found.items()
        if len(grid) == n and (np.diff(np.clip(grid, 0.0, total - 1.0)) < 0.0).all()
    }


@dataclass(frozen=True)
class Row:
    """A candidate on noise that it was neither made nor picked on.

    Attributes:
        candidate: The grid.
        distance: Mean squared distance to the teacher.
        ratio: Of the chosen grid's distance to this one's, with its 95 % interval over images.
    """

    candidate: Candidate
    distance: float
    ratio: Interval


@dataclass(frozen=True)
class Tuned:
    """What was found for one solver and one number of steps.

    Attributes:
        solver: The solver.
        chosen: The grid.
        rows: The chosen grid and every default, best first.
        default: The best default on the noise that the grid was picked on.
        teacher_error: Estimate of the teacher's own mean squared error.
        teacher_steps: Its steps.
        tried: Grids tried.
        calls: Network evaluations that the search took, each of ``batch`` images.
        batch: Images of the search.
    """

    solver: SolverName
    chosen: Candidate
    rows: tuple[Row, ...]
    default: Candidate
    teacher_error: float
    teacher_steps: int
    tried: int
    calls: int
    batch: int

    @property
    def against_default(self) -> Interval:
        """The chosen grid's distance over the best default's, with its 95 % interval."""
        return next(row.ratio for row in self.rows if row.candidate == self.default)


_SHARES = {"search": 1, "pick": 2, "report": 3}
"""Relative numbers of images of the three batches of noise."""

_FIRST_TEACHER = 100
_PATH = 64
"""Steps of the first teacher, and training steps between which dynamic programming chooses."""

Listener = Callable[[str, float], None]
"""Told what is being done, and the share of the budget that is spent."""


def batch_sizes(solver: SolverName, steps: Sequence[int], images: int) -> dict[str, int]:
    """Images of the three batches for a budget, of which they take half and the search the other half.

    Args:
        solver: The solver.
        steps: Numbers of steps to tune.
        images: Images that the network may be shown.

    Raises:
        SchedrlError: The budget is too small.
    """
    # An image of a batch walks the teacher's grids, and about ten candidates for each number of steps.
    each = _FIRST_TEACHER + _FIRST_TEACHER // 2 + 10 * sum(calls(solver, n) for n in steps)
    unit = 0.5 * images / each / sum(_SHARES.values())
    if unit < 4.0:
        needed = int(2 * 4 * each * sum(_SHARES.values()))
        raise SchedrlError(
            f"--budget: {images} images through the network are too few for {', '.join(map(str, steps))} steps with "
            f"{solver}; {needed} are needed: give a longer --budget, --images {needed}, or fewer --steps"
        )
    return {name: int(min(32.0, unit) * share) for name, share in _SHARES.items()}


def tune(
    network: NetworkOnTable,
    solver: SolverName,
    steps: Sequence[int],
    *,
    images: int,
    seed: int = 0,
    listen: Listener | None = None,
) -> dict[int, Tuned]:
    """Find the steps that bring a solver's samples closest to the network's own flow.

    Args:
        network: The network.
        solver: The solver.
        steps: Numbers of steps N.
        images: Budget: images that the network may be shown, each once per call.
        seed: Fixes all noise.
        listen: Hears of progress.

    Returns:
        By number of steps. A chosen grid is not further from the teacher, on the noise that it was picked on, than
        any default.

    Raises:
        SchedrlError: The budget is too small, or the network's answers cannot be used.
    """
    if max(steps) > network.num_train_timesteps:
        raise SchedrlError(
            f"steps: must be at most the network's {network.num_train_timesteps} training steps (got {max(steps)})"
        )
    begun = network.images
    tell = listen or (lambda doing, share: None)

    def spent() -> float:
        return min(1.0, (network.images - begun) / images)

    sizes = batch_sizes(solver, steps, images)
    starts = {
        name: network.noise(count, hash_seed(seed, place))
        for place, (name, count) in enumerate(sizes.items())
    }
    tell("following the network's flow", spent())
    teachers = {name: make_teacher(network, start, _FIRST_TEACHER) for name, start in starts.items()}
    path = FlowPath.of(network, starts["search"], min(_PATH, network.num_train_timesteps))
    made: dict[int, list[Candidate]] = {}
    for n in steps:
        defaults = default_grids(network, solver, n)
        made[n] = [
            *(Candidate(name, grid, default=True) for name, grid in defaults.items()),
            *(Candidate(name, grid) for name, grid in path_grids(path, solver, n).items()),
        ]
    judges = {name: Judge(network, solver, teacher) for name, teacher in teachers.items()}
    while True:
        tell("trying candidates", spent())
        search = judges["search"]
        least = min(float(search(c.timesteps).mean()) for group in made.values() for c in group)
        teacher = teachers["search"]
        finer = 2 * teacher.steps
        if teacher.error <= 0.1 * least or finer > network.num_train_timesteps:
            break
        tell(f"following the flow in {finer} steps", spent())
        teachers = {
            name: make_teacher(network, own.start, finer, own.images) for name, own in teachers.items()
        }
        judges = {name: Judge(network, solver, teacher) for name, teacher in teachers.items()}
    left = max(
        0, images - (network.images - begun) - sum(calls(solver, n) for n in steps) * 6 * sizes["report"]
    )
    total = sum(calls(solver, n) for n in steps)
    found = {}
    for n in steps:
        tell(f"improving {n} steps", spent())
        before = network.images
        budget = left * calls(solver, n) // total
        best = min(made[n], key=lambda c: float(judges["search"](c.timesteps).mean()))
        improved = improve(judges["search"], best.timesteps, budget, network.num_train_timesteps - 1.0)
        group = [*made[n], Candidate(f"{best.name}, improved step by step", improved)]
        found[n] = _chosen(solver, group, judges, (network.images - before) // sizes["search"])
    tell("done", 1.0)
    return found


def hash_seed(seed: int, place: int) -> int:
    """A seed of its own for each batch."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


def _chosen(solver: SolverName, group: Sequence[Candidate], judges: dict[str, Judge], spent: int) -> Tuned:
    """Pick by the second batch among all defaults and what did best on the first, and report on the third."""
    search, pick, report = (judges[name] for name in _SHARES)
    own = sorted((c for c in group if not c.default), key=lambda c: float(search(c.timesteps).mean()))
    finalists = [*(c for c in group if c.default), *own[:3]]
    chosen = min(finalists, key=lambda c: float(pick(c.timesteps).mean()))
    default = min((c for c in group if c.default), key=lambda c: float(pick(c.timesteps).mean()))
    shown = [chosen, *(c for c in group if c.default and c != chosen)]
    reached = report(chosen.timesteps)
    rows = [
        Row(c, float(report(c.timesteps).mean()), mean_ratio(reached, report(c.timesteps))) for c in shown
    ]
    rows.sort(key=lambda row: row.distance)
    teacher = report.teacher
    count = len(search.teacher.start)
    return Tuned(solver, chosen, tuple(rows), default, teacher.error, teacher.steps, len(group), spent, count)


def mean_ratio(values: FloatArray, others: FloatArray) -> Interval:
    """Ratio of two means over the same images, with its t interval (of the logarithm, linearised).

    Examples:
        >>> f"{mean_ratio(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])):.2f}"
        '0.50 [0.50, 0.50]'
    """
    ratio = float(values.mean() / others.mean())
    spread = mean((values - ratio * others) / others.mean())
    factor = float(np.exp(spread.half_width / ratio)) if ratio > 0.0 else 1.0
    return Interval(ratio, ratio / factor, ratio * factor)
