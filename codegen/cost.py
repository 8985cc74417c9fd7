"""What a kernel costs on a layer: instructions and flash, estimated from the layer's shape.

An estimate is a sum of terms, each a quantity of the layer times a coefficient. The coefficients
were fitted to measurements in the emulator; cost_table.py holds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.cost_table import TABLE
from tinsmith.codegen.kernels.sums import weighted, weighted_when
from tinsmith.pipeline.ops import OpCall

GROUP_SUM = 255  # what the weights of a group may add up to where two pixels share a multiply


@dataclass(frozen=True)
class Cost:
    """instructions: of one call. code_bytes: of the functions that the kernel needs, once however
    many layers share them. constant_bytes: of the layer's own arrays."""

    instructions: float
    code_bytes: float
    constant_bytes: float

    @property
    def flash_bytes(self) -> float:
        return self.code_bytes + self.constant_bytes


@dataclass(frozen=True)
class Dims:
    """The sizes of a layer that multiplies and accumulates, or of a sum.

    rows: output rows of all images; a row of a fully connected layer is a pixel, and so is a value
    of a sum.
    taps: products of one output. in_channels: of the whole input. border: pixels whose window
    crosses the edge. columns: of the input under a row of windows. direct: windows of one pixel,
    read where they lie. groups: into which the taps must be dealt at least, for GROUP_SUM.
    """

    rows: int
    pixels: int
    channels: int
    taps: int
    kernel_h: int
    kernel_w: int
    in_channels: int
    border: int
    columns: int
    direct: bool
    dense: bool
    moves: bool
    padded: bool
    groups: int
    limited: bool = False

    @property
    def gathered(self) -> int:
        """Bytes of all windows, each copied once; none where they are read where they lie."""
        return 0 if self.direct else self.pixels * self.kernel_h * self.kernel_w * self.in_channels

    @property
    def odd(self) -> bool:
        """Whether pixels don't begin at whole words."""
        return self.in_channels % 4 != 0


def dims_of(call: OpCall) -> Dims | None:
    """None for an op that is no sum and does not multiply and accumulate by constant weights."""
    if call.op == "add":
        return _sum_dims(call)
    if call.op not in ("conv2d", "depthwise_conv2d", "fully_connected"):
        return None
    weights = call.input(1)
    if not weights.is_constant:
        return None
    w = weights.value()
    if call.op == "fully_connected":
        rows = call.input(0).size // w.shape[1]
        return Dims(
            1, rows, w.shape[0], w.shape[1], 1, 1, w.shape[1], 0, rows, True, True, False, False,
            _groups(w),
        )  # fmt: skip
    images, ih, iw, ic = call.input(0).shape
    _, oh, ow, oc = call.output.shape
    a = call.attrs
    kh, kw = w.shape[1:3]
    flat = w.reshape(kh * kw, -1).T if call.op == "depthwise_conv2d" else w.reshape(oc, -1)
    inside = _inside(oh, a.stride[0], a.pads[0], (kh - 1) * a.dilation[0] + 1, ih)
    inside *= _inside(ow, a.stride[1], a.pads[2], (kw - 1) * a.dilation[1] + 1, iw)
    return Dims(
        rows=images * oh,
        pixels=images * oh * ow,
        channels=oc,
        taps=flat.shape[1],
        kernel_h=kh,
        kernel_w=kw,
        in_channels=ic,
        border=images * (oh * ow - inside),
        columns=(ow - 1) * a.stride[1] + kw,
        direct=(kh, kw) == (1, 1) and not any(a.pads),
        dense=(kh, kw) == (1, 1) and not any(a.pads) and a.stride == (1, 1),
        moves=(ih, iw, ic) != (oh, ow, oc) or a.stride != (1, 1),
        padded=any(a.pads),
        groups=_groups(flat),
    )


