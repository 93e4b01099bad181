"""The two forms in which a hand-made agent is measured.

``action``: through the environment's own actions, as closely as they can represent it. That is what a learned agent
could have done. ``exact``: the law as written. The environment is the same but for its action (and, for AVA, the cut
into phases and what it observes); data, network, training, measurement and optimizer steps are untouched, and checked
to be. Beating the exact form is what counts; the action form shows what the action space alone costs or gains.
"""

from __future__ import annotations

import math
from typing import Literal

from schedrl.environments.training.actions import ChoiceAction, GainAction
from schedrl.environments.training.observations import ObservationSpec
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import Agent, AVAAgent, ScheduleAgent

__all__ = ["Form", "forms_of", "measured_variant", "nearest_divisor"]

Form = Literal["action", "exact"]
"""How an agent is measured."""


def forms_of(agent: Agent) -> tuple[Form, ...]:
    """The forms that an agent has: ``exact`` is for hand-made laws."""
    return ("exact", "action") if isinstance(agent, ScheduleAgent | AVAAgent) else ("action",)


def measured_variant(agent: Agent, variant: TrainingVariant, form: Form) -> TrainingVariant:
    """The environment in which an agent is measured.

    Args:
        agent: The agent.
        variant: The environment that the comparison is about.
        form: How.

    Raises:
        SchedrlError: The agent has no such form there.

    Examples:
        >>> from schedrl.environments.registration import training_variant
        >>> from schedrl.policies import find
        >>> knots = training_variant("schedrl/DigitsKnots-v0")
        >>> measured_variant(find("cosine", knots.id), knots, "exact").action.kind
        'choice'
        >>> measured_variant(find("ava-prose", knots.id), knots, "exact").episode.phases
        8
    """
    if form not in forms_of(agent):
        raise SchedrlError(f"agent '{agent.name}': only hand-made laws have an exact form")
    if form == "action":
        if isinstance(agent, AVAAgent) and variant.episode.phases == 1:
            raise SchedrlError(
                f"agent '{agent.name}' moves K between phases, and {variant.id} has one; its exact form has more"
            )
        return variant
    if isinstance(agent, ScheduleAgent):
        changed: dict[str, object] = {"action": ChoiceAction(choices=(agent.schedule, agent.schedule))}
    else:
        assert isinstance(agent, AVAAgent)
        changed = _ava_changes(agent, variant)
    # The kernel brings its own T; without the kernel it has to be said.
    fields = {name: getattr(variant, name) for name in type(variant).model_fields}
    exact = TrainingVariant(**{**fields, **changed, "num_train_timesteps": variant.timesteps})
    assert exact.protocol_fingerprint() == variant.protocol_fingerprint()
    return exact


def _ava_changes(agent: AVAAgent, variant: TrainingVariant) -> dict[str, object]:
    """AVA's own action, observations and phases."""
    episode = variant.episode
    if episode.phases == 1:
        phases = nearest_divisor(variant.optimizer_steps, agent.phases)
        steps = variant.optimizer_steps // phases
        episode = episode.model_copy(update={"phases": phases, "steps_per_phase": steps})
    action = GainAction(
        beta_init=agent.beta_init,
        alpha=agent.alpha,
        initial_gain=agent.initial_gain,
        minimum=agent.minimum,
        maximum=agent.maximum,
        # Wide enough that no move of K is cut.
        scale=max(math.log(agent.maximum / agent.minimum), 1.0),
    )
    observation = ObservationSpec(
        features=("budget", "gradient_norm", "gradient_average", "log_gain"), bins=variant.observation.bins
    )
    return {"action": action, "observation": observation, "episode": episode}


def nearest_divisor(total: int, wanted: int) -> int:
    """The divisor of ``total`` nearest to ``wanted``, the smaller of two as near.

    Examples:
        >>> nearest_divisor(200, 8), nearest_divisor(150, 8), nearest_divisor(2, 8)
        (8, 6, 2)
    """
    divisors = [number for number in range(1, total + 1) if total % number == 0]
    return min(divisors, key=lambda divisor: (abs(divisor - wanted), divisor))
