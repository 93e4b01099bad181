"""diffusers' schedulers with an exported schedule do what the package's own samplers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schedrl.diffusion.samplers import ddim, ddpm, heun
from schedrl.export import ScheduleFile
from schedrl.schedules import Grid
from schedrl.sources import Gaussian

Make = Callable[..., ScheduleFile]
Network = Callable[[Tensor, float], Tensor]

CASES = [
    ("DDIMScheduler", "ddim"),
    ("DDPMScheduler", "ddpm"),
    ("EulerDiscreteScheduler", "ddim"),
    ("HeunDiscreteScheduler", "heun"),
]
PREDICTIONS = ("epsilon", "sample", "v_prediction")


def ours(scheduler: Any, network: Network, start: Tensor, sampler: str, prediction: str, seed: int) -> Tensor:
    """The package's sampler on the scheduler's levels, with the network told the scheduler's timesteps."""
    levels, steps = scheduler.placed.sigmas, scheduler.placed.timesteps
    # Samplers name a level by its log-SNR, rounded to the state's type.
    told = {
        float(torch.tensor(-2.0 * np.log(r), dtype=start.dtype)): t
        for r, t in zip(levels, steps, strict=False)
    }

    def denoise(z: Tensor, logsnr: Tensor) -> Tensor:
        out = network(z, float(told[float(logsnr)]))
        wide = logsnr.double()
        alpha, sigma = (float(wide.sigmoid().sqrt()), float((-wide).sigmoid().sqrt()))
        if prediction == "sample":
            return out
        return (z - sigma * out) / alpha if prediction == "epsilon" else alpha * z - sigma * out

    if sampler == "ddim":
        return ddim(denoise, start, levels.tolist())
    if sampler == "heun":
        return heun(denoise, start, levels.tolist())
    generator = torch.Generator().manual_seed(seed)
    noise = (torch.randn(start.shape, generator=generator) for _ in levels[1:])
    return ddpm(denoise, start, levels.tolist(), noise)


def theirs(scheduler: Any, network: Network, start: Tensor, seed: int) -> Tensor:
    """diffusers' loop, as its pipelines have it."""
    scheduler.set_timesteps(len(scheduler.placed.timesteps))
    state: Tensor = start * scheduler.init_noise_sigma
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator} if "DDPM" in type(scheduler).__name__ else {}
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(state, t)
        state = scheduler.step(network(seen, float(t)), t, state, **options).prev_sample
    return state


def network_of(width: int) -> Network:
    """A network with weights of its own that depends on state and timestep."""
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(1)) / width**0.5

    def network(x: Tensor, t: float) -> Tensor:
        return torch.tanh(1.3 * x @ mixing + t / 1000.0) + 0.3 * x

    return network


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("name", "sampler"), CASES)
@pytest.mark.parametrize(
    ("law", "grid", "steps"),
    # From the cosine law's end, sigma = 2e4, the tangent grid's first step goes to 6 (10 steps) or 31 (50).
    [
        ("linear", "karras", 10),
        ("scaled-linear", "tangent", 50),
        ("cosine", "tangent", 10),
        ("cosine", "tangent", 50),
    ],
)
def test_same_trajectory(
    make: Make, law: str, grid: str, steps: int, name: str, sampler: str, prediction: str
) -> None:
    file = make(law, steps, sampler, grid, final_zero=True)
    scheduler = file.to_diffusers(name, prediction)  # type: ignore[arg-type]
    start = torch.randn(6, 16, generator=torch.Generator().manual_seed(2))
    network = network_of(16)
    expected = ours(scheduler, network, start, sampler, prediction, seed=3)
    got = theirs(scheduler, network, start, seed=3)
    assert len(scheduler.placed.timesteps) == steps
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-4


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("name", "sampler"), [case for case in CASES if case[1] != "ddpm"])
def test_exact_variances_through_diffusers(make: Make, name: str, sampler: str, prediction: str) -> None:
    """A deterministic sampler is linear on a Gaussian: its output from unit states is the square root of a variance."""
    source = Gaussian([4.0, 1.0, 0.25, 0.01])
    scheduler = make("linear", 12, sampler).to_diffusers(name, prediction)  # type: ignore[arg-type]
    expected = source.output_variances(Grid(sigmas=tuple(scheduler.placed.sigmas.tolist())), sampler)  # type: ignore[arg-type]
    got = theirs(scheduler, denoiser(source, scheduler, prediction), torch.ones(1, 4), seed=0)[0].square()
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_exact_variances_of_ancestral_sampling_through_diffusers(make: Make, prediction: str) -> None:
    source = Gaussian([4.0, 1.0, 0.25, 0.01])
    scheduler = make("linear", 8, "ddpm").to_diffusers("DDPMScheduler", prediction)  # type: ignore[arg-type]
    expected = source.output_variances(Grid(sigmas=tuple(scheduler.placed.sigmas.tolist())), "ddpm")
    count = 200_000
    start = torch.randn(count, 4, generator=torch.Generator().manual_seed(5))
    got = theirs(scheduler, denoiser(source, scheduler, prediction), start, seed=6).square().mean(dim=0)
    # Five standard errors of a variance.
    np.testing.assert_allclose(got.numpy(), expected, rtol=5.0 * (2.0 / count) ** 0.5)


def denoiser(source: Gaussian, scheduler: Any, prediction: str) -> Network:
    """The exact posterior mean, in the words of a prediction type; the level is found by the timestep alone."""
    levels, steps = scheduler.placed.sigmas, scheduler.placed.timesteps
    spectrum = source.spectrum

    def network(x: Tensor, t: float) -> Tensor:
        r = levels[int(np.argmin(np.abs(steps - t)))]
        alpha, sigma = 1.0 / np.hypot(1.0, r), r / np.hypot(1.0, r)
        gain = alpha * spectrum / (alpha**2 * spectrum + sigma**2)
        factors = {
            "sample": gain,
            "epsilon": (1.0 - alpha * gain) / sigma,
            "v_prediction": (alpha - gain) / sigma,  # v = (alpha x - x0) / sigma
        }
        return x * torch.tensor(factors[prediction], dtype=x.dtype)

    return network
