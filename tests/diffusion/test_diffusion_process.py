"""The process and the three prediction types."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from schedrl.diffusion.process import alpha_sigma, to_epsilon, to_x0, training_target
from schedrl.diffusion.training_spec import PredictionType

TYPES: tuple[PredictionType, ...] = get_args(PredictionType)
# Within these a division by alpha or sigma costs at most e^7.5 roundings.
LOGSNR = st.floats(-15.0, 15.0)
VALUE = st.floats(-3.0, 3.0)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(LOGSNR)
def test_amplitudes(logsnr: float) -> None:
    alpha, sigma = alpha_sigma(scalar(logsnr), 0)
    assert float(alpha**2 + sigma**2) == pytest.approx(1.0, abs=1e-15)
    assert 2.0 * math.log(float(alpha) / float(sigma)) == pytest.approx(logsnr, abs=1e-12)


def test_amplitudes_broadcast_over_images() -> None:
    logsnr = torch.tensor([[0.0, math.log(3.0)]])
    alpha, sigma = alpha_sigma(logsnr, 5)
    assert alpha.shape == sigma.shape == (1, 2, 1, 1, 1)
    torch.testing.assert_close(alpha.flatten() ** 2, torch.tensor([0.5, 0.75]))


def test_amplitudes_at_the_ends() -> None:
    alpha, sigma = alpha_sigma(torch.tensor([-math.inf, math.inf]), 1)
    assert alpha.tolist() == [0.0, 1.0]
    assert sigma.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("prediction_type", TYPES)
@given(logsnr=LOGSNR, x0=VALUE, noise=VALUE)
def test_a_right_answer_converts_to_the_truth(
    prediction_type: PredictionType, logsnr: float, x0: float, noise: float
) -> None:
    alpha, sigma = alpha_sigma(scalar(logsnr), 0)
    z = alpha * x0 + sigma * noise
    said = training_target(prediction_type, scalar(x0), scalar(noise), alpha, sigma)
    assert float(to_epsilon(prediction_type, said, z, alpha, sigma)) == pytest.approx(noise, abs=1e-11)
    assert float(to_x0(prediction_type, said, z, alpha, sigma)) == pytest.approx(x0, abs=1e-11)


def test_targets_are_what_they_are_called() -> None:
    x0, noise, alpha, sigma = scalar(2.0), scalar(5.0), scalar(0.8), scalar(0.6)
    assert float(training_target("epsilon", x0, noise, alpha, sigma)) == 5.0
    assert float(training_target("x0", x0, noise, alpha, sigma)) == 2.0
    assert float(training_target("v", x0, noise, alpha, sigma)) == pytest.approx(0.8 * 5.0 - 0.6 * 2.0)


@pytest.mark.parametrize("prediction_type", TYPES)
@given(logsnr=LOGSNR, z=VALUE, said=VALUE)
def test_any_answer_explains_the_image(
    prediction_type: PredictionType, logsnr: float, z: float, said: float
) -> None:
    # A wrong answer too is a pair (x0, epsilon) that adds up to z, and going there and back returns it.
    alpha, sigma = alpha_sigma(scalar(logsnr), 0)
    x0 = to_x0(prediction_type, scalar(said), scalar(z), alpha, sigma)
    noise = to_epsilon(prediction_type, scalar(said), scalar(z), alpha, sigma)
    size = float(abs(x0) + abs(noise)) + 1.0
    assert float(alpha * x0 + sigma * noise) == pytest.approx(z, abs=1e-14 * size)
    again = training_target(prediction_type, x0, noise, alpha, sigma)
    assert float(again) == pytest.approx(said, abs=1e-13 * size)
    assert float(to_epsilon("x0", x0, scalar(z), alpha, sigma)) == pytest.approx(
        float(noise), abs=1e-13 * size / float(sigma)
    )
    assert float(to_x0("epsilon", noise, scalar(z), alpha, sigma)) == pytest.approx(
        float(x0), abs=1e-13 * size / float(alpha)
    )
