"""A variant of the sampling environment: everything that defines it, in one frozen model and one TOML file."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from schedrl.data import AnyData
from schedrl.environments.definition import Variant, names_of
from schedrl.environments.sampling.placement import Placement
from schedrl.environments.sampling.rewards import AnySamplingReward, PredictedReward
from schedrl.environments.sampling.sources import AnySource
from schedrl.errors import Spec
from schedrl.sources.gaussian.recursions import SamplerName

__all__ = ["PROGRESS", "SEEN_LIMIT", "SamplingVariant", "StepsSpec"]

PROGRESS = ("budget", "log_remaining", "place")
"""What every sampling environment shows first: share of the steps left, ln(steps left) / 3, and w."""

SEEN_LIMIT = 5.0
"""Observations are clipped to ± this."""


class StepsSpec(Spec):
    """Number of sampler steps N of an episode, drawn log-uniformly between two ends.

    Attributes:
        minimum: Least N.
        maximum: Greatest N.
    """

    minimum: Annotated[int, Field(ge=1, le=1000)] = 10
    maximum: Annotated[int, Field(ge=1, le=1000)] = 10

    @model_validator(mode="after")
    def _ordered(self) -> StepsSpec:
        if self.maximum < self.minimum:
            raise ValueError(f"maximum must be at least minimum = {self.minimum} (got {self.maximum})")
        return self


class SamplingVariant(Variant):
    """Definition of one sampling environment.

    Attributes:
        id: Gymnasium id, ``namespace/Name-vN``.
        description: One line for people.
        family: Always ``"sampling"``.
        source: What is sampled; its denoiser is exact, or a trained network.
        sampler: How. Mixtures and magnets are sampled with ``ddim``, networks with ``ddim`` or ``heun``.
        steps: How many steps.
        action: How a decision moves a step.
        reward: What it earns.
    """

    family: Literal["sampling"] = "sampling"
    source: AnySource
    sampler: SamplerName = "ddim"
    steps: StepsSpec = StepsSpec()
    action: Placement = Placement()
    reward: AnySamplingReward = PredictedReward()

    @model_validator(mode="after")
    def _consistent(self) -> SamplingVariant:
        network, gaussian = self.source.kind == "network", self.source.kind in ("gaussian", "images")
        if network and self.sampler not in ("ddim", "heun"):
            raise ValueError(
                f"sampler: a network needs 'ddim' or 'heun', whose limit its teacher is (got '{self.sampler}')"
            )
        if network and self.reward.needs_prediction:
            raise ValueError(
                "reward.kind: must be 'final' for a source of kind 'network': predicting the end would run the network "
                f"to the end at every step (got '{self.reward.kind}')"
            )
        if not gaussian and not network and self.sampler != "ddim":
            raise ValueError(
                f"sampler: a source of kind '{self.source.kind}' needs 'ddim' (got '{self.sampler}')"
            )
        if self.sampler == "ddpm-exact":
            raise ValueError("sampler: 'ddpm-exact' has no error on any grid; there is nothing to learn")
        if self.action.reference.name == "geodesic" and not gaussian and not network:
            raise ValueError("action.reference: 'geodesic' is for Gaussian sources")
        reference = self.action.reference
        if reference.name == "law" and (last := reference.grid.grid(1).sigmas[-1]) > 0.0:
            raise ValueError(
                f"action.reference: grid '{reference.grid.name}' must end at 0 (ends at {last:g})"
            )
        first = reference.first_level
        if self.sampler == "heun" and math.isinf(first):
            raise ValueError(
                "action.reference: Heun starts from a finite level; name a law that does, as karras"
            )
        if not gaussian and not network and math.isfinite(first):
            raise ValueError(
                f"action.reference: must start at infinity for a source of kind '{self.source.kind}'"
            )
        return self

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Name of every entry of an observation: progress, then the source and the sampler's state."""
        return names_of([*((name, 1) for name in PROGRESS), *self.source.feature_widths])

    @property
    def episode_steps(self) -> int:
        """The greatest N."""
        return self.steps.maximum

    @property
    def optimizer_steps(self) -> int:
        """None: nothing is trained inside."""
        return 0

    @property
    def image_sets(self) -> tuple[AnyData, ...]:
        """The one whose spectrum is the source, or what a network's source names."""
        images = self.source.data if self.source.kind in ("images", "network") else None
        return () if images is None else (images,)

    def observation_space(self) -> gym.spaces.Box:
        """Box of ±5, one entry per name."""
        return gym.spaces.Box(-SEEN_LIMIT, SEEN_LIMIT, (len(self.observation_names),), np.float32)

    def action_space(self) -> gym.spaces.Box:
        """Box of [−1, 1], one entry."""
        return self.action.space()
