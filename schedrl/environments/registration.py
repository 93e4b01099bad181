"""Registration of variants with Gymnasium. Importing this module loads neither torch nor the models of variants."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from schedrl.catalogue import folder

if TYPE_CHECKING:
    from schedrl.environments.sampling.variant import SamplingVariant
    from schedrl.environments.training.variant import TrainingVariant

__all__ = [
    "NAMESPACE",
    "definitions",
    "ready_variant",
    "register",
    "register_catalogue",
    "sampling_variant",
    "training_variant",
    "variant_of",
]

NAMESPACE = "schedrl"
"""Namespace of the shipped ids."""

_ENTRY_POINTS = {
    "training": "schedrl.environments.training.env:Training",
    "sampling": "schedrl.environments.sampling.env:Sampling",
}
"""Per family the module, and what the names of its classes begin with."""

_registered: dict[str, dict[str, Any]] = {}


def definitions() -> dict[str, dict[str, Any]]:
    """Every registered variant as plain data, by id."""
    return {key: dict(value) for key, value in sorted(_registered.items())}


def variant_of(env_id: str, overrides: Mapping[str, Any] | None = None) -> TrainingVariant | SamplingVariant:
    """The variant behind a registered id, without making the environment.

    Args:
        env_id: Gymnasium id.
        overrides: Fields to change, named as for :func:`gymnasium.make`.

    Raises:
        SchedrlError: There is no such id or field, or a value is not allowed.

    Examples:
        >>> import schedrl
        >>> variant_of("schedrl/DigitsKnots-v0", {"episode.steps_per_phase": 50}).optimizer_steps
        50
        >>> variant_of("schedrl/DigitKnots-v0")
        Traceback (most recent call last):
        schedrl.errors.SchedrlError: unknown environment 'schedrl/DigitKnots-v0'; did you mean 'schedrl/Dig...
    """
    from schedrl.environments.variants import parse_variant
    from schedrl.errors import unknown_name

    if env_id not in _registered:
        raise unknown_name("environment", env_id, _registered)
    return parse_variant(_registered[env_id], overrides)


def training_variant(env_id: str, overrides: Mapping[str, Any] | None = None) -> TrainingVariant:
    """:func:`variant_of` for an environment in which networks are trained; an error for the other family."""
    from schedrl.environments.training.variant import TrainingVariant
    from schedrl.environments.variants import of_family

    return of_family(variant_of(env_id, overrides), TrainingVariant)


def sampling_variant(env_id: str, overrides: Mapping[str, Any] | None = None) -> SamplingVariant:
    """:func:`variant_of` for an environment in which a sampler's steps are placed; an error for the other family."""
    from schedrl.environments.sampling.variant import SamplingVariant
    from schedrl.environments.variants import of_family

    return of_family(variant_of(env_id, overrides), SamplingVariant)


def ready_variant(
    env: str, overrides: Mapping[str, Any] | None = None, *, download: bool = False
) -> TrainingVariant | SamplingVariant:
    """:func:`variant_of` an environment whose image sets are there.

    Args:
        env: An id, or a ``.toml`` file, which is registered.
        overrides: Fields to change.
        download: Download image sets that are missing.

    Raises:
        SchedrlError: As there, or image sets are missing.
    """
    from schedrl import data

    variant = variant_of(register(env) if env.endswith(".toml") else env, overrides)
    for images in variant.image_sets:
        data.ensure(images, download=download)
    return variant


def register_catalogue() -> None:
    """Register every file of ``envs/``. The package's tests validate their contents."""
    for path in sorted(folder("envs").glob("*.toml")):
        with path.open("rb") as file:
            _register(tomllib.load(file))


def register(variant: str | Path | TrainingVariant | SamplingVariant) -> str:
    """Register an environment variant of your own for :func:`gymnasium.make`.

    Args:
        variant: A TOML file like those in ``envs/``, or a model.

    Returns:
        The id.

    Raises:
        SchedrlError: The file cannot be read or the definition is not valid.

    Examples:
        >>> import gymnasium, schedrl
        >>> from schedrl.environments.training.variant import TrainingVariant
        >>> variant = TrainingVariant(
        ...     id="me/Mine-v0",
        ...     data={"name": "digits"},
        ...     action={"kind": "knots", "bins": 4, "reference": {"name": "cosine"}},
        ... )
        >>> schedrl.register(variant)
        'me/Mine-v0'
        >>> gymnasium.spec("me/Mine-v0").id
        'me/Mine-v0'
    """
    from schedrl.environments.variants import parse_variant
    from schedrl.files import read_object

    if isinstance(variant, str | Path):
        what = "variant file"
        variant = parse_variant(read_object(Path(variant), what), what=f"{what} {variant}")
    _register(variant.model_dump(mode="json"))
    return variant.id


def _register(definition: Mapping[str, Any]) -> None:
    env_id, classes = definition["id"], _ENTRY_POINTS[definition.get("family", "training")]
    gym.registry.pop(env_id, None)
    _registered[env_id] = dict(definition)
    gym.register(
        env_id,
        entry_point=f"{classes}Env",
        vector_entry_point=f"{classes}VectorEnv",
        kwargs={"variant": dict(definition)},
    )
