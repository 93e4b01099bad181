"""Networks of diffusers as denoisers: steps between steps, the three things they can say, and their own scheduler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schedrl import schedules
from schedrl.diffusion.samplers import ddim
from schedrl.diffusion.trained_models import UNetDenoiser
from schedrl.errors import SchedrlError

TABLE = np.array([0.99, 0.8, 0.4, 0.01])


def test_steps_between_steps() -> None:
    denoise = UNetDenoiser(lambda x, t: SimpleNamespace(sample=x), TABLE)
    levels = np.log(TABLE / (1.0 - TABLE))
    np.testing.assert_allclose(denoise.timestep(torch.from_numpy(levels)), [0.0, 1.0, 2.0, 3.0], atol=1e-6)
    between = torch.tensor([0.25 * levels[1] + 0.75 * levels[2], 30.0, -30.0])
    np.testing.assert_allclose(denoise.timestep(between), [1.75, 0.0, 3.0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_what_it_says_is_understood(kind: Any) -> None:
    """A network that knows the image, and says so in each of the three ways."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 1, 4, 4, generator=generator, dtype=torch.float64)
    alpha2 = torch.tensor([0.9, 0.7, 0.5, 0.3, 0.02], dtype=torch.float64)
    alpha, sigma = (part.sqrt().view(-1, 1, 1, 1) for part in (alpha2, 1.0 - alpha2))
    said = {"epsilon": noise, "sample": x0, "v_prediction": alpha * noise - sigma * x0}[kind]
    denoise = UNetDenoiser(lambda x, t: SimpleNamespace(sample=said), TABLE, kind)
    found = denoise(alpha * x0 + sigma * noise, torch.logit(alpha2))
    torch.testing.assert_close(found, x0)


def test_pure_noise_is_finite() -> None:
    denoise = UNetDenoiser(lambda x, t: SimpleNamespace(sample=0.5 * x), TABLE)
    found = denoise(torch.ones(1, 1, 2, 2), torch.tensor(-torch.inf))
    # As at the noisiest step: (z - 0.5 sigma z) / alpha.
    torch.testing.assert_close(found, torch.full((1, 1, 2, 2), (1.0 - 0.5 * 0.99**0.5) / 0.1))


def test_a_unet_of_diffusers_as_its_own_scheduler_has_it() -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="leading", set_alpha_to_one=True)
    scheduler.set_timesteps(5)
    z = start = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for t in scheduler.timesteps:
            z = scheduler.step(unet(z, t).sample, t, z).prev_sample
    alpha2 = scheduler.alphas_cumprod[scheduler.timesteps].double()
    sigmas = [*((1.0 - alpha2) / alpha2).sqrt().tolist(), 0.0]
    found = ddim(UNetDenoiser(unet, scheduler.alphas_cumprod), start, sigmas)
    torch.testing.assert_close(found, z, rtol=1e-3, atol=1e-3)
    assert float((found - start).abs().mean()) > 0.05


def test_levels_one_by_one_and_together() -> None:
    def network(x: Tensor, t: Tensor) -> Any:
        return SimpleNamespace(sample=x * t.view(-1, 1, 1, 1))

    denoise = UNetDenoiser(network, schedules.get("cosine").alphas_cumprod(50))
    z = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([-2.0, 0.5, 3.0])
    together = denoise(z, levels)
    for row in range(3):
        torch.testing.assert_close(denoise(z[row : row + 1], levels[row])[0], together[row])


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        ([0.5], "epsilon", "at least two"),
        ([0.5, 0.7], "epsilon", "must fall"),
        ([1.0, 0.5], "epsilon", r"inside \(0, 1\)"),
        ([0.9, float("nan")], "epsilon", "finite"),
        ([0.9, 0.5], "v-prediction", "did you mean 'v_prediction'"),
    ],
)
def test_bad_input(table: list[float], kind: Any, message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        UNetDenoiser(lambda x, t: SimpleNamespace(sample=x), table, kind)
