"""The Inception network of FID, with random weights in the form of the real file."""

from __future__ import annotations

import pickle
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from schedrl.errors import SchedrlError
from schedrl.metrics import features as features_module
from schedrl.metrics.distances import FeatureStatistics, frechet_distance
from schedrl.metrics.features import WEIGHTS_FILES, InceptionFeatures, extractor, find_weights
from schedrl.metrics.sample_quality import metric_name

FeatureExtractorInceptionV3: Any = pytest.importorskip(
    "torch_fidelity.feature_extractor_inceptionv3"
).FeatureExtractorInceptionV3


def random_state() -> dict[str, Tensor]:
    """Weights under the real file's names that carry what differs between images to the end."""

    class Blank(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            pass

    empty = BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    rng = np.random.default_rng(0)
    state: dict[str, Tensor] = {}
    for key, value in Blank("blank", ["2048"], feature_extractor_weights_path=empty).state_dict().items():
        if key.endswith("conv.weight"):
            scale = np.sqrt(2.0 / np.prod(value.shape[1:]))
            drawn = rng.normal(0.0, scale, value.shape)
        elif key.endswith(("running_var", "bn.weight")):
            drawn = rng.uniform(0.7, 1.4, value.shape)
        elif key.endswith("num_batches_tracked"):
            continue
        else:
            drawn = rng.normal(0.0, 0.1, value.shape)
        state[key] = torch.from_numpy(drawn.astype(np.float32))
    state["fc.weight"], state["fc.bias"] = torch.zeros(1008, 2048), torch.zeros(1008)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / WEIGHTS_FILES[0]
    torch.save(random_state(), path)
    return path


def pictures(seed: int, count: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, 20, 24), dtype=np.uint8)


def scaled(images: np.ndarray) -> np.ndarray:
    return (images / 127.5 - 1.0).astype(np.float32)


def test_fid_is_torch_fidelitys(weights: Path) -> None:
    fidelity = pytest.importorskip("torch_fidelity")
    one, two = pictures(0, 6), pictures(1, 6) // 2

    class Listed(torch.utils.data.Dataset[Tensor]):
        def __init__(self, images: np.ndarray) -> None:
            self.images = torch.from_numpy(images)

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Tensor:
            return self.images[index]

    wanted = fidelity.calculate_metrics(
        input1=Listed(one), input2=Listed(two), fid=True, cuda=False, verbose=False, cache=False,
        feature_extractor_weights_path=str(weights), save_cpu_ram=True, batch_size=6,
    )["frechet_inception_distance"]  # fmt: skip
    features = InceptionFeatures(weights)
    sides = []
    for images in (one, two):
        found = features.features(scaled(images))
        # Fewer images than features, which `of` refuses: a test cannot wait for 2049 of them.
        sides.append(FeatureStatistics(found.mean(axis=0), np.cov(found, rowvar=False), len(found)))
    assert wanted > 1.0
    assert frechet_distance(*sides) == pytest.approx(wanted, rel=1e-4)


def test_features(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = InceptionFeatures(weights)
    grey = scaled(pictures(2, 3, 1))
    found = features.features(grey)
    assert found.shape == (3, features.dimension)
    assert np.linalg.norm(found - found.mean(axis=0)) > 1e-3 * np.linalg.norm(found)
    # One channel is three that are alike, and the number at once changes nothing.
    monkeypatch.setattr(features_module, "_INCEPTION_BATCH", 2)
    np.testing.assert_allclose(features.features(np.repeat(grey, 3, axis=1)), found, rtol=1e-4, atol=1e-5)
    assert features.features(grey[:0]).shape == (0, 2048)
    with pytest.raises(SchedrlError, match=r"needs images \[n, 1 or 3, H, W\] \(got shape \(3, 2, 20, 24\)"):
        features.features(np.zeros((3, 2, 20, 24), np.float32))


def test_only_the_standard_weights_make_it_fid(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = InceptionFeatures(weights)
    assert not features.standard
    assert metric_name(features) == "frechet_inception"
    monkeypatch.setattr(features_module, "_STANDARD", features.identity[:8])
    assert metric_name(InceptionFeatures(weights)) == "fid"


def test_found_in_the_cache_and_never_fetched(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(SchedrlError) as caught:
        extractor("inception", images)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "schedrl" / "weights") in message
    assert all(name in message for name in WEIGHTS_FILES)
    assert "nothing was downloaded" in message
    with pytest.raises(SchedrlError, match=r"no weights at .*mine\.pth; get .*nothing was downloaded"):
        extractor("inception", images, weights=tmp_path / "mine.pth")
    for name in WEIGHTS_FILES:
        own = tmp_path / "schedrl" / "weights" / name
        own.parent.mkdir(parents=True, exist_ok=True)
        own.symlink_to(weights)
        assert find_weights() == own
        own.unlink()
    assert extractor("inception", images, weights=weights).name == "inception"


class Trap:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("trap-was-sprung"),))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"Conv2d_1a_3x3.conv.weight": Trap()}, "trap.pth")
    Path("old.pth").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.pth", "old.pth"):
        with pytest.raises(SchedrlError, match="is not its weights"):
            InceptionFeatures(name)
    assert not Path("trap-was-sprung").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("text", "is not its weights"),
        ("list", "is not its weights: .*list"),
        ("missing", r"is not its weights: .*Missing key\(s\).*Mixed_7c\.branch_pool\.conv\.weight"),
        (
            "shape",
            r"is not its weights: .*size mismatch for Conv2d_1a_3x3\.conv\.weight: .*shape torch\.Size\(\[1\]\)",
        ),
    ],
)
def test_bad_weights(change: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = random_state() if change in ("missing", "shape") else {}
    if change == "text":
        path.write_text("not weights")
    elif change == "list":
        torch.save([1, 2], path)
    elif change == "missing":
        del state["Mixed_7c.branch_pool.conv.weight"]
        torch.save(state, path)
    else:
        state["Conv2d_1a_3x3.conv.weight"] = torch.zeros(1)
        torch.save(state, path)
    with pytest.raises(SchedrlError, match=message) as caught:
        InceptionFeatures(path)
    assert "\n" not in str(caught.value)


def test_loading_draws_no_random_numbers(weights: Path) -> None:
    before = torch.get_rng_state()
    InceptionFeatures(weights)
    assert torch.equal(before, torch.get_rng_state())


def test_without_torch_fidelity_it_says_what_to_install(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(
        SchedrlError, match=r"needs the package torch-fidelity: pip install 'schedrl\[metrics\]'"
    ):
        InceptionFeatures(weights)
