"""Errors that are meant for the person who caused them.

Everything a user can get wrong (a name, a value, a file) raises a :class:`SchedrlError` whose text is one clear
line: which field, which value, what is allowed. The command line prints that line and exits with code 2; a
traceback therefore always means a bug in the package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["AgentFileError", "MissingDataError", "SchedrlError", "Spec", "parse", "unknown_name"]


class SchedrlError(ValueError):
    """Bad input, described in one line for the person who gave it."""


class MissingDataError(SchedrlError):
    """A data set is not where it was looked for."""


class AgentFileError(SchedrlError):
    """An agent's files are missing, damaged or made for another environment."""


class Spec(BaseModel):
    """Base of everything a user writes: frozen, hashable, strict about field names, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SpecT = TypeVar("SpecT", bound=BaseModel)


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> SchedrlError:
    """Build the error for a name that does not exist, with the closest names that do.

    Args:
        kind: What the name should have been, for example ``"schedule"``.
        name: The name that was given.
        allowed: Every name that exists.

    Returns:
        The error, for the caller to raise.

    Examples:
        >>> str(unknown_name("schedule", "cosin", ["linear", "cosine"]))
        "unknown schedule 'cosin'; did you mean 'cosine'? Known: cosine, linear"
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return SchedrlError(f"unknown {kind} '{name}'; {hint}Known: {', '.join(names)}")


def parse(model: type[SpecT], data: Mapping[str, Any], what: str) -> SpecT:
    """Validate ``data`` as ``model``; raise the first problem as one readable line.

    Args:
        model: The pydantic model to build.
        data: What the user wrote.
        what: How to name it in the message, for example ``"variant schedrl/DigitsKnots-v0"``.

    Raises:
        SchedrlError: Names the field, the value and what is allowed.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise SchedrlError(f"{what}: {_first_problem(model, error)}") from None


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    problem = error.errors()[0]
    location = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        # The sibling fields are those of the innermost model on the path; the outer ones are a fair fallback.
        siblings = _fields_at(model, problem["loc"][:-1]) or set(model.model_fields)
        return str(unknown_name("field", location, {_join(problem["loc"][:-1], name) for name in siblings}))
    if problem["type"] in ("union_tag_invalid", "literal_error"):
        context = problem.get("ctx", {})
        allowed = str(context.get("expected_tags") or context.get("expected", "")).replace("'", "")
        names = [name.strip() for name in allowed.replace(" or ", ", ").split(",") if name.strip()]
        return f"field '{location}': {unknown_name('name', str(context.get('tag', problem['input'])), names)}"
    value = problem["input"]
    shown = "" if problem["type"] == "missing" or isinstance(value, dict) else f" (got {value!r})"
    return f"field '{location}': {problem['msg'].removeprefix('Value error, ')}{shown}"


def _join(prefix: tuple[int | str, ...], name: str) -> str:
    return ".".join([*(str(part) for part in prefix), name])


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """Field names of the model found by walking ``path`` (tags of unions are skipped)."""
    candidates: list[type[BaseModel]] = [model]
    for part in path:
        found: list[type[BaseModel]] = []
        for candidate in candidates:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                found += _models_in(field.annotation)
        # A union's tag stands in the path without being a field: keep the members whose tag it is.
        tagged = [c for c in candidates if str(part) in _tags(c)]
        candidates = found or tagged or candidates
    return {name for candidate in candidates for name in candidate.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]


def _tags(model: type[BaseModel]) -> set[str]:
    return {
        str(tag)
        for field in model.model_fields.values()
        for tag in getattr(field.annotation, "__args__", ())
        if isinstance(tag, str)
    }
