"""Training of a population: each run is what it would be alone, and fixed by its seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.population import PhaseRecord, Population
from schedrl.diffusion.process import alpha_sigma
from schedrl.diffusion.run_stream import RunStream
from schedrl.diffusion.training_spec import OptimizerSpec, PredictionType, TrainingSpec, UNetSpec
from schedrl.errors import SchedrlError

PlainNetwork = Callable[[dict[str, Tensor], UNetSpec, Tensor, Tensor], Tensor]

NETWORK = UNetSpec(channels=(4, 8), embedding=8, groups=2)
SPEC = TrainingSpec(network=NETWORK, batch_size=6, optimizer=OptimizerSpec(learning_rate=1e-2))
IMAGES = np.random.default_rng(0).uniform(-1, 1, (20, 1, 8, 8)).astype(np.float32)
STATE = ("weights", "average", "first", "second", "steps")


def population(seeds: list[int], spec: TrainingSpec = SPEC) -> Population:
    made = Population(spec, IMAGES, len(seeds))
    for run, seed in enumerate(seeds):
        made.start(run, seed)
    return made


def uniform_law(runs: int, high: float = 6.0, low: float = -4.0) -> ScheduleNoise:
    return ScheduleNoise(np.tile(np.linspace(high, low, 33), (runs, 1)))


def bits(made: Population, runs: list[int] | None = None) -> dict[str, np.ndarray]:
    rows = list(range(made.num_runs)) if runs is None else runs
    return {name: array[rows] for name, array in made.state()[0].items()}


def assert_same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    for name in STATE:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_same_seeds_same_bits() -> None:
    records = []
    states = []
    for _ in range(2):
        made = population([3, 4])
        records.append(made.train(uniform_law(2), 30))
        states.append(bits(made))
    assert_same_bits(*states)
    np.testing.assert_array_equal(records[0].loss, records[1].loss)
    np.testing.assert_array_equal(records[0].gradient_norm, records[1].gradient_norm)
    assert records[0].loss.shape == records[0].gradient_norm.shape == (30, 2)
    assert not np.array_equal(records[0].loss[:, 0], records[0].loss[:, 1])


def test_training_learns() -> None:
    record = population([0]).train(uniform_law(1), 150)
    assert record.loss[-30:].mean() < 0.8 * record.loss[:5].mean()


def test_neighbours_do_not_matter() -> None:
    law = uniform_law(3)
    other_law = ScheduleNoise(np.stack([law.quantiles[0] - 3.0, law.quantiles[1], law.quantiles[2] + 2.0]))
    first, second = population([1, 2, 3]), population([7, 2, 9])
    first_record, second_record = first.train(law, 12), second.train(other_law, 12)
    assert_same_bits(bits(first, [1]), bits(second, [1]))
    np.testing.assert_array_equal(first_record.loss[:, 1], second_record.loss[:, 1])


def test_a_run_alone_is_the_same_run() -> None:
    # One group and three groups of channels are convolved by different kernels, so sums are rounded in another
    # order: 1e-7 relative a step, and Adam divides small gradients by their own size, which amplifies it.
    together = population([1, 2, 3])
    record = together.train(uniform_law(3), 12)
    for run, seed in enumerate([1, 2, 3]):
        alone = population([seed])
        single = alone.train(uniform_law(1), 12)
        np.testing.assert_allclose(single.loss[:, 0], record.loss[:, run], rtol=1e-4)
        np.testing.assert_allclose(single.gradient_norm[:, 0], record.gradient_norm[:, run], rtol=1e-3)
        np.testing.assert_allclose(alone.weights[0], together.weights[run], atol=1e-4)


def test_seeded_alike_runs_are_alike() -> None:
    made = population([5, 5, 5])
    record = made.train(uniform_law(3), 12)
    # Vector instructions do not cut the channel axis at the runs' borders, so a sum of one run may be rounded
    # unlike the same sum of another: the last digit of float32.
    for run in (1, 2):
        np.testing.assert_allclose(record.loss[:, run], record.loss[:, 0], rtol=1e-5)
        np.testing.assert_allclose(made.weights[run], made.weights[0], atol=2e-5)


def test_two_calls_are_one() -> None:
    whole, parts = population([1, 2]), population([1, 2])
    record = whole.train(uniform_law(2), 40)
    halves = [parts.train(uniform_law(2), 27), parts.train(uniform_law(2), 13)]
    assert_same_bits(bits(whole), bits(parts))
    np.testing.assert_array_equal(record.loss, np.concatenate([half.loss for half in halves]))


def test_looking_changes_nothing() -> None:
    calm, watched = population([1, 2]), population([1, 2])
    z = torch.randn(2, 3, 1, 8, 8)
    for made in (calm, watched):
        made.train(uniform_law(2), 5)
    watched.predict_epsilon(z, torch.zeros(2, 3))
    watched.state()
    for made in (calm, watched):
        made.train(uniform_law(2), 5)
    assert_same_bits(bits(calm), bits(watched))


def test_state_goes_on_exactly() -> None:
    made = population([1, 2])
    made.train(uniform_law(2), 9)
    arrays, meta = made.state()
    meta = json.loads(json.dumps(meta))
    kept = {name: array.copy() for name, array in arrays.items()}
    expected = made.train(uniform_law(2), 9)
    for name, array in kept.items():  # a state is a copy
        np.testing.assert_array_equal(arrays[name], array)
    other = Population(SPEC, IMAGES, 2)
    other.restore(arrays, meta)
    record = other.train(uniform_law(2), 9)
    np.testing.assert_array_equal(record.loss, expected.loss)
    assert_same_bits(bits(made), bits(other))


def test_a_restart_leaves_the_others_alone() -> None:
    calm, restarted = population([1, 2, 3]), population([1, 2, 3])
    for made in (calm, restarted):
        made.train(uniform_law(3), 7)
    restarted.start(1, 99)
    for made in (calm, restarted):
        made.train(uniform_law(3), 7)
    assert_same_bits(bits(calm, [0, 2]), bits(restarted, [0, 2]))
    fresh = population([0, 99, 0])
    fresh.train(uniform_law(3), 7)
    assert_same_bits(bits(fresh, [1]), bits(restarted, [1]))


def test_random_numbers_do_not_depend_on_the_law() -> None:
    mild, harsh = population([1]), population([1])
    mild.train(uniform_law(1), 9)
    harsh.train(uniform_law(1, 15.0, 10.0), 9)
    assert mild.state()[1] == harsh.state()[1]
    assert not torch.equal(mild.weights, harsh.weights)


def test_a_lost_run_stays_alone() -> None:
    calm, sick = population([1, 2, 3]), population([1, 2, 3])
    sick.weights[1] = torch.nan
    for made in (calm, sick):
        made.train(uniform_law(3), 6)
    assert sick.weights[1].isnan().all()
    assert_same_bits(bits(calm, [0, 2]), bits(sick, [0, 2]))


def test_rate_zero_freezes() -> None:
    made = population([1, 2], SPEC.model_copy(update={"optimizer": OptimizerSpec(learning_rate=0.0)}))
    before = made.weights.clone()
    record = made.train(uniform_law(2), 9)
    assert torch.equal(made.weights, before)
    assert torch.equal(made.average, before)
    assert (record.gradient_norm > 0).all()


def run_of(made: Population, run: int, rows: Tensor) -> dict[str, Tensor]:
    """One run's parameters by name, out of a matrix of rows."""
    names = [name for name, _ in made.network.named_parameters()]
    shapes = [parameter[0].shape for parameter in made.network.parameters()]
    pieces = rows[run].split([shape.numel() for shape in shapes])
    return {name: p.view(s).clone() for name, p, s in zip(names, pieces, shapes, strict=True)}


