"""What the experiment compares, and on what."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schedrl import data as image_sets
from schedrl import schedules
from schedrl.diffusion.engines.engine import record
from schedrl.diffusion.training_spec import DSCSpec, MSFISpec, OptimizerSpec, TrainingSpec, UNetSpec
from schedrl.diffusion.unet import UNet
from schedrl.environments.registration import training_variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec, parse
from schedrl.provenance import content_hash
from schedrl.schedules import AnySchedule

__all__ = [
    "DATA",
    "ROWS",
    "DataName",
    "Row",
    "Sampling",
    "Setting",
    "network_of",
    "setting_for",
    "step_flops",
]

DataName = Literal["digits", "fashion-mnist", "cifar10"]

DATA: dict[DataName, tuple[str, str]] = {
    "digits": ("schedrl/DigitsAKOD-v0", "schedrl/DigitsKernel-v0"),
    "fashion-mnist": ("schedrl/FashionAKOD-v0", "schedrl/FashionKernel-v0"),
    "cifar10": ("schedrl/Cifar10AKOD-v0", "schedrl/Cifar10Kernel-v0"),
}
"""The environment whose data, network, measurement and budget an experiment takes over, and the one in which the kernel
of a plain network is learned."""


class Row(Spec):
    """One way of training.

    Attributes:
        name: In the table.
        what: One line for people.
        schedule: A fixed noise schedule; or
        kernel: The trained kernel of the environment with all of AKOD's parts, or of the one with a plain network.
        msfi: Multi-scale feature integration.
        modulation: β modulation.
        wide: A plain network as wide as makes a training step cost what it costs with MSFI.
        dsc: DSC's constants; the optimizer is AdamW when absent.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    what: str
    schedule: AnySchedule | None = None
    kernel: Literal["plain", "akod"] | None = None
    msfi: MSFISpec | None = None
    modulation: bool = False
    wide: bool = False
    dsc: DSCSpec | None = None

    @model_validator(mode="after")
    def _one_law(self) -> Row:
        if (self.schedule is None) == (self.kernel is None):
            raise ValueError("give exactly one of schedule and kernel")
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of what acts in it."""
        return content_hash(self.model_dump(mode="json", exclude={"what"}))

    @property
    def base(self) -> str:
        """Its name without the optimizer's."""
        return self.name.removesuffix("-dsc")


_DSC = DSCSpec(gamma=30.0, boost=0.5)
"""As in the AVA-DSC experiment."""

_COSINE = schedules.get("cosine")
_TANGENT = schedules.get("tangent", gamma=0.2)

_NEAR = MSFISpec(gap=(0.03, 0.03))

_ADAMW: tuple[Row, ...] = (
    Row(name="plain", what="the paper's baseline: a fixed schedule, the cosine, and a plain U-Net", schedule=_COSINE),
    Row(
        name="msfi", what="the cosine, with MSFI, its neighbours as far as any sampler's of ten to a thousand steps",
        schedule=_COSINE, msfi=MSFISpec(),
    ),
    Row(
        name="msfi-near", what="the cosine, with MSFI, its neighbours one of a thousand steps away",
        schedule=_COSINE, msfi=_NEAR,
    ),
    Row(name="modulation", what="the cosine, with β modulation", schedule=_COSINE, modulation=True),
    Row(name="dko", what="the learned kernel, with a plain U-Net", kernel="plain"),
    Row(name="akod", what="the learned kernel, MSFI and β modulation", kernel="akod", msfi=MSFISpec(), modulation=True),
    Row(name="wide", what="the cosine, and a plain U-Net with the arithmetic of MSFI's", schedule=_COSINE, wide=True),
    Row(name="tangent", what="a hand-made schedule, tangent 0.2, and a plain U-Net", schedule=_TANGENT),
    Row(
        name="akod-tangent", what="MSFI and β modulation under the hand-made schedule instead of the kernel",
        schedule=_TANGENT, msfi=MSFISpec(), modulation=True,
    ),
    Row(
        name="akod-tangent-near", what="the same with neighbours one of a thousand steps away",
        schedule=_TANGENT, msfi=_NEAR, modulation=True,
    ),
)  # fmt: skip

