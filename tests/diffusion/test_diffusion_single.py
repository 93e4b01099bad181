"""Training of one network, against a population's run and against a loop written out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schedrl import schedules
from schedrl.diffusion.distributed import Processes
from schedrl.diffusion.engines.torch_engine import bytes_per_image
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.population import Population
from schedrl.diffusion.prediction import NetworkPredictor
from schedrl.diffusion.run_stream import RunStream
from schedrl.diffusion.single import SingleTraining, Tuning
from schedrl.diffusion.trained_models import FittedModel, ModelFile
from schedrl.diffusion.training_spec import (
    NETWORKS,
    DSCSpec,
    MSFISpec,
    OptimizerSpec,
    TrainingSpec,
    UNetSpec,
    named_network,
)
from schedrl.errors import SchedrlError
from schedrl.files import write_arrays

NETWORK = UNetSpec(channels=(4, 8), embedding=8, groups=2)
FULL = NETWORK.model_copy(update={"msfi": MSFISpec(), "modulation": True})


def pictures(shape: tuple[int, ...] = (1, 8, 8), count: int = 24) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)


def law_of(name: str = "cosine", timesteps: int | None = 1000) -> ScheduleNoise:
    return ScheduleNoise.of([schedules.get(name)], timesteps, betas=True)


@pytest.mark.parametrize("network", [NETWORK, FULL], ids=["plain", "akod"])
@pytest.mark.parametrize(
    "optimizer",
    [
        OptimizerSpec(name="adamw", weight_decay=0.1, learning_rate=1e-2),
        OptimizerSpec(max_gradient_norm=0.3, learning_rate=1e-2),
        OptimizerSpec(name="dsc", learning_rate=1e-2, dsc=DSCSpec(gamma=5.0, boost=0.2)),
        OptimizerSpec(name="dsc", learning_rate=1e-2, dsc=DSCSpec(gamma=5.0, boost=0.0, per_sample=True)),
        OptimizerSpec(name="dsc", learning_rate=1e-2, dsc=DSCSpec(boost=2.0), max_gradient_norm=0.3),
    ],
    ids=["adamw", "clipped", "dsc", "dsc-per-sample", "dsc-clipped"],
)
def test_it_is_a_populations_run(network: UNetSpec, optimizer: OptimizerSpec) -> None:
    spec = TrainingSpec(network=network, optimizer=optimizer, batch_size=6, ema_decay=0.9)
    population = Population(spec, pictures(), 1)
    population.start(0, 7)
    one = SingleTraining(spec, pictures(), law_of(), 7)
    expected, found = population.train(law_of(), 12), one.train(12)
    np.testing.assert_allclose(found.loss.numpy(), expected.loss[:, 0], rtol=2e-4)
    np.testing.assert_allclose(found.gradient_norm.numpy(), expected.gradient_norm[:, 0], rtol=2e-3)
    assert one.rate == pytest.approx(expected.rate[-1, 0], rel=2e-3)
    average = torch.cat([part.flatten() for part in one.average])
    torch.testing.assert_close(average, population.average[0], rtol=1e-2, atol=2e-4)


def test_it_is_a_loop_written_out(plain: Any) -> None:
    """Warm-up, clipping, AdamW and average weights, in plain PyTorch on the stream's own numbers."""
    optimizer = OptimizerSpec(name="adamw", learning_rate=1e-2, weight_decay=0.1, max_gradient_norm=0.3)
    spec = TrainingSpec(network=NETWORK, optimizer=optimizer, batch_size=6, ema_decay=0.5)
    steps, warmup, images = 8, 5, torch.from_numpy(pictures())
    one = SingleTraining(spec, pictures(), law_of(), 3, warmup=warmup)

    stream = RunStream(3, len(images), 6)
    mean, std = one.network.initial_moments()
    start = mean + std * torch.from_numpy(stream.initial_weights(len(mean)))
    torch.testing.assert_close(torch.cat([p.detach().flatten() for p in one.parameters]), start)
    named = {name: p.detach()[0].clone().requires_grad_() for name, p in one.network.named_parameters()}
    average = {name: p.detach().clone() for name, p in named.items()}
    adam = torch.optim.AdamW(named.values(), lr=1e-2, weight_decay=0.1)
    levels = torch.from_numpy(schedules.get("cosine").logsnr_steps(1000).clip(-20, 20))
    losses, norms = [], []
    for step in range(1, steps + 1):
        x0 = images[torch.from_numpy(stream.indices(1)[0])]
        logsnr = levels[torch.from_numpy((stream.levels(1)[0] * 1000).astype(int))].float()
        noise = torch.from_numpy(stream.noise(1, (1, 8, 8))[0])
        alpha, sigma = (torch.sigmoid(sign * logsnr).sqrt()[:, None, None, None] for sign in (1, -1))
        loss = (plain(named, NETWORK, alpha * x0 + sigma * noise, logsnr) - noise).square().mean()
        adam.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(named.values(), 0.3)))
        adam.param_groups[0]["lr"] = 1e-2 * min(1.0, step / warmup)
        adam.step()
        losses.append(loss.item())
        decay = min(0.5, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * p.detach() for name, p in named.items()}

    assert min(norms) > 0.3  # it clips
    first = one.train(2)
    assert one.rate == pytest.approx(1e-2 * 2 / warmup)
    rest = one.train(steps - 2)
    assert one.rate == 1e-2
    np.testing.assert_allclose([*first.loss, *rest.loss], losses, rtol=1e-4)
    np.testing.assert_allclose([*first.gradient_norm, *rest.gradient_norm], norms, rtol=1e-3)
    for name, found in zip(named, one.average, strict=True):
        torch.testing.assert_close(found[0], average[name], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "dsc"])