@pytest.mark.parametrize("prediction_type", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("discrete", [False, True])
def test_equals_a_plain_training_loop(
    plain: PlainNetwork, prediction_type: PredictionType, discrete: bool
) -> None:
    """The same run written as anyone would: a plain network, torch's Adam, one image batch after another."""
    spec = SPEC.model_copy(update={"prediction_type": prediction_type, "ema_decay": 0.5})
    seeds, steps, run = [4, 5], 8, 1
    table = np.stack([np.linspace(5.0, -5.0, 11), np.linspace(8.0, -3.0, 11)])
    made = population(seeds, spec)
    parameters = {name: p.requires_grad_() for name, p in run_of(made, run, made.weights).items()}
    record = made.train(ScheduleNoise(table, discrete), steps)

    stream = RunStream(seeds[run], len(IMAGES), spec.batch_size)
    indices, levels, noises = stream.indices(steps), stream.levels(steps), stream.noise(steps, (1, 8, 8))
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-2)
    average = {name: p.detach().clone() for name, p in parameters.items()}
    for step in range(steps):
        u = levels[step].astype(np.float64)
        at = table[run][(u * 11).astype(int)] if discrete else np.interp(u, np.linspace(0, 1, 11), table[run])
        logsnr = torch.from_numpy(at).float()
        alpha, sigma = (torch.sigmoid(sign * logsnr).sqrt()[:, None, None, None] for sign in (1, -1))
        x0, noise = torch.from_numpy(IMAGES[indices[step]]), torch.from_numpy(noises[step])
        target = {"epsilon": noise, "x0": x0, "v": alpha * noise - sigma * x0}[prediction_type]
        output = plain(parameters, spec.network, alpha * x0 + sigma * noise, logsnr)
        loss = torch.nn.functional.mse_loss(output, target)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.linalg.vector_norm(
            torch.stack([p.grad.norm() for p in parameters.values() if p.grad is not None])
        )
        assert record.loss[step, run] == pytest.approx(loss.item(), rel=1e-4)
        assert record.gradient_norm[step, run] == pytest.approx(norm.item(), rel=1e-3)
        optimizer.step()
        decay = min(0.5, (2 + step) / (11 + step))
        for name, parameter in parameters.items():
            average[name] = decay * average[name] + (1 - decay) * parameter.detach()
    for rows, expected in ((made.weights, parameters), (made.average, average)):
        for name, value in run_of(made, run, rows).items():
            torch.testing.assert_close(value, expected[name].detach(), rtol=0, atol=2e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "x0", "v"])
