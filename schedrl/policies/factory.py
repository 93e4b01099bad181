"""From an agent, which is data, to a policy, which acts."""

from __future__ import annotations

from schedrl.environments.variant import TrainingVariant
from schedrl.policies.agents import Agent, AVAAgent, PPOAgent, RandomAgent, ScheduleAgent, find
from schedrl.policies.baselines import AVAPolicy, Policy, RandomPolicy, SchedulePolicy

__all__ = ["make_policy"]


def make_policy(agent: Agent, variant: TrainingVariant, seed: int = 0) -> Policy:
    """Make an agent act in an environment.

    Args:
        agent: From :func:`schedrl.policies.agents.find` or the catalogue.
        variant: The environment.
        seed: Of the agent's own random numbers; only ``random`` has any.

    Raises:
        SchedrlError: The agent cannot act there: its schedule is out of reach of the actions, an observation that it
            needs is not shown, or its files are damaged or made for other spaces.

    Examples:
        >>> from schedrl.environments.registration import variant_of
        >>> policy = make_policy(find("random", ""), variant_of("schedrl/DigitsKnots-v0"), seed=1)
        >>> policy.predict([[0.0] * 10])[0].shape
        (1, 10)
    """
    if isinstance(agent, ScheduleAgent):
        return SchedulePolicy(agent.schedule, variant)
    if isinstance(agent, AVAAgent):
        return AVAPolicy(agent, variant)
    if isinstance(agent, RandomAgent):
        return RandomPolicy(variant, seed)
    if isinstance(agent, PPOAgent):
        return make_policy(find(agent.name, variant.id), variant, seed)
    from schedrl.policies.agent_files import load_agent  # loads torch

    return load_agent(agent.path, variant)
