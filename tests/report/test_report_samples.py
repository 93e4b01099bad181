"""The table of sample quality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scipy import stats

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import summarise_training
from schedrl.report.document import Table
from schedrl.report.samples import quality_table

MakeResult = Callable[..., TrainingResult]


def test_quality_is_shown_with_its_number_of_samples(make_result: MakeResult) -> None:
    spec: dict[str, Any] = {"features": "digits-cnn", "samples": 250, "steps": 20, "sampler": "ddim"}

    def made(agent: str, seed: int, frechet: float | None) -> TrainingResult:
        values = {"frechet": frechet, "kid": 0.1, "precision": 0.5, "recall": 0.25}
        known = values if frechet is not None else {}
        return make_result(agent, seed, 3.0 + seed, quality={**spec, **known}, diverged=frechet is None)

    results = [
        made("cosine", 0, 4.0),
        made("cosine", 1, 6.0),
        made("linear", 0, 9.0),
        made("linear", 1, None),
    ]
    blocks = quality_table(results, summarise_training(results))
    table = blocks[0]
    assert isinstance(table, Table)
    assert "Fréchet, digits-cnn (n = 250)" in table.heads
    rows = {row[0]: row for row in table.rows}
    half = stats.t.ppf(0.975, 1) * 1.0
    assert rows["cosine"][2:4] == ["2", f"5.000 ± {half:.3f}"]
    assert rows["linear"][2:] == ["1", "9.000", "0.1000", "0.500", "0.250"]
    assert "FID" not in str(table)


def test_only_inceptions_distance_is_called_fid(make_result: MakeResult) -> None:
    quality = {"features": "inception", "samples": 5, "steps": 2, "sampler": "ddpm", "frechet": 1.0}
    results = [make_result("cosine", 0, 3.0, quality=quality)]
    blocks = quality_table(results, summarise_training(results))
    assert isinstance(blocks[0], Table)
    assert "FID (n = 5)" in blocks[0].heads
    plain = [make_result("cosine", 0, 3.0)]
    assert quality_table(plain, summarise_training(plain)) == []
