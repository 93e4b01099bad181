"""Open-loop action sequences as policies."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import SequenceAgent
from schedrl.policies.baselines import State, as_rows

__all__ = ["SEARCH_SEEDS", "SequencePolicy"]

SEARCH_SEEDS = 1_000_000
"""Searches draw the seeds of their runs from below this; held-out seeds begin here."""


class SequencePolicy:
    """Takes the actions of a sequence one after the other, from the start of every episode.

    The state is ``(step,)``, the environment steps that each run has taken in its episode.

    Args:
        agent: The sequence.
        variant: The environment it acts in.

    Raises:
        SchedrlError: The sequence does not fit its episodes or its actions.
    """

    def __init__(self, agent: SequenceAgent, variant: TrainingVariant) -> None:
        space, who = variant.action_space(), f"agent '{agent.name}'"
        if len(agent.actions) != variant.episode_steps:
            raise SchedrlError(
                f"{who}: has {len(agent.actions)} actions, and an episode of {variant.id} has {variant.episode_steps}"
            )
        discrete = isinstance(space, gym.spaces.Discrete)
        width = 1 if discrete else int(np.prod(space.shape or ()))
        if any(len(row) != width for row in agent.actions):
            raise SchedrlError(
                f"{who}: an action in {variant.id} has {width} numbers, not those of its sequence"
            )
        rows = np.array(agent.actions)
        self._actions: NDArray[Any] = (
            rows[:, 0].astype(np.int64)
            if discrete
            else rows.astype(np.float32).reshape(-1, *(space.shape or ()))
        )
        whole = not discrete or bool((rows == np.rint(rows)).all())
        if not whole or not all(space.contains(action) for action in self._actions):
            raise SchedrlError(f"{who}: an action of its sequence is outside of the actions of {variant.id}")

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """The actions whose turn it is."""
        rows, single = as_rows(observation)
        step = np.zeros(len(rows), dtype=np.int64) if state is None else np.asarray(state[0])
        if episode_start is not None:
            step = np.where(np.atleast_1d(episode_start), 0, step)
        actions = self._actions[np.minimum(step, len(self._actions) - 1)]
        return (actions[0] if single else actions), (step + 1,)
