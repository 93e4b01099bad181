"""Networks trained again under schedules on record, to look at what they draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from schedrl.environments.training.actions import ChoiceAction
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.rendering import sample_images
from schedrl.environments.training.variant import TrainingVariant
from schedrl.schedules import Schedule

__all__ = ["Replay", "replay"]


@dataclass(frozen=True)
class Replay:
    """Training runs that follow given schedules, phase by phase, all from one seed.

    Attributes:
        samples: ``[runs, count, C, H, W]`` in [−1, 1], from the same noise for every run.
        bounds: Validation bounds at the end, bits/dim, ``[runs]``.
    """

    samples: NDArray[np.float32]
    bounds: NDArray[np.float64]


def replay(
    variant: TrainingVariant,
    programs: Sequence[Sequence[Schedule]],
    seed: int,
    count: int,
    device: str = "cpu",
) -> Replay:
    """Train one network per program and draw samples.

    Args:
        variant: The environment; its data, network, training and optimizer steps are used.
        programs: The schedule of every phase, per run. Numbers of phases may differ.
        seed: Of ``reset``, for all runs.
        count: Samples per run.
        device: Torch device of the networks.
    """
    phases = math.lcm(*(len(program) for program in programs))
    chosen = [[program[phase * len(program) // phases] for phase in range(phases)] for program in programs]
    offered = list(dict.fromkeys(schedule for program in chosen for schedule in program))
    episode = variant.episode.model_copy(
        update={"phases": phases, "steps_per_phase": variant.optimizer_steps // phases}
    )
    fields = {name: getattr(variant, name) for name in type(variant).model_fields}
    changed = {
        "action": ChoiceAction.of(*offered),
        "episode": episode,
        "num_train_timesteps": variant.timesteps,
        "test_bound": None,
    }
    env = TrainingVectorEnv(
        len(programs),
        variant=TrainingVariant(**{**fields, **changed}),
        autoreset_mode=AutoresetMode.DISABLED,
        device=device,
    )
    try:
        env.reset(seed=[seed] * len(programs))
        for phase in range(phases):
            env.step(np.array([offered.index(program[phase]) for program in chosen]))
        return Replay(sample_images(env.runs, count), env.runs.current.copy())
    finally:
        env.close()
