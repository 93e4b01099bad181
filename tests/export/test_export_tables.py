"""Arrays, tables and lists hold the file's numbers, written so that the tools read them back."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schedrl.errors import SchedrlError
from schedrl.export import FORMATS, Provenance, ScheduleFile, convert, csv_table, sigma_array, sigma_text
from schedrl.schedules import get, grid

Make = Callable[..., ScheduleFile]


def endless(law: str | None = "scaled-linear") -> ScheduleFile:
    schedule = None if law is None else get(law)
    return ScheduleFile.of(grid("tangent", 5), "ddim", Provenance(method="tangent"), schedule)


def test_a_finite_grid_is_not_changed(make: Make) -> None:
    file = make("linear", 10, sigma_max=200.0)
    assert sigma_array(file).tolist() == list(file.sigmas)


def test_infinity_becomes_the_laws_last_level() -> None:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.prod(1.0 - betas)
    assert sigma_array(endless())[0] == pytest.approx(math.sqrt((1 - kept) / kept))
    assert sigma_array(endless())[1:].tolist() == list(endless().sigmas[1:])
    with pytest.raises(SchedrlError, match="begins at infinity"):
        sigma_array(endless(None))


def test_text_is_numbers_with_commas(make: Make) -> None:
    file = make("linear", 10)
    read = [float(word) for word in sigma_text(file).split(",")]
    np.testing.assert_allclose(read, file.sigmas, rtol=1e-8)
    assert read[-1] == 0.0


def test_csv_has_one_line_per_level() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table(endless()))))
    file = endless()
    assert [float(row["sigma"]) for row in rows] == list(file.sigmas)
    assert [float(row["logsnr"]) for row in rows] == list(file.logsnr)
    assert [float(row["alpha_cumprod"]) for row in rows] == list(file.alphas_cumprod)
    assert float(rows[0]["timestep"]) == 999.0
    assert rows[-1]["timestep"] == ""
    assert {row["timestep"] for row in csv.DictReader(io.StringIO(csv_table(endless(None))))} == {""}


def test_files_of_arrays_hold_no_pickles(make: Make, tmp_path: Path) -> None:
    file = make("linear", 10)
    for to, kind in (("edm", np.float64), ("k-diffusion", np.float32)):
        convert(file, to, tmp_path / to)
        read = np.load(tmp_path / to, allow_pickle=False)
        assert read.dtype == kind
        np.testing.assert_allclose(read, file.sigmas, rtol=1e-6)
    convert(file, "npz", tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz", allow_pickle=False) as arrays:
        assert arrays["sigmas"].tolist() == list(file.sigmas)
        assert file.training is not None
        assert arrays["betas"].tolist() == list(file.training.betas)


def test_a_moved_first_level_is_said_with_its_cost(tmp_path: Path) -> None:
    spectrum = np.array([4.0, 0.1])
    file = ScheduleFile.of(
        grid("tangent", 5), "ddim", Provenance(method="t"), get("scaled-linear"), eigenvalues=spectrum
    )
    said = " ".join(convert(file, "comfyui", tmp_path / "sigmas.txt"))
    assert "level inf lies outside the training schedule's range" in said
    assert "Exact KL" in said
    text = (tmp_path / "sigmas.txt").read_text()
    assert text == sigma_text(file) + "\n"
    assert text.startswith("14.61")


def test_unknown_format(make: Make, tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match=r"unknown format 'comfy'; did you mean 'comfyui'"):
        convert(make(), "comfy", tmp_path / "x")


@pytest.mark.parametrize("to", [name for name in FORMATS if name != "diffusers"])
def test_a_folder_is_no_file(make: Make, tmp_path: Path, to: str) -> None:
    with pytest.raises(SchedrlError, match="is a folder"):
        convert(make(), to, tmp_path)
