"""What a user writes to train one network."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schedrl import data as image_sets
from schedrl import schedules
from schedrl.data import AnyData
from schedrl.diffusion.training_spec import NETWORKS, TrainingSpec, named_network
from schedrl.errors import SchedrlError, Spec, parse, with_fields
from schedrl.metrics.metric_specs import BoundSpec
from schedrl.provenance import content_hash
from schedrl.schedules import AnySchedule

_DEFAULTS = {
    "digits": "unet-digits",
    "mnist": "unet-fashion",
    "fashion-mnist": "unet-fashion",
    "cifar10": "unet-cifar10",
}
"""The default network of an image set."""


class FitSpec(Spec):
    """A training: everything that affects its numbers.

    Attributes:
        data: The image set. The network trains on its training images; the bound uses its validation images.
        training: Network, optimizer, batch size and weight averaging.
        schedule: The training schedule.
        num_train_timesteps: T of discrete training; when absent, training is continuous in λ.
        steps: Optimizer steps.
        seed: Seed of weights, batches and noise.
        warmup_steps: Steps over which the learning rate rises linearly from 0 to its value; 0 for no warm-up.
        bound: Where the validation bound is measured.
        precision: ``"fp32"``, or ``"bf16"`` for autocast.
    """

    data: AnyData
    training: TrainingSpec
    schedule: AnySchedule = schedules.get("cosine")
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] | None = 1000
    steps: Annotated[int, Field(ge=1, le=2**53)] = 10_000
    seed: Annotated[int, Field(ge=0)] = 0
    warmup_steps: Annotated[int, Field(ge=0, le=2**53)] = 0
    bound: BoundSpec = BoundSpec(logsnr_max=13.0, logsnr_min=-5.0, levels=18, images=128)
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def fingerprint(self) -> str:
        """Hash of everything that must stay the same when a training is resumed; ``steps`` may change."""
        content = self.model_dump(mode="json", exclude={"steps"})
        content["data"].pop("root", None)
        return content_hash(content)


class Cadence(Spec):
    """How often a training logs, measures, samples and saves. It does not affect the training.

    Attributes:
        log_every: Optimizer steps between two lines of the log.
        eval_every: Optimizer steps between two measurements of the bound; 0 measures only at the end.
        sample_every: Optimizer steps between two sheets of samples; 0 draws one only at the end.
        checkpoint_every: Optimizer steps between two checkpoints.
        samples: Number of images on a sheet.
        sampler_steps: DDIM steps for each image.
    """

    log_every: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    eval_every: Annotated[int, Field(ge=0)] = 1000
    sample_every: Annotated[int, Field(ge=0)] = 2000
    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    samples: Annotated[int, Field(ge=1, le=1024)] = 32
    sampler_steps: Annotated[int, Field(ge=1, le=10_000)] = 50

    @model_validator(mode="after")
    def _whole_lines(self) -> Cadence:
        for name in ("eval_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) % self.log_every:
                raise ValueError(
                    f"{name} must be a multiple of log_every = {self.log_every} (got {getattr(self, name)})"
                )
        return self


def fit_spec(
    data: AnyData,
    network: str | None,
    overrides: dict[str, Any] | None = None,
    **fields: Any,
) -> FitSpec:
    """The training of a named network, with some fields changed.

    Args:
        data: The image set.
        network: One of :data:`schedrl.diffusion.training_spec.NETWORKS`; the image set's default when absent.
        overrides: Fields to change by their dotted names, for example ``training.batch_size``.
        fields: Top-level fields to change.
    """
    name = network or _DEFAULTS.get(data.name)
    if name is None:
        raise SchedrlError(
            f"--network: image set '{data.name}' has no default network; give one of {', '.join(NETWORKS)}"
        )
    named = named_network(name)
    content: dict[str, Any] = {
        "data": data.model_dump(mode="json"),
        "training": named.training.model_dump(mode="json"),
        "num_train_timesteps": named.num_train_timesteps,
        **fields,
    }
    if isinstance(data, image_sets.Digits) and "bound" not in content:
        content["bound"] = BoundSpec(images=100).model_dump(mode="json")
    return parse(FitSpec, with_fields(content, overrides or {}), "fit")
