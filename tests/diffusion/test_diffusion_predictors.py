"""Networks by name: the shipped one, folders, one's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from schedrl import data
from schedrl.diffusion import trained_models
from schedrl.diffusion.prediction import network_denoiser
from schedrl.diffusion.trained_models import FittedModel, find_model, register_predictor
from schedrl.diffusion.training_spec import MSFISpec, UNetSpec
from schedrl.diffusion.unet import UNet
from schedrl.errors import SchedrlError

FOLDER = Path(trained_models.__file__).with_name("weights") / "digits"


SHIPPED = [("digits", "digits", (1, 8, 8)), ("fashion", "fashion-mnist", (1, 28, 28))]


def test_what_is_shipped() -> None:
    assert [name for name, _, _ in SHIPPED] == list(trained_models.SHIPPED)


@pytest.mark.parametrize(("name", "images", "shape"), SHIPPED)
def test_a_shipped_network_is_small_and_knows_its_data(
    name: str, images: str, shape: tuple[int, ...]
) -> None:
    assert sum(file.stat().st_size for file in FOLDER.with_name(name).iterdir()) < 800_000
    model = find_model(name)
    assert model.image_shape == shape
    assert model.data == data.get(images)


@pytest.mark.parametrize(("name", "images"), [(name, images) for name, images, _ in SHIPPED])
def test_it_denoises(name: str, images: str) -> None:
    """Much better than the mean image, at a level where half of the variance is noise."""
    if (problem := data.missing(data.get(images))) is not None:
        pytest.skip(problem)
    clean = torch.from_numpy(data.load(data.get(images)).test[:64].copy())
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    found = find_model(name).denoise(0.5**0.5 * (clean + noise), torch.zeros(64))
    assert float((found - clean).square().mean()) < 0.35 * float(clean.var(dim=0).mean())


def test_clean_images_are_those_of_the_sampler() -> None:
    model = FittedModel.load(FOLDER)
    z = torch.randn(1, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    denoise = network_denoiser(model.predictor(), model.description.training, [2.0, 0.0], clip=False)
    for level in (-6.0, 0.0, 6.0):
        wanted = denoise(z, torch.tensor(level))[0]
        torch.testing.assert_close(model.denoise(z[0], torch.full((5,), level)), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", [{"modulation": True}, {"msfi": MSFISpec()}])
def test_clean_images_of_the_akod_papers_networks(parts: dict[str, Any]) -> None:
    """As a measurement has them, where neighbours are predicted from the state alone."""
    shipped = FittedModel.load(FOLDER).description
    spec = UNetSpec(channels=(4, 8), embedding=8, groups=2, **parts)
    training = shipped.training.model_copy(update={"network": spec, "prediction_type": "epsilon"})
    network = UNet(spec, (1, 8, 8))
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    model = FittedModel(network, shipped.model_copy(update={"training": training}))
    z = torch.randn(4, 1, 8, 8, generator=generator)
    level = torch.tensor([-3.0, -1.0, 1.0, 4.0])
    alpha, sigma = (part.sqrt().view(-1, 1, 1, 1) for part in (level.sigmoid(), (-level).sigmoid()))
    wanted = (z - sigma * model.predict_epsilon(z[None], level[None])[0]) / alpha
    torch.testing.assert_close(model.denoise(z, level), wanted, rtol=1e-4, atol=1e-4)


def test_a_denoiser_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_models, "_registered", {})
    register_predictor("halves", image_shape=(1, 2, 2), denoise=lambda z, logsnr: 0.5 * z)
    assert float(find_model("halves").denoise(torch.ones(1, 1, 2, 2), torch.zeros(1)).max()) == 0.5


def test_a_folder_is_the_same_network(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "mine")
    assert find_model(str(copy)).identity == find_model("digits").identity
    content = json.loads((copy / "model.json").read_text(encoding="utf-8"))
    (copy / "model.json").write_text(json.dumps({**content, "seed": 5}), encoding="utf-8")
    assert find_model(str(copy)).identity != find_model("digits").identity


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"^model .*: cannot be read: No such file"):
        find_model(str(tmp_path))
    copy = shutil.copytree(FOLDER, tmp_path / "cut")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(SchedrlError, match="is damaged"):
        find_model(str(copy))
    with pytest.raises(
        SchedrlError, match=r"unknown network 'digit'; did you mean 'digits'.*schedrl fit"
    ) as caught:
        find_model("digit")
    assert "\n" not in str(caught.value)


def test_replacing_a_registered_one_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_models, "_registered", {})
    register_predictor("mine", lambda z, logsnr: z, (1, 2, 2))
    first = find_model("mine")
    assert find_model("mine") is first
    register_predictor("mine", lambda z, logsnr: z, (1, 2, 2))
    assert find_model("mine").identity != first.identity


def test_noise_estimates_become_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_models, "_registered", {})
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 1, 2, 2, generator=generator)
    register_predictor("told", lambda z, logsnr: noise, (1, 2, 2))
    z = 0.8**0.5 * x0 + 0.2**0.5 * noise
    found = find_model("told").denoise(z, torch.logit(torch.full((3,), 0.8)))
    torch.testing.assert_close(found, x0, rtol=1e-4, atol=1e-5)
    assert find_model("told").denoise(z, torch.full((3,), -torch.inf)).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digits"}, "is a network that is shipped"),
        ({"denoise": lambda z, logsnr: z}, "give one of predict and denoise"),
        ({"image_shape": (8, 8)}, r"must be \(C, H, W\)"),
        ({"image_shape": (1, 0, 8)}, r"must be \(C, H, W\)"),
        ({"eigenvalues": [1.0, 0.0]}, "must be positive"),
        ({"eigenvalues": []}, "must be positive"),
    ],
)
def test_bad_registrations(arguments: dict[str, Any], message: str) -> None:
    given = {"name": "mine", "predict": lambda z, logsnr: z, "image_shape": (1, 8, 8), **arguments}
    with pytest.raises(SchedrlError, match=message):
        register_predictor(**given)
