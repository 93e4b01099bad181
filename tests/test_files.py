from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from schedrl.errors import SchedrlError
from schedrl.files import dump_json, ensure_folder, write_arrays, write_chunks, write_text


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def chunks() -> Any:
        yield b"half"
        raise KeyboardInterrupt

    target = tmp_path / "folder" / "file"
    with pytest.raises(KeyboardInterrupt):
        write_chunks(target, chunks())
    assert list(target.parent.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    def chunks() -> Any:
        yield b"half"
        raise KeyboardInterrupt

    write_text(tmp_path / "file", "old")
    with pytest.raises(KeyboardInterrupt):
        write_chunks(tmp_path / "file", chunks())
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_arrays_and_their_text_come_back(tmp_path: Path) -> None:
    rows = np.arange(6.0).reshape(2, 3).T  # not contiguous
    write_arrays(tmp_path / "a.safetensors", {"rows": rows}, {"note": "é"})
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("rows"), rows)
        assert file.metadata() == {"note": "é"}


def test_json_is_never_nan() -> None:
    assert dump_json({"b": 1, "a": [0.5]}) == '{\n  "a": [\n    0.5\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"a": float("nan")})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SchedrlError, match=r"output folder .*file/below: cannot be written"):
        ensure_folder(tmp_path / "file" / "below", "output folder")
    assert ensure_folder(tmp_path / "new" / "below", "output folder").is_dir()
