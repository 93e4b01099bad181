"""Schedule files, and the same for other tools: diffusers, k-diffusion and EDM, ComfyUI and A1111, tables.

Only :meth:`ScheduleFile.to_diffusers` and ``convert`` to ``"diffusers"`` need another library, which they load
themselves.
"""

from schedrl.export.diffusers_objects import SCHEDULERS, PredictionType, SchedulerName
from schedrl.export.formats import FORMATS, convert, csv_table, npz_arrays, sigma_array, sigma_text
from schedrl.export.schedule_file import Provenance, ScheduleFile
from schedrl.export.training_schedule import Placed, TrainingSchedule

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
    "npz_arrays",
    "sigma_array",
    "sigma_text",
]
