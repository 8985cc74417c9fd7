"""Plans of the kernels on int16 activations for cores that multiply two pairs at once (SMLAD).

Weights are widened to int16 and stored as the words that the inner loop reads. Only for sums that
are proven to fit an int32, or that wrap.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.kernel import is_int16
from tinsmith.codegen.kernels.mac import misses, window_fields, window_overlap
from tinsmith.codegen.kernels.movement import copy_pointers
from tinsmith.codegen.kernels.packing import c_comment, c_identifier, shape_text
from tinsmith.codegen.kernels.wide import WideParts, wide_parts
from tinsmith.codegen.kernels.wide_pays import conv2d_pays, fully_connected_pays
from tinsmith.codegen.program import Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline.ops import OpCall, conv2d, fully_connected

WEIGHTS = Pointer("const uint32_t", "weights", ("const", 0))
COLUMN = Pointer("int16_t", "column", ("scratch", 0))


def conv2d_when(call: OpCall) -> bool:
    """One group, windows whose rows are runs of the input, enough of products."""
    if not is_int16(call) or call.input(0).shape[3] != call.input(1).shape[3]:
        return False
    if call.attrs.dilation[1] != 1 or not conv2d_pays(call):
        return False
    return _is_short(_conv2d_parts(call))


def fully_connected_when(call: OpCall) -> bool:
    if not is_int16(call) or not fully_connected_pays(call):
        return False
    return _is_short(_fully_connected_parts(call))


def _is_short(parts: WideParts) -> bool:
    return parts.fixed["acc"] == "int32_t"


def _conv2d_parts(call: OpCall) -> WideParts:
    w = call.input(1).value()
    return wide_parts(call, w.reshape(len(w), -1).astype(np.int64), conv2d.requant(call), 1)


def _fully_connected_parts(call: OpCall) -> WideParts:
    w = call.input(1).value()
    return wide_parts(call, w.astype(np.int64), fully_connected.requant(call), 1)


def conv2d_plan(call: OpCall) -> KernelPlan:
    """Two pixels times two channels at a time; a 1x1 window is read where it lies."""
    oc, kh, kw, ic = call.input(1).shape
    images, ih, iw, _ = call.input(0).shape
    taps, pixels = kh * kw * ic, images * int(np.prod(call.output.shape[1:3]))
    dense = call.output.shape[1:3] == (ih, iw) and not any(call.attrs.pads)
    direct = (kh, kw) == (1, 1) and dense and ic % 2 == 0
    parts = _padded(_conv2d_parts(call), oc, 2)
    pairs = -(-taps // 2)
    fields = window_fields(call, (kh, kw)) | {"images": images, "pixels": pixels, "pairs": pairs}
    fixed = {
        **parts.fixed,
        "direct": direct,
        "batch": images > 1,
        "padded": any(call.attrs.pads),
        "misses": misses(call, (kh, kw)),
        "filler": taps % 2 != 0,
        "odd": oc % 2 != 0,
        "last": pixels % 2 != 0,
    }
    pointers = (*copy_pointers(call), WEIGHTS, *parts.pointers)
    words = pair_words(call.input(1).value().reshape(oc, taps), 2)
    return KernelPlan(
        fixed,
        fields | dict(parts.shape),
        pointers if direct else (*pointers, COLUMN),
        (_weights(call, words, "pairs of taps, of two channels in turn"), *parts.constants),
        0 if direct else 2 * pairs * 4,
        {0: _of_pairs(window_overlap(call, reads_first=not direct))},
    )


def fully_connected_plan(call: OpCall) -> KernelPlan:
    """Four outputs at a time."""
    outputs, inputs = call.input(1).shape
    rows = call.input(0).size // inputs
    parts = _padded(_fully_connected_parts(call), outputs, 4)
    fields = {"rows": rows, "inputs": inputs, "outputs": outputs, "pairs": inputs // 2}
    words = pair_words(call.input(1).value(), 4)
    return KernelPlan(
        {**parts.fixed, "batch": rows > 1, "tail": inputs % 2 != 0, "rest": outputs % 4 != 0},
        fields | dict(parts.shape),
        (*copy_pointers(call), WEIGHTS, *parts.pointers),
        (_weights(call, words, "pairs of inputs, of four outputs in turn"), *parts.constants),
    )


def pair_words(w: NDArray[np.int8], rows: int) -> NDArray[np.uint32]:
    """[channels, taps] as words of two int16 taps, so many channels in turn; filled up with 0."""
    channels, taps = w.shape
    grown = np.pad(w.astype(np.int16), ((0, -channels % rows), (0, taps % 2)))
    pairs = np.ascontiguousarray(grown).view("<u4")  # the first tap in the low half
    turned = pairs.reshape(-1, rows, pairs.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(turned, np.uint32)


def _padded(parts: WideParts, channels: int, rows: int) -> WideParts:
    """The bias of channels that fill up the last turn is 0; nobody requantizes them."""
    bias = parts.constants[0]
    grown = np.pad(bias.data, (0, -channels % rows))
    return replace(parts, constants=(replace(bias, data=grown), *parts.constants[1:]))


def _weights(call: OpCall, words: NDArray[np.uint32], layout: str) -> Constant:
    comment = f"{c_comment(call.name)}: weights {shape_text(call.input(1).shape)}, {layout}"
    return Constant(f"{c_identifier(call.name)}_weights", "uint32_t", words, comment)


def _of_pairs(pixels: Overlap) -> Overlap:
    """The trace of a kernel that reads two pixels' windows before it writes both."""
    last = np.minimum(np.arange(1, len(pixels.write_high) + 1, 2), len(pixels.write_high) - 1)
    return Overlap(pixels.read_low[::2], pixels.write_high[last], pixels.reads_first)
