"""The wheel is complete: it works where the checkout is not."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

import schedrl

ROOT = Path(__file__).resolve().parents[1]
INFO = f"schedrl-{schedrl.__version__}.dist-info"

PROGRAM = """
import sys
from pathlib import Path
import gymnasium, schedrl
from schedrl.catalogue import folder
here = Path(sys.argv[1])
for path in (Path(schedrl.__file__), folder("envs"), folder("agents")):
    assert path.is_relative_to(here), path
env = gymnasium.make("schedrl/DigitsKnots-v0")
observation, _ = env.reset(seed=0)
assert env.observation_space.contains(observation)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_wheel_has_package_and_catalogues(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "schedrl/py.typed",
        "schedrl/diffusion/engines/kernel.cpp",
        "schedrl/diffusion/weights/digits/model.json",
        "schedrl/diffusion/weights/digits/model.safetensors",
        "schedrl/metrics/weights/digits-cnn.safetensors",
        "schedrl/metrics/weights/fashion-cnn.json",
        "schedrl/report/templates/page.css",
        "schedrl/report/templates/report.html.j2",
        "schedrl/report/templates/report.md.j2",
        "schedrl/_catalogue/envs/digits-knots.toml",
    } <= names
    for catalogue in ("envs", "agents"):
        prefix = f"schedrl/_catalogue/{catalogue}/"
        packed = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        assert packed == files(ROOT / catalogue) != set()
    code = {name.removeprefix("schedrl/") for name in names if name.endswith(".py")}
    assert code == {name for name in files(ROOT / "schedrl") if name.endswith(".py")}
    assert {name.partition("/")[0] for name in names} == {"schedrl", INFO}


def test_wheel_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = BytesParser().parsebytes(archive.read(f"{INFO}/METADATA"))
        assert "schedrl = schedrl.cli:main" in archive.read(f"{INFO}/entry_points.txt").decode()
        assert archive.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "dev",
        "docs",
        "export",
        "metrics",
        "ray",
        "search",
    }


def test_make_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    # An editable install adds the checkout at the end of the path; this goes before it.
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", PROGRAM, str(unpacked)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert run.returncode == 0, run.stderr


def test_citation_names_this_version() -> None:
    assert f"\nversion: {schedrl.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
