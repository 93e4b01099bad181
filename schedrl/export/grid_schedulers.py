"""Schedulers of diffusers that keep a grid of their own. Imports diffusers; loaded by :func:`to_diffusers` only.

A pipeline calls ``set_timesteps(N)`` before it samples, which in diffusers spaces N steps evenly again. These classes
put their grid back instead, and refuse any other number of steps, so that a grid is never lost in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import torch

from schedrl.errors import SchedrlError
from schedrl.export.placement import Placed

__all__ = ["GRID_CLASSES"]

if TYPE_CHECKING:

    class _Base:
        """What a scheduler has, for the type checker."""

        alphas_cumprod: Any
        config: Any

        def set_timesteps(self, *values: Any, **fields: Any) -> None: ...

        def step(self, *values: Any, **fields: Any) -> Any: ...

else:
    _Base = object


class _OnGrid(_Base):
    """What the classes share: the grid, and that it is set again whenever steps are asked for."""

    placed: Placed | None = None

    def follow(self, placed: Placed) -> None:
        """Take a grid, now and whenever a pipeline sets the timesteps."""
        self.placed = placed
        self.set_timesteps()

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, *more: Any, **fields: Any
    ) -> None:
        """Set the grid's steps.

        Args:
            num_inference_steps: Must be the grid's N, or left out.
            device: For the timesteps.
            more: Only before there is a grid, as diffusers has it.
            fields: Likewise.

        Raises:
            SchedrlError: Another number of steps is asked for.
        """
        if self.placed is None:
            super().set_timesteps(num_inference_steps, device, *more, **fields)
            return
        count = len(self.placed.timesteps)
        if num_inference_steps not in (None, count):
            raise SchedrlError(
                f"num_inference_steps: must be {count}, the steps of this schedule; design another for more "
                f"(got {num_inference_steps})"
            )
        self._place(self.placed, device)

    def _place(self, placed: Placed, device: Any) -> None:
        """Put the levels where the scheduler's step looks for them."""
        raise NotImplementedError

    def _restart(self) -> None:
        self._step_index = None
        self._begin_index = None


def _float(values: Any, device: Any = None) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32, device=device)


class GridDDIMScheduler(_OnGrid, diffusers.DDIMScheduler):  # type: ignore[misc, unused-ignore]
    """DDIM on any whole steps; diffusers' own takes its previous step at a constant distance."""

    def _place(self, placed: Placed, device: Any) -> None:
        self.num_inference_steps = len(placed.timesteps)
        self.timesteps = torch.from_numpy(placed.timesteps.astype(np.int64)).to(device)

    def step(self, model_output: torch.Tensor, timestep: Any, *more: Any, **fields: Any) -> Any:
        """One step of diffusers' DDIM, its arguments and result those of the base class."""
        if self.placed is None:
            return super().step(model_output, timestep, *more, **fields)
        # To the base class, N training steps of which every one is taken: the previous one is then the grid's next.
        place = torch.nonzero(self.timesteps.cpu() == int(timestep))
        if len(place) == 0:
            raise SchedrlError(f"timestep: must be one of the schedule's (got {int(timestep)})")
        count = len(self.timesteps)
        trained: torch.Tensor = self.alphas_cumprod
        steps = self.num_inference_steps
        self.alphas_cumprod = trained[self.timesteps.flip(0).to(trained.device)]
        self.num_inference_steps = self.config.num_train_timesteps
        try:
            return super().step(model_output, count - 1 - int(place[0]), *more, **fields)
        finally:
            self.alphas_cumprod, self.num_inference_steps = trained, steps


class GridDDPMScheduler(_OnGrid, diffusers.DDPMScheduler):  # type: ignore[misc, unused-ignore]
    """Ancestral sampling on any whole steps."""

    def _place(self, placed: Placed, device: Any) -> None:
        diffusers.DDPMScheduler.set_timesteps(
            self, timesteps=placed.timesteps.astype(np.int64).tolist(), device=device
        )
        self.num_inference_steps = len(placed.timesteps)


class GridEulerDiscreteScheduler(_OnGrid, diffusers.EulerDiscreteScheduler):  # type: ignore[misc, unused-ignore]
    """Euler in sigma on the exact levels: DDIM, without rounding."""

    def _place(self, placed: Placed, device: Any) -> None:
        self.num_inference_steps = len(placed.timesteps)
        self.sigmas = _float(placed.sigmas)
        self.timesteps = _float(placed.timesteps, device)
        self._restart()


class GridHeunDiscreteScheduler(_OnGrid, diffusers.HeunDiscreteScheduler):  # type: ignore[misc, unused-ignore]
    """Heun on the exact levels; every step but the last calls the network twice."""

    def _place(self, placed: Placed, device: Any) -> None:
        self.num_inference_steps = len(placed.timesteps)
        # A step has two calls: at its own level, and at the next one, which is then asked again.
        levels, steps = _float(placed.sigmas), _float(placed.timesteps)
        self.sigmas = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
        self.timesteps = torch.cat([steps[:1], steps[1:].repeat_interleave(2)]).to(device)
        self.prev_derivative = None
        self.dt = None
        self._restart()


class GridDPMSolverMultistepScheduler(_OnGrid, diffusers.DPMSolverMultistepScheduler):  # type: ignore[misc, unused-ignore]
    """DPM-Solver++ on the exact levels. The grid was placed for another sampler."""

    def _place(self, placed: Placed, device: Any) -> None:
        self.num_inference_steps = len(placed.timesteps)
        self.sigmas = _float(placed.sigmas)
        self.timesteps = _float(placed.timesteps, device)
        self.model_outputs = [None] * self.config.solver_order
        self.lower_order_nums = 0
        self._restart()


GRID_CLASSES: dict[str, type[Any]] = {
    "DDIMScheduler": GridDDIMScheduler,
    "DDPMScheduler": GridDDPMScheduler,
    "EulerDiscreteScheduler": GridEulerDiscreteScheduler,
    "HeunDiscreteScheduler": GridHeunDiscreteScheduler,
    "DPMSolverMultistepScheduler": GridDPMSolverMultistepScheduler,
}
"""By the name of the class of diffusers that each is a subclass of."""
