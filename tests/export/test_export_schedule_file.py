"""A schedule file survives a round trip, and one that contradicts itself is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedrl.errors import SchedrlError
from schedrl.export import Provenance, ScheduleFile
from schedrl.schedules import get, grid, grid_names

SCHEMA = Path(__file__).parents[2] / "docs" / "schedule.schema.json"


def made(name: str = "karras", law: str | None = "linear", n: int = 6, sampler: str = "ddim") -> ScheduleFile:
    provenance = Provenance(method=name, data="digits", count=100, image_shape=(1, 8, 8), floor=0.01)
    schedule = None if law is None else get(law)
    return ScheduleFile.of(grid(name, n), sampler, provenance, schedule, eigenvalues=np.array([2.0, 0.5]))


@pytest.mark.parametrize("law", [None, "linear", "cosine", "edm"])
@pytest.mark.parametrize("name", grid_names())
def test_round_trip_through_a_file(tmp_path: Path, name: str, law: str | None) -> None:
    file = made(name, law)
    file.write(tmp_path / "schedule.json")
    assert ScheduleFile.read(tmp_path / "schedule.json") == file
    # JSON has no infinity; a reader that is strict must cope.
    json.loads((tmp_path / "schedule.json").read_text(), parse_constant=lambda word: pytest.fail(word))


def test_arrays_are_what_they_are_called() -> None:
    file = made("tangent")
    sigmas = np.array(file.sigmas)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(file.logsnr, -2.0 * np.log(sigmas))
    np.testing.assert_allclose(file.alphas_cumprod, 1.0 / (1.0 + sigmas**2))
    assert file.training is not None
    assert file.timesteps is not None
    betas = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(file.training.betas, betas)
    np.testing.assert_allclose(file.training.alphas_cumprod, np.cumprod(1.0 - betas))
    log_alphas = np.append(0.0, np.log(np.cumprod(1.0 - betas)))
    at = np.interp(file.timesteps, np.arange(1001), log_alphas)
    np.testing.assert_allclose(np.exp(at[1:]), file.alphas_cumprod[1:], rtol=1e-9)


@pytest.mark.parametrize(("sampler", "expected"), [("ddim", 6), ("ddpm", 6), ("heun", 11)])
def test_evaluations(sampler: str, expected: int) -> None:
    assert made(sampler=sampler).evaluations == expected


Edit = Callable[[dict[str, Any]], None]


def edit(*path: Any, value: Any) -> Edit:
    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (edit("sigmas", 1, value=20.0), r"logsnr\[1\] = .* contradicts sigmas"),
        (edit("logsnr", 2, value=0.0), r"logsnr\[2\] = 0 contradicts sigmas, by which it is"),
        (edit("alphas_cumprod", 3, value=0.5), r"alphas_cumprod\[3\] = 0.5 contradicts sigmas"),
        (edit("timesteps", 2, value=3.0), r"timesteps\[2\] = 3 contradicts sigmas and the training schedule"),
        (edit("training", "betas", 7, value=0.5), r"betas\[7\] = 0.5 contradicts the schedule 'linear'"),
        (
            edit("training", "alphas_cumprod", 7, value=0.5),
            r"alphas_cumprod\[7\] = 0.5 contradicts the betas",
        ),
        (edit("training", "num_train_timesteps", value=500), r"betas: must have 500 entries"),
        (edit("training", "schedule", "beta_end", value=0.03), r"betas\[1\] = .* contradicts the schedule"),
        (edit("training", value=None), r"timesteps and training: must both be given"),
        (edit("logsnr", value=[0.0]), r"logsnr: must have 7 entries, by sigmas \(got 1\)"),
        (edit("sigmas", 1, value=0.0), r"must strictly decrease"),
        (edit("sigmas", 1, value="nan"), r"sigmas"),
        (edit("format", value=2), r"field 'format': unknown value '2'"),
        (edit("sampler", value="dpm"), r"unknown value 'dpm'; .*Known: ddim, ddpm, dpm"),
        (edit("sampeler", value="ddim"), r"unknown field 'sampeler'; did you mean 'sampler'"),
    ],
)
def test_contradictions_are_named(change: Edit, match: str) -> None:
    content = json.loads(made().to_json())
    change(content)
    with pytest.raises(SchedrlError, match=match) as caught:
        ScheduleFile.from_json(json.dumps(content), "s.json")
    assert str(caught.value).startswith("s.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold one JSON object"),
        ('{"name": "cosine"}', "is a training schedule alone"),
        ("\xff", "is not JSON"),
    ],
)
def test_other_content(text: str, match: str) -> None:
    with pytest.raises(SchedrlError, match=match):
        ScheduleFile.from_json(text.encode("latin-1"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"none.json: cannot be read: No such file"):
        ScheduleFile.read(tmp_path / "none.json")


def test_published_schema_is_current() -> None:
    assert SCHEMA.read_text() == ScheduleFile.schema_text(), (
        'write it anew: python -c "from schedrl.export import ScheduleFile; '
        "open('docs/schedule.schema.json', 'w').write(ScheduleFile.schema_text())\""
    )


@pytest.mark.parametrize("name", ["karras", "tangent"])
def test_files_fulfil_the_published_schema(name: str) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(json.loads(SCHEMA.read_text()))
    content = json.loads(made(name).to_json())
    assert list(validator.iter_errors(content)) == []
    content["sigmas"][1] = "many"
    assert list(validator.iter_errors(content)) != []
