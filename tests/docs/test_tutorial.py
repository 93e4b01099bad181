"""The tutorial's commands and code, run in their order as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"


def test_the_tutorial_runs_from_a_folder_to_samples(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    rows, columns = np.mgrid[0:16, 0:16]
    for number in range(90):
        disc = np.hypot(*(np.stack([rows, columns]) - rng.uniform(4, 12, (2, 1, 1)))) < rng.uniform(2, 6)
        colours = rng.integers(0, 256, (2, 3))
        picture = np.where(disc[..., None], colours[0], colours[1]).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
    blocks = re.findall(r"```(bash|python)\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["bash", "bash", "bash", "python", "python"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(words: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (words, done.stderr[-2000:])
        return done.stdout

    said = ""
    for command in (line for kind, text in blocks if kind == "bash" for line in text.strip().splitlines()):
        said += run(["-m", *shlex.split(command)])
    run(["-c", "\n".join(text for kind, text in blocks if kind == "python")])
    assert "learned" in said
    assert (tmp_path / "learned" / "report.html").is_file()
    with Image.open(tmp_path / "samples.png") as sheet:
        assert np.asarray(sheet).std() > 10.0
    assert len((tmp_path / "sigmas.txt").read_text().replace("\n", ",").strip(",").split(",")) == 11
