"""A sampler's grid and the training law behind it as one JSON file, which says where it comes from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, WithJsonSchema, field_serializer, model_validator

from schedrl import files
from schedrl.errors import SchedrlError, Spec, parse
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.grids import Grid
from schedrl.schedules.registry import AnySchedule

if TYPE_CHECKING:
    from schedrl.export.diffusers_objects import PredictionType, SchedulerName

__all__ = ["FileSampler", "Provenance", "ScheduleFile", "TrainingSchedule"]

FileSampler = Literal["ddim", "ddpm", "heun"]
"""Samplers that a file can be for: those of :mod:`schedrl.diffusion.samplers`."""

_TOLERANCE = 1e-6
"""How far a derived number may be from its own formula: more than any printing loses, less than any edit means."""

_Level = Annotated[
    float,
    Field(ge=0.0, allow_inf_nan=True),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"const": "inf"}]}),
]
_LogSNR = Annotated[
    float,
    Field(allow_inf_nan=True),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf"]}]}),
]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Step = Annotated[float, Field(ge=0.0)]


class TrainingSchedule(Spec):
    """The noise that the network was trained on.

    Attributes:
        schedule: The law, by name with its parameters; ``{"name": "betas", "betas": [...]}`` is any list.
        num_train_timesteps: T.
        betas: [T], those of the law.
        alphas_cumprod: [T], their cumulative product of ``1 - beta``.
    """

    schedule: AnySchedule
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    betas: tuple[_Share, ...]
    alphas_cumprod: tuple[_Share, ...]

    @classmethod
    def of(cls, schedule: AnySchedule, num_train_timesteps: int = 1000) -> Self:
        """The law with its arrays.

        Args:
            schedule: The law.
            num_train_timesteps: T.

        Raises:
            SchedrlError: T is out of range.
        """
        fields = {
            "schedule": schedule,
            "num_train_timesteps": num_train_timesteps,
            "betas": schedule.betas(num_train_timesteps).tolist(),
            "alphas_cumprod": schedule.alphas_cumprod(num_train_timesteps).tolist(),
        }
        return parse(cls, fields, "training law")

    @property
    def sigmas(self) -> FloatArray:
        """Noise-to-signal ratio of the steps, [T], rising; step i of 1 … T is entry i − 1."""
        return np.exp(-0.5 * self.schedule.logsnr_steps(self.num_train_timesteps))

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        steps = self.num_train_timesteps
        _compare("betas", self.betas, self.schedule.betas(steps), f"the law '{self.schedule.name}'")
        _compare("alphas_cumprod", self.alphas_cumprod, self.schedule.alphas_cumprod(steps), "the betas")
        return self


class Provenance(Spec):
    """Where a grid comes from.

    Attributes:
        method: How it was chosen.
        data: What it was chosen for; empty if for no data.
        count: Number of images that were measured.
        image_shape: Their channels, height and width.
        floor: Least standard deviation that was kept of their spectrum.
        measured: Numbers that say how Gaussian the data are, by name.
        versions: Of the software.
        revision: Git revision of the software, if it ran from a checkout.
    """

    method: str
    data: str = ""
    count: Annotated[int, Field(ge=2)] | None = None
    image_shape: tuple[int, int, int] | None = None
    floor: Annotated[float, Field(gt=0.0)] | None = None
    measured: dict[str, float] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    revision: str = ""


class ScheduleFile(Spec):
    r"""A grid for a sampler, complete enough for any tool to read it without this package.

    What can be derived is written out and checked on reading: a file that contradicts itself is an error.

    Attributes:
        format: Version of the format.
        sampler: What the grid was placed for.
        sigmas: [N+1] noise-to-signal ratios, strictly descending; the first may be infinite (``"inf"``).
        logsnr: [N+1] log-SNR of the levels, :math:`-2 \log \sigma`.
        alphas_cumprod: [N+1] :math:`\bar\alpha = 1 / (1 + \sigma^2)` of the levels.
        timesteps: [N+1] steps of the training law that have these levels, fractional, 1 … T with 0 for clean data; a
            network whose embedding counts from zero, as those of diffusers, takes one less. None without a law.
        training: The noise that the network was trained on; None if that is not known.
        eigenvalues: Spectrum of the data that the grid was chosen for; empty if for none. With it, exact errors of
            this and any other grid can be computed from the file alone.
        provenance: Where the grid comes from.

    Examples:
        >>> from schedrl.schedules import get, grid
        >>> file = ScheduleFile.of(grid("karras", 3), "ddim", Provenance(method="karras"), get("linear"))
        >>> [round(step, 1) for step in file.timesteps]
        [930.6, 442.0, 0.0, 0.0]
        >>> ScheduleFile.from_json(file.to_json()) == file
        True
    """

    model_config = ConfigDict(validate_default=True)

    format: Literal[1] = 1
    sampler: FileSampler
    sigmas: Annotated[tuple[_Level, ...], Field(min_length=2, max_length=100_001)]
    logsnr: tuple[_LogSNR, ...]
    alphas_cumprod: tuple[_Share, ...]
    timesteps: tuple[_Step, ...] | None = None
    training: TrainingSchedule | None = None
    eigenvalues: tuple[Annotated[float, Field(ge=1e-12, le=1e12)], ...] = ()
    provenance: Provenance

    @classmethod
    def of(
        cls,
        grid: Grid,
        sampler: str,
        provenance: Provenance,
        schedule: AnySchedule | None = None,
        num_train_timesteps: int = 1000,
        eigenvalues: FloatArray | None = None,
    ) -> Self:
        """The file of a grid.

        Args:
            grid: The levels.
            sampler: What for.
            provenance: Where it comes from.
            schedule: The law that the network was trained with, if known.
            num_train_timesteps: T.
            eigenvalues: Spectrum of the data, if it was chosen for some.

        Raises:
            SchedrlError: A value is out of range.
        """
        fields: dict[str, Any] = {
            "sampler": sampler,
            "sigmas": grid.sigmas,
            "logsnr": grid.logsnr.tolist(),
            "alphas_cumprod": grid.alphas_cumprod.tolist(),
            "eigenvalues": () if eigenvalues is None else eigenvalues.tolist(),
            "provenance": provenance,
        }
        if schedule is not None:
            fields["training"] = TrainingSchedule.of(schedule, num_train_timesteps)
            fields["timesteps"] = grid.timesteps(schedule, num_train_timesteps).tolist()
        return parse(cls, fields, "schedule file")

    @classmethod
    def from_json(cls, text: str | bytes, what: str = "schedule file") -> Self:
        """Read a file's text.

        Args:
            text: JSON.
            what: How to name it in messages.

        Raises:
            SchedrlError: It is not JSON, lacks a field, or contradicts itself.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise SchedrlError(f"{what}: is not JSON: {error}") from None
        if not isinstance(content, dict):
            raise SchedrlError(f"{what}: must hold one JSON object (got {type(content).__name__})")
        if "sigmas" not in content and "name" in content:
            raise SchedrlError(
                f"{what}: is a training law alone ('{content['name']}'), not a schedule file of `schedrl schedule`"
            )
        return parse(cls, content, what)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file.

        Raises:
            SchedrlError: It cannot be read, or is not a valid schedule file.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise SchedrlError(f"{path}: cannot be read: {error.strerror or error}") from None
        return cls.from_json(text, str(path))

    def to_json(self) -> str:
        """The file's text: one line per field, whatever the length of its arrays."""
        content = self.model_dump(mode="json")
        lines = [
            f"  {json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in content.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def write(self, path: str | Path) -> None:
        """Write a file, whole or not at all.

        Raises:
            SchedrlError: The place cannot be written.
        """
        files.write_text(Path(path), self.to_json())

    @classmethod
    def schema_text(cls) -> str:
        """The format's JSON Schema, as ``docs/schedule.schema.json`` publishes it."""
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}
        return files.dump_json(schema)

    @property
    def grid(self) -> Grid:
        """The levels."""
        return Grid(sigmas=self.sigmas)

    @property
    def num_steps(self) -> int:
        """N."""
        return len(self.sigmas) - 1

    @property
    def evaluations(self) -> int:
        """Times that the sampler calls the network."""
        if self.sampler != "heun":
            return self.num_steps
        return 2 * self.num_steps - (1 if self.sigmas[-1] == 0.0 else 0)

    def to_diffusers(
        self, scheduler: SchedulerName | None = None, prediction_type: PredictionType = "epsilon"
    ) -> Any:
        """The grid as a configured scheduler of diffusers.

        See :func:`schedrl.export.to_diffusers`, which this calls.

        Args:
            scheduler: Its class; None is the one for the file's sampler.
            prediction_type: What the network predicts.

        Raises:
            SchedrlError: diffusers is not installed, or the file has no training law.
        """
        from schedrl.export import to_diffusers

        return to_diffusers(self, scheduler, prediction_type)

    @field_serializer("sigmas", "logsnr", when_used="json")
    def _infinity_as_text(self, value: tuple[float, ...]) -> list[float | str]:
        return [level if math.isfinite(level) else str(level) for level in value]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        grid = parse(Grid, {"sigmas": self.sigmas}, "levels")
        _compare("logsnr", self.logsnr, grid.logsnr, "sigmas")
        _compare("alphas_cumprod", self.alphas_cumprod, grid.alphas_cumprod, "sigmas")
        if (self.training is None) != (self.timesteps is None):
            raise ValueError("timesteps and training: must both be given, or neither")
        if self.training is not None and self.timesteps is not None:
            law = self.training
            steps = grid.timesteps(law.schedule, law.num_train_timesteps)
            _compare(
                "timesteps",
                self.timesteps,
                steps,
                "sigmas and the training law",
                scale=law.num_train_timesteps,
            )
        return self


def _compare(
    field: str, given: tuple[float, ...], derived: FloatArray, source: str, scale: float | None = None
) -> None:
    """Check an array that could be derived.

    Args:
        field: Its name.
        given: What the file says.
        derived: What follows from the rest of the file.
        source: What it follows from.
        scale: Size of its numbers; None compares each with its own.

    Raises:
        ValueError: They differ; the text names the first entry that does.
    """
    if len(given) != len(derived):
        raise ValueError(f"{field}: must have {len(derived)} entries, by {source} (got {len(given)})")
    values = np.array(given)
    with np.errstate(invalid="ignore"):
        allowed = _TOLERANCE * (np.maximum(np.abs(derived), 1e-3) if scale is None else scale)
        agree = (values == derived) | (np.abs(values - derived) <= allowed)
    if not agree.all():
        index = int(np.flatnonzero(~agree)[0])
        raise ValueError(
            f"{field}[{index}] = {given[index]:.8g} contradicts {source}, by which it is {derived[index]:.8g}"
        )
