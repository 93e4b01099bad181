"""The engines: the same training whoever computes, and on a CPU the same bits however the work is cut."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schedrl.diffusion.engines import native_engine
from schedrl.diffusion.engines.choice import EngineName
from schedrl.diffusion.engines.native_engine import KernelUnavailableError
from schedrl.diffusion.layers import Operations, StackedConv2d
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.population import Population
from schedrl.diffusion.process import alpha_sigma, training_target
from schedrl.diffusion.training_spec import (
    DSCSpec,
    MSFISpec,
    OptimizerSpec,
    PredictionType,
    TrainingSpec,
    UNetSpec,
)
from schedrl.diffusion.unet import UNet
from schedrl.errors import SchedrlError

NETWORK = UNetSpec(channels=(4, 8), embedding=8, groups=2)
SPEC = TrainingSpec(network=NETWORK, batch_size=6, optimizer=OptimizerSpec(learning_rate=1e-2))
OPTIMIZERS = [
    OptimizerSpec(),
    OptimizerSpec(learning_rate=1e-2, betas=(0.5, 0.9), eps=1e-4),
    OptimizerSpec(name="adamw", weight_decay=0.1),
    OptimizerSpec(max_gradient_norm=0.3),
    OptimizerSpec(name="dsc", weight_decay=0.1, dsc=DSCSpec(gamma=30.0, boost=0.5)),
    OptimizerSpec(name="dsc", dsc=DSCSpec(gamma=30.0, boost=20.0, per_sample=True, max_factor=2.0)),
    OptimizerSpec(name="dsc", max_gradient_norm=0.3, dsc=DSCSpec(update="printed", boost=1.0)),
]
STATE = ("weights", "average", "first", "second", "steps")


def has_kernel() -> bool:
    try:
        native_engine.load()
    except KernelUnavailableError:
        return False
    return True


needs_kernel = pytest.mark.skipif(not has_kernel(), reason="no C++ compiler: the kernel cannot be built here")


def pictures(shape: tuple[int, int, int] = (1, 8, 8), count: int = 20) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)


def population(
    seeds: list[int],
    engine: EngineName = "native",
    spec: TrainingSpec = SPEC,
    shape: tuple[int, int, int] = (1, 8, 8),
    **arguments: Any,
) -> Population:
    made = Population(spec, pictures(shape), len(seeds), engine=engine, **arguments)
    for run, seed in enumerate(seeds):
        made.start(run, seed)
    return made


def laws(runs: int, discrete: bool = False) -> ScheduleNoise:
    """Every run another one."""
    rows = [np.linspace(8.0 - run % 5, -6.0 + run % 3, 17) for run in range(runs)]
    betas = [np.linspace(1e-4, 0.05 + 0.01 * run, 40) for run in range(runs)]
    return ScheduleNoise(np.stack(rows), discrete, np.stack(betas))


def of_run(law: ScheduleNoise, run: int) -> ScheduleNoise:
    assert law.step_betas is not None
    return ScheduleNoise(law.quantiles[run : run + 1], law.discrete, law.step_betas[run : run + 1])


def shaken(made: Population) -> Population:
    """Weights that are random everywhere: a network that starts at zero hides the gradients of most layers."""
    noise = torch.randn(made.weights.shape, generator=torch.Generator().manual_seed(1))
    made.weights += 0.2 * noise
    made.average.copy_(made.weights)
    return made


# --- the same training ---

SHAPES: list[tuple[UNetSpec, tuple[int, int, int], int]] = [
    (NETWORK, (1, 8, 8), 32),  # full micro-batches
    (NETWORK, (1, 8, 8), 5),  # one micro-batch with empty places
    (UNetSpec(channels=(4,), embedding=6, groups=1), (2, 5, 7), 19),  # odd sides, a last micro-batch with few
    (UNetSpec(channels=(6, 6), embedding=4, groups=3), (3, 4, 6), 8),  # widths that no block divides
    (UNetSpec(channels=(4, 8, 4), embedding=8, groups=1), (1, 4, 4), 17),  # down to one pixel
    (UNetSpec(channels=(12, 16), embedding=32, groups=4), (3, 16, 2), 4),  # two columns, then one
    (NETWORK.model_copy(update={"msfi": MSFISpec()}), (1, 8, 8), 20),
    (NETWORK.model_copy(update={"msfi": MSFISpec(fuse="concat", alone=0.0)}), (1, 8, 8), 5),
    (NETWORK.model_copy(update={"modulation": True}), (1, 8, 8), 20),
    (NETWORK.model_copy(update={"msfi": MSFISpec(gap=(0.5, 0.5)), "modulation": True}), (3, 4, 8), 6),
]


def in_float64(made: Population, law: ScheduleNoise) -> tuple[Tensor, list[Tensor]]:
    """Losses and gradients of the next step by the module in double precision, from the same random numbers."""
    spec, runs = made.spec, made.num_runs
    network = UNet(spec.network, made.image_shape, runs).double()
    parameters = list(network.parameters())
    sizes = [p[0].numel() for p in parameters]
    with torch.no_grad():
        for parameter, piece in zip(parameters, made.weights.double().split(sizes, dim=1), strict=True):
            parameter.copy_(piece.view_as(parameter))
    block = population([3, 4], "torch", spec, made.image_shape)._draw(slice(0, runs), 1, law, None)
    x0, noise, levels = (t[:, 0].double() for t in (made.images[block.indices], block.noise, block.levels))
    told = None if block.log_beta is None else block.log_beta[:, 0].double()
    views = [
        (alpha * x0 + sigma * noise, logsnr, training_target(spec.prediction_type, x0, noise, alpha, sigma))
        for logsnr in levels.unbind(-1)
        for alpha, sigma in [alpha_sigma(logsnr, 5)]
    ]
    around = (views[1][:2], views[2][:2]) if len(views) == 3 else None
    output = network(views[0][0], views[0][1], told, around)
    loss = (output - views[0][2]).square().mean(dim=(1, 2, 3, 4))
    return loss.detach(), [g.flatten(1) for g in torch.autograd.grad(loss.sum(), parameters)]


@pytest.mark.parametrize("prediction_type", ["epsilon", "x0", "v"])
@pytest.mark.parametrize(("network", "shape", "batch_size"), SHAPES)
@pytest.mark.parametrize("engine", [pytest.param("native", marks=needs_kernel), "torch"])
def test_losses_and_gradients_are_those_of_the_module(
    network: UNetSpec,
    shape: tuple[int, int, int],
    batch_size: int,
    prediction_type: PredictionType,
    engine: EngineName,
) -> None:
    spec = TrainingSpec(network=network, batch_size=batch_size, prediction_type=prediction_type)
    made = shaken(population([3, 4], engine, spec, shape))
    loss, gradients = in_float64(made, laws(2))
    record = made.train(laws(2), 1)
    tolerance = 1e-5
    np.testing.assert_allclose(record.loss[0], loss, rtol=tolerance)
    norms = torch.cat(gradients, dim=1).norm(dim=1)
    np.testing.assert_allclose(record.gradient_norm[0], norms, rtol=tolerance)
    # After one step Adam's first moment is a tenth of the gradient.
    names = [name for name, _ in made.network.named_parameters()]
    found = made.optimizer.first.double().split([g.shape[1] for g in gradients], dim=1)
    for name, tenth, gradient in zip(names, found, gradients, strict=True):
        error = (10.0 * tenth - gradient).norm(dim=1) / norms
        assert float(error.max()) < tolerance, name


@needs_kernel
@pytest.mark.parametrize("prediction_type", ["epsilon", "x0", "v"])
def test_the_kernel_and_torch_estimate_alike(prediction_type: PredictionType) -> None:
    spec = SPEC.model_copy(update={"prediction_type": prediction_type})
    both = [shaken(population([3, 4], engine, spec)) for engine in ("native", "torch")]
    z = torch.randn(2, 11, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    logsnr = torch.linspace(-30.0, 4.0, 11).expand(2, -1)
    for images in (z, z[:1].expand(2, -1, -1, -1, -1)):  # each run its own, and all the same
        left, right = (made.predict_epsilon(images, logsnr) for made in both)
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


@needs_kernel
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("discrete", [False, True])
def test_the_kernel_and_torch_agree_over_a_phase(optimizer: OptimizerSpec, discrete: bool) -> None:
    spec = SPEC.model_copy(update={"optimizer": optimizer, "ema_decay": 0.8})
    both = [population([3, 4], engine, spec) for engine in ("native", "torch")]
    records = [made.train(laws(2, discrete), 15) for made in both]
    np.testing.assert_allclose(records[0].loss, records[1].loss, rtol=1e-3)
    for name in STATE:
        left, right = (made.state()[0][name] for made in both)
        np.testing.assert_allclose(left, right, atol=2e-4 * max(1.0, np.abs(right).max()), err_msg=name)


# --- the same bits ---


def assert_run(
    made: Population, run: int, other: Population, other_run: int, *, tolerance: float = 0.0
) -> None:
    left, right = made.state()[0], other.state()[0]
    sizes = np.cumsum([p[0].numel() for p in made.network.parameters()])[:-1]
    for name in STATE:
        rows = left[name][run], right[name][other_run]
        if tolerance == 0.0:
            np.testing.assert_array_equal(*rows, err_msg=name)
            continue
        for one, two in zip(*(np.split(row, sizes) for row in rows), strict=True):  # every tensor by itself
            assert np.linalg.norm(one - two) <= tolerance * np.linalg.norm(two), name


@needs_kernel
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("discrete", [False, True])
def test_runs_together_are_the_runs_alone(optimizer: OptimizerSpec, discrete: bool) -> None:
    spec = SPEC.model_copy(update={"optimizer": optimizer})
    law, seeds = laws(5, discrete), [1, 2, 3, 4, 5]
    together = population(seeds, spec=spec)
    alone = [population([seed], spec=spec) for seed in seeds]
    for _ in range(20):  # step by step
        record = together.train(law, 1)
        for run, single in enumerate(alone):
            expected = single.train(of_run(law, run), 1)
            assert record.loss[0, run] == expected.loss[0, 0]
            assert record.gradient_norm[0, run] == expected.gradient_norm[0, 0]
            assert_run(together, run, single, 0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_in_torch_they_differ_by_rounding(optimizer: OptimizerSpec) -> None:
    # Sums are cut into other blocks, and Adam divides small gradients by their own size.
    spec = SPEC.model_copy(update={"optimizer": optimizer})
    law, seeds = laws(3), [1, 2, 3]
    together = population(seeds, "torch", spec)
    together.train(law, 20)
    for run, seed in enumerate(seeds):
        single = population([seed], "torch", spec)
        single.train(of_run(law, run), 20)
        assert_run(together, run, single, 0, tolerance=2e-3)


@needs_kernel
def test_order_threads_and_cuts_change_nothing() -> None:
    law, seeds = laws(6), [1, 2, 3, 4, 5, 6]
    expected = population(seeds)
    record = expected.train(law, 12)
    order = [4, 0, 5, 2, 1, 3]
    shuffled = population([seeds[run] for run in order])
    other = shuffled.train(ScheduleNoise(law.quantiles[order]), 12)
    for place, run in enumerate(order):
        assert_run(shuffled, place, expected, run)
        np.testing.assert_array_equal(other.loss[:, place], record.loss[:, run])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        threaded = population(seeds)
        threaded.train(law, 12)
    finally:
        torch.set_num_threads(threads)
    small = population(seeds, budget=1)  # one step's random numbers at a time
    small.train(law, 12)
    for run in range(6):
        assert_run(threaded, run, expected, run)
        assert_run(small, run, expected, run)


@needs_kernel
def test_estimates_do_not_depend_on_company() -> None:
    made, alone = shaken(population([1, 2, 3])), population([9])
    alone.average.copy_(made.average[1:2])
    z = torch.randn(3, 37, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logsnr = torch.linspace(-5, 5, 37).expand(3, -1)
    whole = made.predict_epsilon(z, logsnr)
    assert torch.equal(alone.predict_epsilon(z[1:2], logsnr[1:2])[0], whole[1])
    parts = [made.predict_epsilon(z[:, i : i + 5], logsnr[:, i : i + 5]) for i in range(0, 37, 5)]
    assert torch.equal(torch.cat(parts, dim=1), whole)


# --- memory ---


def test_a_population_beyond_the_budget_is_trained_in_parts(caplog: pytest.LogCaptureFixture) -> None:
    law, seeds = laws(5), [1, 2, 3, 4, 5]
    whole = population(seeds, "torch")
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "schedrl"):
        made = population(seeds, "torch", budget=1)
    assert "5 runs need more than the memory budget of 0.0 GB: 1 are trained at a time" in caplog.text
    record, expected = made.train(law, 7), whole.train(law, 7)
    np.testing.assert_allclose(record.loss, expected.loss, rtol=1e-3)
    for run in range(5):
        assert_run(made, run, whole, run, tolerance=2e-3)
    z, logsnr = torch.randn(5, 4, 1, 8, 8), torch.zeros(5, 4)
    torch.testing.assert_close(
        made.predict_epsilon(z, logsnr), whole.predict_epsilon(z, logsnr), rtol=1e-2, atol=1e-2
    )


# --- the choice ---


@needs_kernel
def test_the_kernel_is_the_choice_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert population([1], "auto").engine.name == "native"
    monkeypatch.setenv("SCHEDRL_ENGINE", "torch")
    assert population([1], "auto").engine.name == "torch"
    assert population([1], "native").engine.name == "native"
    monkeypatch.setenv("SCHEDRL_ENGINE", "fast")
    with pytest.raises(SchedrlError, match=r"SCHEDRL_ENGINE: must be auto, native or torch \(got 'fast'\)"):
        population([1], "auto")


def without_compiler() -> Any:
    raise KernelUnavailableError("no C++ compiler (g++ or clang++) was found")


def test_without_a_compiler_torch_trains(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native_engine, "load", without_compiler)
    made = population([1], "auto")
    assert made.engine.name == "torch"
    assert "several times slower than the CPU kernel: no C++ compiler" in caplog.text
    assert np.isfinite(made.train(laws(1), 2).loss).all()
    with pytest.raises(SchedrlError, match="engine: 'native' cannot be used here: no C\\+\\+ compiler"):
        population([1], "native")


class _Unusual(StackedConv2d):
    """A layer that asks for an operation that only PyTorch has, written in one place."""

    def forward(self, ops: Operations[Any], x: Any) -> Any:
        out = super().forward(ops, x)
        tanh: Callable[[Any], Any] = ops.tanh  # type: ignore[attr-defined]
        return tanh(out)


def test_a_new_operation_trains_in_torch_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from schedrl.diffusion import unet
    from schedrl.diffusion.layers import GroupedOperations

    def tanh(self: GroupedOperations, x: Tensor) -> Tensor:
        return x.tanh()

    monkeypatch.setattr(GroupedOperations, "tanh", tanh, raising=False)
    monkeypatch.setattr(unet, "StackedConv2d", _Unusual)
    made = population([1, 2], "auto")
    assert isinstance(made.network, UNet)
    assert made.engine.name == "torch"
    if has_kernel():
        assert "the kernel has no operation 'tanh'" in caplog.text
    assert np.isfinite(made.train(laws(2), 2).loss).all()