def test_it_goes_on_where_it_stood(name: Any) -> None:
    spec = TrainingSpec(network=FULL, batch_size=6, optimizer=OptimizerSpec(name=name))
    whole = SingleTraining(spec, pictures(), law_of(), 1)
    losses = torch.cat([whole.train(4).loss, whole.train(5).loss])
    first = SingleTraining(spec, pictures(), law_of(), 1)
    first.train(4)
    again = SingleTraining(spec, pictures(), law_of(), 99)
    again.restore(*first.state())
    assert torch.equal(again.train(5).loss, losses[4:])
    for one, other in zip(whole.state()[0].items(), again.state()[0].items(), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
    # A state is taken back by a training that stands elsewhere, too, and is drawing ahead.
    again.restore(*first.state())
    assert torch.equal(again.train(5).loss, losses[4:])


def test_a_share_of_the_batch_is_a_share_of_its_numbers() -> None:
    spec = TrainingSpec(network=FULL, batch_size=7)
    whole = SingleTraining(spec, pictures(), law_of(), 3)._draw()
    shares = [Processes(rank, 3, torch.device("cpu")).share(7) for rank in range(3)]
    assert torch.equal(torch.cat([whole.indices[:, s] for s in shares], dim=1), whole.indices)
    assert sum(s.stop - s.start for s in shares) == 7


def test_gradients_of_weights_that_bf16_and_layout_leave_alone() -> None:
    """Mixed precision and channels-last kernels change the arithmetic, not what is trained."""
    spec = TrainingSpec(network=FULL, batch_size=8, optimizer=OptimizerSpec(learning_rate=1e-3))
    losses = {}
    for name, tuning in (
        ("plain", Tuning()), ("last", Tuning(channels_last=True)), ("bf16", Tuning(precision="bf16")),
    ):  # fmt: skip
        one = SingleTraining(spec, pictures(), law_of(), 2, tuning=tuning)
        losses[name] = one.train(6).loss
        assert all(p.dtype == torch.float32 for p in one.parameters)
    torch.testing.assert_close(losses["last"], losses["plain"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["bf16"], losses["plain"], rtol=3e-2, atol=1e-2)
    assert not torch.equal(losses["bf16"], losses["plain"])


def test_more_processes_than_images_are_refused() -> None:
    with pytest.raises(SchedrlError, match="batch_size: 3 processes cannot share 2 images"):
        SingleTraining(
            TrainingSpec(network=NETWORK, batch_size=2), pictures(), law_of(), 0,
            Processes(0, 3, torch.device("cpu")),
        )  # fmt: skip


def test_another_networks_checkpoint_is_refused() -> None:
    spec = TrainingSpec(network=NETWORK, batch_size=4)
    state = SingleTraining(spec, pictures(), law_of(), 0).state()
    other = spec.model_copy(update={"network": FULL})
    with pytest.raises(SchedrlError, match="checkpoint: is that of another network"):
        SingleTraining(other, pictures(), law_of(), 0).restore(*state)


# --- the finished network ---


def fitted(tmp_path: Path) -> tuple[FittedModel, Path]:
    spec = TrainingSpec(network=FULL, batch_size=4)
    one = SingleTraining(spec, pictures(), law_of(), 0)
    one.train(3)
    model = FittedModel(
        one.predictor().network,
        ModelFile(
            training=spec, image_shape=(1, 8, 8), schedule=schedules.get("cosine"), num_train_timesteps=1000,
            steps=3, seed=0, data={"name": "made-up"}, versions={},
        ),
    )  # fmt: skip
    model.save(tmp_path)
    return model, tmp_path


def test_a_model_comes_back(tmp_path: Path) -> None:
    model, folder = fitted(tmp_path)
    again = FittedModel.load(folder)
    assert again.description == model.description
    levels = schedules.grid("uniform-logsnr", 4, logsnr_max=8.0, logsnr_min=-6.0)
    first, second = (each.sample(3, levels, seed=5) for each in (model, again))
    assert torch.equal(first, second)
    assert first.shape == (3, 1, 8, 8)
    assert not torch.equal(first, again.sample(3, levels, seed=6))


def test_a_model_is_asked_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = fitted(tmp_path)
    z = torch.randn(1, 11, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logsnr = torch.linspace(6.0, -6.0, 11)[None]
    whole = model.predictor()(z, logsnr)
    each = bytes_per_image(model.network, (1, 8, 8))
    monkeypatch.setattr("schedrl.diffusion.trained_models.memory_budget", lambda device: 4 * each)
    again, asked = FittedModel.load(folder), []
    inner = NetworkPredictor.__call__

    def noted(self: NetworkPredictor, z: Tensor, *rest: Any) -> Tensor:
        asked.append(z.shape[1])
        return inner(self, z, *rest)

    monkeypatch.setattr(NetworkPredictor, "__call__", noted)
    with torch.no_grad():
        found = again.predict_epsilon(z, logsnr)
    assert asked == [4, 4, 3]
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    levels = schedules.grid("uniform-logsnr", 2, logsnr_max=8.0, logsnr_min=-6.0)
    drawn = again.sample(5, levels, at_once=2)
    assert drawn.shape == (5, 1, 8, 8)
    assert len(drawn.flatten(1).unique(dim=0)) == 5
    with pytest.raises(SchedrlError, match="field 'count': must be a whole number of at least 1"):
        again.sample(0, levels)


@pytest.mark.parametrize("damage", ["json", "field", "weights", "missing", "shape"])
def test_damaged_models_are_named(tmp_path: Path, damage: str) -> None:
    _, folder = fitted(tmp_path)
    description, weights = folder / "model.json", folder / "model.safetensors"
    if damage == "json":
        description.write_text("{")
    elif damage == "field":
        description.write_text(description.read_text().replace('"steps": 3', '"steps": "many"'))
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "missing":
        weights.unlink()
    else:
        write_arrays(weights, {"stem.weight": np.zeros(3, np.float32)})
    with pytest.raises(SchedrlError, match=r"model .*: "):
        FittedModel.load(folder)


# --- named networks ---


def test_the_papers_network() -> None:
    network = named_network("unet-akod-cifar10").training.network
    assert len(network.channels) == 4
    assert network.channels[-1] == 512
    assert network.msfi is not None
    assert network.modulation
    optimizer = named_network("unet-akod-cifar10").training.optimizer
    assert (optimizer.name, optimizer.learning_rate) == ("adamw", 1e-4)
    with pytest.raises(SchedrlError, match="did you mean 'unet-akod-digits'"):
        named_network("unet-akod-digit")


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "unet-akod-cifar10"])
def test_every_network_takes_a_step(name: str) -> None:
    named = NETWORKS[name]
    training = named.training.model_copy(update={"batch_size": 2})
    one = SingleTraining(training, pictures(named.image_shape, 4), law_of(), 0)
    assert math.isfinite(float(one.train(1).loss))


def test_the_papers_network_at_full_size(tmp_path: Path) -> None:
    named = named_network("unet-akod-cifar10")
    images = pictures(named.image_shape, 64)
    one = SingleTraining(named.training, images, law_of(), 0)
    before = [p.detach().clone() for p in one.parameters]
    record = one.train(1)
    assert math.isfinite(float(record.loss))
    assert any(not torch.equal(p, q) for p, q in zip(one.parameters, before, strict=True))

    arrays, meta = one.state()
    again = SingleTraining(named.training, images, law_of(), 5)
    again.restore(arrays, meta)
    for name, array in again.state()[0].items():
        np.testing.assert_array_equal(array, arrays[name])

    description = ModelFile(
        training=named.training, image_shape=named.image_shape, schedule=schedules.get("cosine"),
        num_train_timesteps=1000, steps=1, seed=0, data={}, versions={},
    )  # fmt: skip
    model = FittedModel(one.predictor().network, description)
    grid = schedules.grid("uniform-logsnr", 3, logsnr_max=13.0, logsnr_min=-5.0)
    drawn: Tensor = model.sample(2, grid)
    assert drawn.shape == (2, 3, 32, 32)
    assert bool(torch.isfinite(drawn).all())
