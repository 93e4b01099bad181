"""Named feature networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from schedrl import data
from schedrl.errors import SchedrlError
from schedrl.metrics import features
from schedrl.metrics.features import EXTRACTORS, ClassifierFeatures, PCAFeatures, extractor

SHIPPED = {"digits-cnn": (1, 8, 8), "fashion-cnn": (1, 28, 28)}


def pictures(shape: tuple[int, ...], count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_what_their_card_says(name: str) -> None:
    made = ClassifierFeatures(name)
    assert made.card.image_shape == SHIPPED[name]
    assert made.card.test_accuracy > 0.88
    images = pictures(SHIPPED[name], 300)
    found = made.features(images)
    assert found.shape == (300, made.card.dimension)
    assert found.dtype == np.float64
    assert np.linalg.matrix_rank(found - found.mean(axis=0)) > 0.8 * made.card.dimension
    # However many at once.
    np.testing.assert_allclose(made.features(images[250:]), found[250:], rtol=1e-4, atol=1e-5)


def test_loading_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    ClassifierFeatures("digits-cnn")
    assert torch.equal(before, torch.get_rng_state())


def test_digits_are_told_apart_and_the_card_is_of_this_data() -> None:
    images = data.load(data.get("digits"))
    made = ClassifierFeatures("digits-cnn")
    assert images.fingerprint() == made.card.data_fingerprint
    assert images.labels is not None
    found, labels = made.features(images.test), images.labels["test"]
    train, known = made.features(images.train), images.labels["train"]
    # The nearest class mean in the features is nearly always the right one.
    means = np.stack([train[known == digit].mean(axis=0) for digit in range(10)])
    guesses = np.square(found[:, None] - means).sum(axis=2).argmin(axis=1)
    assert (guesses == labels).mean() > 0.95


def test_pca_is_the_leading_directions() -> None:
    rng = np.random.default_rng(1)
    axes, _ = np.linalg.qr(rng.standard_normal((16, 16)))
    scales = np.array([5.0, 3.0, *[0.1] * 14])
    images = (rng.standard_normal((500, 16)) * scales) @ axes.T
    made = PCAFeatures(images.reshape(-1, 1, 4, 4).astype(np.float32), components=2)
    found = made.features(images.reshape(-1, 1, 4, 4).astype(np.float32))
    wanted = (images - images.mean(axis=0)) @ axes[:, :2]
    np.testing.assert_allclose(np.abs(np.corrcoef(found.T, wanted.T)[:2, 2:]), np.eye(2), atol=0.05)
    assert made.name == "pca"
    # Never more components than can be told apart.
    assert PCAFeatures(images[:4].reshape(-1, 1, 4, 4).astype(np.float32)).features(
        images[:4].reshape(-1, 1, 4, 4).astype(np.float32)
    ).shape == (4, 3)


def test_bad_names_shapes_and_weights(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="did you mean 'digits-cnn'"):
        extractor("digit-cnn", pictures((1, 8, 8)))
    with pytest.raises(SchedrlError, match=r"needs images of shape \(1, 8, 8\) \(got \(1, 9, 8\)\)"):
        extractor("digits-cnn", pictures((1, 8, 8))).features(pictures((1, 9, 8)))
    with pytest.raises(SchedrlError, match="fitted to images of shape"):
        extractor("pca", pictures((1, 8, 8))).features(pictures((1, 9, 8)))
    with pytest.raises(SchedrlError, match=r"digits-cnn\.json is missing.*nothing was downloaded"):
        ClassifierFeatures("digits-cnn", tmp_path)
    shipped = Path(features.__file__).with_name("weights")
    for suffix in (".json", ".safetensors"):
        (tmp_path / f"digits-cnn{suffix}").write_bytes((shipped / f"digits-cnn{suffix}").read_bytes())
    (tmp_path / "digits-cnn.safetensors").write_bytes(b"no weights")
    with pytest.raises(SchedrlError, match="is damaged"):
        ClassifierFeatures("digits-cnn", tmp_path)


def test_every_name_has_its_weights() -> None:
    folder = Path(features.__file__).with_name("weights")
    for name in set(EXTRACTORS) - {"inception", "pca"}:
        assert json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["command"]


def test_identity_tells_features_apart() -> None:
    images = pictures((1, 8, 8))
    assert extractor("pca", images).identity == PCAFeatures(images.copy()).identity
    made = [extractor(name, images) for name in SHIPPED]
    made += [PCAFeatures(images), PCAFeatures(images[1:]), PCAFeatures(images, components=3)]
    assert len({each.identity for each in made}) == len(made)
    for each in made:
        if each.name != "fashion-cnn":
            assert each.features(images).shape == (40, each.dimension)


def test_weights_are_for_inception_alone(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="weights: only for feature extractor 'inception'"):
        extractor("pca", pictures((1, 8, 8)), tmp_path / "weights.pth")
