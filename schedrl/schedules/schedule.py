"""What every noise schedule can do, and the checks that schedules and grids share."""

from __future__ import annotations

import itertools
import operator
from abc import ABC, abstractmethod
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo

from schedrl.errors import SchedrlError, Spec, shortened
from schedrl.schedules.conversions import (
    FloatArray,
    betas_from_log_alpha_bar,
    log_alpha_bar_from_betas,
    log_alpha_bar_from_logsnr,
    logsnr_from_log_alpha_bar,
)

LOGSNR_LIMIT = 20.0
"""Limit on the log-SNR of a continuous schedule and of every draw: at 20 the noise is 4.5e-5 of the signal."""

MAX_BETA = 0.999
"""Cap on every beta, as in improved DDPM (Nichol & Dhariwal 2021, section 3.2)."""

# A beta of exactly zero would make two steps the same; no schedule has one, but a difference can round to it.
_MIN_BETA = float(np.finfo(np.float64).tiny)

Sigma = Annotated[float, Field(ge=1e-10, le=1e10)]
"""A positive noise-to-signal ratio, in a range where no formula over- or underflows."""
LogSNR = Annotated[float, Field(ge=-LOGSNR_LIMIT, le=LOGSNR_LIMIT)]
Rho = Annotated[float, Field(ge=0.1, le=100.0)]
"""The exponent of a power law."""


def as_count(field: str, value: int, minimum: int = 1, most: int = 2**53) -> int:
    """Check a number of steps or draws.

    Args:
        field: Name of the argument, for the message.
        value: What was given; NumPy integers are fine.
        minimum: Smallest value allowed.
        most: Largest value allowed.

    Examples:
        >>> as_count("T", 0)
        Traceback (most recent call last):
        schedrl.errors.SchedrlError: field 'T': must be a whole number of at least 1 (got 0)
    """
    try:
        count = minimum - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = minimum - 1
    if count < minimum:
        raise SchedrlError(f"field '{field}': must be a whole number of at least {minimum} (got {value!r})")
    if count > most:
        raise SchedrlError(f"field '{field}': must be at most {most} (got {shortened(value)})")
    return count


def above(other: str) -> Any:
    """The validator of a field that must be greater than the field ``other`` declared before it; None passes."""

    def check(value: float | None, info: ValidationInfo) -> float | None:
        lower = info.data.get(other)
        if value is not None and lower is not None and not value > lower:
            raise ValueError(f"must be greater than {other} = {lower}")
        return value

    return AfterValidator(check)


def require_monotone(field: str, values: tuple[float, ...], *, increasing: bool) -> None:
    """Raise a ValueError that names the first pair of values that does not strictly rise or fall."""
    for index, (left, right) in enumerate(itertools.pairwise(values)):
        if not (left < right if increasing else left > right):
            direction = "increase" if increasing else "decrease"
            raise ValueError(
                f"must strictly {direction}, but {field}[{index}] = {left} and {field}[{index + 1}] = {right}"
            )


def require_within_unit(field: str, values: npt.ArrayLike) -> FloatArray:
    """The values as float64; one outside [0, 1] is an error."""
    array = np.asarray(values, dtype=np.float64)
    inside = (array >= 0.0) & (array <= 1.0)
    if not inside.all():
        raise SchedrlError(f"field '{field}': must lie in [0, 1] (got {float(array[~inside].flat[0])})")
    return array


