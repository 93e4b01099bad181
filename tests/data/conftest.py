"""Fixtures: an empty surrounding for every test, and small fake sets in the real file formats."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[np.uint8]

# The user's real data folder, read before the fixture below hides it.
REAL_DATA = os.environ.get("SCHEDRL_DATA")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data folder, an empty working directory, and a cache of the test's own."""
    monkeypatch.delenv("SCHEDRL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache" / "schedrl"


@pytest.fixture
def real_data() -> str:
    """The folder that SCHEDRL_DATA names outside the tests."""
    if REAL_DATA is None or not Path(REAL_DATA, "FashionMNIST", "raw").is_dir():
        pytest.skip("SCHEDRL_DATA does not name a folder with FashionMNIST/raw")
    return REAL_DATA


def idx(array: Array) -> bytes:
    """The idx format as described: 0, 0, type 8 for uint8, number of axes, their lengths, the data."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


class FakeIdxSet:
    """A little set in MNIST's files: 40 training and 12 test images, all different."""

    def __init__(self, seed: int) -> None:
        """Draw the images."""
        rng = np.random.default_rng(seed)
        self.train = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
        self.test = rng.integers(0, 256, (12, 28, 28), dtype=np.uint8)
        # A label that can be recomputed from its image shows whether the two stay together.
        self.files = {
            "train-images-idx3-ubyte": idx(self.train),
            "train-labels-idx1-ubyte": idx(self.train[:, 0, 0] % 10),
            "t10k-images-idx3-ubyte": idx(self.test),
            "t10k-labels-idx1-ubyte": idx(self.test[:, 0, 0] % 10),
        }

    def write(self, root: Path, name: str = "FashionMNIST", *, packed: bool = True) -> Path:
        """Write the files as torchvision lays them out; return ``root``."""
        raw = root / name / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for file, content in self.files.items():
            if packed:
                (raw / f"{file}.gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                (raw / file).write_bytes(content)
        return root


@pytest.fixture
def fake() -> FakeIdxSet:
    """A small set of random images."""
    return FakeIdxSet(seed=1)


@pytest.fixture
def make_fake() -> Callable[[int], FakeIdxSet]:
    """A small set of random images from a seed."""
    return FakeIdxSet
