"""Registration of variants with Gymnasium. Importing this module loads neither torch nor the models of variants."""

from __future__ import annotations

import importlib
import tomllib
import warnings
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from schedrl.catalogue import folder

if TYPE_CHECKING:
    from schedrl.environments.sampling.variant import SamplingVariant
    from schedrl.environments.training.variant import TrainingVariant

__all__ = [
    "NAMESPACE",
    "PLUGINS",
    "definitions",
    "load_plugins",
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

PLUGINS = "schedrl.variants"
"""Group of the entry points that :func:`load_plugins` reads."""

_registered: dict[str, dict[str, Any]] = {}
_fixed: set[str] = set()
"""Ids of the catalogue and of plugins, which :func:`register` does not replace."""


def definitions() -> dict[str, dict[str, Any]]:
    """Every registered variant as plain data, by id."""
    return {key: dict(value) for key, value in sorted(_registered.items())}


def variant_of(env_id: str, overrides: Mapping[str, Any] | None = None) -> TrainingVariant | SamplingVariant:
    """The variant behind a registered id, without making the environment.

    Args:
        env_id: Gymnasium id; ``module:id`` imports the module first, which registers it.
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
    from schedrl.errors import SchedrlError, unknown_name

    module, separator, name = env_id.partition(":")
    if separator:
        try:
            importlib.import_module(module)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise SchedrlError(
                f"environment '{env_id}': module '{module}' cannot be imported ({reason})"
            ) from None
        env_id = name
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
        env: An id or ``module:id``, as for :func:`variant_of`, or a ``.toml`` file, which is registered.
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
            _fixed.add(_register(tomllib.load(file)))


def load_plugins() -> tuple[str, ...]:
    """Register the variants that installed packages offer as entry points of the group ``schedrl.variants``.

    An entry point names a variant file (a string or a path), a model, a list of these, or a function that returns one
    of them. A plugin that fails is left out, with a warning.

    Returns:
        The ids that were registered.
    """
    ids: list[str] = []
    for plugin in entry_points(group=PLUGINS):
        try:
            offered = plugin.load()
            offered = offered() if callable(offered) else offered
            found = [register(each) for each in (offered if isinstance(offered, list | tuple) else [offered])]
        except Exception as error:  # whatever others' code raises
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"plugin '{plugin.name}' ({plugin.value}) is left out: {reason}", stacklevel=2)
            continue
        _fixed.update(found)
        ids += found
    return tuple(ids)


def register(variant: str | Path | TrainingVariant | SamplingVariant) -> str:
    """Register an environment variant of your own for :func:`gymnasium.make`.

    Args:
        variant: A TOML file like those in ``envs/``, or a model. A relative ``path`` of an image set in a file is
            searched beside the file first.

    Returns:
        The id.

    Raises:
        SchedrlError: The file cannot be read, the definition is not valid, or its id is taken: by another package,
            the catalogue or a plugin. Your own earlier registration is replaced.

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
        what, file = "variant file", Path(variant)
        content = _beside(read_object(file, what), file.absolute().parent)
        variant = parse_variant(content, what=f"{what} {variant}")
    return _register(variant.model_dump(mode="json"))


def _beside(content: Any, folder: Path) -> Any:
    """A variant's plain data; image sets whose ``path`` is found in the folder have it as their ``root``."""
    if not isinstance(content, dict):
        return content
    path = content.get("path")
    rooted = {"root": str(folder)} if isinstance(path, str) and (folder / path).exists() else {}
    return {**rooted, **{key: _beside(value, folder) for key, value in content.items()}}


def _register(definition: Mapping[str, Any]) -> str:
    env_id: str = definition["id"]
    classes = _ENTRY_POINTS[definition.get("family", "training")]
    if env_id in _fixed or (env_id in gym.registry and env_id not in _registered):
        from schedrl.environments.variants import parse_variant
        from schedrl.errors import SchedrlError

        if env_id not in _registered or parse_variant(_registered[env_id]) != parse_variant(definition):
            owner = "by the catalogue or a plugin" if env_id in _fixed else "outside schedrl"
            raise SchedrlError(f"environment '{env_id}': is registered {owner}; choose another id")
    gym.registry.pop(env_id, None)
    _registered[env_id] = dict(definition)
    gym.register(
        env_id,
        entry_point=f"{classes}Env",
        vector_entry_point=f"{classes}VectorEnv",
        kwargs={"variant": dict(definition)},
    )
    return env_id
