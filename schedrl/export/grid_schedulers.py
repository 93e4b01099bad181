"""Schedulers of diffusers that keep their own grid. Imports diffusers; `diffusers_objects` loads it when needed.

A pipeline calls ``set_timesteps(N)`` before it samples, which in diffusers spaces N steps evenly again. These classes
restore their grid instead and refuse any other number of steps, so that a grid is never lost silently.

The steps are diffusers' own, apart from rounding. What depends on the levels alone is computed in float64. Euler and
Heun work on y = x / α, which reaches 2·10⁴ at the end of the cosine schedule, and the result of a long step is the
difference of two such numbers. With x0- and v-prediction the clean image is known without that difference, so the step
is written in terms of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteSchedulerOutput as EulerOutput
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteSchedulerOutput as HeunOutput

from schedrl.errors import SchedrlError
from schedrl.export.training_schedule import Placed

if TYPE_CHECKING:

    class _Base:
        """The attributes of a scheduler, for the type checker."""

        alphas_cumprod: Any
        config: Any
        sigmas: Any
        state_in_first_order: bool
        step_index: Any

        def set_timesteps(self, *values: Any, **fields: Any) -> None: ...

        def step(self, *values: Any, **fields: Any) -> Any: ...

        def _place(self, placed: Placed, device: Any) -> None:
            """Store the levels where the scheduler's step reads them."""

else:
    _Base = object


class _OnGrid(_Base):
    """A scheduler with a grid, which it sets again whenever a pipeline asks for timesteps."""

    placed: Placed | None = None

    def follow(self, placed: Placed) -> None:
        """Use a grid, now and whenever a pipeline sets the timesteps."""
        self.placed = placed
        self.set_timesteps()

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, *more: Any, **fields: Any
    ) -> None:
        """Set the grid's timesteps; ``num_inference_steps`` must be the grid's N or None.

        Without a grid the arguments are those of the base class.
        """
        if self.placed is None:
            super().set_timesteps(num_inference_steps, device, *more, **fields)
            return
        count = len(self.placed.timesteps)
        if num_inference_steps not in (None, count):
            raise SchedrlError(
                f"num_inference_steps: must be {count}, the steps of this schedule; design another schedule for other "
                f"numbers (got {num_inference_steps})"
            )
        self._place(self.placed, device)

    @contextmanager
    def _exactly(self, places: torch.Tensor | None = None) -> Iterator[None]:
        """Use ᾱ in float64, at all training steps or at ``places``: near data 1 − ᾱ has few digits in float32."""
        rounded = self.alphas_cumprod
        exact = torch.from_numpy(np.cumprod(1.0 - np.array(self.config.trained_betas, dtype=np.float64)))
        self.alphas_cumprod = exact if places is None else exact[places]
        try:
            yield
        finally:
            self.alphas_cumprod = rounded

    def _restart(self) -> None:
        self._step_index = None
        self._begin_index = None


def _float(values: Any, device: Any = None) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32, device=device)


def _wide(values: torch.Tensor) -> torch.Tensor:
    """At least float32: half precision is for the network only."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _toward(clean: torch.Tensor, state: torch.Tensor, here: float, there: float) -> torch.Tensor:
    """Euler's step in y = x / α without a difference of large numbers: y moves towards the clean image."""
    kept = there / here
    return kept * _wide(state) + (1.0 - kept) * _wide(clean)


def _output(kind: type[Any], ahead: torch.Tensor, clean: torch.Tensor, return_dict: bool) -> Any:
    return kind(prev_sample=ahead, pred_original_sample=clean) if return_dict else (ahead, clean)


class GridDDIMScheduler(_OnGrid, diffusers.DDIMScheduler):  # type: ignore[misc, unused-ignore]
    """DDIM on any whole training steps; in diffusers' own class they are equally spaced."""

    def _place(self, placed: Placed, device: Any) -> None:
        self.num_inference_steps = len(placed.timesteps)
        self.timesteps = torch.from_numpy(placed.timesteps.astype(np.int64)).to(device)

    def step(self, model_output: torch.Tensor, timestep: Any, *more: Any, **fields: Any) -> Any:
        """One step; arguments and result are those of the base class."""
        if self.placed is None:
            return super().step(model_output, timestep, *more, **fields)
        # The base class sees a schedule of N training steps and takes every one, so its previous step is the grid's.
        steps = self.timesteps.cpu()
        place = torch.nonzero(steps == int(timestep))
        if len(place) == 0:
            raise SchedrlError(f"timestep: must be one of the schedule's timesteps (got {int(timestep)})")
        count, self.num_inference_steps = self.num_inference_steps, self.config.num_train_timesteps
        try:
            with self._exactly(steps.flip(0)):
                return super().step(model_output, len(steps) - 1 - int(place[0]), *more, **fields)
        finally:
            self.num_inference_steps = count


