"""Schedule files for other tools: diffusers, k-diffusion and EDM, ComfyUI, tables.

A :class:`~schedrl.export.ScheduleFile` is turned into what each tool takes. Only :func:`to_diffusers` and
:func:`diffusers_config` need a library, which they load themselves.
"""

from schedrl.export.diffusers_objects import (
    SCHEDULERS,
    PredictionType,
    SchedulerName,
    diffusers_config,
    diffusers_placement,
    to_diffusers,
)
from schedrl.export.formats import FORMATS, convert
from schedrl.export.placement import Placed, on_training_law
from schedrl.export.schedule_file import Provenance, ScheduleFile, TrainingSchedule
from schedrl.export.tables import csv_table, npz_arrays, sigma_array, sigma_text

__all__ = [
    "FORMATS",
    "SCHEDULERS",
    "Placed",
    "PredictionType",
    "Provenance",
    "ScheduleFile",
    "SchedulerName",
    "TrainingSchedule",
    "convert",
    "csv_table",
    "diffusers_config",
    "diffusers_placement",
    "npz_arrays",
    "on_training_law",
    "sigma_array",
    "sigma_text",
    "to_diffusers",
]
