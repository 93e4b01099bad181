"""Agents: hand-made schedules, AVA's controller and PPO, as data (``agents/``) and as policies that act.

Examples:
    >>> from schedrl import policies
    >>> policies.find("cosine", "schedrl/DigitsKnots-v0").schedule
    Cosine(name='cosine', s=0.008)
"""

from schedrl.policies.agents import Agent, catalogue, find
from schedrl.policies.baselines import Policy
from schedrl.policies.factory import make_policy

__all__ = ["Agent", "Policy", "catalogue", "find", "make_policy"]
