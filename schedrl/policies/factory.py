"""From an agent, which is data, to a policy, which acts."""

from __future__ import annotations

from collections.abc import Sequence

from schedrl.environments.base import Variant
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import of_family
from schedrl.errors import SchedrlError
from schedrl.policies.agents import (
    Agent,
    AVAAgent,
    AVADSCAgent,
    GridAgent,
    PPOAgent,
    RandomAgent,
    ScheduleAgent,
    ScheduleSearchAgent,
    SearchAgent,
    SequenceAgent,
    acts_in,
    find,
)
from schedrl.policies.ava_dsc import AVADSCPolicy
from schedrl.policies.baselines import AVAPolicy, Policy, RandomPolicy, SchedulePolicy
from schedrl.policies.sequences import SequencePolicy

__all__ = ["make_policy"]


def make_policy(agent: Agent, variant: Variant, seed: int | Sequence[int] = 0) -> Policy:
    """Make an agent act in an environment.

    Args:
        agent: From :func:`schedrl.policies.agents.find` or the catalogue.
        variant: The environment.
        seed: Of the agent's own random numbers, one for all runs or one for each; only ``random`` has any.

    Raises:
        SchedrlError: The agent cannot act there: its schedule is out of reach of the actions, an observation that it
            needs is not shown, or its files are damaged or made for other spaces.

    Examples:
        >>> from schedrl.environments.registration import variant_of
        >>> policy = make_policy(find("random", ""), variant_of("schedrl/DigitsKnots-v0"), seed=1)
        >>> policy.predict([[0.0] * 10])[0].shape
        (1, 10)
    """
    if isinstance(agent, AVADSCAgent):
        return AVADSCPolicy(agent, of_family(variant, TrainingVariant))  # says what it needs
    if not acts_in(agent, variant):
        raise SchedrlError(
            f"agent '{agent.name}': a {agent.kind} is not for environments of the family '{variant.family}', as "
            f"{variant.id}; `schedrl agents` says which is for what"
        )
    if isinstance(agent, ScheduleAgent):
        return SchedulePolicy(agent.schedule, of_family(variant, TrainingVariant))
    if isinstance(agent, AVAAgent):
        return AVAPolicy(agent, of_family(variant, TrainingVariant))
    if isinstance(agent, SequenceAgent):
        return SequencePolicy(agent, of_family(variant, TrainingVariant))
    if isinstance(agent, ScheduleSearchAgent):
        raise SchedrlError(
            f"agent '{agent.name}': has to be searched for in {variant.id} first: `schedrl search --env {variant.id} "
            f"--algo {agent.search.name}`"
        )
    if isinstance(agent, GridAgent | SearchAgent):
        raise SchedrlError(
            f"agent '{agent.name}': sees the source, not observations; use schedrl.policies.solve on problems, or "
            "schedrl.policies.GridPolicy on an environment"
        )
    if isinstance(agent, RandomAgent):
        return RandomPolicy(variant, seed)
    if isinstance(agent, PPOAgent):
        return make_policy(find(agent.name, variant.id), variant, seed)
    from schedrl.policies.agent_files import load_agent  # loads torch

    return load_agent(agent.path, variant)