ROWS: tuple[Row, ...] = (
    *_ADAMW,
    *(
        row.model_copy(update={"name": f"{row.name}-dsc", "what": f"{row.what}; DSC", "dsc": _DSC})
        for row in _ADAMW
    ),
)


class Sampling(Spec):
    """One way of drawing samples.

    Attributes:
        sampler: ``"ddim"`` or ``"ddpm"``.
        steps: How many.
    """

    sampler: Literal["ddim", "ddpm"]
    steps: Annotated[int, Field(ge=1)]

    @property
    def label(self) -> str:
        """In the table."""
        return f"{self.sampler.upper()} {self.steps}"


class Setting(Spec):
    """On what the rows are compared.

    Attributes:
        data: Name of the image set.
        variant: Environment whose data, network, measurement and budget are used.
        measure_every: Optimizer steps between two measurements of the validation bound.
        samplings: Ways of drawing samples.
        samples: Images drawn from every trained network in each of them.
        extractor: Network whose features Fréchet distances are taken over.
    """

    data: DataName
    variant: TrainingVariant
    measure_every: Annotated[int, Field(ge=1)] = 10
    samplings: Annotated[tuple[Sampling, ...], Field(min_length=1)] = (
        Sampling(sampler="ddpm", steps=1000),
        Sampling(sampler="ddim", steps=50),
        Sampling(sampler="ddim", steps=20),
        Sampling(sampler="ddim", steps=10),
    )
    samples: Annotated[int, Field(ge=2)] = 300
    extractor: str

    @property
    def steps(self) -> int:
        """Optimizer steps of a run."""
        return self.variant.optimizer_steps

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the numbers."""
        own = self.model_dump(mode="json", exclude={"variant"})
        return content_hash({**own, "variant": self.variant.fingerprint()})

    def training(self, row: Row) -> TrainingSpec:
        """How a run of the row is trained."""
        base = self.variant.training.optimizer.model_dump(exclude={"name", "dsc"})
        optimizer = OptimizerSpec(**base, name="adamw" if row.dsc is None else "dsc", dsc=row.dsc)
        shape = image_sets.load(self.variant.data).image_shape
        network = network_of(row, self.variant.training.network, shape)
        return self.variant.training.model_copy(update={"optimizer": optimizer, "network": network})


def network_of(row: Row, base: UNetSpec, image_shape: tuple[int, int, int]) -> UNetSpec:
    """A row's network.

    Args:
        row: The row.
        base: The setting's network.
        image_shape: ``(C, H, W)``.
    """
    plain = base.model_copy(update={"msfi": None, "modulation": False})
    if row.wide:
        target = step_flops(plain.model_copy(update={"msfi": MSFISpec()}), image_shape)
        return min(
            _wider(plain),
            key=lambda spec: (abs(step_flops(spec, image_shape) / target - 1.0), spec.channels),
        )
    return plain.model_copy(update={"msfi": row.msfi, "modulation": row.modulation})


def step_flops(network: UNetSpec, image_shape: tuple[int, int, int]) -> int:
    """Floating-point operations of the matrix products that one image takes in training, forward and backward."""
    return record(UNet(network, image_shape), image_shape, 1).flops[1]


def _wider(plain: UNetSpec) -> Iterable[UNetSpec]:
    """Networks up to twice as wide at every resolution."""
    widths = [range(width, 2 * width + 1, plain.groups) for width in plain.channels]
    for channels in itertools.product(*widths):
        yield plain.model_copy(update={"channels": channels})


_OWN: dict[DataName, dict[str, Any]] = {
    "digits": {"extractor": "digits-cnn"},
    "fashion-mnist": {"extractor": "fashion-cnn", "measure_every": 50},
    "cifar10": {"extractor": "pca", "measure_every": 100},
}
"""What an image set's cost and network ask for."""


def setting_for(data: DataName, overrides: dict[str, Any] | None = None, **fields: Any) -> Setting:
    """The setting of an image set.

    Args:
        data: Its name.
        overrides: Fields of the environment to change.
        fields: Fields of the setting to change.

    Raises:
        SchedrlError: A bad field.
    """
    variant = training_variant(DATA[data][0], overrides)
    if variant.test_bound is None:
        raise SchedrlError(f"{variant.id}: has no test_bound, by which the rows are judged")
    content = {"data": data, "variant": variant, **_OWN[data], **fields}
    return parse(Setting, content, f"experiment on {data}")
