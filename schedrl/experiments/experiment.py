"""A paper's experiment: the rows it compares, the setting it compares them in, and the folder that holds it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from schedrl.diffusion.training_spec import DSCSpec, OptimizerSpec, UNetSpec
from schedrl.environments.registration import training_variant
from schedrl.environments.training.runs import TrainingRuns
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec, parse, unknown_name
from schedrl.experiments.records import DataName, ExperimentSetting
from schedrl.experiments.row_runs import RowRuns
from schedrl.experiments.row_training import AgentDriver, Driver, FixedDriver, TrainedRow, train_watched
from schedrl.files import dump_json, read_model, write_text
from schedrl.metrics.population_samples import own_features
from schedrl.policies.agents import Agent
from schedrl.provenance import content_hash
from schedrl.report.claims import Claim
from schedrl.report.document import Block
from schedrl.schedules import AnySchedule

EXPERIMENT = "experiment.json"

_IMAGE_SETS: dict[DataName, tuple[str, int]] = {
    "digits": ("Digits", 10),
    "fashion-mnist": ("Fashion", 50),
    "cifar10": ("Cifar10", 100),
}
"""What image sets are called in the ids of environments, and optimizer steps between two measurements."""


def environment_of(data: DataName, kind: str) -> str:
    """Id of the environment of a kind on an image set, for example ``schedrl/DigitsAKOD-v0``."""
    return f"schedrl/{_IMAGE_SETS[data][0]}{kind}-v0"


class ExperimentRow(Spec):
    """One way of training. Papers add their own fields.

    Attributes:
        name: Name in the tables.
        what: One line for people.
        schedule: A fixed schedule, if the row has one.
        dsc: Constants of DSC; without them the optimizer is AdamW, or Adam if the setting has no weight decay.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    what: str
    schedule: AnySchedule | None = None
    dsc: DSCSpec | None = None

    @classmethod
    def of(cls, name: str, what: str, schedule: AnySchedule | None = None, **fields: Any) -> Self:
        return cls(name=name, what=what, schedule=schedule, **fields)

    @property
    def fingerprint(self) -> str:
        """Hash of everything the row says about its training."""
        return content_hash(self.model_dump(mode="json", exclude={"what"}))

    def acting_agent(self, setting: ExperimentSetting) -> Agent | None:
        """The agent that chooses the schedules, None if no agent does."""
        return None

    def network(self, setting: ExperimentSetting) -> UNetSpec:
        return setting.variant.training.network

    def optimizer(self, setting: ExperimentSetting, rate: float | None) -> OptimizerSpec:
        base = setting.variant.training.optimizer
        plain = "adamw" if base.weight_decay else "adam"
        own: dict[str, Any] = {"name": plain if self.dsc is None else "dsc", "dsc": self.dsc}
        own |= {} if rate is None else {"learning_rate": rate}
        return OptimizerSpec(**(base.model_dump() | own))

    def variant(self, setting: ExperimentSetting, rate: float | None = None) -> TrainingVariant:
        """The setting's environment with the row's network and optimizer; its own learning rate if none is given."""
        changes = {"network": self.network(setting), "optimizer": self.optimizer(setting, rate)}
        training = setting.variant.training.model_copy(update=changes)
        return setting.variant.model_copy(update={"training": training})

    def driver(self, setting: ExperimentSetting, runs: TrainingRuns) -> Driver:
        if (agent := self.acting_agent(setting)) is not None:
            return AgentDriver(agent, runs)
        assert self.schedule is not None
        return FixedDriver(self.schedule, runs.population, runs.variant.timesteps)

    def train(
        self, setting: ExperimentSetting, seeds: Sequence[int], rate: float | None = None, *, steps: int | None = None,
        tested: bool = True, device: str = "cpu",
    ) -> TrainedRow:  # fmt: skip
        """Train one run per seed of weights, batches and noise.

        Learning rate and steps are the setting's own when absent; ``tested`` asks for the bound on test images.
        """
        runs = TrainingRuns(self.variant(setting, rate), len(seeds), device)
        for run, seed in enumerate(seeds):
            runs.start(run, seed)
        driver = self.driver(setting, runs)
        return train_watched(driver, runs, steps or setting.steps, setting.measure_every, tested=tested)

    def identity(self, setting: ExperimentSetting, seeds: Sequence[int] = ()) -> tuple[str, int]:
        """Hash of what the row trains with, and the optimizer steps spent on its agent.

        An agent that is missing, does not fit the environment or was trained from one of the seeds is an error.
        """
        if (agent := self.acting_agent(setting)) is None:
            return self.fingerprint, 0
        agent.policy(self.variant(setting))  # raises if it cannot act there
        agent.check_held_out(seeds, agent.name)
        return content_hash([self.fingerprint, agent.definition()]), agent.search_cost


