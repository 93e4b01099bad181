"""Agents: hand-made schedules, AVA's controller and PPO, as data (``agents/``) and as policies that act.

Examples:
    >>> from schedrl import policies
    >>> policies.find("cosine", "schedrl/DigitsKnots-v0").schedule
    Cosine(name='cosine', s=0.008)
"""

from schedrl.policies.agents import Agent, catalogue, find
from schedrl.policies.policy import Policy

__all__ = ["Agent", "Policy", "catalogue", "find"]
