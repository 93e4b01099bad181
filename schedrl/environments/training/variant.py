"""A variant of the training environment: everything that defines it, in one frozen model and one TOML file."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import gymnasium as gym
from pydantic import Field, model_validator

from schedrl.data import AnyData
from schedrl.diffusion.training_spec import TrainingSpec
from schedrl.environments.definition import Variant
from schedrl.environments.training.actions import AnyAction
from schedrl.environments.training.observations import ObservationSpec
from schedrl.environments.training.rewards import AnyReward, BoundReward
from schedrl.errors import Spec
from schedrl.metrics.metric_specs import BoundSpec
from schedrl.provenance import content_hash

__all__ = ["EpisodeSpec", "TrainingVariant"]


class EpisodeSpec(Spec):
    """How an episode is cut.

    Attributes:
        phases: Times the agent decides a schedule.
        steps_per_phase: Optimizer steps under each.
        divergence_error: Mean ε error of the bound at which a run counts as diverged; predicting no noise has 1.
            Where an untrained network has more (as one that predicts x0 does), in units of that.
        gradient_decay: Decay per optimizer step of the average of gradient norms (AVA's τ).
    """

    phases: Annotated[int, Field(ge=1, le=10_000)] = 1
    steps_per_phase: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    divergence_error: Annotated[float, Field(gt=1.0)] = 10.0
    gradient_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98


class TrainingVariant(Variant):
    """Definition of one training environment.

    Attributes:
        data: The image set.
        training: Network, optimizer and batch.
        action: What the agent decides.
        observation: What it sees.
        reward: What it earns.
        bound: Where the validation bound is measured.
        test_bound: The same on test images, for reports; ``None`` leaves it out (as training an agent does).
        episode: Phases and their length.
        num_train_timesteps: Train on the T discrete steps of the schedule; continuously in λ when absent. The
            ``kernel`` action has its own T.
    """

    while_learning: ClassVar[dict[str, Any]] = {"test_bound": None}

    family: Literal["training"] = "training"
    data: AnyData
    training: TrainingSpec = TrainingSpec()
    action: AnyAction
    observation: ObservationSpec = ObservationSpec()
    reward: AnyReward = BoundReward()
    bound: BoundSpec = BoundSpec()
    test_bound: BoundSpec | None = BoundSpec()
    episode: EpisodeSpec = EpisodeSpec()
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> TrainingVariant:
        own = self.action.own_timesteps
        if own is not None and self.num_train_timesteps not in (None, own):
            raise ValueError(
                f"num_train_timesteps: the {self.action.kind} action has its own; leave this one out"
            )
        self.action.check_training(self.training)
        if self.observation.bins > self.bound.levels:
            raise ValueError(
                f"observation.bins: at most bound.levels = {self.bound.levels} (got {self.observation.bins})"
            )
        return self

    @property
    def timesteps(self) -> int | None:
        """T of the training noise, or None for continuous λ."""
        return self.action.own_timesteps or self.num_train_timesteps

    @property
    def optimizer_steps(self) -> int:
        """Budget of an episode."""
        return self.episode.phases * self.episode.steps_per_phase

    @property
    def episode_steps(self) -> int:
        """Environment steps in an episode that does not diverge: one per knot and phase."""
        return self.episode.phases * self.action.num_knots

    @property
    def observation_names(self) -> tuple[str, ...]:
        return self.observation.names

    @property
    def image_sets(self) -> tuple[AnyData, ...]:
        """The one it trains on."""
        return (self.data,)

    @property
    def overview(self) -> tuple[str, str, str]:
        return self.action.kind, self.data.name, f"{self.episode.phases} x {self.episode.steps_per_phase}"

    @property
    def decision(self) -> str:
        return f"by the action kind `{self.action.kind}`"

    def cost(self, optimizer_steps: int) -> str:
        runs = optimizer_steps / self.optimizer_steps
        return (
            f"That spent {optimizer_steps} inner optimizer steps,\n{runs:.0f} times those of one training run. Test "
            "images were not used."
        )

    def action_space(self) -> gym.spaces.Box | gym.spaces.Discrete:
        return self.action.space()

    def protocol_fingerprint(self) -> str:
        """Hash of what a schedule is tried on: data, training, measurement and budget, without the agent's side.

        Test bounds of two environments can be compared exactly when these agree.
        """
        content = self.model_dump(
            mode="json", include={"data", "training", "bound", "test_bound"}, exclude={"data": {"root"}}
        )
        content["optimizer_steps"] = self.optimizer_steps
        return content_hash(content)
