"""Variants of either family as one type: parsed from plain data, changed by their fields' names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import Field

from schedrl.environments.definition import Variant
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, parse, unknown_name, with_fields

__all__ = [
    "FAMILIES",
    "AnyVariant",
    "apply_overrides",
    "of_family",
    "parse_variant",
    "read_definition",
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
    """Change fields of a variant, as :func:`schedrl.errors.with_fields` does.

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


def read_definition(text: str, source: str) -> dict[str, Any]:
    """Parse a variant's TOML.

    Raises:
        SchedrlError: Not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchedrlError(f"{source}: not a TOML file: {error}") from None
