"""What a user writes about one training run (no torch here: variants are checked without loading it)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schedrl.errors import Spec

__all__ = ["LOGSNR_LIMIT", "OptimizerSpec", "PredictionType", "TrainingSpec", "UNetSpec"]

PredictionType = Literal["epsilon", "x0", "v"]

LOGSNR_LIMIT = 20.0
"""Networks see log-SNR clipped to ± this value: beyond it float32 images are all signal or all noise."""


class UNetSpec(Spec):
    """Shape of the network.

    Attributes:
        channels: Width at each resolution, from the image's down; each further entry halves the resolution.
        embedding: Width of the noise-level embedding.
        groups: Groups of the normalisation; divides every width.
    """

    channels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=6)
    ] = (8, 16)
    embedding: Annotated[int, Field(ge=4, le=4096, multiple_of=2)] = 32
    groups: Annotated[int, Field(ge=1)] = 4


class OptimizerSpec(Spec):
    """Adam (Kingma & Ba 2015) or AdamW (decoupled weight decay, Loshchilov & Hutter 2019).

    Attributes:
        name: ``"adam"`` or ``"adamw"``; Adam takes no weight decay.
        learning_rate: Step size; 0 freezes the weights.
        betas: Decay of the two moment averages.
        eps: Added to the root of the second moment.
        weight_decay: AdamW's decay per unit of learning rate.
        max_gradient_norm: Each run's gradient is scaled down to this norm; none when absent.
    """

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(ge=0.0, le=10.0)] = 3e-3
    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (
        0.9,
        0.999,
    )
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    max_gradient_norm: Annotated[float, Field(gt=0.0)] | None = None

    @model_validator(mode="after")
    def _decay_needs_adamw(self) -> OptimizerSpec:
        if self.weight_decay and self.name != "adamw":
            raise ValueError(f"weight_decay needs name 'adamw' (got {self.weight_decay} with '{self.name}')")
        return self


class TrainingSpec(Spec):
    """How one diffusion network is trained.

    Attributes:
        network: Shape of the U-Net.
        prediction_type: What the network estimates: ``"epsilon"``, ``"x0"`` or ``"v"``.
        optimizer: The optimizer and its constants.
        batch_size: Images per optimizer step.
        ema_decay: Decay per step of the averaged weights that are evaluated; 0 evaluates the last weights. The decay
            is shortened at the start to ``(1 + step) / (10 + step)``.
    """

    network: UNetSpec = UNetSpec()
    prediction_type: PredictionType = "epsilon"
    optimizer: OptimizerSpec = OptimizerSpec()
    batch_size: Annotated[int, Field(ge=1)] = 32
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
