"""What the experiment compares, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schedrl import schedules
from schedrl.diffusion.ava import AVASpec
from schedrl.diffusion.training_spec import DSCSpec, OptimizerSpec, TrainingSpec
from schedrl.environments.registration import training_variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec, parse
from schedrl.experiments.plan import rows_by_name
from schedrl.provenance import content_hash
from schedrl.schedules import AnySchedule

__all__ = ["DATA", "ROWS", "DataName", "Row", "Setting", "rows_named", "setting_for"]

DataName = Literal["digits", "fashion-mnist", "cifar10"]

DATA: dict[DataName, str] = {
    "digits": "schedrl/DigitsDSC-v0",
    "fashion-mnist": "schedrl/FashionDSC-v0",
    "cifar10": "schedrl/Cifar10DSC-v0",
}
"""The environment whose data, network, measurement and budget an experiment takes over."""


class Row(Spec):
    """One way of training.

    Attributes:
        name: In the table.
        what: One line for people.
        schedule: A fixed noise schedule; or
        ava: AVA's controller, which moves K at every optimizer step; or
        agent: An agent that acts in the setting's environment, phase by phase.
        dsc: DSC's constants; the optimizer is Adam when absent. An agent sets its own.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    what: str
    schedule: AnySchedule | None = None
    ava: AVASpec | None = None
    agent: str | None = None
    dsc: DSCSpec | None = None

    @model_validator(mode="after")
    def _one_law(self) -> Row:
        if sum(part is not None for part in (self.schedule, self.ava, self.agent)) != 1:
            raise ValueError("give exactly one of schedule, ava and agent")
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of what acts in it."""
        return content_hash(self.model_dump(mode="json", exclude={"what"}))


_DSC: dict[str, Any] = {"gamma": 30.0, "boost": 0.5}
"""γ and λ are not printed. With these exp(−γ β) is about 0.7 on average under the cosine, and the boost about 1.2."""

_AVA: dict[str, Any] = {"rate": 2.0}
"""η of K is not printed either. With this K travels far in the first fifty steps, while ‖∇L‖ falls faster than τ."""

ROWS: tuple[Row, ...] = (
    Row(name="linear-printed", what="β(t) = t/T, the paper's linear baseline", schedule=schedules.PrintedLinear()),
    Row(name="linear-ddpm", what="DDPM's linear β, 1e-4 to 0.02", schedule=schedules.Linear()),
    Row(name="cosine", what="improved DDPM's cosine, the paper's other baseline", schedule=schedules.Cosine()),
    Row(name="ava-fixed", what="AVA's law with K left alone", ava=AVASpec(rule="equation", rate=0.0)),
    Row(name="ava-equation", what="AVA, K by the equation", ava=AVASpec(rule="equation", **_AVA)),
    Row(name="ava-prose", what="AVA, K by the prose", ava=AVASpec(rule="prose", **_AVA)),
    Row(
        name="dsc", what="cosine and DSC, Adam's update, mean β of the batch",
        schedule=schedules.Cosine(), dsc=DSCSpec(**_DSC),
    ),
    Row(
        name="dsc-per-sample", what="cosine and DSC, each image weighted by its own β",
        schedule=schedules.Cosine(), dsc=DSCSpec(per_sample=True, **_DSC),
    ),
    Row(
        name="dsc-printed", what="cosine and DSC, the update as printed, mean β of the batch",
        schedule=schedules.Cosine(), dsc=DSCSpec(update="printed", **_DSC),
    ),
    Row(
        name="dsc-printed-per-sample", what="cosine and DSC, as printed, each image weighted by its own β",
        schedule=schedules.Cosine(), dsc=DSCSpec(update="printed", per_sample=True, **_DSC),
    ),
    Row(
        name="ava-equation-dsc", what="AVA and DSC, K by the equation",
        ava=AVASpec(rule="equation", **_AVA), dsc=DSCSpec(**_DSC),
    ),
    Row(
        name="ava-prose-dsc", what="AVA and DSC, K by the prose",
        ava=AVASpec(rule="prose", **_AVA), dsc=DSCSpec(**_DSC),
    ),
    Row(
        name="ava-dsc-tuned", what="AVA and DSC, constants tuned by CMA-ES on digits (scripts/tune_ava_dsc.py)",
        agent="ava-dsc-tuned",
    ),
    Row(name="ava-dsc-ppo", what="AVA and DSC, all four constants moved by the trained agent", agent="ppo"),
)  # fmt: skip


class Setting(Spec):
    """On what the rows are compared.

    Attributes:
        data: Name of the image set.
        variant: Environment whose data, network, measurement and budget are used.
        measure_every: Optimizer steps between two measurements of the validation bound.
        rates: Learning rates that are tried for every row; the setting's own is the fixed one.
        trial_seeds: Seeds of each trial, none of them held out.
        samples: Images drawn from every trained network for its Fréchet distance.
        sampler_steps: DDIM steps of each.
        extractor: Network whose features the distance is taken over.
    """

    data: DataName
    variant: TrainingVariant
    measure_every: Annotated[int, Field(ge=1)] = 10
    rates: tuple[Annotated[float, Field(gt=0.0, le=10.0)], ...] = (1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 4e-2, 8e-2)
    trial_seeds: Annotated[int, Field(ge=1)] = 4
    samples: Annotated[int, Field(ge=2)] = 500
    sampler_steps: Annotated[int, Field(ge=1)] = 20
    extractor: str

    @property
    def fixed_rate(self) -> float:
        """The learning rate that no row was tuned for."""
        return self.variant.training.optimizer.learning_rate

    @property
    def steps(self) -> int:
        """Optimizer steps of a run."""
        return self.variant.optimizer_steps

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the numbers."""
        own = self.model_dump(mode="json", exclude={"variant"})
        return content_hash({**own, "variant": self.variant.fingerprint()})

    def training(self, row: Row, rate: float) -> TrainingSpec:
        """How a run of the row is trained."""
        own: dict[str, Any] = {
            "dsc": row.dsc,
            "learning_rate": rate,
        }
        base = self.variant.training.optimizer.model_dump(exclude={"name", *own})
        plain = "adamw" if base["weight_decay"] else "adam"
        own["name"] = plain if row.dsc is None else "dsc"
        optimizer = OptimizerSpec(**base, **own)
        return self.variant.training.model_copy(update={"optimizer": optimizer})


_OWN: dict[DataName, dict[str, Any]] = {
    "digits": {"extractor": "digits-cnn"},
    "fashion-mnist": {
        "extractor": "fashion-cnn",
        "measure_every": 50,
        "rates": (1e-3, 3e-3, 1e-2),
        "trial_seeds": 2,
    },
    "cifar10": {"extractor": "pca", "measure_every": 100, "rates": (1e-3, 3e-3, 1e-2), "trial_seeds": 2},
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
    variant = training_variant(DATA[data], overrides)
    if variant.test_bound is None:
        raise SchedrlError(f"{variant.id}: has no test_bound, by which the rows are judged")
    content = {"data": data, "variant": variant, **_OWN[data], **fields}
    return parse(Setting, content, f"experiment on {data}")


def rows_named(names: Sequence[str] | None) -> list[Row]:
    """Rows by name, all of them when none is given.

    Raises:
        SchedrlError: There is no such row, or one is named twice.
    """
    return rows_by_name(ROWS, names)
