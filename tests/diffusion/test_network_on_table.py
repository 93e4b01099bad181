"""Networks of other origins: pipelines of diffusers, networks of ``schedrl fit``, functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as typed_diffusers
import numpy as np
import pytest
import torch

from schedrl.diffusion.network_on_table import NetworkOnTable, load_network
from schedrl.errors import SchedrlError

diffusers: Any = typed_diffusers  # whose classes are typed in part only

SavePipeline = Callable[..., Path]


@pytest.fixture
def save_pipeline(tmp_path: Path) -> SavePipeline:
    """Save a tiny unconditional pipeline; settings of the network and of the scheduler can be changed."""

    def save(scheduler: Any = None, **network: Any) -> Path:
        with torch.random.fork_rng():
            torch.random.manual_seed(0)
            unet = diffusers.UNet2DModel(
                sample_size=8,
                in_channels=1,
                out_channels=1,
                layers_per_block=1,
                block_out_channels=(4, 8),
                norm_num_groups=2,
                down_block_types=("DownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "UpBlock2D"),
                **network,
            )
        used = scheduler if scheduler is not None else diffusers.DDIMScheduler(clip_sample=False)
        folder = tmp_path / "pipeline"
        diffusers.DDIMPipeline(unet, used).save_pretrained(folder)
        return folder

    return save


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_a_pipeline_samples_as_diffusers_does(save_pipeline: SavePipeline, prediction: str) -> None:
    theirs = diffusers.DDIMScheduler(clip_sample=False, prediction_type=prediction, set_alpha_to_one=True)
    folder = save_pipeline(theirs)
    network = load_network(str(folder))
    assert network.shape == (1, 8, 8)
    start = network.noise(2, 0)
    theirs.set_timesteps(6)
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet")
    z = start.float()
    for t in theirs.timesteps:
        with torch.no_grad():
            z = theirs.step(unet(z, t).sample, t, z).prev_sample
    ours = network.sample("ddim", tuple(float(t) for t in theirs.timesteps), start)
    assert float((ours - z).abs().max() / z.abs().max()) < 1e-4


def test_an_image_has_its_own_noise(save_pipeline: SavePipeline) -> None:
    network = load_network(str(save_pipeline()))
    assert torch.equal(network.noise(2, 5), network.noise(7, 5)[:2])


def test_zero_terminal_snr_wants_another_prediction(save_pipeline: SavePipeline) -> None:
    save_pipeline(diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    folder = save_pipeline(
        diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    )
    end = load_network(str(folder)).sample("ddim", (999.0, 500.0), load_network(str(folder)).noise(1, 0))
    assert torch.isfinite(end).all()


def test_rectified_flow_is_told_its_own_time(save_pipeline: SavePipeline) -> None:
    shift = 3.0
    folder = save_pipeline()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    network = load_network(str(folder))
    assert network.prediction_type == "flow"
    # The same walk as diffusers' own: x moves by the velocity along sigma.
    scheduler.set_timesteps(sigmas=[1.0, 0.7, 0.3])  # shifted there
    sigmas = scheduler.sigmas.double().numpy()
    steps = tuple(float(np.interp(s, network.sigmas, np.arange(1000))) for s in sigmas[:-1])
    start = network.noise(2, 0)
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet")
    z = start.float()
    for t in scheduler.timesteps:
        with torch.no_grad():
            z = scheduler.step(unet(z, t).sample, t, z).prev_sample
    ours = network.sample("euler", steps, start)
    assert float((ours - z).abs().max() / z.abs().max()) < 1e-4


def test_classes_are_asked_for_and_checked(save_pipeline: SavePipeline) -> None:
    folder = str(save_pipeline(num_class_embeds=3))
    with pytest.raises(SchedrlError, match="wants a class; give --class, from 0 to 2"):
        load_network(folder)
    with pytest.raises(SchedrlError, match=r"must lie in 0 … 2 \(got \[3\]\)"):
        load_network(folder, [3])
    network = load_network(folder, [0, 2])
    start = network.noise(1, 0).repeat(2, 1, 1, 1)
    first, second = network.sample("ddim", (900.0, 400.0), start)
    assert not torch.equal(first, second)


def test_a_network_without_classes_takes_none(save_pipeline: SavePipeline) -> None:
    with pytest.raises(SchedrlError, match="takes none"):
        load_network(str(save_pipeline()), [0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"model_index.json": "{"}, "is not JSON"),
        ({"model_index.json": '{"_class_name": "X"}'}, "needs a unet or a transformer, and a scheduler"),
        (
            {
                "model_index.json": '{"unet": ["diffusers", "NoNet"], "scheduler": ["diffusers", "DDIMScheduler"]}'
            },
            "'NoNet' is no network of diffusers",
        ),
        (
            {"scheduler/scheduler_config.json": '{"num_train_timesteps": 1000000000}'},
            "must lie in 2 … 100000",
        ),
        (
            {"scheduler/scheduler_config.json": '{"prediction_type": "noise"}'},
            "prediction_type must be one of",
        ),
        ({"scheduler/scheduler_config.json": '{"beta_schedule": "mine"}'}, "its schedule cannot be made"),
        (
            {"scheduler/scheduler_config.json": '{"rescale_betas_zero_snr": true}'},
            "it predicts noise, and its schedule ends in pure noise",
        ),
        ({"unet/config.json": "{}"}, "cannot be read"),
    ],
)
def test_damage_is_named(save_pipeline: SavePipeline, damage: dict[str, str], message: str) -> None:
    folder = save_pipeline()
    for name, text in damage.items():
        (folder / name).write_text(text)
    with pytest.raises(SchedrlError, match=message):
        load_network(str(folder))


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"there is no such folder; give a folder that"):
        load_network(str(tmp_path / "nothing"))
    with pytest.raises(SchedrlError, match="has neither model_index"):
        load_network(str(tmp_path))
    with pytest.raises(SchedrlError, match="cannot be imported"):
        load_network("no.such.module:make")
    with pytest.raises(SchedrlError, match="must return a"):
        load_network("builtins:dict")


def test_weights_that_need_unpickling_are_refused(save_pipeline: SavePipeline) -> None:
    folder = save_pipeline()
    weights = next((folder / "unet").glob("*.safetensors"))
    weights.unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(SchedrlError, match="unet cannot be read"):
        load_network(str(folder))


def test_shipped_networks_are_folders_of_fit() -> None:
    weights = Path(str(__import__("schedrl").__file__)).parent / "diffusion" / "weights" / "digits"
    network = load_network(str(weights))
    assert network.shape == (1, 8, 8)
    images = network.sample("ddim", (999.0, 700.0, 400.0, 200.0, 50.0), network.noise(4, 0))
    assert float(images.abs().max()) < 3.0


def test_a_table_must_fall() -> None:
    with pytest.raises(SchedrlError, match="alphas must fall"):
        NetworkOnTable(lambda x, t: x, np.array([0.5, 0.9]), np.array([0.8, 0.4]), (1, 2, 2))
