"""Learn noise schedules for diffusion models with reinforcement learning, and tell whether it was worth it.

Importing the package registers its environments with Gymnasium; torch is loaded when one is made.

Examples:
    >>> import gymnasium, schedrl
    >>> "schedrl/DigitsKnots-v0" in gymnasium.registry
    True
"""

from schedrl.environments.registration import register, register_catalogue
from schedrl.errors import AgentFileError, MissingDataError, SchedrlError

__all__ = ["AgentFileError", "MissingDataError", "SchedrlError", "__version__", "register"]

__version__ = "0.1.0"

register_catalogue()
