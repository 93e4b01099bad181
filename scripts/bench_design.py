"""Seconds and peak memory of `schedrl schedule design` on a folder of pictures that this script makes.

    python scripts/bench_design.py --images 10000 --side 64

The pictures are smooth random fields in colour, written as PNG; making them is not counted.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import idctn


def make_pictures(folder: Path, count: int, side: int, seed: int = 0) -> None:
    """Write random pictures whose spectrum falls like that of photographs, 1/f² in variance."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    amplitude = 0.5 * side / (1.0 + np.hypot(rows, columns))
    for index in range(count):
        field = idctn(amplitude * rng.standard_normal((3, side, side)), axes=(1, 2), norm="ortho")
        field = field.mean(axis=0) + 0.3 * field / 3.0**0.5  # mostly grey, as photographs are
        pixels = np.clip(127.5 + 50.0 * field, 0.0, 255.0).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"{index:06d}.png", compress_level=1)


def main() -> None:
    """Make the folder, run the command, print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "pictures")
        folder.mkdir()
        make_pictures(folder, given.images, given.side)
        command = [sys.executable, "-m", "schedrl", "schedule", "design", "--data", str(folder)]
        began = time.perf_counter()
        subprocess.run([*command, "--steps", str(given.steps), "-o", str(Path(name, "s.json"))], check=True)
        seconds = time.perf_counter() - began
        size = Path(name, "s.json").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024.0
    print(
        f"{given.images} pictures of {given.side} x {given.side}: {seconds:.1f} s, peak {peak:.0f} MiB, file {size} B"
    )


if __name__ == "__main__":
    main()
