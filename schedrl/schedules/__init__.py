"""Noise schedules (what noise a network trains on) and sampling grids (where a sampler steps).

A :class:`Schedule` and a :class:`Grid` are frozen, hashable values with a JSON form. The arithmetic is
float64 NumPy; :mod:`schedrl.schedules.conversions` converts noise levels.

Examples:
    >>> from schedrl import schedules
    >>> schedule = schedules.get("cosine")
    >>> schedule.logsnr([0.25, 0.75]).round(3)
    array([ 1.711, -1.78 ])
    >>> schedules.grid("karras", n=10, rho=7.0).num_steps
    10
"""

from schedrl.schedules.beta_laws import (
    AVA,
    BetaKnots,
    Betas,
    BetaSchedule,
    Linear,
    PrintedLinear,
    ScaledLinear,
)
from schedrl.schedules.continuous_laws import (
    EDM,
    VE,
    VPSDE,
    Cosine,
    Karras,
    Laplace,
    PiecewiseLogSNR,
    Sigmoid,
    Tangent,
    UniformLogSNR,
)
from schedrl.schedules.forward_sde import BetaRate, ForwardSDE, LinearRate, ScheduleRate
from schedrl.schedules.grids import (
    AnyGridLaw,
    ExponentialGrid,
    Grid,
    GridLaw,
    KarrasGrid,
    PowerSigmaGrid,
    PowerTimeGrid,
    TangentGrid,
    UniformLogSNRGrid,
    UniformTimeGrid,
    grid,
    grid_names,
)
from schedrl.schedules.registry import AnySchedule, from_dict, from_json, get, names, schedule_type
from schedrl.schedules.schedule import LOGSNR_LIMIT, MAX_BETA, ContinuousSchedule, Schedule

__all__ = [
    "AVA",
    "EDM",
    "LOGSNR_LIMIT",
    "MAX_BETA",
    "VE",
    "VPSDE",
    "AnyGridLaw",
    "AnySchedule",
    "BetaKnots",
    "BetaRate",
    "BetaSchedule",
    "Betas",
    "ContinuousSchedule",
    "Cosine",
    "ExponentialGrid",
    "ForwardSDE",
    "Grid",
    "GridLaw",
    "Karras",
    "KarrasGrid",
    "Laplace",
    "Linear",
    "LinearRate",
    "PiecewiseLogSNR",
    "PowerSigmaGrid",
    "PowerTimeGrid",
    "PrintedLinear",
    "ScaledLinear",
    "Schedule",
    "ScheduleRate",
    "Sigmoid",
    "Tangent",
    "TangentGrid",
    "UniformLogSNR",
    "UniformLogSNRGrid",
    "UniformTimeGrid",
    "from_dict",
    "from_json",
    "get",
    "grid",
    "grid_names",
    "names",
    "schedule_type",
]
