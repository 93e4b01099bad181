"""Variants of either family as one type: parsed from plain data, changed by their fields' names."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import Field

from schedrl.environments.base import Variant
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec, parse, unknown_name

__all__ = [
    "FAMILIES",
    "AnyVariant",
    "apply_overrides",
    "of_family",
    "parse_variant",
    "read_definition",
    "with_fields",
]

AnyVariant: TypeAlias = Annotated[TrainingVariant | SamplingVariant, Field(discriminator="family")]
"""A variant of either family, as a field of a pydantic model."""

VariantT = TypeVar("VariantT", bound=Variant)

FAMILIES: dict[str, type[TrainingVariant] | type[SamplingVariant]] = {
    "training": TrainingVariant,
    "sampling": SamplingVariant,
}


def parse_variant(definition: Mapping[str, Any], what: str) -> TrainingVariant | SamplingVariant:
    """Validate a definition; its ``family`` is ``training`` when it names none.

    Raises:
        SchedrlError: Unknown family or field, or a bad value.
    """
    family = definition.get("family", "training")
    if family not in FAMILIES:
        raise SchedrlError(f"{what}: field 'family': {unknown_name('family', str(family), FAMILIES)}")
    return parse(FAMILIES[family], definition, what)


def of_family(variant: Variant, model: type[VariantT]) -> VariantT:
    """A variant as one of the given family.

    Raises:
        SchedrlError: It is of another.
    """
    if not isinstance(variant, model):
        wanted = model.model_fields["family"].default
        raise SchedrlError(f"{variant.id}: is of the family '{variant.family}', and this needs '{wanted}'")
    return variant


def apply_overrides(
    definition: Mapping[str, Any], overrides: Mapping[str, Any]
) -> TrainingVariant | SamplingVariant:
    """Change fields of a variant by their own names.

    A nested field is given as a dictionary (``training={"batch_size": 64}``) or with dots
    (``**{"training.batch_size": 64}``). A dictionary that names another ``name`` or ``kind`` replaces its
    counterpart, any other is merged into it.

    Args:
        definition: The variant as plain data.
        overrides: What to change; later ones win. Plain data or models.

    Returns:
        The changed variant; neither argument is touched.

    Raises:
        SchedrlError: Unknown field or bad value.

    Examples:
        >>> knots = {"kind": "knots", "bins": 4, "reference": "cosine"}
        >>> base = {"id": "me/Mine-v0", "data": {"name": "digits"}, "action": knots}
        >>> changed = apply_overrides(base, {"action.bins": 8, "action.reference": {"name": "linear"}})
        >>> changed.action.bins, changed.action.reference.name
        (8, 'linear')
    """
    merged = with_fields(definition, overrides)
    what, family = str(definition.get("id", "variant")), definition.get("family", "training")
    changed = merged.get("family", "training")
    if changed != family and changed in FAMILIES:
        raise SchedrlError(f"{what}: field 'family': cannot be changed from '{family}' (got '{changed}')")
    return parse_variant(merged, what)


def with_fields(definition: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with fields changed, by the rules of :func:`apply_overrides`; neither argument is touched.

    Examples:
        >>> with_fields({"data": {"name": "digits"}}, {"data.limit": 8})
        {'data': {'name': 'digits', 'limit': 8}}
    """
    merged: dict[str, Any] = json.loads(json.dumps(dict(definition)))
    for key, value in overrides.items():
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


def read_definition(text: str, source: str) -> dict[str, Any]:
    """Parse a variant's TOML.

    Raises:
        SchedrlError: Not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchedrlError(f"{source}: not a TOML file: {error}") from None
