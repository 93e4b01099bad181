"""A variant of the training environment: everything that defines it, in one frozen model and one TOML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schedrl.data import AnyData
from schedrl.diffusion.spec import TrainingSpec
from schedrl.environments.actions import AnyAction
from schedrl.environments.observations import ObservationSpec
from schedrl.environments.rewards import AnyReward, BoundReward
from schedrl.errors import SchedrlError, Spec, parse
from schedrl.metrics.spec import BoundSpec

__all__ = ["EpisodeSpec", "TrainingVariant", "apply_overrides"]


class EpisodeSpec(Spec):
    """How an episode is cut.

    Attributes:
        phases: Times the agent decides a schedule.
        steps_per_phase: Optimizer steps under each.
        divergence_error: Mean ε error of the bound at which a run counts as diverged; predicting no noise has 1.
            Where an untrained network has more (as one that predicts x0 does), in units of that.
        gradient_decay: Decay per optimizer step of the average of gradient norms (paper A's τ).
    """

    phases: Annotated[int, Field(ge=1, le=10_000)] = 1
    steps_per_phase: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    divergence_error: Annotated[float, Field(gt=1.0)] = 10.0
    gradient_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98


class TrainingVariant(Spec):
    """Definition of one training environment.

    Attributes:
        id: Gymnasium id, ``namespace/Name-vN``.
        description: One line for people.
        family: Always ``"training"``.
        data: The image set.
        training: Network, optimizer and batch.
        action: What the agent decides.
        observation: What it sees.
        reward: What it earns.
        bound: Where the validation bound is measured.
        test_bound: The same on test images, for reports; ``None`` leaves it out (as training an agent does).
        episode: Phases and their length.
        num_train_timesteps: Train on the T discrete steps of the schedule; continuously in λ when absent. The
            ``kernel`` action brings its own T.
    """

    id: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+-v\d+$")]
    description: str = ""
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
        own_timesteps = self.action.num_train_timesteps if self.action.kind == "kernel" else None
        if own_timesteps is not None and self.num_train_timesteps not in (None, own_timesteps):
            raise ValueError("num_train_timesteps: the kernel action brings its own; leave this one out")
        if self.observation.bins > self.bound.levels:
            raise ValueError(
                f"observation.bins: at most bound.levels = {self.bound.levels} (got {self.observation.bins})"
            )
        return self

    @property
    def timesteps(self) -> int | None:
        """T of the training noise, or None for continuous λ."""
        return self.action.num_train_timesteps if self.action.kind == "kernel" else self.num_train_timesteps

    @property
    def optimizer_steps(self) -> int:
        """Budget of an episode."""
        return self.episode.phases * self.episode.steps_per_phase

    def fingerprint(self) -> str:
        """Hash of everything that acts: equal for equal environments, whatever their id and description.

        ``data.root`` says where the files lie, not what they are, and does not enter either.
        """
        content = self.model_dump(mode="json", exclude={"id": True, "description": True, "data": {"root"}})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def protocol_fingerprint(self) -> str:
        """Hash of what a schedule is tried on: data, training, measurement and budget, without the agent's side.

        Test bounds of two environments can be compared exactly when these agree.
        """
        content = self.model_dump(
            mode="json", include={"data", "training", "bound", "test_bound"}, exclude={"data": {"root"}}
        )
        content["optimizer_steps"] = self.optimizer_steps
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def apply_overrides(definition: Mapping[str, Any], overrides: Mapping[str, Any]) -> TrainingVariant:
    """Change fields of a variant by their own names.

    A nested field is given as a dictionary (``training={"batch_size": 64}``) or with dots
    (``**{"training.batch_size": 64}``). A dictionary that names another ``name`` or ``kind`` replaces its
    counterpart, any other is merged into it.

    Args:
        definition: The variant as plain data.
        overrides: What to change; later ones win. Plain data or models.

    Returns:
        The changed variant; neither argument is touched.

    Raises:
        SchedrlError: Unknown field or bad value.

    Examples:
        >>> knots = {"kind": "knots", "bins": 4, "reference": "cosine"}
        >>> base = {"id": "me/Mine-v0", "data": {"name": "digits"}, "action": knots}
        >>> changed = apply_overrides(base, {"action.bins": 8, "action.reference": {"name": "linear"}})
        >>> changed.action.bins, changed.action.reference.name
        (8, 'linear')
    """
    merged: dict[str, Any] = json.loads(json.dumps(dict(definition)))
    for key, value in overrides.items():
        # A copy: a later override of the same field must not reach into what the caller passed.
        nested: Any = value.model_dump(mode="json") if isinstance(value, Spec) else deepcopy(value)
        for part in reversed(key.split(".")[1:]):
            nested = {part: nested}
        _merge(merged, {key.split(".")[0]: nested})
    return parse(TrainingVariant, merged, str(definition.get("id", "variant")))


def _merge(target: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        old = target.get(key)
        if isinstance(value, Mapping) and isinstance(old, dict) and _same_kind(old, value):
            _merge(old, value)
        else:
            target[key] = value


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether neither names something else; a name that was left to its default counts as the same."""
    return all(new[tag] == old[tag] for tag in ("kind", "name") if tag in new and tag in old)


def read_definition(text: str, source: str) -> dict[str, Any]:
    """Parse a variant's TOML.

    Raises:
        SchedrlError: Not TOML.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchedrlError(f"{source}: not a TOML file: {error}") from None
