"""AKOD's dynamic kernel optimizer outside the environment: β_t = f(t, σ_local), where f is a trained policy.

A kernel that was trained in an environment with the action kind ``kernel`` sets β at knots in t from what it sees
there. Here the same function makes one schedule for given images or one for each, and steps a sampler by the σ_local of
its present state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.diffusion.local_variance import LocalDeviation, local_deviation
from schedrl.diffusion.process import alpha_sigma
from schedrl.environments.training.actions import KernelAction, relative_deviation
from schedrl.environments.training.observations import RunView
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import TrainedAgent, find
from schedrl.policies.policy import Policy
from schedrl.schedules import BetaKnots
from schedrl.schedules.conversions import log_alpha_bar_from_logsnr, logsnr_from_log_alpha_bar

__all__ = ["DKO"]

Array = NDArray[np.float64]

_FEATURES = ("time", "sigma_local", "logsnr", "budget")
"""Observations that exist outside an environment."""


@dataclass(frozen=True)
class DKO:
    """A kernel.

    Attributes:
        policy: The policy network, f.
        variant: The environment that it was trained in.
        budget: The share of the training still to come that it is shown, if it sees one.

    Examples:
        >>> kernel = DKO.load("ppo", "schedrl/DigitsKernel-v0")
        >>> kernel.betas(0.5, np.array([0.4]), np.array([0.0])).shape  # of states at t = T/2
        (1,)
    """

    policy: Policy
    variant: TrainingVariant
    budget: float = 1.0

    @classmethod
    def load(cls, agent: str | Path, env_id: str = "schedrl/DigitsKernel-v0", *, budget: float = 1.0) -> Self:
        """Load a trained kernel.

        Args:
            agent: Folder of a trained agent, or ``"ppo"`` for the shipped one.
            env_id: The environment whose shipped agent is meant.
            budget: See the attribute.

        Raises:
            SchedrlError: There is none, it is no kernel, or it needs an observation that only a training has.
        """
        found = find(str(agent), env_id)
        if not isinstance(found, TrainedAgent):
            raise SchedrlError(f"agent '{found.name}': is no trained kernel; `schedrl train` makes one")
        variant = found.file().variant
        if not isinstance(variant, TrainingVariant) or not isinstance(variant.action, KernelAction):
            raise SchedrlError(
                f"agent '{found.name}': was trained in {variant.id}, whose actions are no kernel's"
            )
        unknown = [name for name in variant.observation.features if name not in _FEATURES]
        if unknown:
            raise SchedrlError(
                f"agent '{found.name}': sees '{unknown[0]}', which exists only in a training; outside, a kernel can "
                f"see {', '.join(_FEATURES)}"
            )
        return cls(found.policy(variant), variant, budget)

    @property
    def action(self) -> KernelAction:
        """How its actions become β."""
        assert isinstance(self.variant.action, KernelAction)
        return self.variant.action

    def betas(self, time: float, sigma_local: Array, logsnr: Array) -> Array:
        """f(t, σ_local): β per step of the T that it was trained with.

        Args:
            time: t/T of the data end of the interval in which β holds, in [0, 1).
            sigma_local: Of every state ``[n]``, images in [−1, 1]. A kernel over single images compares them with
                each other.
            logsnr: Of every state ``[n]``.

        Returns:
            ``[n]``, in (0, 0.999].
        """
        if not 0.0 <= time < 1.0:
            raise SchedrlError(f"time: must lie in [0, 1) (got {time})")
        action, limits = self.action, (self.variant.bound.logsnr_max, self.variant.bound.logsnr_min)
        sigma = np.asarray(sigma_local, dtype=np.float64)
        seen = np.atleast_1d(sigma.mean()) if action.per_image else sigma
        lambdas = np.asarray(logsnr, dtype=np.float64)
        decided = self._decide(time, seen, np.atleast_1d(lambdas.mean()) if action.per_image else lambdas)
        change = decided[:, 0]
        if action.per_image:
            change = change + decided[:, 1] * relative_deviation(sigma[None])[0]
        reference = action.knot_betas(action.reference, limits)[int(time * action.knots + 1e-9)]
        betas: Array = np.minimum(np.exp(np.log(reference) + action.scale * change), 0.999)
        return betas

    def schedule(self, images: NDArray[np.float32]) -> BetaKnots:
        """The schedule of a batch: the one that a training on these images would use.

        Args:
            images: ``[n, C, H, W]`` in [−1, 1]. An environment looks at its first 32 training images.

        Returns:
            β at every knot; :meth:`schedrl.schedules.Schedule.betas` gives them at any T.
        """
        betas = self._walk(images, each=self.action.per_image)
        if not self.action.per_image:
            return self._schedule(betas[:, 0])
        per_knot = self.action.num_train_timesteps / self.action.knots
        mean = np.log1p(-betas).mean(axis=1) * per_knot
        return self._schedule(-np.expm1(mean / per_knot))

    def image_schedules(self, images: NDArray[np.float32]) -> list[BetaKnots]:
        """The schedule of each image ``[n, C, H, W]``, in [−1, 1], by its own σ_local."""
        return [self._schedule(row) for row in self._walk(images, each=True).T]

    def sample(
        self,
        predict_epsilon: Callable[[Tensor, Tensor], Tensor],
        start: Tensor,
        num_steps: int,
        *,
        start_logsnr: float,
        per_image: bool = False,
    ) -> Tensor:
        """DDIM whose steps follow the kernel: β_t from σ_local of the state x_t it is in.

        Walking back from t = T in equal steps of t, ᾱ ← ᾱ / (1 − β_t)^{T/N}; the last step ends at the clean image.

        Args:
            predict_epsilon: As of a population of one run: z ``[1, n, C, H, W]``, log-SNR ``[1, n]``.
            start: Standard normal numbers ``[n, C, H, W]``.
            num_steps: N.
            start_logsnr: Log-SNR of the start: where the kernel's walk over such images ends, the last of
                ``schedule(images).logsnr_steps(T)``.
            per_image: Step each image by its own σ_local instead of the mean.

        Returns:
            Images shaped as ``start``.
        """
        if num_steps < 1:
            raise SchedrlError(f"num_steps: must be at least 1 (got {num_steps})")
        logsnr = np.full(len(start), start_logsnr)
        share = self.action.num_train_timesteps / num_steps
        z = start
        for step in range(num_steps - 1, -1, -1):
            here = torch.from_numpy(logsnr).to(start)
            noise = predict_epsilon(z[None], here[None])[0]
            alpha, sigma = (part.to(start) for part in alpha_sigma(here.double(), z.ndim))
            x0 = (z - sigma * noise) / alpha
            if step == 0:
                return x0
            seen = local_deviation(z.double()).cpu().numpy()
            if per_image or self.action.per_image:
                betas = self.betas(step / num_steps, seen, logsnr)
            else:
                betas = self.betas(step / num_steps, seen.mean(keepdims=True), logsnr[:1])
            reached = log_alpha_bar_from_logsnr(logsnr) - share * np.log1p(-betas)
            logsnr = np.minimum(
                logsnr_from_log_alpha_bar(np.minimum(reached, -1e-12)), self.variant.bound.logsnr_max
            )
            there = torch.from_numpy(logsnr).to(start)
            alpha, sigma = (part.to(start) for part in alpha_sigma(there.double(), z.ndim))
            z = alpha * x0 + sigma * noise
        return z

    def _decide(self, time: float, sigma: Array, logsnr: Array) -> Array:
        """Actions ``[n, width]``."""
        n, levels = len(sigma), self.variant.bound.levels
        view = RunView(
            time=np.full(n, time), sigma_local=sigma, logsnr=logsnr, budget=np.full(n, self.budget),
            mse=np.ones((n, levels)), gradient_norm=np.ones(n), gradient_average=np.ones(n), memory=np.zeros((n, 0)),
        )  # fmt: skip
        rows = self.variant.observation.observe(view)
        actions, _ = self.policy.predict(rows, None, np.ones(n, dtype=np.bool_), deterministic=True)
        return np.asarray(actions, dtype=np.float64)

    def _walk(self, images: NDArray[np.float32], *, each: bool) -> Array:
        """β ``[knots, images]`` of each image's own walk, or ``[knots, 1]`` of the walk by the mean σ_local."""
        if images.ndim != 4 or len(images) == 0:
            raise SchedrlError(f"images: must be [n, C, H, W] with at least one (got shape {images.shape})")
        deviation, knots = LocalDeviation.of(images), self.action.knots
        reached, betas = np.zeros(len(images) if each else 1), []  # log ᾱ
        for knot in range(knots):
            # An environment shows its own data end where nothing has been added yet.
            walked = logsnr_from_log_alpha_bar(reached)
            logsnr = np.where(reached == 0.0, self.variant.bound.logsnr_max, walked)
            sigma = deviation.at_images(reached) if each else deviation.at(reached)
            betas.append(self.betas(knot / knots, sigma, logsnr))
            reached = reached + self.action.num_train_timesteps / knots * np.log1p(-betas[-1])
        return np.stack(betas)

    def _schedule(self, betas: Array) -> BetaKnots:
        return BetaKnots(betas=tuple(betas.tolist()), num_train_timesteps=self.action.num_train_timesteps)
