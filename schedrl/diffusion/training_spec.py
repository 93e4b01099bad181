"""Specification of one training run, and networks by name. No torch here: variants are checked without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from schedrl.data.image_data import ImageShape
from schedrl.errors import Spec, unknown_name

PredictionType = Literal["epsilon", "x0", "v"]

LOGSNR_LIMIT = 20.0
"""Networks see log-SNR clipped to ± this value: beyond it float32 images are all signal or all noise."""

DSC_TIMESTEPS = 1000
"""T at which DSC and β modulation read β_t, whether training is discrete or continuous."""

Width = Annotated[int, Field(ge=1, le=4096)]
"""Channels of a layer."""

_Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
_Distance = Annotated[float, Field(gt=0.0, le=20.0)]


class MSFISpec(Spec):
    """AKOD's multi-scale feature integration: the bottleneck also reads features of t−1 and t+1.

    The neighbours lie at a distance in log-SNR, since networks read log-SNR and the schedule changes while they train.
    In training they are the same image and noise at those levels; in sampling they are the previous step's feature and
    a one-step prediction (:mod:`schedrl.diffusion.prediction`).

    Attributes:
        fuse: ``"sum"`` of the three projections (the paper's equation) or ``"concat"`` (its prose).
        gap: Shortest and longest distance; training draws log-uniformly between them. 0.03 is one of T = 1000 cosine
            steps, 3 one step of a ten-step sampler: the default covers both. The wider the distance, the more two
            views of one image reveal about it, which a sampler never has.
        alone: Share of training images that stand in for their own neighbours, as in the one-step prediction.
    """

    fuse: Literal["sum", "concat"] = "sum"
    gap: tuple[_Distance, _Distance] = (0.03, 3.0)
    alone: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25

    @model_validator(mode="after")
    def _ordered(self) -> MSFISpec:
        if self.gap[0] > self.gap[1]:
            raise ValueError(f"gap: the shortest distance comes first (got {self.gap})")
        return self


class UNetSpec(Spec):
    """Shape of the network.

    Attributes:
        channels: Width at each resolution, from the image's down; each further entry halves the resolution.
        embedding: Width of the noise-level embedding.
        groups: Groups of the normalisation; divides every width.
        msfi: Multi-scale feature integration; none when absent.
        modulation: AKOD's β modulation: β_t of the current schedule scales and shifts the last normalisation.
    """

    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=6)] = (8, 16)
    embedding: Annotated[int, Field(ge=4, le=4096, multiple_of=2)] = 32
    groups: Width = 4
    msfi: MSFISpec | None = None
    modulation: bool = False

    @model_serializer(mode="wrap")
    def _without_absent_parts(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Parts without effect stay out of a variant's fingerprint.
        content: dict[str, Any] = serialize(self)
        if self.msfi is None:
            content.pop("msfi", None)
        if not self.modulation:
            content.pop("modulation", None)
        return content


class DSCSpec(Spec):
    """The dynamic step size of AVA-DSC: η_t = η · exp(−γ β) · min(1 + λ ‖∇L‖, ``max_factor``).

    β is the mean over the batch of β_t in (0, 0.999], the schedule's own at T = :data:`DSC_TIMESTEPS` steps; ‖∇L‖ is
    the gradient's norm before clipping.

    Attributes:
        gamma: γ.
        boost: λ.
        update: ``"adam"``: θ ← θ − η_t m̂ / (√v̂ + ε). ``"printed"``: the same times ∇L elementwise, as the paper
            prints it.
        per_sample: Weight each image's loss by exp(−γ β_t) of its own noise level instead of the rate by the mean.
        max_factor: Bound on the boost.
    """

    gamma: Annotated[float, Field(ge=0.0, le=1e4)] = 1.0
    boost: Annotated[float, Field(ge=0.0, le=1e4)] = 0.1
    update: Literal["adam", "printed"] = "adam"
    per_sample: bool = False
    max_factor: Annotated[float, Field(ge=1.0, le=1e4)] = 10.0


@dataclass(frozen=True)
class DSCCoefficients:
    """DSC's constants, one of each per run.

    Attributes:
        gamma: γ, ``[runs]`` float64, at least 0.
        boost: λ, ``[runs]`` float64, at least 0.
    """

    gamma: NDArray[np.float64]
    boost: NDArray[np.float64]


class OptimizerSpec(Spec):
    """Adam (Kingma & Ba 2015), AdamW (decoupled weight decay, Loshchilov & Hutter 2019), or AdamW under DSC.

    Attributes:
        name: ``"adam"``, ``"adamw"`` or ``"dsc"``; Adam takes no weight decay.
        learning_rate: Step size; 0 freezes the weights.
        betas: Decay of the two moment averages.
        eps: Added to the root of the second moment.
        weight_decay: AdamW's decay per unit of learning rate.
        max_gradient_norm: Each run's gradient is scaled down to this norm; none when absent.
        dsc: Constants of DSC, with name ``"dsc"`` only.
    """

    name: Literal["adam", "adamw", "dsc"] = "adam"
    learning_rate: Annotated[float, Field(ge=0.0, le=10.0)] = 3e-3
    betas: tuple[_Decay, _Decay] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    max_gradient_norm: Annotated[float, Field(gt=0.0)] | None = None
    dsc: DSCSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_constants(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("name") == "dsc" and data.get("dsc") is None:
            return {**data, "dsc": DSCSpec()}
        return data

    @model_validator(mode="after")
    def _name_fits(self) -> OptimizerSpec:
        if self.weight_decay and self.name == "adam":
            raise ValueError(
                f"weight_decay needs name 'adamw' or 'dsc' (got {self.weight_decay} with 'adam')"
            )
        if self.dsc is not None and self.name != "dsc":
            raise ValueError(f"dsc: its constants need name 'dsc' (got '{self.name}')")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_constants(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Parts without effect stay out of a variant's fingerprint.
        content: dict[str, Any] = serialize(self)
        if self.dsc is None:
            content.pop("dsc", None)
        return content


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
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    ema_decay: _Decay = 0.95

    @property
    def reads_betas(self) -> bool:
        """Whether DSC or the network's β modulation reads β_t."""
        return self.optimizer.dsc is not None or self.network.modulation


class NamedNetwork(Spec):
    """A network and the defaults of its training.

    Attributes:
        name: Its name.
        what: Description in one line.
        training: Network, optimizer and batch.
        image_shape: ``(C, H, W)`` of the images it is meant for; others need sides that can be halved as often.
        num_train_timesteps: T of its training.
    """

    name: str
    what: str
    training: TrainingSpec
    image_shape: ImageShape
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] = 1000


