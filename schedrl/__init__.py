"""Learn noise schedules for diffusion models with reinforcement learning, and tell whether it was worth it.

Importing the package registers its environments with Gymnasium; torch is loaded when one is made.

Examples:
    >>> import gymnasium, schedrl
    >>> "schedrl/DigitsKnots-v0" in gymnasium.registry
    True
"""

import os
import sys

from schedrl.environments.registration import load_plugins, register, register_catalogue
from schedrl.errors import AgentFileError, MissingDataError, SchedrlError

__all__ = ["AgentFileError", "MissingDataError", "SchedrlError", "__version__", "load_plugins", "register"]

__version__ = "0.1.0"

register_catalogue()


def _use_one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


# OpenMP's threads do not survive a fork: a child that shares work with them waits for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_use_one_thread)
