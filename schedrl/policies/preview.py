"""What a policy in training would decide now, drawn for TensorBoard."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedrl import schedules
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.vector import PopulationEnv
from schedrl.policies.policy import Policy, walk
from schedrl.schedules import Schedule
from schedrl.schedules.conversions import logsnr_from_sigma

_EPISODES = 4
"""Sources that a sampling policy's grids are drawn for."""


def draw_choice(policy: Policy, vector: PopulationEnv) -> Any:
    """A figure of what the policy decides without exploration; the environment is left as it is.

    Args:
        policy: The policy.
        vector: The environment it learns in.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    if isinstance(vector, TrainingVectorEnv):
        u = np.linspace(0.0, 1.0, 201)
        axes.plot(u, schedules.get("cosine").logsnr(u), color="0.7", label="cosine")
        axes.plot(u, _first_schedule(policy, vector).logsnr(u), label="chosen")
        axes.set(xlabel="u (data to noise)", ylabel="log-SNR")
    else:
        assert isinstance(vector.variant, SamplingVariant)
        problems = SamplingProblems.drawn(vector.variant, range(_EPISODES))
        grids = zip(walk(policy, problems), problems.reference(), problems.total.tolist(), strict=True)
        for source, (chosen, reference, n) in enumerate(grids):
            change = logsnr_from_sigma(chosen[1:n]) - logsnr_from_sigma(reference[1:n])
            axes.plot(np.arange(1, n), change, marker=".", label=f"source {source}")
        axes.axhline(0.0, color="0.7")
        axes.set(xlabel="step", ylabel="log-SNR minus the reference's")
    axes.legend()
    return figure


def _first_schedule(policy: Policy, vector: TrainingVectorEnv) -> Schedule:
    """The schedule chosen for the first phase of the first run, without training anything."""
    runs, action = vector.runs, vector.variant.action
    before, sweep = runs.sweep, []
    try:
        runs.sweep = []
        for _ in range(action.num_knots):
            actions, _ = policy.predict(vector.observe(), deterministic=True)
            sweep.append(np.asarray(actions))
            runs.sweep = list(sweep)
    finally:
        runs.sweep = before
    made, _ = action.schedules(np.stack(sweep), runs.memory, runs.limits)
    return made[0]