class Experiment(Spec, ABC):
    """An experiment as its folder's ``experiment.json`` says it; a subclass for each paper.

    Attributes:
        setting: The setting.
        rows: The rows.
        identities: Hash of what each row trains with, including an agent's constants or weights.
        search_steps: Optimizer steps spent on each row's agent.
        seeds: Held-out seeds.
        device: Torch device.
        options: Options of the command line other than data, seeds and folder, for the report.

        title: The paper's method; in lower case its name on the command line.
        all_rows: All rows.
        environment: Kind of the environment that sets data, network, measurement and budget, as its id has it.
        defaults: Fields of the setting.
        large_defaults: Fields that differ where the image set is not digits.
        num_seeds: Number of held-out seeds by default.
        learned: Names of the rows with a trained agent.
        columns: Columns of the tables, as the report knows them.
        timed: Whether to time an optimizer step of all rows in turns at the end.
        reading: How to read the verdicts.
        remark: A remark on the tables.
        inconsistencies: Statements of the paper that contradict each other, arithmetic or what is possible.
    """

    title: ClassVar[str]
    all_rows: ClassVar[tuple[ExperimentRow, ...]]
    environment: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]]
    large_defaults: ClassVar[Mapping[str, Any]] = {}
    num_seeds: ClassVar[int]
    learned: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]
    timed: ClassVar[bool] = False
    reading: ClassVar[str]
    remark: ClassVar[str]
    inconsistencies: ClassVar[tuple[str, ...]]

    setting: ExperimentSetting
    rows: tuple[ExperimentRow, ...]
    identities: tuple[str, ...]
    search_steps: tuple[int, ...]
    seeds: tuple[int, ...]
    device: str = "cpu"
    options: tuple[str, ...] = ()

    # --- what a paper adds ---

    @staticmethod
    @abstractmethod
    def baseline(row: str) -> str:
        """Name of the row that a row is compared with in the tables."""

    @staticmethod
    @abstractmethod
    def claims(table: Sequence[RowRuns]) -> list[Claim]:
        """Verdicts on the paper's claims, as far as the rows they need are there."""

    @abstractmethod
    def pictures(self, table: Sequence[RowRuns]) -> list[Block]:
        """Figures, and what belongs to them."""

    @staticmethod
    def summary(table: Sequence[RowRuns]) -> str:
        """The main result in one sentence; empty if its rows are missing."""
        return ""

    # --- what the papers share ---

    @classmethod
    def make_setting(
        cls, data: DataName, overrides: Mapping[str, Any] | None = None, **fields: Any
    ) -> ExperimentSetting:
        """The setting for an image set; ``overrides`` change the environment, and ``fields`` the setting itself."""
        variant = training_variant(environment_of(data, cls.environment), dict(overrides or {}))
        if variant.test_bound is None:
            raise SchedrlError(f"{variant.id}: has no test_bound, by which the rows are judged")
        large = {} if data == "digits" else cls.large_defaults
        content = {
            "data": data, "variant": variant, "measure_every": _IMAGE_SETS[data][1],
            "extractor": own_features(variant.data), **cls.defaults, **large, **fields,
        }  # fmt: skip
        return parse(ExperimentSetting, content, f"experiment on {data}")

    @classmethod
    def rows_named(cls, names: Sequence[str] | None) -> list[ExperimentRow]:
        """Rows by name; all of them if no names are given."""
        known = {row.name: row for row in cls.all_rows}
        for place, name in enumerate(names or ()):
            if name not in known:
                raise unknown_name("row", name, known)
            if names is not None and name in names[:place]:
                raise SchedrlError(f"row '{name}': is named twice")
        return [known[name] for name in names or known]

    @classmethod
    def available_rows(cls, setting: ExperimentSetting) -> tuple[list[ExperimentRow], list[str]]:
        """The rows whose agents are there, and notes on the others."""
        kept, notes = [], []
        for row in cls.all_rows:
            try:
                row.identity(setting)
            except SchedrlError as error:
                notes.append(f"without row '{row.name}': {error}")
            else:
                kept.append(row)
        return kept, notes

    @property
    def optimizer_steps(self) -> int:
        """Optimizer steps of the whole experiment: trials, and runs at the fixed and at the best learning rate."""
        runs = len(self.seeds) * len(self.setting.passes)
        return (self.setting.trial_steps + runs * self.setting.steps) * len(self.rows)

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """For each row, what the keys of its trials and runs begin with: its name, its hash and the setting's hash."""
        setting = self.setting.fingerprint
        return [(row.name, key, setting) for row, key in zip(self.rows, self.identities, strict=True)]

    @classmethod
    def read(cls, folder: Path) -> Self:
        path = folder / EXPERIMENT
        if not os.path.exists(path):
            raise SchedrlError(
                f"experiment folder {folder}: has no {EXPERIMENT}; `schedrl experiment` writes it"
            )
        return read_model(path, cls, "experiment file")

    def claim(self, folder: Path) -> Self:
        """Write the experiment into a folder, and return it with the rows and seeds that were there already.

        Raises:
            SchedrlError: The folder holds another experiment, or cannot be written.
        """
        whole = self
        if os.path.exists(folder / EXPERIMENT):
            before = self.read(folder)
            same = before.setting.fingerprint == self.setting.fingerprint
            if not same or before.device != self.device:
                other = f"runs on '{before.device}'" if same else "one in another setting"
                raise SchedrlError(f"experiment folder {folder}: holds {other}; choose another folder (-f)")
            whole = before._joined(self)
        write_text(folder / EXPERIMENT, dump_json(whole.model_dump(mode="json")))
        return whole

    def _joined(self, later: Self) -> Self:
        """Rows and seeds of both; where a row is in both, the later one's."""
        joined = {
            row.name: (row, key, cost)
            for each in (self, later)
            for row, key, cost in zip(each.rows, each.identities, each.search_steps, strict=True)
        }
        rows, identities, costs = zip(*joined.values(), strict=True)
        options = [option for option in later.options if not option.startswith("--rows")]
        if any(option.startswith("--rows") for option in (*self.options, *later.options)):
            options.append(f"--rows {','.join(joined)}")
        seeds = tuple(sorted({*self.seeds, *later.seeds}))
        changes = {"identities": identities, "search_steps": costs, "seeds": seeds, "options": tuple(options)}
        return later.model_copy(update={"rows": rows, **changes})
