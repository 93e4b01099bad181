"""References: what is cached, by what, and what happens to a cache that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from schedrl.errors import SchedrlError
from schedrl.metrics.distances import FeatureStatistics
from schedrl.metrics.sample_quality import ReferenceFeatures, images_hash, metric_name


@dataclass
class Counting:
    """An extractor of three features that counts the images it has seen."""

    name: str = "counting"
    identity: str = "counting-1"
    dimension: int = 3
    seen: int = 0
    standard: bool = False

    def features(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        self.seen += len(images)
        return images.reshape(len(images), -1)[:, :3].astype(np.float64) / 3.0


def pictures(count: int = 20, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 1, 2, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "schedrl" / "references"


def same(one: ReferenceFeatures, two: ReferenceFeatures) -> bool:
    return (
        one.count == two.count
        and np.array_equal(one.statistics.mean, two.statistics.mean)
        and np.array_equal(one.statistics.covariance, two.statistics.covariance)
        and np.array_equal(one.features, two.features)
    )


def test_measured_once_per_images_and_extractor(cache: Path) -> None:
    extractor = Counting()
    first = ReferenceFeatures.of(pictures(), extractor)
    again = ReferenceFeatures.of(pictures(), extractor)
    assert extractor.seen == 20
    assert same(first, again)
    wanted = FeatureStatistics.of(Counting().features(pictures()))
    np.testing.assert_array_equal(again.statistics.covariance, wanted.covariance)
    ReferenceFeatures.of(pictures(seed=1), extractor)
    ReferenceFeatures.of(pictures(), extractor, keep=7)
    assert extractor.seen == 60
    other = Counting(identity="counting-2")
    ReferenceFeatures.of(pictures(), other)
    assert other.seen == 20
    names = sorted(path.name for path in cache.iterdir())  # and nothing temporary
    assert len(names) == 4
    assert all(name.startswith("counting-") and name.endswith(".safetensors") for name in names)


def test_one_changed_pixel_is_another_reference() -> None:
    images = pictures()
    changed = images.copy()
    changed[7, 0, 1, 1] = np.nextafter(changed[7, 0, 1, 1], 2.0)
    assert images_hash(images) != images_hash(changed)
    assert images_hash(images) != images_hash(images.reshape(20, 1, 1, 4))


def test_kept_features_are_spread_over_the_images() -> None:
    reference = ReferenceFeatures.of(pictures(101), Counting(), keep=11, cache=False)
    np.testing.assert_array_equal(reference.features, Counting().features(pictures(101)[::10]))
    assert reference.count == 101


def test_without_the_cache_nothing_is_written(cache: Path) -> None:
    ReferenceFeatures.of(pictures(), Counting(), cache=False)
    assert not cache.exists()


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_a_damaged_file_is_made_again(
    damage: bytes | None, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = ReferenceFeatures.of(pictures(), Counting())
    [path] = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if damage is None else damage)
    extractor = Counting()
    assert same(ReferenceFeatures.of(pictures(), extractor), first)
    assert extractor.seen == 20
    assert "is damaged and is made again" in caplog.text
    assert path.read_bytes() == whole


def test_a_file_of_another_reference_is_not_believed(cache: Path) -> None:
    ReferenceFeatures.of(pictures(), Counting())
    [mine] = cache.iterdir()
    wrong = mine.read_bytes()
    ReferenceFeatures.of(pictures(seed=1), Counting())
    [other] = set(cache.iterdir()) - {mine}
    other.write_bytes(wrong)
    fresh = ReferenceFeatures.of(pictures(seed=1), Counting(), cache=False)
    assert same(ReferenceFeatures.of(pictures(seed=1), Counting()), fresh)


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "schedrl").write_text("a file where the folder should be")
    extractor = Counting()
    ReferenceFeatures.of(pictures(), extractor)
    assert same(
        ReferenceFeatures.of(pictures(), extractor), ReferenceFeatures.of(pictures(), extractor, cache=False)
    )
    assert "are not kept" in caplog.text


def test_names() -> None:
    assert metric_name(Counting()) == "frechet_counting"
    assert metric_name(Counting(name="inception")) == "frechet_inception"
    assert metric_name(Counting(name="inception", standard=True)) == "fid"


def test_too_few() -> None:
    extractor = Counting()
    with pytest.raises(SchedrlError, match=r"3 features of 'counting' need at least 4 images \(got 3\)"):
        ReferenceFeatures.of(pictures(3), extractor)
    assert extractor.seen == 0
    with pytest.raises(SchedrlError, match=r"keep: must be at least 2 \(got 1\)"):
        ReferenceFeatures.of(pictures(), extractor, keep=1)