class GridDDPMScheduler(_OnGrid, diffusers.DDPMScheduler):  # type: ignore[misc, unused-ignore]
    """Ancestral sampling on any whole training steps."""

    def _place(self, placed: Placed, device: Any) -> None:
        diffusers.DDPMScheduler.set_timesteps(
            self, timesteps=placed.timesteps.astype(np.int64).tolist(), device=device
        )
        self.num_inference_steps = len(placed.timesteps)

    def step(self, *values: Any, **fields: Any) -> Any:
        """One step; arguments and result are those of the base class."""
        with self._exactly():
            return super().step(*values, **fields)


class GridEulerDiscreteScheduler(_OnGrid, diffusers.EulerDiscreteScheduler):  # type: ignore[misc, unused-ignore]
    """Euler in sigma on the exact levels, which is DDIM without rounding."""

    def _place(self, placed: Placed, device: Any) -> None:
        self.num_inference_steps = len(placed.timesteps)
        self.sigmas = _float(placed.sigmas)
        self.timesteps = _float(placed.timesteps, device)
        self._restart()

    def step(
        self,
        model_output: Any,
        timestep: Any,
        sample: Any,
        *more: Any,
        return_dict: bool = True,
        **fields: Any,
    ) -> Any:
        """One step; arguments and result are those of the base class."""
        ahead, clean = super().step(model_output, timestep, sample, *more, return_dict=False, **fields)
        stirred = bool(more or fields.get("s_churn"))
        if self.placed is not None and self.config.prediction_type != "epsilon" and not stirred:
            here, there = self.placed.sigmas[self.step_index - 1 : self.step_index + 1].tolist()
            ahead = _toward(clean, sample, here, there).to(ahead.dtype)
        return _output(EulerOutput, ahead, clean, return_dict)


class GridHeunDiscreteScheduler(_OnGrid, diffusers.HeunDiscreteScheduler):  # type: ignore[misc, unused-ignore]
    """Heun on the exact levels; every step but the last calls the network twice."""

    def _place(self, placed: Placed, device: Any) -> None:
        self.num_inference_steps = len(placed.timesteps)
        # A step calls the network twice: at its own level and at the next, where the next step begins with a call.
        levels, steps = _float(placed.sigmas), _float(placed.timesteps)
        self.sigmas = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
        self.timesteps = torch.cat([steps[:1], steps[1:].repeat_interleave(2)]).to(device)
        self.prev_derivative = None
        self.dt = None
        self._restart()

    def step(self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
        """One of a step's two calls; arguments and result are those of the base class."""
        first = self.state_in_first_order
        ahead, clean = super().step(model_output, timestep, sample, return_dict=False)
        if self.placed is not None and self.config.prediction_type != "epsilon":
            # Calls 2k and 2k + 1 belong to the step between levels k and k + 1.
            step = (self.step_index - 1) // 2
            here, there = self.placed.sigmas[step : step + 2].tolist()
            if first:
                self._clean = clean
                made = _toward(clean, sample, here, there)
            else:
                made = _wide(sample) + 0.5 * (here / there - 1.0) * (_wide(clean) - _wide(self._clean))
            ahead = made.to(ahead.dtype)
        return _output(HeunOutput, ahead, clean, return_dict)


class _OnGridMultistep(_OnGrid):
    """Solvers that keep their last estimates, on the exact levels of a grid."""

    def _place(self, placed: Placed, device: Any) -> None:
        self.num_inference_steps = len(placed.timesteps)
        self.sigmas = _float(placed.sigmas)
        self.timesteps = _float(placed.timesteps, device)
        self.model_outputs = [None] * self.config.solver_order
        self.lower_order_nums = 0
        self._restart()


class GridDPMSolverMultistepScheduler(_OnGridMultistep, diffusers.DPMSolverMultistepScheduler):  # type: ignore[misc, unused-ignore]
    """DPM-Solver++ of second order."""


class GridUniPCMultistepScheduler(_OnGridMultistep, diffusers.UniPCMultistepScheduler):  # type: ignore[misc, unused-ignore]
    """UniPC of second order."""

    def _place(self, placed: Placed, device: Any) -> None:
        super()._place(placed, device)
        self.timestep_list = [None] * self.config.solver_order
        self.last_sample = None


GRID_CLASSES: dict[str, type[Any]] = {
    "DDIMScheduler": GridDDIMScheduler,
    "DDPMScheduler": GridDDPMScheduler,
    "EulerDiscreteScheduler": GridEulerDiscreteScheduler,
    "HeunDiscreteScheduler": GridHeunDiscreteScheduler,
    "DPMSolverMultistepScheduler": GridDPMSolverMultistepScheduler,
    "UniPCMultistepScheduler": GridUniPCMultistepScheduler,
}
"""By the name of the base class in diffusers."""
