"""A sampler's grid and the training schedule behind it as one JSON file that records where it comes from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, WithJsonSchema, field_serializer, model_validator

from schedrl import files
from schedrl.errors import SchedrlError, Spec, parse
from schedrl.export.diffusers_objects import PredictionType, SchedulerName, make_scheduler, scheduler_named
from schedrl.export.training_schedule import Placed, Share, TrainingSchedule, place, require_agreement
from schedrl.schedules import AnySchedule, Grid
from schedrl.schedules.conversions import FloatArray

FileSampler = Literal["ddim", "ddpm", "heun", "euler", "dpm++2m", "unipc"]
"""What a file can be for: the samplers of :mod:`schedrl.diffusion.samplers`, and the solvers of ``schedule tune``."""

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
_Step = Annotated[float, Field(ge=0.0)]


class Provenance(Spec):
    """Where a grid comes from.

    Attributes:
        method: How it was chosen.
        data: What it was chosen for; empty if for no data.
        count: Number of images that were measured.
        image_shape: Their channels, height and width.
        floor: Smallest standard deviation that was kept of their spectrum.
        measured: Numbers that tell how Gaussian the data are, by name.
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
        timesteps: [N+1] fractional steps of the training schedule at these levels, 1 … T with 0 for clean data; a
            network that counts from zero, as those of diffusers, takes one less. None without a training schedule.
        training: The noise that the network was trained on; None if unknown.
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
    alphas_cumprod: tuple[Share, ...]
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
            sampler: What the grid is for.
            provenance: Where it comes from.
            schedule: What the network was trained with, if known.
            num_train_timesteps: T.
            eigenvalues: Spectrum of the data, if the grid was chosen for some.
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
        """Read a file's text; ``what`` names it in messages."""
        return cls._from_object(files.parse_object(text, what), what)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file.

        Raises:
            SchedrlError: It cannot be read, or is not a valid schedule file.
        """
        return cls._from_object(files.read_object(Path(path), "schedule file"), f"schedule file {path}")

    @classmethod
    def _from_object(cls, content: dict[str, Any], what: str) -> Self:
        if "sigmas" not in content and "name" in content:
            raise SchedrlError(
                f"{what}: is a training schedule alone ('{content['name']}'), not a file of `schedrl schedule`"
            )
        return parse(cls, content, what)

    def to_json(self) -> str:
        """The file's text: one line per field, however long its arrays are."""
        content = self.model_dump(mode="json")
        lines = [
            f"  {json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in content.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
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
        """How often the sampler calls the network."""
        if self.sampler != "heun":
            return self.num_steps
        return 2 * self.num_steps - (1 if self.sigmas[-1] == 0.0 else 0)

    def required_training(self) -> TrainingSchedule:
        """The training schedule; a file without one is an error."""
        if self.training is None:
            raise SchedrlError(
                "field 'training': is needed here and the file has none; design the grid with --schedule, the "
                "schedule that the network was trained with"
            )
        return self.training

    def placed(self, *, whole: bool = False) -> Placed:
        """The levels that a network of the training schedule can be evaluated at.

        Args:
            whole: Round to whole training steps, for schedulers that know no others.

        Returns:
            The levels, and what the change costs.

        Raises:
            SchedrlError: The file has no training schedule, its grid does not end at 0, or has more steps than that.
        """
        return place(self.grid, self.required_training(), self.sampler, self.eigenvalues, whole=whole)

    def to_diffusers(
        self, scheduler: SchedulerName | None = None, prediction_type: PredictionType = "epsilon"
    ) -> Any:
        """The grid as a configured scheduler of diffusers, its timesteps set.

        It belongs to a subclass that keeps the grid when a pipeline sets N timesteps anew; its attribute ``placed``
        is the :class:`~schedrl.export.Placed` grid. Give it to a pipeline as ``pipe.scheduler = …``, because some
        constructors make a plain scheduler from its settings. Keep this file rather than a saved pipeline: diffusers
        saves the settings without the grid.

        Args:
            scheduler: One of ``SCHEDULERS``. None is the class for the file's sampler: Euler for DDIM, which is the
                same sampler in other coordinates and rounds nothing. DDIM's and DDPM's own classes know whole
                training steps only, so the grid is rounded to the nearest.
            prediction_type: What the network predicts.

        Returns:
            The scheduler. It starts from a state of variance 1 scaled by its ``init_noise_sigma``, as in diffusers.

        Raises:
            SchedrlError: diffusers is not installed, a name does not exist, or the file has no training schedule.
        """
        kind = scheduler_named(scheduler, self.sampler)
        training = self.required_training()
        return make_scheduler(kind, self.placed(whole=kind.whole), training, prediction_type)

    @field_serializer("sigmas", "logsnr", when_used="json")
    def _infinity_as_text(self, value: tuple[float, ...]) -> list[float | str]:
        return [level if math.isfinite(level) else str(level) for level in value]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        grid = parse(Grid, {"sigmas": self.sigmas}, "levels")
        require_agreement("logsnr", self.logsnr, grid.logsnr, "sigmas")
        require_agreement("alphas_cumprod", self.alphas_cumprod, grid.alphas_cumprod, "sigmas")
        if (self.training is None) != (self.timesteps is None):
            raise ValueError("timesteps and training: must both be given, or neither")
        if self.training is not None and self.timesteps is not None:
            steps = self.training.num_train_timesteps
            derived = grid.timesteps(self.training.schedule, steps)
            source = "sigmas and the training schedule"
            require_agreement("timesteps", self.timesteps, derived, source, scale=steps)
        return self