def _sum_dims(call: OpCall) -> Dims | None:
    """None where no weighted sum is proven, so that there is but one kernel."""
    found = weighted(call) if weighted_when(call) else None
    if found is None:
        return None
    size = call.output.size
    limited = found.shift < 24  # what fits 32 bits fits 8 of them after such a shift
    return Dims(1, size, 1, 0, 1, 1, 1, 0, size, True, True, False, False, 0, limited)


def _inside(count: int, stride: int, pad: int, span: int, size: int) -> int:
    """How many windows along an axis lie inside the image."""
    starts = np.arange(count) * stride - pad
    return int(np.count_nonzero((starts >= 0) & (starts + span <= size)))


def _groups(w: NDArray[np.generic]) -> int:
    heaviest = int(np.abs(w.astype(np.int32)).sum(axis=1).max(initial=0))
    return max(math.ceil(heaviest / GROUP_SUM), math.ceil(w.shape[1] / 16))


def _up(value: int, unit: int) -> int:
    return -(-value // unit)


# The quantities that terms are made of, by name.
QUANTITIES: Mapping[str, Callable[[Dims], float]] = {
    "call": lambda d: 1,
    "padded": lambda d: d.padded,
    "windows": lambda d: not d.direct,
    "odd": lambda d: d.odd,
    "rows": lambda d: d.rows,
    "pixels": lambda d: d.pixels,
    "sought pixels": lambda d: 0 if d.dense else d.pixels,
    "border": lambda d: d.border,
    "border bytes": lambda d: d.border * d.kernel_h * d.kernel_w * d.in_channels,
    "border taps": lambda d: d.border * d.kernel_h * d.kernel_w,
    "outputs": lambda d: d.pixels * d.channels,
    "first outputs": lambda d: min(d.pixels * d.channels, 31),
    "limited": lambda d: d.limited,
    "limited outputs": lambda d: d.limited * d.pixels * d.channels,
    "padded outputs": lambda d: d.padded * d.pixels * d.channels,
    "padded window rows": lambda d: d.padded * d.pixels * d.channels * d.kernel_h,
    "padded pixels": lambda d: d.padded * d.pixels,
    "macs": lambda d: d.pixels * d.channels * d.taps,
    "odd macs": lambda d: d.pixels * d.channels * d.taps * (d.taps % 4 != 0),
    "taps": lambda d: d.taps,
    "pixels twos": lambda d: d.pixels * _up(d.channels, 2),
    "window rows": lambda d: 0 if d.direct else d.pixels * d.kernel_h,
    "output window rows": lambda d: d.pixels * d.channels * d.kernel_h,
    "gathered": lambda d: d.gathered,
    "odd gathered": lambda d: d.gathered * d.odd,
    "packed": lambda d: d.pixels * d.taps,
    "odd packed": lambda d: d.pixels * d.taps * d.odd,
    "channels": lambda d: d.channels,
    "weights": lambda d: d.channels * d.taps,
    "twos": lambda d: _up(d.channels, 2),
    "twos taps": lambda d: 2 * _up(d.channels, 2) * d.taps,
    "quads": lambda d: _up(d.channels, 4),
    "quads taps": lambda d: 4 * _up(d.channels, 4) * _up(d.taps, 4) * 4,
    "rest": lambda d: d.channels % 4 != 0,
    "pairs": lambda d: _up(d.pixels, 2),
    "pairs rest": lambda d: _up(d.pixels, 2) * (d.channels % 4 != 0),
    "pairs quads": lambda d: _up(d.pixels, 2) * _up(d.channels, 4),
    "pairs quads taps": lambda d: _up(d.pixels, 2) * _up(d.channels, 4) * _up(d.taps, 4),
    "fours": lambda d: _up(d.pixels, 4),
    "fours rest": lambda d: _up(d.pixels, 4) * (d.channels % 2),
    "fours twos": lambda d: _up(d.pixels, 4) * _up(d.channels, 2),
    "fours twos taps": lambda d: _up(d.pixels, 4) * _up(d.channels, 2) * d.taps,
    "fours twos groups": lambda d: _up(d.pixels, 4) * _up(d.channels, 2) * d.groups,
    "eights": lambda d: _up(d.pixels, 8),
    "eights channels": lambda d: _up(d.pixels, 8) * d.channels,
    "eights channels taps": lambda d: _up(d.pixels, 8) * d.channels * d.taps,
    "eights channels groups": lambda d: _up(d.pixels, 8) * d.channels * d.groups,
    "pixels quads": lambda d: d.pixels * _up(d.channels, 4),
    "pixels quads taps": lambda d: d.pixels * _up(d.channels, 4) * d.taps,
    "pixels quads window rows": lambda d: d.pixels * _up(d.channels, 4) * d.kernel_h,
    "odd pixels quads taps": lambda d: d.pixels * _up(d.channels, 4) * d.taps * (d.taps % 4 != 0),
    "odd pixels quads": lambda d: d.pixels * _up(d.channels, 4) * (d.taps % 4 != 0),
    "odd outputs": lambda d: d.pixels * d.channels * (d.taps % 4 != 0),
    "rest outputs": lambda d: d.pixels * d.channels * (d.channels % 4 != 0),
    "odd rest outputs": lambda d: (
        d.pixels * d.channels * (d.channels % 4 != 0) * (d.taps % 4 != 0)
    ),
    "octads": lambda d: _up(d.channels, 8),
    "octads taps": lambda d: 8 * _up(d.channels, 8) * d.taps,
    "pixels octads": lambda d: d.pixels * _up(d.channels, 8),
    "pixels octads taps": lambda d: d.pixels * _up(d.channels, 8) * d.taps,
    "pixels octads groups": lambda d: d.pixels * _up(d.channels, 8) * d.groups,
    "channels rows": lambda d: d.channels * d.rows,
    "channels rows columns": lambda d: d.channels * d.rows * d.columns,
    "moved channels rows": lambda d: d.moves * d.channels * d.rows,
    "moved channels rows columns": lambda d: d.moves * d.channels * d.rows * d.columns,
    "moved quads pairs of rows columns": lambda d: (
        d.moves * _up(d.channels, 4) * _up(d.rows, 2) * d.columns
    ),
    "quads pairs of rows": lambda d: _up(d.channels, 4) * _up(d.rows, 2),
    "quads pairs of rows columns": lambda d: _up(d.channels, 4) * _up(d.rows, 2) * d.columns,
    "quads pairs of rows outputs": lambda d: (
        _up(d.channels, 4) * _up(d.rows, 2) * (d.pixels / d.rows)
    ),
    "tiles": lambda d: _tiles(d),
    "tiles inputs": lambda d: _tiles(d) * d.in_channels,
    "tiles quads": lambda d: _tiles(d) * _up(d.channels, 4),
    "tiles products": lambda d: _tiles(d) * d.channels * d.in_channels,
}  # fmt: skip


def _tiles(d: Dims) -> int:
    """Of 2 by 4 outputs."""
    return _up(d.rows, 2) * _up(d.pixels // d.rows, 4)


def family_of(isa: Sequence[str]) -> str:
    """The cores whose kernels and counts are alike: by their most specific instruction set."""
    return isa[0]


def estimate(kernel: str, call: OpCall, isa: Sequence[str]) -> Cost | None:
    """None where nothing was measured for the kernel on such cores, or the op has no sizes."""
    row = TABLE.get(family_of(isa), {}).get(kernel)
    dims = dims_of(call) if row is not None else None
    if row is None or dims is None:
        return None
    return Cost(**{name: _sum(terms, dims) for name, terms in row.items()})


def _sum(terms: Mapping[str, float], dims: Dims) -> float:
    return sum(factor * QUANTITIES[name](dims) for name, factor in terms.items())
