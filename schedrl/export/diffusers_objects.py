"""Grids as schedulers of diffusers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

from schedrl.errors import SchedrlError, unknown_name
from schedrl.export.training_schedule import Placed, TrainingSchedule

PredictionType = Literal["epsilon", "sample", "v_prediction"]
"""What a network predicts, by diffusers' names."""

SchedulerName = Literal[
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
]
"""A scheduler class of diffusers that can follow a grid."""


@dataclass(frozen=True)
class SchedulerClass:
    """A class of diffusers that can follow a grid.

    Attributes:
        name: Its name.
        whole: It steps on whole training steps only, so a grid is rounded to them.
        saved: How ``set_timesteps`` of the class as diffusers saves it takes a grid: ``"sigmas"``, ``"timesteps"``
            (fractional) or ``"whole"`` timesteps; None where it spaces its steps evenly and takes none.
        options: Settings beside the training schedule: nothing is clipped, and the last step ends on data.
    """

    name: str
    whole: bool
    saved: Literal["sigmas", "timesteps", "whole"] | None
    options: dict[str, Any]


_CLASSES = {
    kind.name: kind
    for kind in (
        SchedulerClass(
            "DDIMScheduler",
            True,
            None,
            {"clip_sample": False, "set_alpha_to_one": True, "steps_offset": 0},
        ),
        SchedulerClass(
            "DDPMScheduler", True, "whole", {"clip_sample": False, "variance_type": "fixed_small"}
        ),
        SchedulerClass(
            "EulerDiscreteScheduler",
            False,
            "sigmas",
            {"interpolation_type": "linear", "final_sigmas_type": "zero"},
        ),
        SchedulerClass("HeunDiscreteScheduler", False, "timesteps", {}),
        SchedulerClass(
            "DPMSolverMultistepScheduler",
            False,
            "whole",
            {"algorithm_type": "dpmsolver++", "final_sigmas_type": "zero"},
        ),
        SchedulerClass("UniPCMultistepScheduler", False, "whole", {"final_sigmas_type": "zero"}),
    )
}

SCHEDULERS: tuple[str, ...] = tuple(_CLASSES)
"""Classes of diffusers that can follow a grid."""

# DDIM is Euler in sigma, and Euler's class rounds nothing.
_DEFAULT = {
    "ddim": "EulerDiscreteScheduler",
    "ddpm": "DDPMScheduler",
    "heun": "HeunDiscreteScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def scheduler_named(name: str | None, sampler: str) -> SchedulerClass:
    """A class by name; None is the one that does what ``sampler`` does."""
    name = name or _DEFAULT[sampler]
    if name not in _CLASSES:
        raise unknown_name("scheduler", name, SCHEDULERS)
    return _CLASSES[name]


def make_scheduler(
    kind: SchedulerClass, placed: Placed, training: TrainingSchedule, prediction_type: PredictionType
) -> Any:
    """A configured scheduler that keeps the grid when a pipeline sets its N timesteps anew.

    Args:
        kind: Which class.
        placed: The grid; on whole training steps where the class knows no others.
        training: What the network was trained on.
        prediction_type: What the network predicts.

    Raises:
        SchedrlError: diffusers is not installed, or there is no such prediction type.
    """
    settings = _settings(kind, training, prediction_type)
    _diffusers()
    from schedrl.export.grid_schedulers import GRID_CLASSES

    made = GRID_CLASSES[kind.name](**settings)
    made.follow(placed)
    return made


def scheduler_config(
    kind: SchedulerClass, training: TrainingSchedule, prediction_type: PredictionType
) -> dict[str, Any]:
    """What diffusers saves of a scheduler as ``scheduler_config.json``: the training schedule, not the grid."""
    made = getattr(_diffusers(), kind.name)(**_settings(kind, training, prediction_type))
    config: dict[str, Any] = json.loads(made.to_json_string())
    return config


def _settings(kind: SchedulerClass, training: TrainingSchedule, prediction_type: str) -> dict[str, Any]:
    if prediction_type not in get_args(PredictionType):
        raise unknown_name("prediction_type", prediction_type, get_args(PredictionType))
    return {
        "num_train_timesteps": training.num_train_timesteps,
        "trained_betas": list(training.betas),
        "prediction_type": prediction_type,
        # With this spacing Euler and Heun start from the variance that the network was trained on, 1 + sigma^2
        # instead of sigma^2, as DDIM does. The steps themselves are the grid's.
        "timestep_spacing": "leading",
        **kind.options,
    }


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError:
        raise SchedrlError(
            "diffusers: is not installed; pip install 'schedrl[export]' (the other formats need nothing)"
        ) from None
    return diffusers
