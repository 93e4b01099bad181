"""Multi-scale feature integration and β modulation: in training, in a measurement, in a sampler."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from schedrl import schedules
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.population import Population
from schedrl.diffusion.prediction import NetworkPredictor, network_denoiser, predict_epsilon, surrogate_error
from schedrl.diffusion.process import Inputs, View, alpha_sigma, training_inputs, with_neighbours
from schedrl.diffusion.samplers import ddim, ddpm, heun
from schedrl.diffusion.training_spec import MSFISpec, TrainingSpec, UNetSpec
from schedrl.diffusion.unet import UNet
from schedrl.errors import SchedrlError

SHAPE = (1, 8, 8)
SIGMAS = [20.0, 3.0, 1.0, 0.3, 0.0]


def spec_of(msfi: MSFISpec | None = None, **fields: Any) -> TrainingSpec:
    network = UNetSpec(channels=(4, 8), embedding=8, groups=2, msfi=msfi, **fields)
    return TrainingSpec(network=network, batch_size=8)


def network_of(spec: TrainingSpec, runs: int = 1, seed: int = 0) -> UNet:
    """Weights that are random everywhere: at the start the fusion and the head are zero."""
    made = UNet(spec.network, SHAPE, runs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def drawn(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def around() -> tuple[View, View, View]:
    level = torch.tensor([[2.0, 0.0, -3.0]])
    return (
        (drawn(1, 3, *SHAPE), level),
        (drawn(1, 3, *SHAPE, seed=6), level + 0.5),
        (drawn(1, 3, *SHAPE, seed=7), level - 0.5),
    )


@pytest.mark.parametrize("fuse", ["sum", "concat"])
def test_the_gradient_flows_through_all_three_features(fuse: Any) -> None:
    network = network_of(spec_of(MSFISpec(fuse=fuse)))
    now, less, more = around()
    images = [z.clone().requires_grad_() for z, _ in (now, less, more)]
    output = network(images[0], now[1], None, ((images[1], less[1]), (images[2], more[1])))
    gradients = torch.autograd.grad(output.square().sum(), [*images, *network.parameters()])
    norms = [float(g.norm()) for g in gradients]
    assert min(norms[:3]) > 1e-3
    assert min(norms) > 0.0
    # And it is the gradient: one of the neighbour's pixels, moved a little.
    moved = images[1].detach().double().clone()
    exact = network.double()

    def loss(z: Tensor) -> float:
        views = ((z, less[1].double()), (images[2].double(), more[1].double()))
        with torch.no_grad():
            return float(exact(images[0].double(), now[1].double(), None, views).square().sum())

    step = 1e-5
    moved[0, 1, 0, 3, 4] += step
    higher = loss(moved)
    moved[0, 1, 0, 3, 4] -= 2 * step
    assert (higher - loss(moved)) / (2 * step) == pytest.approx(float(gradients[1][0, 1, 0, 3, 4]), rel=1e-3)


@pytest.mark.parametrize("fuse", ["sum", "concat"])
def test_without_w2_and_w3_it_is_the_network_with_t_alone(fuse: Any) -> None:
    network = network_of(spec_of(MSFISpec(fuse=fuse)))
    now, less, more = around()
    with torch.no_grad():
        assert not torch.equal(network(*now, None, (less, more)), network(*now))
        assert network.fusion is not None
        network.fusion.w2.weight.zero_()
        network.fusion.w3.weight.zero_()
        torch.testing.assert_close(network(*now, None, (less, more)), network(*now), rtol=0, atol=0)


def test_off_it_costs_nothing_and_changes_no_name() -> None:
    plain, full = UNet(spec_of().network, SHAPE), UNet(spec_of(MSFISpec(), modulation=True).network, SHAPE)
    names = [name for name, _ in plain.named_parameters()]
    assert names == [name for name, _ in full.named_parameters()][: len(names)]
    assert not [name for name in names if name.startswith(("fusion.", "modulation."))]
    assert "msfi" not in spec_of().model_dump()["network"]
    assert "modulation" not in spec_of().model_dump()["network"]
    assert UNetSpec.model_validate(spec_of(MSFISpec()).network.model_dump(mode="json")).msfi == MSFISpec()


@pytest.mark.parametrize("network", [{"msfi": MSFISpec()}, {"modulation": True}])
def test_a_run_begins_as_the_one_without(network: dict[str, Any]) -> None:
    images = np.zeros((9, *SHAPE), np.float32)
    made = []
    for spec in (spec_of(), spec_of(**network)):
        population = Population(spec, images, 1)
        population.start(0, 3)
        made.append(population.weights[0])
    assert torch.equal(made[0], made[1][: len(made[0])])
    assert len(made[1]) > len(made[0])


@given(st.floats(0.0, 1.0), st.floats(0.01, 2.0), st.floats(1.0, 8.0), st.integers(0, 2**32 - 1))
def test_neighbours_are_as_far_as_they_may_be(alone: float, low: float, ratio: float, seed: int) -> None:
    spec = MSFISpec(gap=(low, low * ratio), alone=alone)
    uniform = torch.from_numpy(np.random.default_rng(seed).random(4000, dtype=np.float32))
    logsnr = (uniform - 0.5) * 10.0
    levels = with_neighbours(spec, logsnr, uniform)
    gap = levels[:, 1] - logsnr
    torch.testing.assert_close(levels[:, 0], logsnr, rtol=0, atol=0)
    torch.testing.assert_close(gap, logsnr - levels[:, 2], rtol=0, atol=1e-5)
    without = gap == 0.0
    assert abs(float(without.float().mean()) - alone) < 5 * 0.5 / math.sqrt(4000) + 1e-3
    assert not ((gap[~without] < low - 1e-4) | (gap[~without] > low * ratio + 1e-4)).any()
    # The distance says nothing about the level.
    if 0.2 < alone < 0.8:
        assert abs(float(np.corrcoef(without.numpy(), uniform.numpy())[0, 1])) < 5 / math.sqrt(4000)


def test_neighbours_share_image_and_noise() -> None:
    spec = spec_of(MSFISpec(gap=(0.5, 0.5), alone=0.0))
    x0, noise, uniform = drawn(1, 3, *SHAPE), drawn(1, 3, *SHAPE, seed=1), torch.tensor([[0.1, 0.5, 0.9]])
    levels = with_neighbours(spec.network.msfi, torch.zeros(1, 3), uniform)
    inputs, target = training_inputs(spec, x0, noise, levels)
    assert torch.equal(target, noise)
    assert inputs.neighbours is not None
    for (z, logsnr), level in zip(inputs.neighbours, (0.5, -0.5), strict=True):
        assert logsnr.tolist() == [[level] * 3]
        a, s = math.sqrt(1 / (1 + math.exp(-level))), math.sqrt(1 / (1 + math.exp(level)))
        torch.testing.assert_close(z, a * x0 + s * noise)


def test_a_measurement_is_a_function_of_the_image_alone() -> None:
    """Two views of one image and noise determine the image: none may be used where there is no clean image."""
    spec = spec_of(MSFISpec(gap=(0.3, 0.3)))
    seen: list[Inputs] = []
    network = network_of(spec)

    def output(inputs: Inputs) -> Tensor:
        seen.append(inputs)
        return network.run(inputs)

    z, level = around()[0]
    with torch.no_grad():
        found = predict_epsilon(output, spec, z, level)
    alone, fused = seen
    assert alone.neighbours is None
    assert fused.neighbours is not None
    with torch.no_grad():
        noise = network(z, level)  # prediction type epsilon
        alpha, sigma = alpha_sigma(level, 5)
        clean = (z - sigma * noise) / alpha
        for (neighbour, at), wanted in zip(fused.neighbours, (level + 0.3, level - 0.3), strict=True):
            torch.testing.assert_close(at, wanted)
            alpha, sigma = alpha_sigma(wanted, 5)
            torch.testing.assert_close(neighbour, alpha * clean + sigma * noise, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found, network(z, level, None, fused.neighbours))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun"])
def test_a_kept_feature_is_the_one_computed_again(sampler: str) -> None:
    spec = spec_of(MSFISpec(), modulation=True)
    network = network_of(spec, runs=2)
    start = drawn(2, 3, *SHAPE)
    noise = [drawn(2, 3, *SHAPE, seed=20 + k) for k in range(len(SIGMAS))]
    results, passes = [], []
    for keep in (True, False):
        count = [0]
        network.stem.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        predict = NetworkPredictor(network, spec, lambda level: -1.0 - level.abs(), keep=keep)
        denoise = network_denoiser(predict, spec, SIGMAS)
        if sampler == "ddpm":
            results.append(ddpm(denoise, start, SIGMAS, noise))
        else:
            results.append((ddim if sampler == "ddim" else heun)(denoise, start, SIGMAS))
        passes.append(count[0])
    assert torch.equal(*results)
    # Every call goes down for t, its t−1 and, the first time, a predicted t+1.
    if sampler != "heun":
        assert passes == [3 * 4 - 3, 3 * 4]


def test_a_sampler_hands_on_where_it_comes_from_and_goes_to() -> None:
    spec = spec_of(MSFISpec(gap=(0.1, 50.0 / 10)))
    calls: list[tuple[float, float | None, float]] = []
    states: list[Tensor] = []

    def predict(
        z: Tensor, logsnr: Tensor, earlier: View | None = None, following: Tensor | None = None
    ) -> Tensor:
        assert following is not None
        if earlier is not None:
            assert torch.equal(earlier[0], states[-1])
        states.append(z)
        before = None if earlier is None else float(earlier[1][0, 0])
        calls.append((float(logsnr[0, 0]), before, float(following[0, 0])))
        return 0.1 * z

    ddim(network_denoiser(predict, spec, SIGMAS), drawn(1, 2, *SHAPE), SIGMAS)
    levels = [-2 * math.log(s) for s in SIGMAS[:-1]]
    here, before, after = zip(*calls, strict=True)
    assert here == pytest.approx(levels, abs=1e-5)
    assert before == pytest.approx([None, *levels[:-1]], abs=1e-5)
    assert after == pytest.approx([*levels[1:], 20.0], abs=1e-5)


def test_a_population_predicts_as_its_network_does() -> None:
    """The CPU kernel, which keeps no features, and the module that does."""
    spec = spec_of(MSFISpec(), modulation=True)
    population = Population(spec, drawn(16, *SHAPE).numpy(), 2)
    for run in range(2):
        population.start(run, run)
    law = ScheduleNoise.of([schedules.get("cosine"), schedules.get("linear")], 1000, betas=True)
    population.train(law, 3)
    population.average += 0.2 * drawn(*population.average.shape)
    predict = NetworkPredictor(population.averaged_network(), spec, population.log_beta_at)
    start = drawn(2, 5, *SHAPE)
    found = [
        ddim(network_denoiser(each, spec, SIGMAS), start, SIGMAS)
        for each in (population.predict_epsilon, predict)
    ]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_the_surrogate_of_a_perfect_network_is_exact() -> None:
    """Of one image's data a network that knows it predicts x_{t-1}; one that knows nothing does not."""
    spec, level = spec_of(MSFISpec()), torch.tensor([-2.0, 0.0, 3.0])
    x0, noise = drawn(1, *SHAPE).expand(4, *SHAPE), drawn(4, *SHAPE, seed=1)
    network = network_of(spec, runs=2)

    def perfect(z: Tensor, logsnr: Tensor, log_beta: Tensor | None = None) -> Tensor:
        alpha, sigma = alpha_sigma(logsnr, 5)
        return (z - alpha * x0) / sigma

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "forward", perfect)
        exact = surrogate_error(network, spec, x0, noise, level, 0.5)
    plain = surrogate_error(network, spec, x0, noise, level, 0.5)
    assert exact.surrogate.shape == (2, 3)
    assert float(exact.surrogate.max()) < 1e-4
    assert float(plain.surrogate.min()) > 1e-3
    torch.testing.assert_close(exact.standing_still, plain.standing_still)
    nearer = surrogate_error(network, spec, x0, noise, level, 0.01)
    assert (nearer.standing_still < plain.standing_still).all()


