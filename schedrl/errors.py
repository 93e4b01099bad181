"""Errors that are meant for the person who caused them.

Everything a user can get wrong (a name, a value, a file) raises a :class:`SchedrlError` whose text is one clear
line: which field, which value, what is allowed. The command line prints that line and exits with code 2; a
traceback therefore always means a bug in the package.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self, TypeVar
from unicodedata import category

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails


class SchedrlError(ValueError):
    """Bad input, described in one line for the person who gave it."""


class MissingDataError(SchedrlError):
    """A data set is not where it was looked for."""


class UnexpectedArgumentError(SchedrlError, TypeError):
    """An environment was made with an argument that it does not have; libraries look for a ``TypeError``."""


class AgentFileError(SchedrlError):
    """An agent's files are missing, damaged or made for another environment."""


if TYPE_CHECKING:  # with pydantic's own metaclass, the arguments of constructors are checked
    from pydantic._internal._model_construction import ModelMetaclass as _SpecType
else:

    class _SpecType(type(BaseModel)):
        def __call__(cls, *values: Any, **fields: Any) -> Any:
            if _validating.get():  # pydantic calls a constructor of a class's own for a part of another model
                return super().__call__(*values, **fields)
            with _readably(cls, cls.__name__):
                return super().__call__(*values, **fields)


class Spec(BaseModel, metaclass=_SpecType):
    """Base of everything a user writes: frozen, hashable, strict about field names, JSON in and out.

    A constructor raises a :class:`SchedrlError` as :func:`parse` does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def changed(self, overrides: Mapping[str, Any], what: str) -> Self:
        """A copy with fields changed by the rules of :func:`with_fields`; ``what`` names it in messages."""
        return parse(type(self), with_fields(self.model_dump(mode="json"), overrides), what)


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
    name = name if len(name) <= 80 else f"{name[:77]}..."
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return SchedrlError(f"unknown {kind} '{name}'; {hint}Known: {', '.join(names)}")


def parse(model: type[SpecT], data: Mapping[str, Any], what: str) -> SpecT:
    """Validate ``data`` as ``model``; raise one readable line: the first problem, and the number of others.

    Args:
        model: The pydantic model to build.
        data: What the user wrote.
        what: How to name it in the message, for example ``"variant schedrl/DigitsKnots-v0"``.

    Returns:
        The model.

    Raises:
        SchedrlError: Names the field, the value and what is allowed.

    Examples:
        >>> class Grid(Spec):
        ...     levels: int = 14
        >>> parse(Grid, {"levels": 3}, "grid")
        Grid(levels=3)
        >>> parse(Grid, {"level": 3}, "grid")
        Traceback (most recent call last):
        schedrl.errors.SchedrlError: grid: unknown field 'level'; did you mean 'levels'? Known: levels
    """
    with _readably(model, what):
        return model.model_validate(dict(data))


_validating: ContextVar[bool] = ContextVar("validating", default=False)


@contextmanager
def _readably(model: type[BaseModel], what: str) -> Iterator[None]:
    """Turn pydantic's error into one of a line."""
    before = _validating.set(True)
    try:
        yield
    except ValidationError as error:
        raise _readable(model, error, what) from None
    finally:
        _validating.reset(before)


def _readable(model: type[BaseModel], error: ValidationError, what: str) -> SchedrlError:
    # A misspelt field is often a missing one too; its name is the better hint.
    problems = error.errors()
    misspelt = [p for p in problems if p["type"] == "extra_forbidden"]
    counted = [p for p in problems if p["type"] != "missing"] if misspelt else problems
    first = misspelt[0] if misspelt else problems[0]
    others = len({_place(model, p["loc"]) for p in counted}) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    text = " ".join(_described(model, first).split())  # one line, whatever the user's keys hold
    return SchedrlError(f"{what}: {text}{more}")


