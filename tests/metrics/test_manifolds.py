"""Precision and recall: by loops, at the extremes, and against other people's code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from schedrl.errors import SchedrlError
from schedrl.metrics import distances
from schedrl.metrics.distances import precision_recall

Array = NDArray[np.float64]


def clouds(seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.4, 0.8, (70, 4)), rng.normal(0.0, 1.0, (90, 4))


def share(points: Array, centres: Array, k: int) -> float:
    inside = 0
    radii = [sorted(np.linalg.norm(centre - other) for other in centres)[k] for centre in centres]
    for point in points:
        inside += any(np.linalg.norm(point - c) <= r for c, r in zip(centres, radii, strict=True))
    return inside / len(points)


@pytest.mark.parametrize("rows", [1, 13, 1024])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_by_loops(rows: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_ROWS", rows)
    samples, data = clouds()
    found = precision_recall(samples, data, k)
    assert found.precision == pytest.approx(share(samples, data, k), abs=1e-12)
    assert found.recall == pytest.approx(share(data, samples, k), abs=1e-12)
    assert (found.neighbours, found.samples, found.reference_samples) == (k, 70, 90)
    assert 0.0 < found.recall < found.precision or k == 10


def test_as_torch_fidelity_computes_it() -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_prc")
    samples, data = clouds(1)
    wanted = theirs.prc_features_to_metric(
        torch.from_numpy(samples), torch.from_numpy(data), prc_neighborhood=3, prc_batch_size=50,
        save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    found = precision_recall(samples, data)
    assert found.precision == pytest.approx(wanted["precision"], rel=1e-4)
    assert found.recall == pytest.approx(wanted["recall"], rel=1e-4)


def test_the_extremes() -> None:
    samples, data = clouds(2)
    same = precision_recall(data, data)
    assert (same.precision, same.recall) == (1.0, 1.0)
    apart = precision_recall(samples + 100.0, data)
    assert (apart.precision, apart.recall) == (0.0, 0.0)
    # One image drawn again and again is precise, and recalls itself alone.
    collapsed = precision_recall(np.repeat(data[:1], 50, axis=0), data)
    assert (collapsed.precision, collapsed.recall) == (1.0, 1 / 90)


def test_bad_input() -> None:
    samples, data = clouds()
    with pytest.raises(SchedrlError, match=r"fewer than the samples on either side, 70 and 90 \(got 70\)"):
        precision_recall(samples, data, 70)
    with pytest.raises(SchedrlError, match=r"neighbours: must be at least 1 .*\(got 0\)"):
        precision_recall(samples, data, 0)
    with pytest.raises(SchedrlError, match="dimensions must agree"):
        precision_recall(samples[:, :2], data)
