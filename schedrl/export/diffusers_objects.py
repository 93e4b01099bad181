"""Schedule files as schedulers of diffusers."""

from __future__ import annotations

from typing import Any, Literal, get_args

from schedrl.errors import SchedrlError, unknown_name
from schedrl.export.placement import Placed, on_training_law, required_law
from schedrl.export.schedule_file import ScheduleFile

__all__ = [
    "SCHEDULERS",
    "PredictionType",
    "SchedulerName",
    "default_scheduler",
    "diffusers_config",
    "diffusers_placement",
    "to_diffusers",
]

PredictionType = Literal["epsilon", "sample", "v_prediction"]
"""What a network predicts, by diffusers' names."""

SchedulerName = Literal[
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
]

SCHEDULERS: tuple[str, ...] = get_args(SchedulerName)
"""Classes of diffusers that can follow a grid."""

_DEFAULT = {"ddim": "EulerDiscreteScheduler", "ddpm": "DDPMScheduler", "heun": "HeunDiscreteScheduler"}
_WHOLE = ("DDIMScheduler", "DDPMScheduler")

_OPTIONS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": True, "steps_offset": 0},
    "DDPMScheduler": {"clip_sample": False, "variance_type": "fixed_small"},
    "EulerDiscreteScheduler": {"interpolation_type": "linear", "final_sigmas_type": "zero"},
    "HeunDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {"algorithm_type": "dpmsolver++", "final_sigmas_type": "zero"},
}
"""Beside the law: nothing is clipped, and the last step ends on data."""


def default_scheduler(file: ScheduleFile) -> str:
    """The class that is the file's sampler; for DDIM Euler's, which is the same without rounding."""
    return _DEFAULT[file.sampler]


def diffusers_placement(file: ScheduleFile, scheduler: str | None = None) -> Placed:
    """The levels that a scheduler will step through, and what it costs to get them to be its own.

    DDIM and DDPM know whole training steps only, so theirs are rounded to the nearest; the others take any level
    within the training law.

    Args:
        file: The grid.
        scheduler: Class of diffusers; None is the one for the file's sampler.

    Raises:
        SchedrlError: No such class, or the file has no training law.
    """
    name = _named(file, scheduler)
    return on_training_law(file, whole=name in _WHOLE)


def to_diffusers(
    file: ScheduleFile, scheduler: str | None = None, prediction_type: PredictionType = "epsilon"
) -> Any:
    """A configured scheduler, its timesteps set to the grid.

    It is an instance of a subclass that keeps the grid when a pipeline sets N timesteps anew. Give it to a pipeline as
    ``pipe.scheduler = …``: some constructors make a plain scheduler from its settings. Not meant to be saved with a
    pipeline: keep the file.

    Args:
        file: The grid, with its training law.
        scheduler: Class of diffusers: one of ``SCHEDULERS``. None is the one for the file's sampler: Euler for DDIM,
            which is the same sampler in other coordinates and rounds nothing.
        prediction_type: What the network predicts.

    Returns:
        The scheduler. It starts from a state of variance 1 scaled by its ``init_noise_sigma``, as diffusers has it.

    Raises:
        SchedrlError: diffusers is not installed, there is no such class or prediction, or the file has no law.
    """
    name = _named(file, scheduler)
    settings = _settings(file, name, prediction_type)
    placed = diffusers_placement(file, name)
    _diffusers()
    from schedrl.export.grid_schedulers import GRID_CLASSES

    made = GRID_CLASSES[name](**settings)
    made.follow(placed)
    return made


def diffusers_config(
    file: ScheduleFile, scheduler: str | None = None, prediction_type: PredictionType = "epsilon"
) -> dict[str, Any]:
    """What diffusers saves of a scheduler, for ``scheduler_config.json``: the training law, not the grid.

    The grid is given when timesteps are set: ``sigmas`` to Euler, ``timesteps`` to DDPM, Heun and DPM-Solver.

    Args:
        file: The grid, with its training law.
        scheduler: As for :func:`to_diffusers`.
        prediction_type: What the network predicts.

    Raises:
        SchedrlError: As :func:`to_diffusers`.
    """
    import json

    name = _named(file, scheduler)
    made = getattr(_diffusers(), name)(**_settings(file, name, prediction_type))
    config: dict[str, Any] = json.loads(made.to_json_string())
    return config


def _named(file: ScheduleFile, scheduler: str | None) -> str:
    name = scheduler or default_scheduler(file)
    if name not in SCHEDULERS:
        raise unknown_name("scheduler", name, SCHEDULERS)
    return name


def _settings(file: ScheduleFile, name: str, prediction_type: str) -> dict[str, Any]:
    if prediction_type not in get_args(PredictionType):
        raise unknown_name("prediction_type", prediction_type, get_args(PredictionType))
    law = required_law(file)
    return {
        "num_train_timesteps": law.num_train_timesteps,
        "trained_betas": list(law.betas),
        "prediction_type": prediction_type,
        # With this spacing Euler and Heun start from the variance that the network was trained on, 1 + sigma^2 and
        # not sigma^2, as DDIM does. The steps themselves are the grid's.
        "timestep_spacing": "leading",
        **_OPTIONS[name],
    }


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError:
        raise SchedrlError(
            "diffusers: is not installed; pip install 'schedrl[export]' (the other formats need nothing)"
        ) from None
    return diffusers
