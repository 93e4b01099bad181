"""What the definition of every environment has, in both families."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import Field

from schedrl.data import AnyData
from schedrl.errors import Spec
from schedrl.provenance import content_hash

OBSERVATION_LIMIT = 5.0
"""Observations are clipped to ± this."""


class Variant(Spec, ABC):
    """Definition of one environment: everything that decides what happens in it, in one frozen model.

    Attributes:
        id: Gymnasium id, ``namespace/Name-vN``.
        description: One line for people.
        family: The kind of environment; tells the models apart.
        while_learning: Fields, and their values, that are fixed while an agent is trained: what only reports need is
            left out.
    """

    while_learning: ClassVar[dict[str, Any]] = {}

    id: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+-v\d+$")]
    description: str = ""
    family: str

    @property
    @abstractmethod
    def observation_names(self) -> tuple[str, ...]:
        """Name of every entry of an observation."""

    def observation_space(self) -> gym.spaces.Box:
        """Observations of one environment: a Box of ± :data:`OBSERVATION_LIMIT`, one entry per name."""
        entries = (len(self.observation_names),)
        return gym.spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, entries, np.float32)

    @abstractmethod
    def action_space(self) -> gym.spaces.Box | gym.spaces.Discrete:
        """Actions of one environment."""

    @property
    @abstractmethod
    def episode_steps(self) -> int:
        """Environment steps in an episode that ends by its budget; the largest number, where that is drawn."""

    @property
    def optimizer_steps(self) -> int:
        """Inner optimizer steps in an episode; 0 where no network is trained."""
        return 0

    @property
    @abstractmethod
    def image_sets(self) -> tuple[AnyData, ...]:
        """Image sets that it needs."""

    @property
    @abstractmethod
    def overview(self) -> tuple[str, str, str]:
        """What is decided, on what, and in how many steps, for a table."""

    @property
    @abstractmethod
    def decision(self) -> str:
        """How an agent decides, as the end of the sentence "It decides …"."""

    @abstractmethod
    def cost(self, optimizer_steps: int) -> str:
        """Sentences on what environment steps cost that took so many inner optimizer steps."""

    def fingerprint(self) -> str:
        """Hash of everything that acts: equal for equal environments, whatever their id and description.

        ``root`` of an image set, the folder of its files, does not enter.
        """
        content = self.model_dump(mode="json", exclude={"id", "description"})
        return content_hash(_without_roots(content))


def _without_roots(content: object) -> object:
    if not isinstance(content, dict):
        return content
    return {key: _without_roots(value) for key, value in content.items() if key != "root"}
