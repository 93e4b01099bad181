"""``schedrl schedule``: from pictures to a file that other tools read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from schedrl.errors import SchedrlError
from schedrl.export import Provenance, ScheduleFile
from schedrl.schedules import get, grid
from schedrl.sources import Gaussian

Run = Callable[..., Result]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty pictures with correlated pixels, a grey one among them, and a damaged file."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(40):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((9, 8)).save(folder / f"{index:02d}.png")
    Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / "grey.png")
    (folder / "damaged.png").write_bytes(b"\x89PNG damaged")
    return folder


def test_design_on_a_folder(run: Run, pictures: Path, surrounding: Path) -> None:
    result = run("schedule", "design", "--data", str(pictures), "--steps", "6", "--floor", "0.05", "--plot")
    assert result.exit_code == 0, result.output
    for said in ("skipped 1 of 42 files damaged.png", "1 of 41 pictures converted from grey to colour", "Karras",
                 "kl_optimal", "diffusers leading", "uniform in t, diffusers trailing", "Kurtosis",
                 "41 images of 192 numbers", "are few", "do not trust these errors", "The network was not looked at",
                 "schedrl schedule tune --model", "the training schedule ends at", "in epsilon is taken"):  # fmt: skip
        assert said in " ".join(result.output.split())
    assert "scaled-linear" not in result.output
    file = ScheduleFile.read(surrounding / "schedule.json")
    assert (file.num_steps, file.sampler, file.provenance.method) == (6, "ddim", "flow")
    assert (file.provenance.count, file.provenance.image_shape) == (41, (3, 8, 8))
    assert file.provenance.floor == 0.05
    assert file.provenance.versions["schedrl"]
    # The printed error is that of the file, on the spectrum in the file.
    printed = next(line for line in result.output.splitlines() if line.strip().startswith("flow"))
    assert float(printed.split()[-1]) == pytest.approx(Gaussian(file.eigenvalues).kl(file.grid), rel=1e-3)
    assert (surrounding / "schedule.png").read_bytes().startswith(b"\x89PNG")


def test_design_on_sets_and_arrays(run: Run, surrounding: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8)
    np.savez(surrounding / "mine.npz", images=images)
    options = ["--sampler", "heun", "--method", "tangent", "--schedule", "scaled-linear", "-o", "heun.json"]
    result = run("schedule", "design", "--data", "mine.npz", "--steps", "4", *options)
    assert result.exit_code == 0, result.output
    file = ScheduleFile.read("heun.json")
    assert file.sampler == "heun"
    assert file.training is not None
    assert file.training.schedule == get("scaled-linear")
    assert file.sigmas[0] == pytest.approx(14.6146, rel=1e-4)
    flat = images.reshape(30, 16) / 127.5 - 1.0
    np.testing.assert_allclose(file.eigenvalues, np.linalg.eigvalsh(np.cov(flat.T))[::-1], rtol=1e-5)
    result = run(
        "schedule", "design", "--data", "digits", "--steps", "5", "--method", "geodesic", "--images", "200"
    )
    assert result.exit_code == 0, result.output
    assert "200 images of 64 numbers" in result.output
    result = run("schedule", "design", "--data", "mine.npz", "--steps", "5", "--schedule", "cosine")
    assert result.exit_code == 0, result.output
    assert "the steps are diffusers' trailing spacing" in result.output
    assert "flow, uniform in t, diffusers trailing" in result.output
    Path("error.csv").write_text("logsnr,variance\n-8,0.01\n0,0.001\n")
    told = ["--network-error", "error.csv", "--prediction", "v_prediction", "-o", "v.json"]
    result = run("schedule", "design", "--data", "digits", "--steps", "5", *told)
    assert result.exit_code == 0, result.output
    assert "not looked at" not in result.output
    assert "is taken to be" not in result.output
    assert ScheduleFile.read("v.json").sigmas[0] < 100.0  # of v, nothing is lost by a later start
    result = run(
        "schedule", "design", "--data", "mine.npz", "--steps", "3", "--sampler", "ddpm", "-o", "a.json"
    )
    assert result.exit_code == 0, result.output
    assert ScheduleFile.read("a.json").provenance.method == "optimal"  # noise has no flow to be close to
    assert "off the flow" not in result.output


@pytest.fixture
def two(surrounding: Path) -> tuple[Path, Path]:
    """A Karras grid with a spectrum, and a tangent grid from infinity without."""
    first, second = surrounding / "karras.json", surrounding / "tangent.json"
    provenance = Provenance(method="karras", data="mine", count=9, image_shape=(1, 2, 2), floor=0.1)
    spectrum = np.array([2.0, 0.1])
    ScheduleFile.of(grid("karras", 5), "ddim", provenance, get("linear"), eigenvalues=spectrum).write(first)
    ScheduleFile.of(grid("tangent", 4), "heun", Provenance(method="tangent"), get("linear")).write(second)
    return first, second


def test_show_and_compare(run: Run, two: tuple[Path, Path]) -> None:
    first, second = two
    shown = run("schedule", "show", str(first))
    assert shown.exit_code == 0
    for said in (
        "ddim, 5 steps, 5 network evaluations",
        "for mine: 9 images of 1 x 2 x 2, floor 0.1",
        "80",
        "0.002",
    ):
        assert said in shown.output
    compared = run("schedule", "compare", str(first), str(second))
    assert compared.exit_code == 0, compared.output
    assert f"{Gaussian([2.0, 0.1]).kl(grid('karras', 5)):.4g}" in compared.output
    row = next(line for line in compared.output.splitlines() if "tangent.json" in line)
    assert row.split()[1:5] == ["tangent", "heun", "4", "7"]


@pytest.mark.parametrize("to", ["edm", "k-diffusion", "comfyui", "a1111", "csv", "npz", "diffusers"])
def test_convert_writes(run: Run, two: tuple[Path, Path], surrounding: Path, to: str) -> None:
    result = run("schedule", "convert", str(two[1]), "--to", to, "-o", "made/out")
    assert result.exit_code == 0, result.output
    assert (surrounding / "made" / "out").exists()
    if to == "diffusers":
        config = json.loads((surrounding / "made" / "out" / "scheduler_config.json").read_text())
        assert config["_class_name"] == "HeunDiscreteScheduler"
        assert len(config["trained_betas"]) == 1000


def test_training_takes_the_law_in_a_file(two: tuple[Path, Path]) -> None:
    from schedrl.cli.fit import schedule_named

    assert schedule_named(str(two[0])) == get("linear").model_dump(mode="json")
    ScheduleFile.of(grid("karras", 3), "ddim", Provenance(method="karras")).write(two[0])
    with pytest.raises(SchedrlError, match="no training schedule"):
        schedule_named(str(two[0]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["design", "--data", "nowhere/"], "there is no folder nowhere/"),
        (["design", "--data", "digit"], "did you mean 'digits'"),
        (["design", "--data", "digits", "--method", "optimum"], "did you mean 'optimal'"),
        (["design", "--data", "digits", "--method", "agent:nobody"], "nobody"),
        (["design", "--data", "digits", "--schedule", "lineer"], "did you mean 'linear'"),
        (["design", "--data", "digits", "--floor", "0"], "--floor"),
        (["design", "--data", "digits", "--floor", "50"], "must vary by at least floor"),
        (["design", "--data", "digits", "--images", "1"], "must be at least 2"),
        (["design", "--data", "digits", "--steps", "20", "-T", "10"], "--steps: must be at most"),
        (
            ["design", "--data", "digits", "--network-error", "small"],
            "must be a number, or a .csv or .json file",
        ),
        (["design", "--data", "digits", "--network-error=-1"], "must be finite and not negative"),
        (["design", "--data", "digits", "--network-error", "no.json"], "no.json: cannot be read"),
        (
            ["design", "--data", "digits", "--network-error", "1", "--method", "optimal"],
            "is for --method flow",
        ),
        (["design", "--data", "constant"], "are they all the same"),
        (["design", "--data", "empty"], "no pictures in empty"),
        (["show", "none.json"], "none.json: cannot be read"),
        (["show", "edited.json"], "contradicts sigmas"),
        (["compare", "karras.json"], "at least two"),
        (["convert", "karras.json", "--to", "comfy", "-o", "x"], "did you mean 'comfyui'"),
        (["convert", "karras.json", "--to", "csv", "-o", "."], "is a folder"),
        (["convert", "karras.json", "--to", "diffusers", "-o", "x", "--scheduler", "DDIMScheduler"], "Euler"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, two: tuple[Path, Path], surrounding: Path, words: list[str], said: str
) -> None:
    (surrounding / "empty").mkdir()
    (surrounding / "constant").mkdir()
    for index in range(3):
        Image.new("RGB", (4, 4), (9, 9, 9)).save(surrounding / "constant" / f"{index}.png")
    content = json.loads(two[0].read_text())
    content["sigmas"][1] = 40.0
    (surrounding / "edited.json").write_text(json.dumps(content))
    result = run("schedule", *words)
    assert result.exit_code == 2
    line = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert said in line
    assert result.stderr.splitlines()[-1] == line