def test_estimates_come_from_the_averaged_networks(
    plain: PlainNetwork, prediction_type: PredictionType
) -> None:
    spec = SPEC.model_copy(update={"prediction_type": prediction_type, "ema_decay": 0.9})
    made = population([1, 2], spec)
    made.train(uniform_law(2), 6)
    assert not torch.equal(made.average, made.weights)
    z = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logsnr = torch.tensor([[-3.0, 0.0, 2.0, 5.0]] * 2)
    found = made.predict_epsilon(z, logsnr)
    assert not found.requires_grad
    for run in range(2):
        output = plain(run_of(made, run, made.average), NETWORK, z[run], logsnr[run])
        alpha, sigma = alpha_sigma(logsnr[run], 4)
        x0 = {
            "epsilon": (z[run] - sigma * output) / alpha,
            "x0": output,
            "v": alpha * z[run] - sigma * output,
        }
        expected = output if prediction_type == "epsilon" else (z[run] - alpha * x0[prediction_type]) / sigma
        torch.testing.assert_close(found[run], expected, rtol=1e-3, atol=1e-3)


def test_decay_zero_evaluates_the_last_weights() -> None:
    made = population([1], SPEC.model_copy(update={"ema_decay": 0.0}))
    made.train(uniform_law(1), 5)
    assert torch.equal(made.average, made.weights)


@given(st.data())
def test_noise_law_is_a_quantile_function(data: st.DataObject) -> None:
    points = data.draw(st.integers(2, 40))
    rows = [
        sorted(data.draw(st.lists(st.floats(-30, 30), min_size=points, max_size=points))) for _ in range(2)
    ]
    quantiles = np.array(rows)[:, ::-1]
    u = np.array(data.draw(st.lists(st.floats(0, 1 - 2**-24, width=32), min_size=1, max_size=8)), np.float32)
    clipped = quantiles.clip(-20, 20)
    both = torch.from_numpy(np.stack([u, u]))[:, None]
    anything = torch.zeros(both.shape, dtype=torch.int64)

    found = ScheduleNoise(quantiles).logsnr(slice(None), anything, both)[:, 0].numpy()
    # float32 places u on the axis of points to 1e-7 of its length.
    expected = [np.interp(u, np.linspace(0, 1, points), row) for row in clipped]
    np.testing.assert_allclose(found, expected, atol=40 * points * 2e-7 + 1e-5)

    found = ScheduleNoise(quantiles, discrete=True).logsnr(slice(None), anything, both)[:, 0].numpy()
    place = np.minimum((u * np.float32(points)).astype(int), points - 1)
    np.testing.assert_array_equal(found, clipped[:, place].astype(np.float32))


def test_discrete_steps_are_equally_likely() -> None:
    steps = 10
    law = ScheduleNoise(np.arange(steps, dtype=np.float64)[None], discrete=True)
    u = torch.from_numpy(RunStream(0, 5, 100).levels(20)[None])
    drawn = law.logsnr(slice(None), torch.zeros(u.shape, dtype=torch.int64), u)
    assert torch.bincount(drawn.long().ravel()).tolist() == [200] * steps  # stratified: exactly


def test_initial_weights_have_their_moments() -> None:
    made = population(list(range(60)))
    mean, std = (moment.numpy() for moment in made.network.initial_moments())
    rows = made.weights.numpy().astype(np.float64)
    drawn = std > 0
    np.testing.assert_array_equal(rows[:, ~drawn], np.broadcast_to(mean[~drawn], rows[:, ~drawn].shape))
    scaled = (rows[:, drawn] - mean[drawn]) / std[drawn]
    assert abs(scaled.mean()) < 5 / np.sqrt(scaled.size)
    assert abs(scaled.var() - 1) < 5 * np.sqrt(2 / scaled.size)
    assert np.abs(np.corrcoef(scaled)[~np.eye(60, dtype=bool)]).max() < 0.25


def _train(made: Population) -> PhaseRecord:
    return made.train(uniform_law(made.num_runs), 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Population(SPEC, IMAGES, 0), r"num_runs: must be at least 1 \(got 0\)"),
        (lambda: Population(SPEC, IMAGES[..., :7], 1), "multiples of 2; these are 8x7"),
        (
            lambda: _train(Population(SPEC, IMAGES, 2)),
            r"run 0 was not started; call start\(run, seed\) first",
        ),
    ],
)
def test_wrong_use(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        make()


def test_every_run_must_be_started() -> None:
    made = Population(SPEC, IMAGES, 2)
    made.start(0, 1)
    with pytest.raises(SchedrlError, match="run 1 was not started"):
        _train(made)