def test_beta_modulation_reads_the_schedule_in_force() -> None:
    law = ScheduleNoise.of([schedules.get("cosine"), schedules.get("tangent", gamma=0.3)], 1000, betas=True)
    # The cosine's last steps lie beyond what a network distinguishes, and look alike.
    uniform = 0.98 * torch.rand(2, 3, 50, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(uniform.shape, dtype=torch.int64)
    everywhere = slice(None)
    betas = law.betas(everywhere, nothing, uniform)
    step = (uniform * 1000).long()
    for run, name in enumerate(("cosine", "tangent")):
        exact = schedules.get(name, **({"gamma": 0.3} if run else {})).betas(1000)
        np.testing.assert_array_equal(betas[run].numpy(), exact[step[run].numpy()])
    # Evaluated at the level of a step it is that step's, or its neighbour's after rounding.
    found = law.log_beta_at(everywhere, law.logsnr(everywhere, nothing, uniform)).exp()
    torch.testing.assert_close(found.double(), betas, rtol=0.1, atol=1e-5)

    network = network_of(spec_of(modulation=True))
    z, level = around()[0]
    with torch.no_grad():
        low, high = (network(z, level, torch.full_like(level, math.log(beta))) for beta in (1e-4, 0.5))
    assert float((low - high).abs().max()) > 1e-2
    with pytest.raises(SchedrlError, match=r"network\.modulation: the network needs log"):
        network(z, level)


def test_it_modulates_the_last_normalisation_and_nothing_else() -> None:
    network = network_of(spec_of(modulation=True))
    inputs: dict[str, Tensor] = {}
    network.head.register_forward_pre_hook(lambda _, args: inputs.update(head=args[1]))
    for block in (network.middle, *network.up):
        block.register_forward_hook(lambda _, __, out: inputs.update(last=out))
    z, level = around()[0]
    with torch.no_grad():
        network(z, level, torch.full_like(level, -4.0))
        told = network.modulation(network_ops(), torch.full_like(level, -4.0))  # type: ignore[misc]
        scale, shift = told[0].chunk(2, dim=-1)
        plain = torch.nn.functional.group_norm(
            inputs["last"], 2, network.norm.weight[0], network.norm.bias[0]
        )
        expected = torch.nn.functional.silu(plain * (1 + scale[..., None, None]) + shift[..., None, None])
    torch.testing.assert_close(inputs["head"], expected, rtol=1e-4, atol=1e-5)


def network_ops() -> Any:
    from schedrl.diffusion.layers import GroupedOperations

    return GroupedOperations(1)


def test_a_law_without_betas_says_so() -> None:
    population = Population(spec_of(modulation=True), np.zeros((9, *SHAPE), np.float32), 1)
    population.start(0, 0)
    with pytest.raises(SchedrlError, match="read the schedule's β_t"):
        population.train(ScheduleNoise(np.array([[8.0, -6.0]])), 1)
    with pytest.raises(SchedrlError, match="noise: must serve 1 runs"):
        population.train(ScheduleNoise(np.tile([8.0, -6.0], (2, 1)), step_betas=np.full((2, 4), 0.1)), 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gap": (1.0, 0.5)}, "gap: the shortest distance comes first"),
        ({"gap": (0.0, 0.5)}, "greater than 0"),
        ({"alone": 1.5}, "less than or equal to 1"),
        ({"fuse": "mean"}, "unknown value 'mean'; Known: concat, sum"),
    ],
)
def test_bad_specifications_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MSFISpec(**fields)
