"""Solvers against diffusers' own schedulers, and on a Gaussian whose flow is known."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from schedrl.diffusion.solvers import SOLVERS, SolverName, calls, solve

CLASSES: dict[SolverName, str] = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def scheduler(solver: SolverName, spacing: str) -> Any:
    more = {"clip_sample": False, "set_alpha_to_one": True} if solver == "ddim" else {}
    return getattr(diffusers, CLASSES[solver])(
        num_train_timesteps=1000, beta_schedule="linear", timestep_spacing=spacing, **more
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_a_solver_is_the_scheduler_of_diffusers(solver: SolverName, spacing: str, n: int) -> None:
    theirs = scheduler(solver, spacing)
    theirs.set_timesteps(n)
    abar = theirs.alphas_cumprod.double()
    variance = torch.tensor([4.0, 1.0, 0.25, 0.05], dtype=torch.float64).view(1, 4, 1, 1)

    def noise_of(x: Tensor, t: int) -> Tensor:
        clean = abar[t].sqrt() * variance / (abar[t] * variance + 1 - abar[t]) * torch.tanh(x)
        noise: Tensor = (x - abar[t].sqrt() * clean) / (1 - abar[t]).sqrt()
        return noise

    start = torch.randn(3, 4, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = start * float(theirs.init_noise_sigma)
    for t in theirs.timesteps:
        z = theirs.step(noise_of(theirs.scale_model_input(z, t), int(t)), t, z).prev_sample
    steps = list(dict.fromkeys(int(t) for t in theirs.timesteps))
    points = [(float(abar[t].sqrt()), float((1 - abar[t]).sqrt())) for t in steps]

    def estimate(x: Tensor, place: int) -> Tensor:
        alpha, sigma = points[place]
        return (x - sigma * noise_of(x, steps[place])) / alpha

    # Euler and Heun step through x / alpha, and begin there with noise of their own size.
    begin = start * float(theirs.init_noise_sigma) * points[0][0] if solver in ("euler", "heun") else start
    ours = solve(solver, estimate, begin, [*points, (1.0, 0.0)])
    # They keep sigmas in float32, and a single step from nearly pure noise divides by a small alpha.
    assert float((ours - z).abs().max()) < 1e-5 * max(float(z.abs().max()), 2.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_more_steps_come_closer_by_the_solvers_order(solver: SolverName) -> None:
    variance = 0.3

    def flow_error(n: int) -> float:
        angle = np.linspace(1.45, 0.0, n + 1)  # a finite start
        points = [(float(np.cos(a)), float(np.sin(a))) for a in angle]
        asked = []

        def estimate(x: Tensor, place: int) -> Tensor:
            asked.append(place)
            alpha, sigma = points[place]
            return alpha * variance / (alpha**2 * variance + sigma**2) * x

        end = solve(solver, estimate, torch.ones(1, dtype=torch.float64), points)
        assert len(asked) == calls(solver, n)
        start = points[0]
        exact = np.sqrt(variance / (start[0] ** 2 * variance + start[1] ** 2))
        return abs(float(end) - float(exact))

    order = np.log2(flow_error(160) / flow_error(320))
    assert order > (0.9 if solver in ("ddim", "euler") else 1.6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_pure_noise_is_a_start(solver: SolverName) -> None:
    points = [(0.0, 1.0), (0.4, np.sqrt(1 - 0.16)), (0.9, np.sqrt(1 - 0.81)), (1.0, 0.0)]
    end = solve(solver, lambda x, place: 0.5 * x, torch.ones(2, dtype=torch.float64), points)
    assert torch.isfinite(end).all()
