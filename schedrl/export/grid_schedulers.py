"""Schedulers of diffusers that keep a grid of their own. Imports diffusers; loaded by :func:`to_diffusers` only.

A pipeline calls ``set_timesteps(N)`` before it samples, which in diffusers spaces N steps evenly again. These classes
put their grid back instead, and refuse any other number of steps, so that a grid is never lost in silence.

Their steps are diffusers' own, but for the rounding. What depends on the levels alone is done in float64. Euler and
Heun go through y = x / α, which is 2·10⁴ at the cosine law's end, and what a long step leaves is the difference of two
such numbers; where the clean image is known without one (x0- and v-prediction), the step is written in it.
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
from schedrl.export.placement import Placed

__all__ = ["GRID_CLASSES"]

if TYPE_CHECKING:

    class _Base:
        """What a scheduler has, for the type checker."""

        alphas_cumprod: Any
        config: Any
        sigmas: Any
        state_in_first_order: bool
        step_index: Any

        def set_timesteps(self, *values: Any, **fields: Any) -> None: ...

        def step(self, *values: Any, **fields: Any) -> Any: ...

        def _place(self, placed: Placed, device: Any) -> None:
            """Put the levels where the scheduler's step looks for them: each class its own way."""

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

    @contextmanager
    def _exactly(self, places: torch.Tensor | None = None) -> Iterator[None]:
        """The law's ᾱ in float64, at some of its steps or at all: 1 − ᾱ has few digits in float32 near data."""
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
    """Half precision is for networks only."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _toward(clean: torch.Tensor, state: torch.Tensor, here: float, there: float) -> torch.Tensor:
    """Euler's step in y = x / α without a difference of large numbers: y moves toward the clean image as σ falls."""
    kept = there / here
    return kept * _wide(state) + (1.0 - kept) * _wide(clean)


def _output(kind: type[Any], ahead: torch.Tensor, clean: torch.Tensor, return_dict: bool) -> Any:
    return kind(prev_sample=ahead, pred_original_sample=clean) if return_dict else (ahead, clean)


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
        steps = self.timesteps.cpu()
        place = torch.nonzero(steps == int(timestep))
        if len(place) == 0:
            raise SchedrlError(f"timestep: must be one of the schedule's (got {int(timestep)})")
        count, self.num_inference_steps = self.num_inference_steps, self.config.num_train_timesteps
        try:
            with self._exactly(steps.flip(0)):
                return super().step(model_output, len(steps) - 1 - int(place[0]), *more, **fields)
        finally:
            self.num_inference_steps = count


class GridDDPMScheduler(_OnGrid, diffusers.DDPMScheduler):  # type: ignore[misc, unused-ignore]
    """Ancestral sampling on any whole steps."""

    def _place(self, placed: Placed, device: Any) -> None:
        diffusers.DDPMScheduler.set_timesteps(
            self, timesteps=placed.timesteps.astype(np.int64).tolist(), device=device
        )
        self.num_inference_steps = len(placed.timesteps)

    def step(self, *values: Any, **fields: Any) -> Any:
        """One step of diffusers' ancestral sampling, its arguments and result those of the base class."""
        with self._exactly():
            return super().step(*values, **fields)


class GridEulerDiscreteScheduler(_OnGrid, diffusers.EulerDiscreteScheduler):  # type: ignore[misc, unused-ignore]
    """Euler in sigma on the exact levels: DDIM, without rounding."""

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
        """One step of diffusers' Euler, its arguments and result those of the base class."""
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
        # A step has two calls: at its own level, and at the next one, which is then asked again.
        levels, steps = _float(placed.sigmas), _float(placed.timesteps)
        self.sigmas = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
        self.timesteps = torch.cat([steps[:1], steps[1:].repeat_interleave(2)]).to(device)
        self.prev_derivative = None
        self.dt = None
        self._restart()

    def step(self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
        """One call's part of a step of diffusers' Heun, its arguments and result those of the base class."""
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
