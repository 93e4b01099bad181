"""How sure a mean over seeds is: intervals for a handful of runs, and for pairs of runs that share their seeds.

The choice follows Agarwal et al. 2021 (*Deep RL at the edge of the statistical precipice*, arXiv 2108.13264):
intervals beside every number, the interquartile mean beside the mean, and how often one agent beats another. Seeds are
common to all agents here, so the interval that decides is that of the paired difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError

__all__ = [
    "Interval",
    "geometric_mean",
    "interquartile_mean",
    "mean",
    "paired_difference",
    "probability_of_improvement",
]

Array = npt.NDArray[np.float64]

_RESAMPLES = 10_000
"""Bootstrap resamples: the ends of a 95 % interval then rest on 250 of them each."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it.

    Formats as ``value [low, high]``, the format specification being applied to each number.

    Attributes:
        value: The estimate.
        low: Lower end; minus infinity when the data do not bound it (a single run).
        high: Upper end; plus infinity likewise.

    Examples:
        >>> f"{Interval(2.5, 2.25, 2.75):.2f}"
        '2.50 [2.25, 2.75]'
        >>> Interval(0.5, 0.25, 0.75).excludes_zero
        True
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return f"{self:.4f}"

    @property
    def half_width(self) -> float:
        """Half the distance between the ends."""
        return 0.5 * (self.high - self.low)

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0.0 or self.high < 0.0

    def plus_minus(self, spec: str = ".4f") -> str:
        """``value ± half width``, for intervals that are symmetric.

        Examples:
            >>> Interval(2.5, 2.25, 2.75).plus_minus(".2f")
            '2.50 ± 0.25'
        """
        return f"{self.value:{spec}} ± {self.half_width:{spec.lstrip('+')}}"


