"""Sampling grids: where a sampler steps, and the named laws that place the levels of any number of steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from schedrl.errors import Spec, parse, unknown_name
from schedrl.schedules.beta_laws import TrainTimesteps
from schedrl.schedules.continuous_laws import Cosine, even_fractions, karras_sigmas, tangent_sigmas
from schedrl.schedules.conversions import (
    FloatArray,
    alpha_bar_from_logsnr,
    log_alpha_bar_from_logsnr,
    logsnr_from_log_alpha_bar,
    logsnr_from_sigma,
    sigma_from_logsnr,
)
from schedrl.schedules.registry import AnySchedule, name_alone
from schedrl.schedules.schedule import LogSNR, Rho, Schedule, Sigma, above, as_count, require_monotone

Level = Annotated[float, Field(ge=0.0, allow_inf_nan=True)]


class Grid(Spec):
    r"""The noise levels that a sampler visits, from noise to data.

    A level is the noise-to-signal ratio :math:`\sigma = \sqrt{(1 - \bar\alpha) / \bar\alpha}`, the sigma of a
    variance-exploding process, so one grid serves networks of either kind.

    Attributes:
        sigmas: [N+1] levels of N steps, strictly descending. The first may be infinite (pure noise). The last
            is 0 for a sampler that ends on data; a positive last level stops the sampler there, at data plus
            that noise. In JSON, which has no infinity, it is the string ``"inf"``.

    Examples:
        >>> grid = Grid(sigmas=(float("inf"), 1.0, 0.0))
        >>> grid.num_steps, grid.alphas_cumprod
        (2, array([0. , 0.5, 1. ]))
        >>> grid.model_dump_json()
        '{"sigmas":["inf",1.0,0.0]}'
        >>> Grid.model_validate_json(grid.model_dump_json()) == grid
        True
    """

    sigmas: Annotated[tuple[Level, ...], Field(min_length=2)]

    @field_validator("sigmas")
    @classmethod
    def _descending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        require_monotone("sigmas", value, increasing=False)
        return value

    @field_serializer("sigmas", when_used="json")
    def _infinity_as_text(self, value: tuple[float, ...]) -> list[float | str]:
        return ["inf" if math.isinf(level) else level for level in value]

    @property
    def num_steps(self) -> int:
        """N, the number of steps: one less than the number of levels."""
        return len(self.sigmas) - 1

    @property
    def sigma_array(self) -> FloatArray:
        """The levels as an array, [N+1]."""
        return np.array(self.sigmas, dtype=np.float64)

    @property
    def logsnr(self) -> FloatArray:
        r"""Log-SNR :math:`-2\log\sigma` of the levels, [N+1], ascending; infinite at 0 and at infinity."""
        return logsnr_from_sigma(self.sigma_array)

    @property
    def alphas_cumprod(self) -> FloatArray:
        r""":math:`\bar\alpha = 1 / (1 + \sigma^2)` of the levels, [N+1], ascending, in [0, 1]."""
        return alpha_bar_from_logsnr(self.logsnr)

    def timesteps(self, schedule: Schedule, num_train_timesteps: int = 1000) -> FloatArray:
        r"""Fractional training steps at which ``schedule`` has the grid's noise levels.

        Step ``i`` of T is the one with :math:`\bar\alpha_i`, i = 1 … T, and 0 is clean data; between steps
        :math:`\log\bar\alpha` is interpolated linearly. A network whose embedding counts from zero takes one
        less.

        Args:
            schedule: The schedule the network was trained with.
            num_train_timesteps: T.

        Returns:
            [N+1] in [0, T], non-increasing. Levels beyond the schedule's last step (infinity, say) map to T.

        Examples:
            >>> from schedrl.schedules import Betas
            >>> Grid(sigmas=(float("inf"), 1.0, 0.0)).timesteps(Betas(betas=(0.25, 0.5, 0.5)), 3).round(4)
            array([3.   , 1.585, 0.   ])
        """
        steps = as_count("num_train_timesteps", num_train_timesteps)
        falling = np.concatenate([[0.0], schedule.log_alphas_cumprod(steps)])
        wanted = log_alpha_bar_from_logsnr(self.logsnr)
        return np.interp(-wanted, -falling, np.arange(steps + 1, dtype=np.float64))


class GridLaw(Spec, ABC):
    """A rule that places the levels of any number of steps.

    Attributes:
        name: Which rule; the discriminator of ``AnyGridLaw``.
    """

    model_config = ConfigDict(validate_default=True)

    name: str

    @abstractmethod
    def _levels(self, num_steps: int) -> FloatArray:
        """[num_steps + 1] descending sigmas."""

    def grid(self, n: int) -> Grid:
        """Place the N+1 levels of ``n`` = N steps.

        Raises:
            SchedrlError: ``n`` is not a positive whole number, or two levels coincide in float64 (a very
                large ``n``, or a schedule whose last steps are pure noise).
        """
        levels = self._levels(as_count("n", n))
        return parse(Grid, {"sigmas": levels.tolist()}, f"grid '{self.name}' with n={n}")


class _OnSchedule(GridLaw):
    r"""t_k = T (1 - k/N)^rho, with log ᾱ interpolated linearly between the steps and log ᾱ(0) = 0."""

    schedule: AnySchedule = Cosine()
    num_train_timesteps: TrainTimesteps = 1000

    def _on_schedule(self, num_steps: int, rho: float) -> FloatArray:
        total = self.num_train_timesteps
        log_alpha_bar = np.concatenate([[0.0], self.schedule.log_alphas_cumprod(total)])
        steps = total * even_fractions(num_steps) ** rho
        at_steps = np.interp(steps, np.arange(total + 1), log_alpha_bar)
        return sigma_from_logsnr(logsnr_from_log_alpha_bar(at_steps))


class UniformTimeGrid(_OnSchedule):
    r"""Uniform in the steps of a schedule: :math:`t_k = T (1 - k/N)`, k = 0 … N.

    The first level is that of step T, the last is exactly 0. What DDIM calls the linear selection (Song, Meng
    & Ermon 2021, arXiv 2010.02502, appendix D.2), without rounding to whole steps.

    Attributes:
        schedule: The schedule the network was trained with; its name is enough.
        num_train_timesteps: T.

    Examples:
        >>> UniformTimeGrid(schedule="linear").grid(2).logsnr.round(2)
        array([-10.12,  -2.46,    inf])
    """

    name: Literal["uniform"] = "uniform"

    def _levels(self, num_steps: int) -> FloatArray:
        return self._on_schedule(num_steps, 1.0)


class PowerTimeGrid(_OnSchedule):
    r"""A power of the fraction of steps: :math:`t_k = T (1 - k/N)^\rho`, k = 0 … N.

    Dense near data for rho > 1. The first level is that of step T, the last is exactly 0. rho = 1 is
    ``"uniform"``, rho = 2 DDIM's "quadratic" selection (arXiv 2010.02502, appendix D.2) without rounding.

    Attributes:
        schedule: The schedule the network was trained with; its name is enough.
        num_train_timesteps: T.
        rho: Exponent, in [0.1, 100].

    Examples:
        >>> from schedrl.schedules import get
        >>> PowerTimeGrid().grid(4).timesteps(get("cosine")).round(6)
        array([1000. ,  562.5,  250. ,   62.5,    0. ])
    """

    name: Literal["power-t"] = "power-t"
    rho: Rho = 2.0

    def _levels(self, num_steps: int) -> FloatArray:
        return self._on_schedule(num_steps, self.rho)


class PowerSigmaGrid(GridLaw):
    r"""A power in the noise level: :math:`\sigma_k = \sigma_{max} (1 - k/N)^\rho`, k = 0 … N.

    The last level is exactly 0. It is the Karras law with :math:`\sigma_{min} \to 0`.

    Attributes:
        rho: Exponent, in [0.1, 100].
        sigma_max: First level, positive.

    Examples:
        >>> PowerSigmaGrid(rho=2.0, sigma_max=80.0).grid(4).sigmas
        (80.0, 45.0, 20.0, 5.0, 0.0)
    """

    name: Literal["power-sigma"] = "power-sigma"
    rho: Rho = 7.0
    sigma_max: Sigma = 80.0

    def _levels(self, num_steps: int) -> FloatArray:
        return self.sigma_max * even_fractions(num_steps) ** self.rho


class _Ranged(GridLaw):
    """Levels from one finite end to the other, and then 0 if asked for."""

    final_zero: bool = True

    @abstractmethod
    def _ends(self) -> tuple[float, float]:
        """The first and the last positive level."""

    @abstractmethod
    def _law(self, u: FloatArray) -> FloatArray:
        """Levels at fractions of the way, 1 at the noise end."""

    def _levels(self, num_steps: int) -> FloatArray:
        # One step that ends at zero has a single positive level: the first.
        positive = num_steps if self.final_zero else num_steps + 1
        levels = self._law(1.0 - np.arange(positive) / max(positive - 1, 1))
        first, last = self._ends()
        # Pinned, because powers and tangents miss their ends by a rounding error.
        levels[-1] = last
        levels[0] = first
        return np.append(levels, 0.0) if self.final_zero else levels


class _SigmaRanged(_Ranged):
    sigma_min: Sigma = 0.002
    sigma_max: Annotated[Sigma, above("sigma_min")] = 80.0

    def _ends(self) -> tuple[float, float]:
        return self.sigma_max, self.sigma_min


class KarrasGrid(_SigmaRanged):
    r"""EDM's grid: uniform in :math:`\sigma^{1/\rho}`, then 0.

    :math:`\sigma = (\sigma_{max}^{1/\rho} + x (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho}))^\rho`.

    N levels at x = k/(N-1), k = 0 … N-1, both ends included, and 0 as the last. Without ``final_zero``, N+1
    levels at x = k/N. One step has the levels ``sigma_max`` and 0. Source: Karras et al. 2022 (arXiv
    2206.00364), equation 5.

    Attributes:
        rho: Warping, in [0.1, 100].
        sigma_min: Last positive level.
        sigma_max: First level, greater than ``sigma_min``.
        final_zero: Whether a level 0 follows ``sigma_min``.

    Examples:
        >>> KarrasGrid().grid(4).sigma_array.round(4)
        array([8.0000e+01, 9.7232e+00, 4.7000e-01, 2.0000e-03, 0.0000e+00])
    """

    name: Literal["karras"] = "karras"
    rho: Rho = 7.0

    def _law(self, u: FloatArray) -> FloatArray:
        return karras_sigmas(u, self.rho, self.sigma_max, self.sigma_min)


class ExponentialGrid(_SigmaRanged):
    r"""Log-uniform noise levels, :math:`\sigma_{max} (\sigma_{min} / \sigma_{max})^x`, then 0.

    N levels at x = k/(N-1), k = 0 … N-1, both ends included, and 0 as the last; without ``final_zero``, N+1
    levels at x = k/N. One step has the levels ``sigma_max`` and 0. The same law as ``"uniform-logsnr"``, with
    its ends as sigmas.

    Attributes:
        sigma_min: Last positive level.
        sigma_max: First level, greater than ``sigma_min``.
        final_zero: Whether a level 0 follows ``sigma_min``.

    Examples:
        >>> ExponentialGrid(sigma_min=0.25, sigma_max=64.0).grid(3).sigma_array.round(6)
        array([64.  ,  4.  ,  0.25,  0.  ])
    """

    name: Literal["exponential"] = "exponential"

    def _law(self, u: FloatArray) -> FloatArray:
        return _log_uniform(u, self.sigma_min, self.sigma_max)


class UniformLogSNRGrid(_Ranged):
    r"""Uniform log-SNR from :math:`\lambda_{min}` to :math:`\lambda_{max}`, then 0 noise.

    N levels, both ends included, and 0 as the last; without ``final_zero``, N+1 levels. One step has the
    levels of ``logsnr_min`` and 0. The same law as ``"exponential"``, with its ends as log-SNR; the default ends
    are VDM's (arXiv 2107.00630).

    Attributes:
        logsnr_min: Log-SNR of the first level, in [-20, 20].
        logsnr_max: Log-SNR of the last positive level, in [-20, 20], greater than ``logsnr_min``.
        final_zero: Whether a level 0 follows.

    Examples:
        >>> UniformLogSNRGrid(logsnr_min=-6.0, logsnr_max=10.0).grid(5).logsnr.round(6)
        array([-6., -2.,  2.,  6., 10., inf])
    """

    name: Literal["uniform-logsnr"] = "uniform-logsnr"
    logsnr_min: LogSNR = -5.0
    logsnr_max: Annotated[LogSNR, above("logsnr_min")] = 13.3

    def _ends(self) -> tuple[float, float]:
        return float(sigma_from_logsnr(self.logsnr_min)), float(sigma_from_logsnr(self.logsnr_max))

    def _law(self, u: FloatArray) -> FloatArray:
        first, last = self._ends()
        return _log_uniform(u, last, first)


class TangentGrid(_Ranged):
    r"""The tangent law: :math:`\sigma_k = \gamma \tan((1 - k/N) \psi_{max} + (k/N) \psi_{min})`, k = 0 … N.

    With :math:`\psi = \arctan(\sigma / \gamma)`. By default it runs from infinity to exactly 0, where it is
    the optimal grid of DDIM for a Gaussian source with the one eigenvalue :math:`\gamma^2`. With finite ends
    both are levels: the last is ``sigma_min``. ``final_zero`` appends 0 to N levels at k/(N-1), which is
    Align Your Steps' closed form (Sabour et al. 2024, arXiv 2404.14507; "kl_optimal" in several samplers,
    gamma = 1). One step has the levels ``sigma_max`` and ``sigma_min`` (or 0).

    Attributes:
        gamma: Scale, positive; the square root of the source's eigenvalue.
        sigma_min: Last level of the law, 0 or positive.
        sigma_max: First level, greater than ``sigma_min``; None is infinity.
        final_zero: Whether a level 0 follows ``sigma_min``, which must then be positive.

    Examples:
        >>> TangentGrid(gamma=2.0).grid(2).sigma_array.round(6)
        array([inf,  2.,  0.])
        >>> TangentGrid(sigma_min=0.002, sigma_max=80.0).grid(1).sigmas
        (80.0, 0.002)
    """

    name: Literal["tangent"] = "tangent"
    gamma: Sigma = 1.0
    sigma_min: Annotated[float, Field(ge=0.0, le=1e10)] = 0.0
    sigma_max: Annotated[Sigma | None, above("sigma_min")] = None
    final_zero: bool = False

    @field_validator("sigma_min")
    @classmethod
    def _not_zero_twice(cls, value: float, info: ValidationInfo) -> float:
        if value == 0.0 and info.data.get("final_zero"):
            raise ValueError("must be positive where final_zero is set: the law itself ends at 0")
        return value

    def _ends(self) -> tuple[float, float]:
        return float("inf") if self.sigma_max is None else self.sigma_max, self.sigma_min

    def _law(self, u: FloatArray) -> FloatArray:
        return tangent_sigmas(u, self.gamma, *self._ends())


def _log_uniform(u: FloatArray, sigma_min: float, sigma_max: float) -> FloatArray:
    return sigma_from_logsnr((1.0 - u) * logsnr_from_sigma(sigma_min) + u * logsnr_from_sigma(sigma_max))


_NamedGridLaw: TypeAlias = (
    UniformTimeGrid
    | PowerTimeGrid
    | PowerSigmaGrid
    | KarrasGrid
    | ExponentialGrid
    | UniformLogSNRGrid
    | TangentGrid
)

AnyGridLaw: TypeAlias = Annotated[_NamedGridLaw, Field(discriminator="name"), BeforeValidator(name_alone)]
"""A grid law as a field of a pydantic model: an object told apart by ``name``, or the name alone."""

_TYPES: dict[str, type[GridLaw]] = {
    kind.model_fields["name"].default: kind for kind in get_args(_NamedGridLaw)
}


def grid_names() -> tuple[str, ...]:
    """The name of every grid law.

    Examples:
        >>> "karras" in grid_names()
        True
    """
    return tuple(_TYPES)


def grid(name: str, n: int, **params: Any) -> Grid:
    """Place the levels of ``n`` steps by a named law.

    Args:
        name: One of :func:`grid_names`.
        n: Number of steps N, at least 1.
        **params: Fields of the law's class; the rest keep their defaults.

    Returns:
        A grid of N+1 levels.

    Raises:
        SchedrlError: The name or a parameter does not exist, or a value is out of range.

    Examples:
        >>> grid("exponential", 2, sigma_max=100.0, sigma_min=0.01).sigmas
        (100.0, 0.01, 0.0)
        >>> grid("karas", 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        schedrl.errors.SchedrlError: unknown grid 'karas'; did you mean 'karras'? Known: ...
    """
    if name not in _TYPES:
        raise unknown_name("grid", str(name), _TYPES)
    return parse(_TYPES[name], {**params, "name": name}, f"grid '{name}'").grid(n)
