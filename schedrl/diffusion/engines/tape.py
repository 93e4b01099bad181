"""Recording of a network: the operations of a forward pass and of its gradient, for the CPU kernel to replay.

A :class:`Tape` provides the operations of layers but computes nothing. It records each with the places of its operands
in one block of memory (the arena) and in a run's row of parameters; :meth:`Tape.finish` then lays out the gradients.
:data:`COLUMNS` are the fields of ``Instruction`` in ``kernel.cpp``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

OPERATIONS = ("embed", "convolve", "norm_silu", "silu", "halve", "double", "join", "add")
"""Names of the operations, in the order of the kernel's ``Op``."""

COLUMNS = (
    "op", "x", "y", "out", "dx", "dy", "dout", "add_x", "add_y", "weight", "bias", "stats", "c_in", "c_out",
    "height", "width", "kernel", "groups", "stride_out", "stride_in", "packed", "flipped",
)  # fmt: skip
"""Fields of an instruction. Offsets are in floats, −1 where there is nothing."""


class NotRecordableError(Exception):
    """The kernel lacks an operation of the network, which PyTorch then trains."""


@dataclass(frozen=True)
class Symbol:
    """Features of one micro-batch: ``[channels, height, width, lanes]`` at ``place`` in the arena."""

    place: int
    channels: int
    height: int
    width: int
    trained: bool = True


@dataclass(frozen=True)
class Program:
    """A recorded network, which the kernel replays for each micro-batch.

    Attributes:
        code: ``[operations, columns]`` int64.
        frequencies: ``[width / 2]`` float32 of the noise level's embedding.
        lanes: Images in a micro-batch.
        arena: Floats of features and gradients.
        packed: Floats of rearranged convolution kernels.
        inputs: ``[views]`` int64, places of the noised images, and of their neighbours'.
        levels: ``[views]`` int64, places of their log-SNR.
        beta: Place of log β, −1 if the network does not read it.
        output: Place of the network's output.
        gradient: Place of its gradient.
        features: Floats of the features alone.
        flops: Floating-point operations of one image: forward, and forward with both gradients.
    """

    code: NDArray[np.int64]
    frequencies: NDArray[np.float32]
    lanes: int
    arena: int
    packed: int
    inputs: NDArray[np.int64]
    levels: NDArray[np.int64]
    beta: int
    output: int
    gradient: int
    features: int
    flops: tuple[int, int]


