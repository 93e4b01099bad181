"""What every noise schedule can do, and the checks that the laws share."""

from __future__ import annotations

import itertools
import operator
from abc import ABC, abstractmethod
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationInfo

from schedrl.errors import SchedrlError, Spec
from schedrl.schedules.conversions import (
    FloatArray,
    betas_from_log_alpha_bar,
    log_alpha_bar_from_betas,
    log_alpha_bar_from_logsnr,
    logsnr_from_log_alpha_bar,
)

__all__ = [
    "LOGSNR_LIMIT",
    "MAX_BETA",
    "ContinuousSchedule",
    "Schedule",
    "Sigma",
    "as_count",
    "inverse_of_falling",
    "must_exceed",
    "require_monotone",
]

LOGSNR_LIMIT = 20.0
"""Bound on the log-SNR of the continuous law and of every draw: at 20 the noise is 4.5e-5 of the signal."""

MAX_BETA = 0.999
"""Cap on every beta, as in improved DDPM (Nichol & Dhariwal 2021, section 3.2)."""

# A beta of exactly zero would make two steps the same; no law asks for one, but a difference can round to it.
_MIN_BETA = float(np.finfo(np.float64).tiny)

Sigma = Annotated[float, Field(ge=1e-10, le=1e10)]
"""A positive noise-to-signal ratio, in a range where no law over- or underflows."""


def as_count(field: str, value: int, minimum: int = 1) -> int:
    """Check a number of steps or draws.

    Args:
        field: Name of the argument, for the message.
        value: What was given; NumPy integers are fine.
        minimum: Smallest value allowed.

    Returns:
        The value as a Python integer.

    Raises:
        SchedrlError: It is not a whole number, or too small.

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
    return count


def must_exceed(value: float, info: ValidationInfo, other: str) -> float:
    """Validate a field that must be greater than the field ``other`` declared before it.

    Raises:
        ValueError: It is not (pydantic turns this into the field's error).
    """
    lower = info.data.get(other)
    if lower is not None and not value > lower:
        raise ValueError(f"must be greater than {other} = {lower}")
    return value


def require_monotone(field: str, values: tuple[float, ...], *, increasing: bool) -> None:
    """Check that values rise or fall strictly.

    Raises:
        ValueError: They do not; the text names the first pair that does not.
    """
    for index, (left, right) in enumerate(itertools.pairwise(values)):
        if not (left < right if increasing else left > right):
            direction = "increase" if increasing else "decrease"
            raise ValueError(
                f"must strictly {direction}, but {field}[{index}] = {left} and {field}[{index + 1}] = {right}"
            )


class Schedule(Spec, ABC):
    r"""A law of training noise: which log-SNR the network sees, and how often.

    A schedule is a frozen, hashable value that survives a JSON round trip. It can be read in two ways. As a
    *continuous law* it maps :math:`u \in [0, 1]` from data to noise to a log-SNR (:meth:`logsnr`); a uniform
    ``u`` gives the distribution of training noise. As ``T`` *discrete steps* it is a list of betas
    (:meth:`betas`).

    Attributes:
        name: Which law it is; the discriminator of ``AnySchedule``.
    """

    model_config = ConfigDict(validate_default=True)

    name: str

    @abstractmethod
    def _unclipped_logsnr(self, u: FloatArray) -> FloatArray:
        """The law itself; may be infinite at 0 and 1."""

    @abstractmethod
    def _uncapped_betas(self, num_steps: int) -> FloatArray:
        """The betas [num_steps] before the cap."""

    def logsnr(self, u: npt.ArrayLike) -> FloatArray:
        r"""The continuous law :math:`\lambda(u)`.

        Args:
            u: Any shape, in [0, 1]; 0 is the data end, 1 the noise end.

        Returns:
            Log-SNR of the same shape, non-increasing in ``u``, clipped to ±``LOGSNR_LIMIT``.

        Raises:
            SchedrlError: Some ``u`` lies outside [0, 1].
        """
        fraction = np.asarray(u, dtype=np.float64)
        inside = (fraction >= 0.0) & (fraction <= 1.0)
        if not inside.all():
            raise SchedrlError(f"field 'u': must lie in [0, 1] (got {float(fraction[~inside].flat[0])})")
        with np.errstate(divide="ignore"):
            return np.asarray(np.clip(self._unclipped_logsnr(fraction), -LOGSNR_LIMIT, LOGSNR_LIMIT))

    def betas(self, T: int) -> FloatArray:  # noqa: N803 (T is the field's own name for it)
        r"""The step variances :math:`\beta_1 \dots \beta_T`.

        Args:
            T: Number of steps, at least 1.

        Returns:
            [T], each in (0, 0.999].

        Raises:
            SchedrlError: ``T`` is not a positive whole number.
        """
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
        """Draw training noise levels.

        Args:
            n: How many, at least 0.
            rng: Generator to draw from, or an integer seed.
            num_steps: None draws from the continuous law; a number draws one of that many discrete steps.

        Returns:
            [n] log-SNR, clipped to ±``LOGSNR_LIMIT`` either way, so that a network conditioned on it sees one
            range.

        Raises:
            SchedrlError: ``n`` or ``num_steps`` is not a valid count.
        """
        count = as_count("n", n, minimum=0)
        generator = np.random.default_rng(rng)
        if num_steps is None:
            return self.logsnr(generator.random(count))
        steps = self.logsnr_steps(as_count("num_steps", num_steps))
        drawn = steps[generator.integers(len(steps), size=count)]
        return np.clip(drawn, -LOGSNR_LIMIT, LOGSNR_LIMIT)

    def fraction_above(self, logsnr: npt.ArrayLike) -> FloatArray:
        r"""Probability that a draw of the continuous law has a larger log-SNR: the inverse of :meth:`logsnr`.

        Args:
            logsnr: Any shape.

        Returns:
            The ``u`` where :math:`\lambda(u)` is that value, same shape, non-increasing in ``logsnr``; 0 from
            the top of the law's range upwards and 1 below its bottom.
        """
        wanted = np.asarray(logsnr, dtype=np.float64)
        above, not_above = np.zeros_like(wanted), np.ones_like(wanted)
        for _ in range(54):  # halving [0, 1] down to float64's resolution
            middle = 0.5 * (above + not_above)
            larger = self.logsnr(middle) > wanted
            above, not_above = np.where(larger, middle, above), np.where(larger, not_above, middle)
        return np.where(self.logsnr(0.0) > wanted, not_above, 0.0)


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
