"""Paper B's kernel as an action: β at the knots of a walk in t."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from schedrl import schedules
from schedrl.diffusion.local_variance import LocalDeviation
from schedrl.environments.training.action_base import Array, BoxAction, Memory, Range
from schedrl.schedules import AnySchedule, Schedule, conversions

__all__ = ["KernelAction", "relative_deviation"]


class KernelAction(BoxAction):
    """Paper B's kernel: walk ``knots`` points in t, and at each set β from what is seen there.

    At knot j the action gives log β_j = log β_j^ref + ``scale`` × action, and β_j holds for T/K steps. The reference
    supplies β^ref such that action 0 at every knot passes through the reference's ᾱ at the knots.

    With ``per_image`` every training image walks its own way: an action is a level and a slope, log β_j of an image is
    log β_j^ref + ``scale`` × (level + slope × s), and s is the image's σ_local relative to the others', (σ − mean) over
    two standard deviations, within ±1. That is β = f(t, σ_local) to first order in σ_local; without a slope all images
    have the same law.

    Attributes:
        knots: K, points in t.
        num_train_timesteps: T, a multiple of K.
        scale: Change of log β at action ±1.
        reference: The schedule of action 0.
        per_image: Whether every image has its own β, by its own σ_local.
    """

    kind: Literal["kernel"] = "kernel"
    knots: Annotated[int, Field(ge=1, le=1000)] = 10
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    scale: Annotated[float, Field(gt=0.0, le=20.0)] = 1.0
    reference: AnySchedule
    per_image: bool = False

    @model_serializer(mode="wrap")
    def _without_absent_parts(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What does not act does not enter a variant's fingerprint.
        content: dict[str, Any] = serialize(self)
        if not self.per_image:
            content.pop("per_image", None)
        return content

    @model_validator(mode="after")
    def _whole_knots(self) -> KernelAction:
        if self.num_train_timesteps % self.knots:
            raise ValueError(
                f"num_train_timesteps must be a multiple of knots = {self.knots} (got {self.num_train_timesteps})"
            )
        return self

    @property
    def num_knots(self) -> int:
        """K."""
        return self.knots

    @property
    def width(self) -> int:
        """Level, and slope where every image has its own β."""
        return 2 if self.per_image else 1

    def betas(self, sweep: NDArray[Any], limits: Range) -> Array:
        """β at the knots walked so far, ``[knots, runs, 1 or 2]`` actions to ``[knots, runs]``: of an average image."""
        reference = self.knot_betas(self.reference, limits)[: len(sweep), None]
        log_betas: Array = np.log(reference) + self.scale * sweep[..., 0].astype(np.float64)
        return np.minimum(np.exp(log_betas), 0.999)

    def log_alpha_bar(self, sweep: NDArray[Any], limits: Range) -> Array:
        """log ᾱ reached after the knots walked so far, ``[runs]``."""
        steps = self.num_train_timesteps / self.knots
        reached: Array = steps * np.log1p(-self.betas(sweep, limits)).sum(axis=0)
        return reached

    def image_walk(self, sweep: NDArray[Any], deviation: LocalDeviation, limits: Range) -> Array:
        """log ᾱ of every image at the knots walked so far, 0 at the first.

        Args:
            sweep: ``[knots, runs, 2]`` actions.
            deviation: The images, and their noise.
            limits: As everywhere.

        Returns:
            ``[runs, images, knots + 1]``.
        """
        reference = np.log(self.knot_betas(self.reference, limits))
        reached = [np.zeros((sweep.shape[1], len(deviation)))]
        for log_beta, actions in zip(reference, sweep.astype(np.float64), strict=False):
            relative = relative_deviation(deviation.at_images(reached[-1]))
            level, slope = actions[:, :1], actions[:, 1:]
            betas = np.minimum(np.exp(log_beta + self.scale * (level + slope * relative)), 0.999)
            reached.append(reached[-1] + self.num_train_timesteps / self.knots * np.log1p(-betas))
        return np.stack(reached, axis=-1)

    def mean_schedules(self, log_alpha_bar: Array) -> list[Schedule]:
        """The laws of mean log ᾱ over the images of :meth:`image_walk`, one per run."""
        per_knot = self.num_train_timesteps / self.knots
        betas = -np.expm1(np.diff(log_alpha_bar.mean(axis=1), axis=-1) / per_knot)
        return [self._law(row) for row in betas.tolist()]

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        """Piecewise-constant β; of an average image, where every image has its own."""
        return [self._law(row) for row in self.betas(sweep, limits).T.tolist()], memory

    def _law(self, betas: list[float]) -> Schedule:
        return schedules.BetaKnots(betas=tuple(betas), num_train_timesteps=self.num_train_timesteps)

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        """Match the schedule's ᾱ at the next knot."""
        wanted = self.knot_betas(schedule, limits)[knot] / self.knot_betas(self.reference, limits)[knot]
        level = np.clip(math.log(wanted) / self.scale, -1.0, 1.0)
        return np.array([level, 0.0][: self.width], dtype=np.float32)

    def knot_betas(self, schedule: Schedule, limits: Range) -> Array:
        """Constant β between knots that passes through the schedule's ᾱ at them, cut to the measured range."""
        per_knot = self.num_train_timesteps // self.knots
        highest, lowest = conversions.log_alpha_bar_from_logsnr(limits)
        reached = schedule.log_alphas_cumprod(self.num_train_timesteps)[per_knot - 1 :: per_knot]
        betas: Array = -np.expm1(np.diff(reached.clip(lowest, highest), prepend=0.0) / per_knot)
        return betas.clip(1e-8, 0.999)


def relative_deviation(sigma: Array) -> Array:
    """σ_local of images ``[runs, images]`` relative to the others of the run, within ±1."""
    centred = sigma - sigma.mean(axis=1, keepdims=True)
    spread = 2.0 * sigma.std(axis=1, keepdims=True)
    relative: Array = np.where(spread > 1e-12, centred / np.maximum(spread, 1e-12), 0.0).clip(-1.0, 1.0)
    return relative