class Tape:
    """Records operations; see :class:`schedrl.diffusion.layers.Operations`.

    Args:
        places: Offset of every parameter in a run's row, by ``id``.
        lanes: Images in a micro-batch.
        image_shape: ``(C, H, W)``.
        views: Views of each training image: 1, or 3 with its neighbours.
    """

    def __init__(
        self, places: Mapping[int, int], lanes: int, image_shape: tuple[int, int, int], views: int = 1
    ) -> None:
        self._places, self._lanes = places, lanes
        self._top = self._packed = 0
        self._kernels: dict[int, tuple[int, int]] = {}
        self._code: list[dict[str, int]] = []
        self._operands: list[tuple[Symbol | None, Symbol | None, Symbol]] = []
        self._frequencies = np.empty(0, dtype=np.float32)
        self._flops = [0, 0]
        self.views = [
            (self._symbol(*image_shape, trained=False), self._symbol(1, 1, 1, trained=False))
            for _ in range(views)
        ]
        self._beta: Symbol | None = None

    def __getattr__(self, name: str) -> object:
        raise NotRecordableError(f"the kernel has no operation '{name}'")

    @property
    def log_beta(self) -> Symbol:
        """log β_t of the images; the first access allocates its place."""
        if self._beta is None:
            self._beta = self._symbol(1, 1, 1, trained=False)
        return self._beta

    def embed(self, level: Symbol, frequencies: Tensor) -> Symbol:
        """Record; all levels share their frequencies."""
        given = frequencies.detach().cpu().numpy().astype(np.float32)
        if self._frequencies.size and not np.array_equal(given, self._frequencies):
            raise NotRecordableError("all levels must have the same frequencies")
        self._frequencies = given
        out = self._symbol(2 * len(self._frequencies), 1, 1, trained=False)
        return self._record("embed", out, level, c_out=out.channels)

    def linear(self, x: Symbol, weight: Tensor, bias: Tensor) -> Symbol:
        """Record, as a convolution of one pixel with its weight transposed."""
        out = self._symbol(weight.shape[2], 1, 1)
        return self._convolve(x, out, weight, bias, 1, (1, out.channels))

    def convolve(self, x: Symbol, weight: Tensor, bias: Tensor | None) -> Symbol:
        kernel = weight.shape[-1]
        out = self._symbol(weight.shape[1], x.height, x.width)
        return self._convolve(x, out, weight, bias, kernel, (x.channels * kernel**2, kernel**2))

    def norm_silu(
        self, x: Symbol, weight: Tensor, bias: Tensor, num_groups: int, scale_shift: Symbol | None = None
    ) -> Symbol:
        stats = self._symbol(2 * num_groups, 1, 1)
        return self._record(
            "norm_silu", self._like(x), x, scale_shift, groups=num_groups, stats=stats.place,
            weight=self._places[id(weight)], bias=self._places[id(bias)],
        )  # fmt: skip

    def silu(self, x: Symbol) -> Symbol:
        return self._record("silu", self._like(x), x)

    def halve(self, x: Symbol) -> Symbol:
        return self._record("halve", self._symbol(x.channels, x.height // 2, x.width // 2), x)

    def double(self, x: Symbol) -> Symbol:
        """Record; the columns hold the size of the larger map, as in ``halve``."""
        out = self._symbol(x.channels, 2 * x.height, 2 * x.width)
        return self._record("double", out, x, height=out.height, width=out.width)

    def join(self, x: Symbol, y: Symbol) -> Symbol:
        out = self._symbol(x.channels + y.channels, x.height, x.width)
        return self._record("join", out, x, y, c_out=out.channels)

    def add(self, x: Symbol, y: Symbol) -> Symbol:
        return self._record("add", self._like(x), x, y)

    def finish(self, output: Symbol) -> Program:
        """Lay out the gradients in reverse; a gradient's memory is used again as soon as it has been passed on."""
        features = self._top
        free: dict[int, list[int]] = defaultdict(list)
        held: dict[Symbol, int] = {}

        def hold(symbol: Symbol | None) -> tuple[int, int]:
            """Where ``symbol``'s gradient goes, and whether something is there already."""
            if symbol is None or not symbol.trained:
                return -1, 0
            if symbol in held:
                return held[symbol], 1
            size = self._size(symbol)
            held[symbol] = free[size].pop() if free[size] else self._take(size)
            return held[symbol], 0

        gradient, _ = hold(output)
        for line, (x, y, out) in zip(reversed(self._code), reversed(self._operands), strict=True):
            if not out.trained:
                continue
            line["dout"] = held.pop(out)
            line["dx"], line["add_x"] = hold(x)
            line["dy"], line["add_y"] = hold(y)
            if line["op"] == OPERATIONS.index("norm_silu") and line["add_y"]:
                raise NotRecordableError("a modulation serves one normalisation only")
            free[self._size(out)].append(line["dout"])
        return Program(
            code=np.array([[line[c] for c in COLUMNS] for line in self._code], dtype=np.int64),
            frequencies=self._frequencies, lanes=self._lanes, arena=self._top, packed=self._packed,
            inputs=np.array([image.place for image, _ in self.views], dtype=np.int64),
            levels=np.array([level.place for _, level in self.views], dtype=np.int64),
            beta=-1 if self._beta is None else self._beta.place, output=output.place, gradient=gradient,
            features=features, flops=(self._flops[0], self._flops[1]),
        )  # fmt: skip

    def _convolve(
        self,
        x: Symbol,
        out: Symbol,
        weight: Tensor,
        bias: Tensor | None,
        kernel: int,
        strides: tuple[int, int],
    ) -> Symbol:
        if kernel % 2 == 0:
            raise NotRecordableError("kernels must have a middle")
        size = x.channels * out.channels * kernel**2
        if id(weight) not in self._kernels:  # views share their kernels
            self._kernels[id(weight)] = self._packed, self._packed + size
            self._packed += 2 * size
        packed, flipped = self._kernels[id(weight)]
        forward = 2 * size * out.height * out.width
        self._flops[0] += forward
        self._flops[1] += forward * (3 if x.trained else 2)
        return self._record(
            "convolve", out, x, c_out=out.channels, kernel=kernel, stride_out=strides[0], stride_in=strides[1],
            weight=self._places[id(weight)], bias=-1 if bias is None else self._places[id(bias)], packed=packed,
            flipped=flipped,
        )  # fmt: skip

    def _record(self, name: str, out: Symbol, x: Symbol, y: Symbol | None = None, **fields: int) -> Symbol:
        line = dict.fromkeys(COLUMNS, 0) | {"dx": -1, "dy": -1, "dout": -1}
        line |= {
            "op": OPERATIONS.index(name),
            "x": x.place,
            "y": -1 if y is None else y.place,
            "out": out.place,
        }
        line |= {"c_in": x.channels, "height": x.height, "width": x.width}
        self._code.append(line | fields)
        self._operands.append((x, y, out))
        return out

    def _size(self, symbol: Symbol) -> int:
        return symbol.channels * symbol.height * symbol.width * self._lanes

    def _take(self, size: int) -> int:
        place, self._top = self._top, self._top + size
        return place

    def _symbol(self, channels: int, height: int, width: int, *, trained: bool = True) -> Symbol:
        return Symbol(self._take(channels * height * width * self._lanes), channels, height, width, trained)

    def _like(self, x: Symbol) -> Symbol:
        return self._symbol(x.channels, x.height, x.width)
