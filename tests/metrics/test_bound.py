"""The variational bound: its constant terms by integration, its integral by a case known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from schedrl.errors import SchedrlError, parse
from schedrl.metrics import variational_bound
from schedrl.metrics.metric_specs import BoundSpec
from schedrl.metrics.variational_bound import (
    Bound,
    EpsilonPredictor,
    OwnLoss,
    prior_bits,
    reconstruction_bits,
)


def grey(shape: tuple[int, ...], levels: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.linspace(-1, 1, levels)[rng.integers(levels, size=shape)].astype(np.float32)


def nothing(z: Tensor, logsnr: Tensor) -> Tensor:
    return torch.zeros_like(z)


def knowing(x0: float) -> EpsilonPredictor:
    """The perfect predictor of constant images: it knows x0, so it knows the noise."""

    def predict(z: Tensor, logsnr: Tensor) -> Tensor:
        level = logsnr.double()[..., None, None, None]
        alpha, sigma = torch.sigmoid(level).sqrt(), torch.sigmoid(-level).sqrt()
        return ((z.double() - alpha * x0) / sigma).float()

    return predict


# --- the grid ---


@given(st.floats(-20.0, 19.0), st.floats(0.5, 30.0), st.integers(1, 200))
def test_grid_is_the_midpoint_rule(low: float, span: float, levels: int) -> None:
    high = min(low + span, 20.0)
    grid = BoundSpec(logsnr_max=high, logsnr_min=low, levels=levels).grid
    edges = np.linspace(high, low, levels + 1)
    np.testing.assert_allclose(grid, (edges[:-1] + edges[1:]) / 2, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logsnr_min": 8.0}, r"logsnr_min must be below logsnr_max = 8\.0 \(got 8\.0\)"),
        ({"logsnr_max": -7.0}, r"logsnr_min must be below logsnr_max = -7\.0"),
        ({"logsnr_max": 21.0}, "logsnr_max"),
        ({"logsnr_min": -21.0}, "logsnr_min"),
        ({"logsnr_min": float("nan")}, "finite"),
        ({"levels": 0}, "levels"),
        ({"levels": 1001}, "levels"),
        ({"images": 0}, "images"),
        ({"level": 3}, "did you mean 'levels'"),
    ],
)
def test_bad_specs(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        parse(BoundSpec, fields, "bound")


# --- the constant terms ---


@pytest.mark.parametrize("logsnr_min", [-6.0, -1.0, 2.0])
def test_prior_is_the_divergence_from_standard_normal(logsnr_min: float) -> None:
    images = grey((2, 1, 3, 3), 5)
    signal = 1.0 / (1.0 + math.exp(-logsnr_min))
    standard = stats.norm()

    def divergence(x: float) -> float:
        law = stats.norm(math.sqrt(signal) * x, math.sqrt(1.0 - signal))
        value, _ = integrate.quad(
            lambda z: law.pdf(z) * (law.logpdf(z) - standard.logpdf(z)), law.mean() - 12, law.mean() + 12
        )
        return float(value) / math.log(2.0)

    expected = np.mean([divergence(float(x)) for x in images.ravel()])
    assert prior_bits(images, logsnr_min) == pytest.approx(expected, rel=1e-7)


def exact_reconstruction(x: float, levels: int, logsnr: float) -> tuple[float, float]:
    """Mean and standard deviation over the noise of -log2 p(x | z), by quadrature."""
    ratio = math.exp(-logsnr / 2)
    centres = np.linspace(-1, 1, levels)
    noise, weight = np.polynomial.hermite_e.hermegauss(120)
    y = x + ratio * noise
    likelihood = stats.norm(centres, ratio).pdf(y[:, None])
    own = stats.norm(x, ratio).pdf(y)
    bits = -np.log2(own / likelihood.sum(axis=1))
    weight = weight / weight.sum()
    mean = float(weight @ bits)
    return mean, math.sqrt(max(float(weight @ bits**2) - mean**2, 0.0))


@pytest.mark.parametrize(("levels", "logsnr_max"), [(2, 0.0), (17, 5.0), (17, 3.0), (9, -1.0)])
def test_reconstruction_is_the_likelihood_over_grey_levels(levels: int, logsnr_max: float) -> None:
    images = grey((50, 1, 20, 20), levels)
    moments = {x: exact_reconstruction(float(x), levels, logsnr_max) for x in np.unique(images)}
    expected = np.mean([moments[x][0] for x in images.ravel()])
    error = math.sqrt(np.mean([moments[x][1] ** 2 for x in images.ravel()]) / images.size)
    found = reconstruction_bits(images, levels, logsnr_max, np.random.default_rng(3))
    assert found == pytest.approx(expected, abs=4.5 * error + 1e-4)
    assert found > 0


def test_reconstruction_at_the_extremes() -> None:
    images = grey((4, 1, 8, 8), 17)
    rng = np.random.default_rng(0)
    assert reconstruction_bits(images, 17, 20.0, rng) == pytest.approx(0.0, abs=1e-12)  # no doubt left
    assert reconstruction_bits(images, 17, -20.0, rng) == pytest.approx(
        math.log2(17), rel=1e-3
    )  # nothing known


def test_reconstruction_of_many_pixels_equals_its_parts() -> None:
    # More pixels than are worked on at once; the noise of a part is the generator's next.
    images = grey((3, 1, 160, 160), 4)
    rng = np.random.default_rng(1)
    parts = [reconstruction_bits(image, 4, 2.0, rng) for image in images]
    whole = reconstruction_bits(images, 4, 2.0, np.random.default_rng(1))
    assert whole == pytest.approx(np.mean(parts), rel=1e-12)


# --- the measured term ---


def test_perfect_prediction_leaves_the_constant() -> None:
    images = np.full((3, 1, 4, 4), 0.5, dtype=np.float32)
    spec = BoundSpec(levels=9)
    bound = Bound(spec, images, 5)
    value = bound.evaluate(knowing(0.5), 2)
    assert value.mse.shape == (2, 9)
    np.testing.assert_allclose(value.mse, 0.0, atol=1e-9)
    np.testing.assert_allclose(value.bits_per_dim, bound.constant, atol=1e-8)
    # Its noise was drawn from the generator after the images' own, hence only to Monte-Carlo error.
    mean, deviation = exact_reconstruction(0.5, 5, spec.logsnr_max)
    expected = prior_bits(images, spec.logsnr_min) + mean
    assert bound.constant == pytest.approx(expected, abs=5 * deviation / math.sqrt(48) + 1e-4)


def test_predicting_nothing_costs_the_noise() -> None:
    spec = BoundSpec(logsnr_max=8.0, logsnr_min=-6.0, levels=14)
    bound = Bound(spec, grey((200, 1, 8, 8), 17), 17)
    value = bound.evaluate(nothing, 1)
    np.testing.assert_allclose(value.mse, 1.0, atol=5 * math.sqrt(2.0 / 12800))
    expected = bound.constant + 0.5 * 14.0 * value.mse[0].mean() / math.log(2.0)
    assert value.bits_per_dim[0] == pytest.approx(expected, rel=1e-14)


def test_gaussian_data_reach_the_closed_form() -> None:
    """THEORY 3.7: between SNR g0 and g1 the integral is 1/2 sum log((1 + l g1) / (1 + l g0)) nats."""
    spectrum = np.array([4.0, 1.0, 0.1])
    end = math.log(1e3)
    # Data on the quantiles of their law: their variances are exact to 1e-3, what remains is the noise's.
    count = 4001
    quantiles = stats.norm.ppf((np.arange(count) + 0.5) / count)
    images = (quantiles[:, None] * np.sqrt(spectrum)).astype(np.float32)[:, :, None, None]
    eigenvalues = torch.from_numpy(spectrum).float()[:, None, None]

    def exact(z: Tensor, logsnr: Tensor) -> Tensor:
        kept = torch.sigmoid(logsnr)[..., None, None, None]
        return (1.0 - kept).sqrt() / (kept * eigenvalues + 1.0 - kept) * z

    spec = BoundSpec(logsnr_max=end, logsnr_min=-end, levels=60)
    bound = Bound(spec, images, 2)
    value = bound.evaluate(exact, 1)
    nats = (value.bits_per_dim[0] - bound.constant) * math.log(2.0) * 3
    assert 0.5 * np.log((1 + spectrum * 1e3) / (1 + spectrum * 1e-3)).sum() == pytest.approx(9.90654169420)
    assert nats == pytest.approx(9.90654169420, rel=5e-3)


def test_the_parts_are_the_whole() -> None:
    images = grey((20, 1, 4, 4), 33)
    spec = BoundSpec(logsnr_max=7.0, logsnr_min=-5.0, levels=6)
    value = Bound(spec, images, 33).evaluate(lambda z, _: 0.5 * z, 2)
    assert value.prior == prior_bits(images, -5.0)
    assert value.reconstruction > 0.0
    assert value.diffusion.shape == (2, 6)
    whole = value.prior + value.reconstruction + value.diffusion.sum(axis=1)
    np.testing.assert_allclose(value.bits_per_dim, whole, rtol=1e-13)
    np.testing.assert_allclose(value.edges, [7.0, 5.0, 3.0, 1.0, -1.0, -3.0, -5.0])
    # Half of a cell of 2 in nats, of an error known at either level.
    np.testing.assert_allclose(value.diffusion * math.log(2.0), value.mse, rtol=1e-13)


def test_each_run_is_measured_by_its_own_predictor() -> None:
    images = grey((5, 1, 4, 4), 5)
    bound = Bound(BoundSpec(levels=3), images, 5)
    scale = torch.tensor([0.0, 1.0, 2.0])[:, None, None, None, None]
    together = bound.evaluate(lambda z, _: scale * z, 3)
    for run in range(3):
        alone = bound.evaluate(lambda z, _, run=run: scale[run] * z, 1)  # type: ignore[misc]
        np.testing.assert_allclose(alone.mse[0], together.mse[run], rtol=1e-6)
        assert alone.bits_per_dim[0] == pytest.approx(together.bits_per_dim[run], rel=1e-7)


@pytest.mark.parametrize("part", [1, 7, 300])
def test_parts_change_no_value(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = Bound(BoundSpec(levels=4), grey((150, 1, 4, 4), 5), 5)
    sizes: list[int] = []

    def predict(z: Tensor, logsnr: Tensor) -> Tensor:
        sizes.append(z.shape[1])
        return 0.3 * z * logsnr[..., None, None, None].sin()

    expected = bound.evaluate(predict, 2)
    assert sizes == [4 * 150]  # all levels in one pass
    monkeypatch.setattr(variational_bound, "_BUDGET", part * 2 * 4 * 16)
    found = bound.evaluate(predict, 2)
    assert max(sizes[1:]) == part
    np.testing.assert_allclose(found.mse, expected.mse, rtol=1e-14)  # float32 within an image only


def test_measurement_is_fixed() -> None:
    images = grey((6, 1, 4, 4), 5)
    spec = BoundSpec(levels=3)
    first, second = (Bound(spec, images, 5).evaluate(lambda z, _: 0.5 * z, 1) for _ in range(2))
    np.testing.assert_array_equal(first.mse, second.mse)
    assert first.bits_per_dim[0] == second.bits_per_dim[0]


def test_number_of_images() -> None:
    images = grey((6, 1, 4, 4), 5)
    few = Bound(BoundSpec(levels=3, images=2), images, 5)
    seen: list[int] = []

    def predict(z: Tensor, logsnr: Tensor) -> Tensor:
        seen.append(z.shape[1])
        return torch.zeros_like(z)

    few.evaluate(predict, 1)
    assert seen == [3 * 2]
    assert few.constant == Bound(BoundSpec(levels=3), images[:2], 5).constant


# --- the law's own loss ---


def test_own_loss_is_measured_under_the_law() -> None:
    images = np.full((8, 1, 4, 4), 0.25, dtype=np.float32)
    loss = OwnLoss(images, 4)
    np.testing.assert_allclose(loss.places, [0.125, 0.375, 0.625, 0.875] * 2)
    laws = np.stack([np.linspace(3, -3, 8), np.linspace(8, 2, 8)])
    noises: list[Tensor] = []

    def predict(z: Tensor, logsnr: Tensor) -> Tensor:
        np.testing.assert_allclose(logsnr, laws, rtol=1e-6)
        noises.append(knowing(0.25)(z, logsnr))
        return 0.5 * noises[-1]

    found = loss.evaluate(predict, laws)
    np.testing.assert_allclose(noises[0][0], noises[0][1], atol=1e-4)  # the same noise under every law
    np.testing.assert_allclose(found, 0.25 * noises[0].square().flatten(1).mean(dim=1), rtol=1e-4)
    np.testing.assert_allclose(loss.evaluate(knowing(0.25), laws), 0.0, atol=1e-8)


def test_own_loss_falls_as_noise_rises() -> None:
    """Why it is not a reward: the same predictor looks better under a noisier law."""
    loss = OwnLoss(grey((64, 1, 8, 8), 17), 8)

    def posterior(z: Tensor, logsnr: Tensor) -> Tensor:  # exact for Gaussian data of variance 0.4
        kept = torch.sigmoid(logsnr)[..., None, None, None]
        return (1.0 - kept).sqrt() / (0.4 * kept + 1.0 - kept) * z

    levels = np.array([6.0, 2.0, -2.0, -6.0])
    found = loss.evaluate(posterior, np.tile(levels[:, None], (1, 64)))
    assert (np.diff(found) < 0).all()
