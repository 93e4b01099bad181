"""Intervals for means over a few seeds, and for differences between runs that share their seeds.

They follow Agarwal et al. 2021 (*Deep RL at the edge of the statistical precipice*, arXiv 2108.13264): every number has
an interval, and the interquartile mean stands beside the mean. All agents run on the same seeds, so comparisons use the
interval of the paired difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schedrl.errors import SchedrlError

__all__ = ["Interval", "geometric_mean", "interquartile_mean", "mean", "paired_difference"]

Array = npt.NDArray[np.float64]

_RESAMPLES = 10_000
"""Bootstrap resamples: each end of a 95 % interval rests on 250 of them."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval.

    Formats as ``value [low, high]``, with the format specification applied to each number.

    Attributes:
        value: The estimate.
        low: Lower end; minus infinity if the data do not bound it (a single run).
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

    @classmethod
    def student(cls, centre: float, error: float, freedom: float, level: float) -> Interval:
        """Student's t interval: ``centre`` ± t of ``freedom`` degrees times the standard ``error``."""
        from scipy import stats

        reach = float(stats.t.ppf(0.5 + 0.5 * level, freedom)) * error
        return cls(centre, centre - reach, centre + reach)

    @classmethod
    def percentile(cls, value: float, resampled: Array, level: float) -> Interval:
        """Percentile bootstrap interval from resampled estimates ``[resamples]``."""
        low, high = np.quantile(resampled, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
        return cls(value, float(low), float(high))

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
        values: ``[n]``, n ≥ 1; a single value has an unbounded interval.
        level: Coverage, in (0, 1).

    Examples:
        >>> mean([1.0, 2.0, 3.0]).plus_minus(".3f")
        '2.000 ± 2.484'
    """
    sample = _sample("values", values)
    centre = float(sample.mean())
    if len(sample) == 1:
        return Interval(centre, -np.inf, np.inf)
    error = float(sample.std(ddof=1)) / np.sqrt(len(sample))
    return Interval.student(centre, error, len(sample) - 1, level)


def paired_difference(values: npt.ArrayLike, reference: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Mean of ``values - reference``, paired by seed, with its t interval.

    Effects of the seed that both share (weights, batches, noise) cancel.

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

    A quarter of the values, rounded down, is dropped at each end, so h of n values are left and one bad seed cannot
    move the mean far. The interval is :math:`\bar x_t \pm t_{h-1} s_w \sqrt{(n-1) / (h (h-1))}`, where :math:`s_w` is
    the standard deviation after the dropped values were replaced by the nearest kept ones (Tukey & McLaughlin 1963,
    *Sankhyā A* 25, 331). For ten skewed seeds the percentile bootstrap is too short, and the studentised one longer by
    a third and more: ``scripts/check_intervals.py`` measures all three.

    Args:
        values: ``[n]``, n ≥ 1; a single value has an unbounded interval.
        level: Coverage, in (0, 1).

    Examples:
        >>> interquartile_mean([0.0, 1.0, 2.0, 100.0]).value
        1.5
        >>> interquartile_mean([1.0, 2.0, 3.0]).plus_minus(".3f")  # too few to drop any
        '2.000 ± 2.484'
    """
    sample = np.sort(_sample("values", values))
    cut = len(sample) // 4
    middle = sample[cut : len(sample) - cut]
    centre = float(middle.mean())
    if len(sample) == 1:
        return Interval(centre, -np.inf, np.inf)
    clipped = sample.clip(middle[0], middle[-1])
    squares = np.square(clipped - clipped.mean()).sum()
    error = float(np.sqrt(squares / (len(middle) * (len(middle) - 1))))
    return Interval.student(centre, error, len(middle) - 1, level)


def geometric_mean(values: npt.ArrayLike, rng: np.random.Generator, level: float = 0.95) -> Interval:
    """Geometric mean with a percentile bootstrap interval, for ratios and for errors that span decades.

    Args:
        values: ``[n]``, n ≥ 1, positive; a single value has an unbounded interval.
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
    resampled = logs[rng.integers(len(logs), size=(_RESAMPLES, len(logs)))].mean(axis=1)
    value = float(np.exp(logs[None].mean(axis=1)[0]))
    if len(logs) == 1:
        return Interval(value, 0.0, np.inf)
    inner = Interval.percentile(value, resampled, level)
    return Interval(value, float(np.exp(inner.low)), float(np.exp(inner.high)))


def _sample(field: str, values: npt.ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise SchedrlError(f"{field}: must be a list of at least one number (got shape {array.shape})")
    if not np.isfinite(array).all():
        raise SchedrlError(f"{field}: every number must be finite (got {array[~np.isfinite(array)][0]})")
    return array
