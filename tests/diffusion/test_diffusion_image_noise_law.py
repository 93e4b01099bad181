"""Every image its own noise law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from schedrl import schedules
from schedrl.diffusion.noise import ImageScheduleNoise, ScheduleNoise
from schedrl.diffusion.population import Population
from schedrl.diffusion.training_spec import DSCSpec, OptimizerSpec, TrainingSpec, UNetSpec

KNOTS, T = 4, 40


def kernels(seed: int, images: int) -> list[schedules.BetaKnots]:
    rng = np.random.default_rng(seed)
    return [
        schedules.BetaKnots(betas=tuple(rng.uniform(0.01, 0.3, KNOTS).tolist()), num_train_timesteps=T)
        for _ in range(images)
    ]


def law_of(rows: list[list[schedules.BetaKnots]]) -> ImageScheduleNoise:
    falling = [
        [np.concatenate([[0.0], each.log_alphas_cumprod(T)[T // KNOTS - 1 :: T // KNOTS]]) for each in row]
        for row in rows
    ]
    return ImageScheduleNoise(np.array(falling), T)


def test_an_image_is_noised_by_its_own_schedule() -> None:
    rows = [kernels(run, 5) for run in range(2)]
    law = law_of(rows)
    rng = np.random.default_rng(9)
    indices, uniform = rng.integers(5, size=(2, 3, 7)), rng.random((2, 3, 7), dtype=np.float32)
    everywhere = slice(None)
    drawn, betas = (
        ask(everywhere, torch.from_numpy(indices), torch.from_numpy(uniform))
        for ask in (law.logsnr, law.betas)
    )
    for place in np.ndindex(indices.shape):
        own = rows[place[0]][indices[place]]
        step = int(uniform[place] * np.float32(T))
        assert float(drawn[place]) == pytest.approx(own.logsnr_steps(T)[step], rel=1e-5, abs=1e-5)
        fine = int(uniform[place] * np.float32(1000))
        assert float(betas[place]) == pytest.approx(own.betas(1000)[fine], rel=1e-6)
    part = law.logsnr(slice(1, 2), torch.from_numpy(indices[1:]), torch.from_numpy(uniform[1:]))
    assert torch.equal(part, drawn[1:])


def test_images_alike_are_the_plain_law() -> None:
    """The same training, to the last bit but for how a table is read."""
    spec = TrainingSpec(
        network=UNetSpec(channels=(4, 8), embedding=8, groups=2, modulation=True),
        optimizer=OptimizerSpec(name="dsc", dsc=DSCSpec(gamma=5.0)),
        batch_size=6,
    )
    images = np.random.default_rng(0).uniform(-1, 1, (10, 1, 8, 8)).astype(np.float32)
    (kernel,) = kernels(3, 1)
    results = []
    for law in (law_of([[kernel] * 10]), ScheduleNoise.of([kernel], T, betas=True)):
        population = Population(spec, images, 1)
        population.start(0, 4)
        record = population.train(law, 8)
        probe = torch.full((1, 5), 0.3)
        results.append((record.loss, population.predict_epsilon(torch.ones(1, 5, 1, 8, 8), probe).numpy()))
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)


def test_evaluation_reads_the_mean_law() -> None:
    first, second = kernels(1, 2)
    law = law_of([[first, second]])
    mean = 0.5 * (first.log_alphas_cumprod(T) + second.log_alphas_cumprod(T))
    logsnr = mean[9] - math.log(-math.expm1(mean[9]))  # at a quarter of t
    found = float(law.log_beta_at(slice(None), torch.tensor([[logsnr]])))
    around = -np.expm1(np.diff(mean, prepend=0.0)[[9, 10]] / (1000 / T))
    assert min(around) * 0.9 < math.exp(found) < max(around) * 1.1
