"""All measures of samples together, on the digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedrl import data
from schedrl.errors import SchedrlError
from schedrl.metrics.distances import FeatureStatistics, frechet_distance, polynomial_mmd2, precision_recall
from schedrl.metrics.features import Images, PCAFeatures, extractor
from schedrl.metrics.sample_quality import ReferenceFeatures, SampleQuality, sample_quality


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def digits() -> tuple[Images, Images]:
    images = data.load(data.Digits())
    return images.train, images.test


def measure(images: Images, name: str = "digits-cnn") -> SampleQuality:
    return sample_quality(images, digits()[0], name, np.random.default_rng(0))


@pytest.mark.parametrize(("name", "called"), [("digits-cnn", "frechet_digits"), ("pca", "frechet_pca")])
def test_each_measure_is_that_of_its_module(name: str, called: str) -> None:
    train, test = digits()
    found = measure(test, name)
    network = extractor(name, train)
    own, real = network.features(test), network.features(train)
    assert found.frechet.name == called
    wanted = frechet_distance(FeatureStatistics.of(own), FeatureStatistics.of(real))
    assert found.frechet.value == pytest.approx(wanted, rel=1e-9)
    spread = 4.0 * found.kid.deviation / np.sqrt(found.kid.subsets)
    assert found.kid.value == pytest.approx(polynomial_mmd2(own, real), abs=spread)
    assert found.precision_recall == precision_recall(own, real)
    counts = (found.samples, found.reference_samples, found.frechet.samples, found.kid.reference_samples)
    assert counts == (250, 1297, 250, 1297)
    assert found.extractor == name
    # From the cache, the same to the last bit.
    assert measure(test, name) == found


def test_noise_makes_every_measure_worse() -> None:
    _, test = digits()
    rng = np.random.default_rng(1)
    noisy = (test + rng.normal(0.0, 0.5, test.shape)).clip(-1.0, 1.0).astype(np.float32)
    real, fake = measure(test), measure(noisy)
    assert fake.frechet.value > 5.0 * real.frechet.value
    assert fake.kid.value > real.kid.value + 5.0 * real.kid.deviation
    assert fake.precision_recall.precision < real.precision_recall.precision - 0.2


def test_one_digit_alone_is_precise_and_recalls_little() -> None:
    images = data.load(data.Digits())
    assert images.labels is not None
    ones = images.train[images.labels["train"] == 1]
    found = measure(ones)
    assert found.precision_recall.precision == 1.0
    assert found.precision_recall.recall < 0.4


def test_a_reference_made_before_serves_again() -> None:
    train, test = digits()
    network = extractor("digits-cnn", train)
    reference = ReferenceFeatures.of(train, network)
    for features in ("digits-cnn", network):
        assert sample_quality(test, reference, features, np.random.default_rng(0)) == measure(test)
    with pytest.raises(SchedrlError, match=r"made with extractor 'digits-cnn' \(got 'pca'\)"):
        sample_quality(test, reference, PCAFeatures(train), np.random.default_rng(0))


def test_too_few_samples() -> None:
    _, test = digits()
    with pytest.raises(SchedrlError, match=r"32 features of 'pca' need at least 33 samples \(got 32\)"):
        measure(test[:32], "pca")
    assert measure(test[:33], "pca").samples == 33


def test_images_that_are_not_finite() -> None:
    _, test = digits()
    broken = test.copy()
    broken[3, 0, 2, 2] = np.nan
    with pytest.raises(SchedrlError, match="every number must be finite"):
        measure(broken)