class Schedule(Spec, ABC):
    r"""The noise that a network trains on: which log-SNR it sees, and how often.

    A schedule is a frozen, hashable value that survives a JSON round trip. It has two readings. In *continuous*
    form it maps :math:`u \in [0, 1]` from data to noise to a log-SNR (:meth:`logsnr`); a uniform ``u`` gives the
    distribution of the training noise. With ``T`` *discrete steps* it is a list of betas (:meth:`betas`).

    Attributes:
        name: Which schedule; the discriminator of ``AnySchedule``.
    """

    model_config = ConfigDict(validate_default=True)

    name: str

    @abstractmethod
    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        """The log-SNR at fractions ``u``; may be infinite at 0 and 1."""

    @abstractmethod
    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        """The betas [num_steps] before the cap."""

    def logsnr(self, u: npt.ArrayLike) -> FloatArray:
        r"""The continuous form :math:`\lambda(u)`.

        Args:
            u: Any shape, in [0, 1]; 0 is the data end, 1 the noise end.

        Returns:
            Log-SNR of the same shape, non-increasing in ``u``, clipped to ±``LOGSNR_LIMIT``.
        """
        with np.errstate(divide="ignore"):
            unclipped = self._unclipped_logsnr(require_within_unit("u", u))
        return np.asarray(np.clip(unclipped, -LOGSNR_LIMIT, LOGSNR_LIMIT))

    def betas(self, T: int) -> FloatArray:  # noqa: N803 (T is the field's own name for it)
        r"""The step variances :math:`\beta_1 \dots \beta_T`: [T], each in (0, 0.999]."""
        num_steps = as_count("T", T)
        with np.errstate(divide="ignore"):
            return np.clip(self._uncapped_betas(num_steps), _MIN_BETA, MAX_BETA)

    def log_alphas_cumprod(self, T: int) -> FloatArray:  # noqa: N803
        r""":math:`\log \bar\alpha_1 \dots \log \bar\alpha_T`: [T], non-increasing, no underflow."""
        return log_alpha_bar_from_betas(self.betas(T))

    def alphas_cumprod(self, T: int) -> FloatArray:  # noqa: N803
        r""":math:`\bar\alpha_1 \dots \bar\alpha_T`, [T], the cumulative product of ``1 - betas(T)``."""
        return np.exp(self.log_alphas_cumprod(T))

    def logsnr_steps(self, T: int) -> FloatArray:  # noqa: N803
        r"""Log-SNR of the ``T`` steps, [T], non-increasing, finite and not clipped."""
        return logsnr_from_log_alpha_bar(self.log_alphas_cumprod(T))

    def sample_logsnr(
        self, n: int, rng: np.random.Generator | int, num_steps: int | None = None
    ) -> FloatArray:
        """Draw training noise.

        Args:
            n: Number of draws, at least 0.
            rng: Generator to draw from, or an integer seed.
            num_steps: None draws from the continuous form; a number draws one of that many discrete steps.

        Returns:
            [n] log-SNR, always clipped to ±``LOGSNR_LIMIT``, so that a network conditioned on it sees one range.
        """
        count = as_count("n", n, minimum=0)
        generator = np.random.default_rng(rng)
        if num_steps is None:
            return self.logsnr(generator.random(count))
        steps = self.logsnr_steps(as_count("num_steps", num_steps))
        drawn = steps[generator.integers(len(steps), size=count)]
        return np.clip(drawn, -LOGSNR_LIMIT, LOGSNR_LIMIT)

    def fraction_above(self, logsnr: npt.ArrayLike) -> FloatArray:
        r"""Probability that a continuous draw has a larger log-SNR: the inverse of :meth:`logsnr`.

        Args:
            logsnr: Any shape.

        Returns:
            The ``u`` where :math:`\lambda(u)` is that value, same shape, non-increasing in ``logsnr``: 0 from the top
            of the schedule's range upwards and 1 below its bottom.
        """
        wanted = np.asarray(logsnr, dtype=np.float64)
        low, high = np.zeros_like(wanted), np.ones_like(wanted)
        for _ in range(54):  # halving [0, 1] down to float64's resolution
            middle = 0.5 * (low + high)
            larger = self.logsnr(middle) > wanted
            low, high = np.where(larger, middle, low), np.where(larger, high, middle)
        return np.where(self.logsnr(0.0) > wanted, high, 0.0)


class ContinuousSchedule(Schedule):
    r"""A schedule given by a formula :math:`\lambda(u)`; its steps lie at :math:`u = i/T`, i = 1 … T."""

    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        u = np.arange(1, num_steps + 1) / num_steps
        return betas_from_log_alpha_bar(log_alpha_bar_from_logsnr(self._unclipped_logsnr(u)))


def inverse_of_falling(wanted: npt.ArrayLike, values: npt.ArrayLike, u: npt.ArrayLike) -> FloatArray:
    """Where the falling broken line through (u, values) takes the wanted values.

    Args:
        wanted: Any shape.
        values: [K] non-increasing.
        u: [K] rising fractions from 0 to 1.

    Returns:
        Fractions of the shape of ``wanted``; 0 above the line's range and 1 below it.
    """
    # Reversed, because interpolation wants rising abscissae.
    rising, fraction = np.asarray(values)[::-1], np.asarray(u)[::-1]
    return np.asarray(np.interp(np.asarray(wanted, dtype=np.float64), rising, fraction, left=1.0, right=0.0))
