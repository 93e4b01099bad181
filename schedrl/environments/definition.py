"""What every variant of an environment has in common, whichever family it belongs to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Annotated

import gymnasium as gym
from pydantic import Field

from schedrl.data import AnyData
from schedrl.errors import Spec
from schedrl.provenance import content_hash

__all__ = ["Variant", "names_of"]


class Variant(Spec, ABC):
    """Definition of one environment: everything that decides what happens in it, in one frozen model.

    Attributes:
        id: Gymnasium id, ``namespace/Name-vN``.
        description: One line for people.
        family: Which kind of environment; tells the models apart.
    """

    id: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+-v\d+$")]
    description: str = ""
    family: str

    @property
    @abstractmethod
    def observation_names(self) -> tuple[str, ...]:
        """Name of every entry of an observation."""

    @abstractmethod
    def observation_space(self) -> gym.spaces.Box:
        """Observations of one environment."""

    @abstractmethod
    def action_space(self) -> gym.spaces.Box | gym.spaces.Discrete:
        """Actions of one environment."""

    @property
    @abstractmethod
    def episode_steps(self) -> int:
        """Environment steps in an episode that ends by its budget; the longest, where that is drawn."""

    @property
    @abstractmethod
    def optimizer_steps(self) -> int:
        """Inner optimizer steps that an episode spends; 0 where no network is trained."""

    @property
    @abstractmethod
    def image_sets(self) -> tuple[AnyData, ...]:
        """Image sets that it needs."""

    def fingerprint(self) -> str:
        """Hash of everything that acts: equal for equal environments, whatever their id and description.

        ``root`` of an image set says where its files lie, not what they are, and does not enter either.
        """
        content = self.model_dump(mode="json", exclude={"id", "description"})
        return content_hash(_without_roots(content))


def _without_roots(content: object) -> object:
    """Plain data without the folders that image sets are looked for in."""
    if not isinstance(content, dict):
        return content
    return {key: _without_roots(value) for key, value in content.items() if key != "root"}


def names_of(parts: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """Names of an observation's entries: a part of one entry by its own name, of several with their numbers.

    Examples:
        >>> names_of([("budget", 1), ("angle", 2)])
        ('budget', 'angle_0', 'angle_1')
    """
    return tuple(
        name
        for part, width in parts
        for name in ([part] if width == 1 else [f"{part}_{place}" for place in range(width)])
    )
