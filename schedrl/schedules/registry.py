"""Schedules by name: the discriminated union and its parsers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, cast, get_args

from pydantic import BeforeValidator, Field

from schedrl.errors import SchedrlError, parse, unknown_name
from schedrl.files import parse_object
from schedrl.schedules.beta_laws import AVA, BetaKnots, Betas, Linear, PrintedLinear, ScaledLinear
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
from schedrl.schedules.schedule import Schedule


def name_alone(value: Any) -> Any:
    """Let ``"cosine"`` stand for ``{"name": "cosine"}`` where a discriminated union is read."""
    return {"name": value} if isinstance(value, str) else value


NamedSchedule: TypeAlias = (
    Linear
    | ScaledLinear
    | Cosine
    | Sigmoid
    | VPSDE
    | VE
    | Karras
    | EDM
    | Laplace
    | Tangent
    | UniformLogSNR
    | PrintedLinear
    | AVA
    | PiecewiseLogSNR
    | Betas
    | BetaKnots
)

AnySchedule: TypeAlias = Annotated[NamedSchedule, Field(discriminator="name"), BeforeValidator(name_alone)]
"""A schedule as a field of a pydantic model: an object told apart by ``name``, or the name alone."""

_TYPES: dict[str, type[Schedule]] = {
    kind.model_fields["name"].default: kind for kind in get_args(NamedSchedule)
}


def names() -> tuple[str, ...]:
    """The name of every schedule.

    Examples:
        >>> "cosine" in names()
        True
    """
    return tuple(_TYPES)


def schedule_type(name: str) -> type[Schedule]:
    """The class of the schedule called ``name``.

    Examples:
        >>> schedule_type("ve").__name__
        'VE'
    """
    if name not in _TYPES:
        raise unknown_name("schedule", str(name), _TYPES)
    return _TYPES[name]


def get(name: str, **params: Any) -> NamedSchedule:
    """Make a schedule by name.

    Args:
        name: One of :func:`names`.
        **params: Fields of its class; the rest keep their defaults.

    Returns:
        The frozen schedule.

    Raises:
        SchedrlError: The name or a parameter does not exist, or a value is out of range.

    Examples:
        >>> get("tangent", gamma=0.3)
        Tangent(name='tangent', gamma=0.3)
        >>> get("ve", sigma_mx=50.0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        schedrl.errors.SchedrlError: schedule 've': unknown field 'sigma_mx'; did you mean 'sigma_max'? ...
    """
    kind = schedule_type(name)
    return cast(NamedSchedule, parse(kind, {**params, "name": name}, f"schedule '{name}'"))


def from_dict(mapping: Mapping[str, Any]) -> NamedSchedule:
    """Make a schedule from its fields, ``name`` among them, as ``model_dump()`` gives them.

    Examples:
        >>> from_dict({"name": "cosine", "s": 0.0})
        Cosine(name='cosine', s=0.0)
    """
    if not isinstance(mapping, Mapping) or not isinstance(mapping.get("name"), str):
        given = repr(mapping)
        shown = given if len(given) <= 60 else f"{given[:57]}..."
        raise SchedrlError(f"schedule: must be an object with a field 'name' (got {shown})")
    return get(**{str(field): value for field, value in mapping.items()})


def from_json(text: str | bytes) -> NamedSchedule:
    """Read a schedule back from ``model_dump_json()``.

    Examples:
        >>> from_json(Cosine().model_dump_json()) == Cosine()
        True
    """
    return from_dict(parse_object(text, "schedule"))