_SMALL: dict[str, tuple[UNetSpec, float, int, float, tuple[int, int, int]]] = {
    "digits": (UNetSpec(channels=(16, 32), embedding=32, groups=4), 3e-3, 64, 0.999, (1, 8, 8)),
    "fashion": (UNetSpec(channels=(32, 64, 64), embedding=64, groups=8), 1e-3, 64, 0.999, (1, 28, 28)),
    "cifar10": (UNetSpec(channels=(64, 128, 128), embedding=128, groups=8), 5e-4, 64, 0.9995, (3, 32, 32)),
}


def _plain(name: str) -> NamedNetwork:
    network, rate, batch, decay, shape = _SMALL[name]
    optimizer = OptimizerSpec(name="adamw", learning_rate=rate)
    training = TrainingSpec(network=network, optimizer=optimizer, batch_size=batch, ema_decay=decay)
    return NamedNetwork(
        name=f"unet-{name}", what=f"a plain U-Net for {name}", training=training, image_shape=shape
    )


def _akod(name: str) -> NamedNetwork:
    plain = _plain(name)
    network = plain.training.network.model_copy(update={"msfi": MSFISpec(), "modulation": True})
    training = plain.training.model_copy(update={"network": network})
    what = f"the same with MSFI and β modulation, for {name}"
    return plain.model_copy(update={"name": f"unet-akod-{name}", "what": what, "training": training})


NETWORKS: dict[str, NamedNetwork] = {
    each.name: each
    for each in (
        *(_plain(name) for name in _SMALL),
        *(_akod(name) for name in ("digits", "fashion")),
        NamedNetwork(
            name="unet-akod-cifar10",
            what="AKOD's network: four blocks down, four up, 512 channels at the bottleneck; AdamW 1e-4, batch 64",
            training=TrainingSpec(
                network=UNetSpec(  # of the widths, the paper prints only the last
                    channels=(64, 128, 256, 512), embedding=256, groups=32, msfi=MSFISpec(), modulation=True
                ),
                optimizer=OptimizerSpec(name="adamw", learning_rate=1e-4, weight_decay=1e-2),
                batch_size=64, ema_decay=0.9999,
            ),
            image_shape=(3, 32, 32),
        ),
    )
}  # fmt: skip
"""By name."""


def named_network(name: str) -> NamedNetwork:
    """A network by name.

    Examples:
        >>> named_network("unet-akod-cifar10").training.network.channels[-1]
        512
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return NETWORKS[name]
