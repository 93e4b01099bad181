"""The probability flow's likelihood: against Gaussian sources, whose flow and density are closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from schedrl.diffusion.population import Population
from schedrl.diffusion.prediction import predict_epsilon
from schedrl.diffusion.training_spec import TrainingSpec, UNetSpec
from schedrl.errors import SchedrlError
from schedrl.metrics.metric_specs import BoundSpec
from schedrl.metrics.variational_bound import Bound, EpsilonPredictor
from tests.metrics.flow_likelihood import Solver, flow_likelihood, flow_log_density

CLEAN, NOISE = 8.0, -9.0
SPECTRUM = np.array([2.0, 0.7, 0.3, 0.05])


def rotation() -> NDArray[np.float64]:
    found: NDArray[np.float64] = stats.ortho_group(4, seed=np.random.default_rng(0)).rvs()
    return found


def gaussian(covariance: NDArray[np.float64]) -> EpsilonPredictor:
    """The exact noise estimate where images ``[1, 2, 2]`` are normal: σ (α² C + σ²)⁻¹ z."""
    values, vectors = np.linalg.eigh(covariance)
    spectrum, axes = torch.from_numpy(values), torch.from_numpy(vectors)

    def predict(z: Tensor, logsnr: Tensor) -> Tensor:
        kept = torch.sigmoid(logsnr.double())[..., None]
        along = z.double().flatten(2) @ axes
        scaled = (1.0 - kept).sqrt() / (kept * spectrum + 1.0 - kept) * along
        return (scaled @ axes.T).view(z.shape).to(z.dtype)

    return predict


def closed_form(covariance: NDArray[np.float64], z: Tensor) -> NDArray[np.float64]:
    """The density that the exact flow gives: N(0, I) at λ_min, stretched along each axis by the ratio of spreads."""
    values, vectors = np.linalg.eigh(covariance)
    far, near = (1.0 / (1.0 + math.exp(-end)) * (values - 1.0) + 1.0 for end in (CLEAN, NOISE))
    spreads = np.sqrt(far / near)  # at λ_max, where the start has exactly one
    found: NDArray[np.float64] = (
        stats.norm(0.0, spreads).logpdf(z.double().flatten(1).numpy() @ vectors).sum(1)
    )
    return found


def points(count: int = 6, seed: int = 1) -> Tensor:
    drawn = np.random.default_rng(seed).standard_normal((count, 1, 2, 2))
    return torch.from_numpy(drawn)


def test_an_axis_aligned_gaussian_needs_one_probe() -> None:
    """Its Jacobian is diagonal, so Hutchinson's estimate is exact."""
    covariance = np.diag(SPECTRUM)
    z = points()
    found = flow_log_density(gaussian(covariance), z[None], CLEAN, NOISE, torch.Generator(), steps=200)
    np.testing.assert_allclose(found[0], closed_form(covariance, z), atol=1e-5)
    # The start's mismatch at λ_min = -9 is small: it is the density of the noised data too.
    kept = 1.0 / (1.0 + math.exp(-8.0))
    direct = stats.multivariate_normal(cov=kept * covariance + (1.0 - kept) * np.eye(4))
    np.testing.assert_allclose(found[0], direct.logpdf(z.flatten(1).numpy()), atol=5e-3)


def test_any_gaussian_by_many_probes() -> None:
    turned = rotation() @ np.diag(SPECTRUM) @ rotation().T
    z = points(4)
    exact = closed_form(turned, z)
    # Errors of single probes, which must average out.
    drawn = np.stack([
        flow_log_density(gaussian(turned), z[None], CLEAN, NOISE, torch.Generator().manual_seed(seed), steps=40)
        [0] for seed in range(40)
    ])  # fmt: skip
    error = drawn.std(axis=0, ddof=1) / math.sqrt(40)
    assert (error > 1e-4).all()
    assert (np.abs(drawn.mean(axis=0) - exact) < 4.0 * error + 2e-4).all()
    # Many at once are the mean of many alone in kind: closer than one.
    many = flow_log_density(gaussian(turned), z[None], CLEAN, NOISE, torch.Generator(), steps=40, probes=200)
    assert np.abs(many[0].numpy() - exact).max() < 5.0 * drawn.std(axis=0).max() / math.sqrt(200)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_each_solver_has_its_order(solver: Solver, order: int) -> None:
    covariance = np.diag([0.7, 0.5, 1.5, 1.2])
    z = points()

    def error(steps: int) -> float:
        found = flow_log_density(
            gaussian(covariance), z[None], CLEAN, NOISE, torch.Generator(), steps=steps, solver=solver
        )
        return float(np.abs(found[0].numpy() - closed_form(covariance, z)).max())

    # At least: the leading error may cancel between the two ends.
    assert order - 0.35 < math.log2(error(160) / error(320)) < order + 0.9