def mean(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    r"""Mean with Student's t interval: :math:`\bar x \pm t_{n-1} s / \sqrt n`.

    Args:
        values: ``[n]``, n ≥ 1; one value alone has an unbounded interval.
        level: Coverage, in (0, 1).

    Examples:
        >>> mean([1.0, 2.0, 3.0]).plus_minus(".3f")
        '2.000 ± 2.484'
    """
    from scipy import stats

    sample = _sample("values", values)
    centre = float(sample.mean())
    if len(sample) == 1:
        return Interval(centre, -np.inf, np.inf)
    error = float(sample.std(ddof=1)) / np.sqrt(len(sample))
    reach = float(stats.t.ppf(0.5 + 0.5 * level, len(sample) - 1)) * error
    return Interval(centre, centre - reach, centre + reach)


def paired_difference(values: npt.ArrayLike, reference: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Mean of ``values - reference``, the two being paired by seed, with its t interval.

    What the two have in common by sharing a seed (weights, batches, noise) is not in it.

    Args:
        values: ``[n]``.
        reference: ``[n]``, in the same order of seeds.
        level: Coverage, in (0, 1).

    Examples:
        >>> f"{paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 3.0]):.2f}"
        '3.00 [0.52, 5.48]'
    """
    first, second = _sample("values", values), _sample("reference", reference)
    if len(first) != len(second):
        raise SchedrlError(f"reference: must hold one value per seed, {len(first)} (got {len(second)})")
    return mean(first - second, level)


def interquartile_mean(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    r"""Mean of the middle half, with Tukey and McLaughlin's t interval for a trimmed mean.

    A quarter of the values, rounded down, is dropped at each end: of n values, h are left. One bad seed cannot move it
    far. The interval is :math:`\bar x_t \pm t_{h-1} s_w \sqrt{(n-1) / (h (h-1))}`, where :math:`s_w` is the
    standard deviation after the dropped values have been replaced by the nearest kept ones (Tukey & McLaughlin 1963,
    *Sankhyā A* 25, 331). The percentile bootstrap is too short for ten skewed seeds, and the studentised one longer by
    a third and more: ``scripts/check_intervals.py`` measures all three.

    Args:
        values: ``[n]``, n ≥ 1; one value alone has an unbounded interval.
        level: Coverage, in (0, 1).

    Examples:
        >>> interquartile_mean([0.0, 1.0, 2.0, 100.0]).value
        1.5
        >>> interquartile_mean([1.0, 2.0, 3.0]).plus_minus(".3f")  # too few to drop any
        '2.000 ± 2.484'
    """
    from scipy import stats

    sample = np.sort(_sample("values", values))
    cut = len(sample) // 4
    middle = sample[cut : len(sample) - cut]
    centre = float(middle.mean())
    if len(sample) == 1:
        return Interval(centre, -np.inf, np.inf)
    tamed = sample.clip(middle[0], middle[-1])
    squares = np.square(tamed - tamed.mean()).sum()
    error = float(np.sqrt(squares / (len(middle) * (len(middle) - 1))))
    reach = float(stats.t.ppf(0.5 + 0.5 * level, len(middle) - 1)) * error
    return Interval(centre, centre - reach, centre + reach)


def geometric_mean(values: npt.ArrayLike, rng: np.random.Generator, level: float = 0.95) -> Interval:
    """Geometric mean, with a percentile bootstrap interval: for ratios, and for errors that span decades.

    Args:
        values: ``[n]``, n ≥ 1, positive; one value alone has an unbounded interval.
        rng: Draws the resamples.
        level: Coverage, in (0, 1).

    Examples:
        >>> round(geometric_mean([1.0, 4.0], np.random.default_rng(0)).value, 12)
        2.0
    """
    sample = _sample("values", values)
    if (sample <= 0.0).any():
        raise SchedrlError(f"values: every number must be positive (got {sample.min()})")
    logs = np.log(sample)
    resampled = logs[rng.integers(len(logs), size=(_RESAMPLES, len(logs)))]
    inner = _bootstrap(lambda rows: rows.mean(axis=1), logs, resampled, level)
    return Interval(*(float(np.exp(end)) for end in (inner.value, inner.low, inner.high)))


def probability_of_improvement(
    better: npt.ArrayLike, worse: npt.ArrayLike, rng: np.random.Generator, level: float = 0.95
) -> Interval:
    """Probability that a run of the one exceeds a run of the other, seeds drawn independently for each.

    The Mann-Whitney statistic over all pairs, a tie counting half, as Agarwal et al. 2021 define it; each side is
    resampled for the interval. 0.5 means that neither is better.

    Args:
        better: ``[n]``, the values asked to be the larger.
        worse: ``[m]``.
        rng: Draws the resamples.
        level: Coverage, in (0, 1).

    Examples:
        >>> probability_of_improvement([3.0, 4.0], [1.0, 3.0], np.random.default_rng(0)).value
        0.875
    """
    left, right = _sample("better", better), _sample("worse", worse)
    wins = np.where(left[:, None] > right, 1.0, np.where(left[:, None] == right, 0.5, 0.0))
    if min(wins.shape) == 1:
        return Interval(float(wins.mean()), 0.0, 1.0)
    # The mean of a resampled table of wins needs only how often each row and column was drawn.
    rows = rng.multinomial(len(left), np.full(len(left), 1 / len(left)), size=_RESAMPLES)
    columns = rng.multinomial(len(right), np.full(len(right), 1 / len(right)), size=_RESAMPLES)
    resampled = np.einsum("bi,ij,bj->b", rows, wins, columns, optimize=True) / wins.size
    low, high = _ends(resampled, level)
    return Interval(float(wins.mean()), low, high)


def _bootstrap(
    statistic: Callable[[Array], Array], sample: Array, resampled: Array, level: float
) -> Interval:
    value = float(statistic(sample[None])[0])
    if len(sample) == 1:
        return Interval(value, -np.inf, np.inf)
    low, high = _ends(statistic(resampled), level)
    return Interval(value, low, high)


def _ends(resampled: Array, level: float) -> tuple[float, float]:
    low, high = np.quantile(resampled, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    return float(low), float(high)


def _sample(field: str, values: npt.ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise SchedrlError(f"{field}: must be a list of at least one number (got shape {array.shape})")
    if not np.isfinite(array).all():
        raise SchedrlError(f"{field}: every number must be finite (got {array[~np.isfinite(array)][0]})")
    return array
