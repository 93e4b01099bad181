"""Variants of either family as one type, made from plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import Field

from schedrl.environments.definition import Variant
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, parse, unknown_name, with_fields

AnyVariant: TypeAlias = Annotated[TrainingVariant | SamplingVariant, Field(discriminator="family")]
"""A variant of either family, as a field of a pydantic model."""

VariantT = TypeVar("VariantT", bound=Variant)

_FAMILIES: dict[str, type[TrainingVariant] | type[SamplingVariant]] = {
    "training": TrainingVariant,
    "sampling": SamplingVariant,
}


def parse_variant(
    definition: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, what: str = ""
) -> TrainingVariant | SamplingVariant:
    """Make a variant from plain data; its ``family`` is ``training`` when it names none.

    Args:
        definition: The variant as plain data.
        overrides: Fields to change, by the rules of :func:`schedrl.errors.with_fields`; not the family.
        what: Its name in messages; the id when left out.

    Raises:
        SchedrlError: Unknown family or field, or a bad value.

    Examples:
        >>> knots = {"kind": "knots", "bins": 4, "reference": "cosine"}
        >>> base = {"id": "me/Mine-v0", "data": {"name": "digits"}, "action": knots}
        >>> changed = parse_variant(base, {"action.bins": 8, "action.reference": {"name": "linear"}})
        >>> changed.action.bins, changed.action.reference.name
        (8, 'linear')
    """
    what = what or str(definition.get("id", "variant"))[:80]
    content = with_fields(definition, overrides or {})
    given, family = definition.get("family", "training"), content.get("family", "training")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise SchedrlError(f"{what}: field 'family': {unknown_name('family', str(family), _FAMILIES)}")
    if family != given:
        raise SchedrlError(f"{what}: field 'family': cannot be changed from '{given}' (got '{family}')")
    return parse(_FAMILIES[family], content, what)


def of_family(variant: Variant, model: type[VariantT]) -> VariantT:
    """The variant, if it is of the family of ``model``.

    Raises:
        SchedrlError: It is of the other.
    """
    if not isinstance(variant, model):
        wanted = model.model_fields["family"].default
        raise SchedrlError(f"{variant.id}: is of the family '{variant.family}', and this needs '{wanted}'")
    return variant
