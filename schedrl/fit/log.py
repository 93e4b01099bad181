"""What a training leaves while it goes: lines, TensorBoard curves, sheets of samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.training.rendering import tile
from schedrl.errors import SchedrlError
from schedrl.files import write_bytes, write_text

__all__ = ["LOG", "FitLog", "read_log"]

LOG = "log.jsonl"


class FitLog:
    """The log of one training, gone on with after its ``step``.

    Lines and curves beyond that step are of a training that was cut off; they are dropped and come again.

    Args:
        folder: Of the training.
        step: Where it stands.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.path = folder, folder / LOG
        kept = [line for line in read_log(folder) if line["step"] <= step]
        write_text(self.path, "".join(f"{json.dumps(line)}\n" for line in kept))
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def line(self, step: int, values: dict[str, float]) -> None:
        """One line, and a point on every curve."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps({'step': step, **values})}\n")
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def sheet(self, step: int, images: NDArray[np.float32]) -> Path:
        """A picture of samples ``[n, C, H, W]`` in [−1, 1]."""
        sheet = tile(images, columns=8, gap=1)
        shown = 0.5 * (sheet + 1.0) if sheet.ndim == 2 else sheet
        path = self.folder / "samples" / f"step-{step:07d}.png"
        write_bytes(path, _png(shown))
        array = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown
        self._writer.add_image("samples", array.clip(0.0, 1.0), step, dataformats="HWC")
        return path

    def close(self) -> None:
        """No more."""
        self._writer.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of a training's log; one that a kill cut short is left out.

    Raises:
        SchedrlError: It is damaged.
    """
    path = folder / LOG
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise SchedrlError(f"{path}: is damaged: {error}") from None


def _png(image: NDArray[np.float32]) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.rint(255.0 * image.clip(0.0, 1.0)).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