def test_runs_have_their_own_densities() -> None:
    first, second = np.diag(SPECTRUM), np.diag(SPECTRUM[::-1])
    z = points()

    def both(z: Tensor, logsnr: Tensor) -> Tensor:
        return torch.cat([
            gaussian(first)(z[:1], logsnr[:1]), gaussian(second)(z[1:], logsnr[1:])
        ])  # fmt: skip

    found = flow_log_density(both, z.expand(2, *z.shape), CLEAN, NOISE, torch.Generator(), steps=200)
    for run, covariance in zip(found, (first, second), strict=True):
        np.testing.assert_allclose(run, closed_form(covariance, z), atol=1e-5)


def test_code_lengths_of_gaussian_data_meet_the_bound() -> None:
    """With the exact denoiser the flow and the bound are of one model, and differ by what each cannot see."""
    variance = 0.09
    rng = np.random.default_rng(2)
    levels = 65
    x = rng.normal(0.0, math.sqrt(variance), (400, 1, 2, 2)).clip(-1.0, 1.0)
    images = (np.rint((x + 1.0) * 0.5 * (levels - 1)) / (levels - 1) * 2.0 - 1.0).astype(np.float32)
    spec = BoundSpec(logsnr_max=CLEAN, logsnr_min=NOISE, levels=100)
    exact = gaussian(variance * np.eye(4))
    found = flow_likelihood(exact, images, levels, spec, 1, seed=3, steps=50)
    bound = Bound(spec, images, levels).evaluate(exact, 1)
    # What the data's own law costs: its entropy in cells of a grey level.
    cell = 2.0 / (levels - 1)
    entropy = 0.5 * math.log2(2.0 * math.pi * math.e * variance / cell**2)
    assert found.bits_per_dim[0] == pytest.approx(entropy, abs=4.0 * found.standard_error[0] + 0.02)
    assert found.bits_per_dim[0] == pytest.approx(
        bound.bits_per_dim[0], abs=4.0 * found.standard_error[0] + 0.03
    )
    assert (found.images, found.steps, found.solver, found.probes) == (400, 50, "rk4", 1)
    assert found.log_density.shape == found.image_bits.shape == (1, 400)
    assert found.bits_per_dim[0] == pytest.approx(
        found.image_bits[0].mean() + found.reconstruction, rel=1e-12
    )


def test_fixed_by_the_seed_and_alike_for_all_runs() -> None:
    images = np.zeros((5, 1, 2, 2), np.float32)
    exact, spec = gaussian(np.diag(SPECTRUM)), BoundSpec(images=3)
    one = flow_likelihood(exact, images, 5, spec, 2, seed=0, steps=4)
    again = flow_likelihood(exact, images, 5, spec, 2, seed=0, steps=4)
    other = flow_likelihood(exact, images, 5, spec, 2, seed=1, steps=4)
    np.testing.assert_array_equal(one.log_density, again.log_density)
    np.testing.assert_array_equal(one.log_density[0], one.log_density[1])
    assert not np.array_equal(one.log_density, other.log_density)
    assert one.images == 3


def test_a_network_of_a_population() -> None:
    spec = TrainingSpec(network=UNetSpec(channels=(4, 8), embedding=8, groups=2), batch_size=2)
    population = Population(spec, np.zeros((4, 1, 8, 8), np.float32), num_runs=2)
    for run in range(2):
        population.start(run, run)
    network = population.averaged_network()

    def predict(z: Tensor, logsnr: Tensor) -> Tensor:
        return predict_epsilon(lambda inputs: network(inputs.z, inputs.logsnr), spec, z, logsnr)

    images = np.random.default_rng(0).integers(0, 5, (3, 1, 8, 8)).astype(np.float32) / 2.0 - 1.0
    found = flow_likelihood(predict, images, 5, BoundSpec(), 2, seed=0, steps=5)
    assert np.isfinite(found.bits_per_dim).all()
    # One run alone is the same as beside others.
    first = flow_likelihood(
        lambda z, logsnr: predict(z.expand(2, *z.shape[1:]), logsnr.expand(2, -1))[:1],
        images, 5, BoundSpec(), 1, seed=0, steps=5,
    )  # fmt: skip
    np.testing.assert_allclose(first.log_density[0], found.log_density[0], rtol=1e-4)
    with pytest.raises(SchedrlError, match="predict: must be differentiable"):
        flow_likelihood(population.predict_epsilon, images, 5, BoundSpec(), 2, seed=0)


def test_bad_input() -> None:
    exact, z = gaussian(np.eye(4)), points()[None]
    with pytest.raises(SchedrlError, match=r"logsnr_min: must be below logsnr_max = -9\.0 \(got 8\.0\)"):
        flow_log_density(exact, z, -9.0, 8.0, torch.Generator())
    with pytest.raises(SchedrlError, match=r"steps, probes: must be at least 1 \(got 0 and 1\)"):
        flow_log_density(exact, z, CLEAN, NOISE, torch.Generator(), steps=0)
    with pytest.raises(SchedrlError, match="unknown solver 'rk45'; did you mean 'rk4'"):
        flow_log_density(exact, z, CLEAN, NOISE, torch.Generator(), solver="rk45")  # type: ignore[arg-type]
    with pytest.raises(SchedrlError, match=r"at least 1 image .*\(got 0 and 64\)"):
        flow_likelihood(exact, np.zeros((0, 1, 2, 2), np.float32), 5, BoundSpec(), 1, seed=0)