def with_fields(definition: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain data with fields changed.

    A nested field is given as a dictionary (``training={"batch_size": 64}``) or with dots
    (``**{"training.batch_size": 64}``). A dictionary with another ``name`` or ``kind`` replaces the old one, any other
    dictionary is merged into it.

    Args:
        definition: Plain data.
        overrides: New values, plain data or models; later ones win.

    Examples:
        >>> with_fields({"data": {"name": "digits"}}, {"data.limit": 8})
        {'data': {'name': 'digits', 'limit': 8}}
    """
    merged: dict[str, Any] = json.loads(json.dumps(dict(definition)))
    for key, value in overrides.items():
        if key.count(".") > 32:
            raise SchedrlError(f"field '{key[:32]}…': is nested too deeply")
        # A copy: a later override of the same field must not reach into what the caller passed.
        nested: Any = value.model_dump(mode="json") if isinstance(value, Spec) else deepcopy(value)
        for part in reversed(key.split(".")[1:]):
            nested = {part: nested}
        _merge(merged, {key.split(".")[0]: nested})
    return merged


def _merge(target: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        old = target.get(key)
        if isinstance(value, Mapping) and isinstance(old, dict) and _same_kind(old, value):
            _merge(old, value)
        else:
            target[key] = value


def _same_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether neither names something else; a name that was left to its default counts as the same."""
    return all(new[tag] == old[tag] for tag in ("kind", "name") if tag in new and tag in old)


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The place of a problem without pydantic's labels of union members (``float``, ``tuple[float, ...]``)."""
    labels = ("bool", "float", "int", "str")
    return tuple(part for part in _walk(model, location)[0] if "[" not in part and part not in labels)


def _described(model: type[BaseModel], problem: ErrorDetails) -> str:
    path, _ = _walk(model, problem["loc"])
    location = ".".join(path)
    context = problem.get("ctx", {})
    discriminator = str(context.get("discriminator", "value")).strip("'")
    match problem["type"]:
        case "extra_forbidden":
            outer, siblings = _walk(model, problem["loc"][:-1])
            known = {".".join([*outer, name]) for sibling in siblings for name in _fields(sibling)}
            return str(unknown_name("field", location, known))
        case "union_tag_invalid" | "literal_error":
            allowed = str(context.get("expected_tags") or context.get("expected", "")).replace("'", "")
            names = [name.strip() for name in allowed.replace(" or ", ", ").split(",") if name.strip()]
            given = str(context.get("tag", problem["input"]))
            return f"field '{location}': {unknown_name(discriminator, given, names)}"
        case "union_tag_not_found":
            _, members = _walk(model, problem["loc"])
            names = sorted({tag for member in members for tag in _literals(_fields(member)[discriminator])})
            return f"field '{location}.{discriminator}': is required; one of {', '.join(names)}"
    value = problem["input"]
    shown = "" if problem["type"] == "missing" or isinstance(value, Mapping) else f" (got {shortened(value)})"
    text = f"{problem['msg'].removeprefix('Value error, ')}{shown}"
    return f"field '{location}': {text}" if location else text


def _walk(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """Follow a place in pydantic's terms.

    Returns:
        The place as the user wrote it, and the models found there. Pydantic puts the tag of a union's member
        into the path; the user did not write it as a field, so it is left out.
    """
    written: list[str] = []
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        # Right after a union comes a tag, even where a member has a field of the same name.
        tagged = [member for member in candidates if str(part) in _tags(member)]
        if len(candidates) > 1 and tagged:
            candidates = tagged
            continue
        written.append(str(part))
        if not isinstance(part, int):  # an index stays within the models that the sequence holds
            annotations = [fields[part].annotation for c in candidates if part in (fields := _fields(c))]
            candidates = [found for annotation in annotations for found in _models_in(annotation)]
    return written, candidates


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields by the names that a user writes."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]


def _tags(model: type[BaseModel]) -> set[str]:
    return {tag for field in model.model_fields.values() for tag in _literals(field)}


def _literals(field: FieldInfo) -> set[str]:
    return {arg for arg in getattr(field.annotation, "__args__", ()) if isinstance(arg, str)}


def printable(text: str) -> str:
    r"""Text for a terminal: control characters, but for tabs and ends of lines, are shown and not obeyed.

    Examples:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    kept = (c if c in "\n\t" or category(c) not in ("Cc", "Cf", "Cs") else repr(c)[1:-1] for c in text)
    return text if text.isprintable() else "".join(kept)


def shortened(value: Any) -> str:
    """A value, cut to a readable length."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
