"""Paper A's AVA and DSC together, as a policy of the environments whose actions set both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.training.actions import DSCAction
from schedrl.environments.training.observations import LOG_UNIT, MEMORY_FEATURES
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import AVADSCAgent
from schedrl.policies.baselines import Features, Gains, State, as_rows

__all__ = ["AVADSCPolicy"]


class AVADSCPolicy:
    """AVA's controller for K, and constants for α, γ and λ.

    The state is ``(K,)``, one per run.

    Args:
        agents: The constants of every run; one agent serves any number of runs.
        variant: The environment it acts in, whose action kind is ``dsc``.

    Raises:
        SchedrlError: Its action kind is another, or an observation that is needed is not shown.
    """

    def __init__(self, agents: AVADSCAgent | Sequence[AVADSCAgent], variant: TrainingVariant) -> None:
        self._agents = [agents] if isinstance(agents, AVADSCAgent) else list(agents)
        who = f"agent '{self._agents[0].name}'"
        if not isinstance(variant.action, DSCAction):
            raise SchedrlError(
                f"{who}: needs the action kind 'dsc', which {variant.id} does not have ('{variant.action.kind}')"
            )
        self._action = variant.action
        for agent in self._agents:
            if agent.beta_init != self._action.beta_init:
                raise SchedrlError(
                    f"{who}: beta_init must be the environment's, {self._action.beta_init} (got {agent.beta_init})"
                )
        self._features = Features(variant, MEMORY_FEATURES, who)
        self._gains = Gains(self._agents, variant, who)

    def predict(
        self,
        observation: Any,
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], State | None]:
        """The changes towards the law at the present K, and towards α, γ and λ."""
        rows, single = as_rows(observation)
        agents = self._agents * len(rows) if len(self._agents) == 1 else self._agents
        gains = self._gains.next(rows, state, episode_start)
        carried = np.stack([self._features.get(rows, name) * LOG_UNIT for name in MEMORY_FEATURES], axis=1)
        actions = np.stack([
            self._action.towards(
                agent.law(gain),
                agent.gamma, agent.boost, tuple(memory),
            )
            for gain, agent, memory in zip(gains.tolist(), agents, carried.tolist(), strict=True)
        ])  # fmt: skip
        return (actions[0] if single else actions), (gains,)
