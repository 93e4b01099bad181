"""Where a sampler steps: a descending list of noise levels."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field, field_serializer, field_validator

from schedrl.errors import Spec
from schedrl.schedules.conversions import (
    FloatArray,
    alpha_bar_from_logsnr,
    log_alpha_bar_from_logsnr,
    logsnr_from_sigma,
)
from schedrl.schedules.schedule import Schedule, as_count, require_monotone

__all__ = ["Grid"]

Level = Annotated[float, Field(ge=0.0, allow_inf_nan=True)]


class Grid(Spec):
    r"""The noise levels a sampler visits, from noise to data.

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

        Raises:
            SchedrlError: ``num_train_timesteps`` is not a positive whole number.

        Examples:
            >>> from schedrl.schedules import Betas
            >>> Grid(sigmas=(float("inf"), 1.0, 0.0)).timesteps(Betas(betas=(0.25, 0.5, 0.5)), 3).round(4)
            array([3.   , 1.585, 0.   ])
        """
        steps = as_count("num_train_timesteps", num_train_timesteps)
        falling = np.concatenate([[0.0], schedule.log_alphas_cumprod(steps)])
        wanted = log_alpha_bar_from_logsnr(self.logsnr)
        return np.interp(-wanted, -falling, np.arange(steps + 1, dtype=np.float64))
