"""A variant of the sampling environment: everything that defines it, in one frozen model and one TOML file."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import gymnasium as gym
from pydantic import Field, model_validator

from schedrl.data import AnyData
from schedrl.environments.definition import Variant
from schedrl.environments.sampling.actions import Placement
from schedrl.environments.sampling.gaussian_source import GaussianSource, ImageSource
from schedrl.environments.sampling.network_source import NetworkSource
from schedrl.environments.sampling.rewards import AnySamplingReward, PredictedReward
from schedrl.environments.sampling.two_mode_sources import CurieWeissSource, MixtureSource
from schedrl.errors import Spec
from schedrl.sources.gaussian.recursions import SamplerName

__all__ = ["PROGRESS", "AnySource", "SamplingVariant", "StepsSpec"]

AnySource = Annotated[
    GaussianSource | ImageSource | MixtureSource | CurieWeissSource | NetworkSource,
    Field(discriminator="kind"),
]
"""Any source, chosen by ``kind``."""

PROGRESS = ("budget", "log_remaining", "place")
"""What every sampling environment shows first: share of the steps left, ln(steps left) / 3, and w."""


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
        source: What is sampled; its denoiser is exact, or a trained network.
        sampler: The sampler. Mixtures and magnets need ``ddim``, networks ``ddim`` or ``heun``.
        steps: The number of steps.
        action: How a decision moves a step.
        reward: What a step earns.
    """

    family: Literal["sampling"] = "sampling"
    source: AnySource
    sampler: SamplerName = "ddim"
    steps: StepsSpec = StepsSpec()
    action: Placement = Placement()
    reward: AnySamplingReward = PredictedReward()

    @model_validator(mode="after")
    def _consistent(self) -> SamplingVariant:
        source, reference = self.source, self.action.reference
        if reference.needs_spectrum and not source.has_spectrum:
            raise ValueError(f"action.reference: '{reference.name}' is for Gaussian sources")
        source.check(self.sampler, self.reward, reference.first_sigma)
        reference.check()
        if self.sampler == "ddpm-exact":
            raise ValueError("sampler: 'ddpm-exact' has no error on any grid; there is nothing to learn")
        if self.sampler == "heun" and math.isinf(reference.first_sigma):
            raise ValueError(
                "action.reference: Heun starts from a finite sigma; name a law that does, as karras"
            )
        return self

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Name of every entry of an observation: progress, then the source and the sampler's state."""
        parts = self.source.feature_widths
        numbered = [[part] if width == 1 else [f"{part}_{i}" for i in range(width)] for part, width in parts]
        return (*PROGRESS, *(name for names in numbered for name in names))

    @property
    def episode_steps(self) -> int:
        """The greatest N."""
        return self.steps.maximum

    @property
    def image_sets(self) -> tuple[AnyData, ...]:
        return self.source.image_sets

    @property
    def overview(self) -> tuple[str, str, str]:
        low, high = self.steps.minimum, self.steps.maximum
        return "step", self.source.title, f"{low}" if low == high else f"{low} to {high}"

    @property
    def decision(self) -> str:
        return f"how far the next step goes, relative to the reference `{self.action.reference.name}`"

    def cost(self, optimizer_steps: int) -> str:
        return self.source.step_cost

    def action_space(self) -> gym.spaces.Box:
        return self.action.space()
