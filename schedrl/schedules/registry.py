"""Schedules by name: the discriminated union, its parser and its error messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar, cast, get_args

from pydantic import BaseModel, BeforeValidator, Field

from schedrl.errors import SchedrlError, parse, unknown_name
from schedrl.schedules.beta_laws import AVA, Linear, PrintedLinear, ScaledLinear
from schedrl.schedules.continuous_laws import (
    EDM,
    VE,
    VPSDE,
    Cosine,
    Karras,
    Laplace,
    Sigmoid,
    Tangent,
    UniformLogSNR,
)
from schedrl.schedules.free_form import BetaKnots, Betas, PiecewiseLogSNR
from schedrl.schedules.schedule import Schedule

__all__ = [
    "AnySchedule",
    "from_dict",
    "from_json",
    "get",
    "name_alone",
    "names",
    "parse_fields",
    "schedule_type",
]

SpecT = TypeVar("SpecT", bound=BaseModel)


def name_alone(value: Any) -> Any:
    """Let ``"cosine"`` stand for ``{"name": "cosine"}`` where a discriminated union is read."""
    return {"name": value} if isinstance(value, str) else value


AnyLaw: TypeAlias = (
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

AnySchedule: TypeAlias = Annotated[AnyLaw, Field(discriminator="name"), BeforeValidator(name_alone)]
"""A schedule as a field of a pydantic model: an object told apart by ``name``, or the name alone."""

_TYPES: dict[str, type[Schedule]] = {law.model_fields["name"].default: law for law in get_args(AnyLaw)}


def names() -> tuple[str, ...]:
    """Every schedule's name.

    Examples:
        >>> "cosine" in names()
        True
    """
    return tuple(_TYPES)


def schedule_type(name: str) -> type[Schedule]:
    """The class of the schedule called ``name``.

    Raises:
        SchedrlError: There is none; the closest name is suggested.

    Examples:
        >>> schedule_type("ve").__name__
        'VE'
    """
    if name not in _TYPES:
        raise unknown_name("schedule", str(name), _TYPES)
    return _TYPES[name]


def get(name: str, **params: Any) -> AnyLaw:
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
    law = schedule_type(name)
    return cast(AnyLaw, parse_fields(law, {**params, "name": name}, f"schedule '{name}'"))


def from_dict(mapping: Mapping[str, Any]) -> AnyLaw:
    """Make a schedule from its fields, as ``model_dump()`` gives them.

    Args:
        mapping: The fields, ``name`` among them.

    Returns:
        The schedule.

    Raises:
        SchedrlError: ``name`` is missing or unknown, or a field is wrong.

    Examples:
        >>> from_dict({"name": "cosine", "s": 0.0})
        Cosine(name='cosine', s=0.0)
    """
    if not isinstance(mapping, Mapping) or not isinstance(mapping.get("name"), str):
        raise SchedrlError(f"schedule: must be an object with a field 'name' (got {_shortened(mapping)})")
    return get(**{str(field): value for field, value in mapping.items()})


def from_json(text: str | bytes) -> AnyLaw:
    """Read a schedule back from ``model_dump_json()``.

    Args:
        text: A JSON object.

    Returns:
        A schedule equal to the one written.

    Raises:
        SchedrlError: The text is not JSON, or does not describe a schedule.

    Examples:
        >>> from_json(Cosine().model_dump_json()) == Cosine()
        True
    """
    try:
        mapping = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SchedrlError(f"schedule: not valid JSON ({error})") from None
    return from_dict(mapping)


def parse_fields(model: type[SpecT], data: Mapping[str, Any], what: str) -> SpecT:
    """:func:`schedrl.errors.parse`, with unknown fields compared to the names that a user writes.

    Args:
        model: The model to build.
        data: Its fields.
        what: How to name it in the message.

    Returns:
        The model.

    Raises:
        SchedrlError: A field does not exist or is wrong.
    """
    known = {field.alias or name for name, field in model.model_fields.items()}
    for field in data:
        if field not in known:
            raise SchedrlError(f"{what}: {unknown_name('field', field, known)}")
    return parse(model, data, what)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
