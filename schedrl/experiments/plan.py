"""What an experiment compares, and the folder that says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from pydantic import SerializeAsAny, ValidationError

from schedrl.errors import SchedrlError, Spec
from schedrl.files import dump_json, write_text
from schedrl.policies.agents import TrainedAgent

__all__ = [
    "PLAN",
    "ExperimentPlan",
    "Progress",
    "claim_folder",
    "read_plan",
    "rows_by_name",
    "sorted_out",
    "trained_identity",
]

PLAN = "experiment.json"


class HasFingerprint(Protocol):
    """A setting."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the numbers."""


class HasName(Protocol):
    """A row."""

    @property
    def name(self) -> str:
        """In the table."""


SettingT = TypeVar("SettingT", bound=Spec)
RowT = TypeVar("RowT", bound=Spec)


@dataclass(frozen=True)
class Progress:
    """Where an experiment stands.

    Attributes:
        done: Optimizer steps taken or found in the files.
        total: Of the whole.
        doing: What is at work.
    """

    done: int
    total: int
    doing: str


class ExperimentPlan(Spec, Generic[SettingT, RowT]):
    """What is compared.

    Attributes:
        setting: On what.
        rows: What.
        identities: Hash of what acts in each row; of an agent's constants or weights, too.
        search_steps: Optimizer steps that finding each row's agent cost.
        seeds: Held-out seeds.
        device: Where.
        options: Of the command line, beyond data, seeds and folder.
    """

    setting: SerializeAsAny[SettingT]
    rows: tuple[RowT, ...]
    identities: tuple[str, ...]
    search_steps: tuple[int, ...]
    seeds: tuple[int, ...]
    device: str = "cpu"
    options: tuple[str, ...] = ()

    def joined(self, later: Self) -> Self:
        """Both plans' rows and seeds; where a row is in both, the later one's."""
        table = {
            row.name: (row, key, cost)  # type: ignore[attr-defined]
            for each in (self, later)
            for row, key, cost in zip(each.rows, each.identities, each.search_steps, strict=True)
        }
        rows, identities, costs = (tuple(side) for side in zip(*table.values(), strict=True))
        only = any(option.startswith("--rows") for each in (self, later) for option in each.options)
        options = [option for option in later.options if not option.startswith("--rows")]
        if only:
            options.append(f"--rows {','.join(table)}")
        return later.model_copy(
            update={
                "rows": rows,
                "identities": identities,
                "search_steps": costs,
                "seeds": tuple(sorted({*self.seeds, *later.seeds})),
                "options": tuple(options),
            }
        )


PlanT = TypeVar("PlanT", bound=ExperimentPlan)  # type: ignore[type-arg]


def read_plan(folder: Path, model: type[PlanT]) -> PlanT:
    """The plan of a folder.

    Raises:
        SchedrlError: There is none, or it is damaged.
    """
    path = folder / PLAN
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SchedrlError(
            f"experiment folder {folder}: has no {PLAN}; `schedrl experiment` writes it"
        ) from None
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise SchedrlError(f"{path}: not this experiment: field '{field}': {problem['msg']}") from None
    except (OSError, ValueError, SchedrlError) as error:
        raise SchedrlError(f"{path}: not an experiment: {error}") from None


def claim_folder(folder: Path, plan: PlanT) -> PlanT:
    """Say whose folder it is; rows and seeds of the same setting join those that are there.

    Returns:
        The whole plan.

    Raises:
        SchedrlError: It holds another experiment, or cannot be written.
    """
    if (folder / PLAN).exists():
        before = read_plan(folder, type(plan))
        if before.setting.fingerprint != plan.setting.fingerprint:
            raise SchedrlError(
                f"experiment folder {folder}: holds one in another setting; choose another folder (-f)"
            )
        if before.device != plan.device:
            raise SchedrlError(
                f"experiment folder {folder}: holds runs on '{before.device}'; choose another folder (-f)"
            )
        plan = before.joined(plan)
    write_text(folder / PLAN, dump_json(plan.model_dump(mode="json")))
    return plan


def rows_by_name(rows: Sequence[RowT], names: Sequence[str] | None) -> list[RowT]:
    """Rows by name, all of them when none is given.

    Raises:
        SchedrlError: There is no such row, or one is named twice.
    """
    from schedrl.errors import unknown_name

    table = {row.name: row for row in rows}  # type: ignore[attr-defined]
    for place, name in enumerate(names or ()):
        if name not in table:
            raise unknown_name("row", name, table)
        if names is not None and name in names[:place]:
            raise SchedrlError(f"row '{name}': is named twice")
    return [table[name] for name in names] if names else list(rows)


def sorted_out(rows: Sequence[RowT], identify: Callable[[RowT], object]) -> tuple[list[RowT], list[str]]:
    """The rows that can be identified, and notes on the others."""
    kept, notes = [], []
    for row in rows:
        try:
            identify(row)
        except SchedrlError as error:
            notes.append(f"without row '{row.name}': {error}")  # type: ignore[attr-defined]
        else:
            kept.append(row)
    return kept, notes


def trained_identity(agent: TrainedAgent, name: str, seeds: Sequence[int]) -> tuple[str, int]:
    """Hash of a trained agent's weights, and the optimizer steps that its training took.

    Args:
        agent: The agent.
        name: For messages.
        seeds: Must not have been used in training it.

    Raises:
        SchedrlError: One was, or its files are damaged.
    """
    agent.check_held_out(seeds, name)
    return agent.definition_hash(), agent.search_cost
