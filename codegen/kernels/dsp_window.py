"""Plan of the depthwise 3x3 kernel for cores with dual 16-bit multiplies (Cortex-M4, M7, M33)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dsp import (
    STREAM_POINTER,
    Layer,
    as_words,
    is_provable,
    layer,
    stream_constant,
)
from tinsmith.codegen.kernels.kernel import is_int8
from tinsmith.codegen.kernels.mac import MAC_POINTERS, window_fields
from tinsmith.codegen.kernels.tiles import rows_name
from tinsmith.codegen.program import KernelPlan, Overlap, Pointer
from tinsmith.pipeline.ops import OpCall, depthwise_conv2d

LINE_POINTER = Pointer("uint32_t", "line", ("scratch", 0))


def window_when(call: OpCall) -> bool:
    """3x3 without dilation or multiplier, channels in fours."""
    if not is_int8(call):
        return False
    w = call.input(1).value()
    plain = w.shape[1:3] == (3, 3) and call.attrs.dilation == (1, 1)
    if not plain or w.shape[3] != call.input(0).shape[3] or w.shape[3] % 4:
        return False
    return is_provable(by_channel(w), call, depthwise_conv2d.requant(call))


def by_channel(w: NDArray[np.int8]) -> NDArray[np.int8]:
    """[channels, 9] of weights [1, 3, 3, channels]."""
    return w.reshape(9, -1).T


def window_stream(own: Layer) -> NDArray[np.uint32]:
    """What the window tiles read, channel by channel."""
    w = own.weights.astype(np.int64).reshape(-1, 3, 3) & 0xFFFF
    rows01, rows12 = w[:, 0] | w[:, 1] << 16, w[:, 1] | w[:, 2] << 16
    parts = [rows01.astype(np.uint32), rows12.astype(np.uint32)]
    constants = own.constants
    if own.quick:
        constants = with_bias(own)
    else:
        parts.append(as_words(own.bias[:, None]))
    parts.append(constants)
    if own.clamped:
        bounds = as_words(np.array([[own.act_min, own.act_max]], np.int64))
        parts.append(np.repeat(bounds, len(w), axis=0))
    return np.concatenate(parts, axis=1).reshape(-1)


def with_bias(own: Layer) -> NDArray[np.uint32]:
    """(acc + bias) * m + c is acc * m + (c + bias * m): the constants with the bias in c."""
    m = own.constants[:, 0].view(np.int32).astype(np.int64)
    c = own.constants[:, 2].view(np.int32).astype(np.int64) << 32 | own.constants[:, 1].astype(np.int64)
    c = c + own.bias * m
    return np.stack([own.constants[:, 0], as_words(c), as_words(c >> 32)], axis=1)


def window_overlap_rows(call: OpCall, rows: int) -> Overlap:
    """A unit is `rows` output rows, all channels: each group of four reads its input, then writes."""
    n, ih, iw, c = call.input(0).shape
    _, oh, ow, _ = call.output.shape
    first = np.arange(0, oh, rows)
    top = np.clip(first * call.attrs.stride[0] - call.attrs.pads[0], 0, ih - 1)
    image = np.arange(n)[:, None]
    low = (image * (ih * iw * c) + (top * iw * c)[None, :]).reshape(-1)
    later = np.minimum.accumulate(low[::-1])[::-1]
    high = (image * (oh * ow * c) + (np.minimum(first + rows, oh) * ow * c)[None, :]).reshape(-1)
    return Overlap(later.astype(np.int64), high.astype(np.int64), False)


def window_plan(call: OpCall) -> KernelPlan:
    requant = depthwise_conv2d.requant(call)
    own = layer(by_channel(call.input(1).value()), call, requant)
    rows = 2 if call.attrs.stride[0] == 1 and call.output.shape[1] > 1 else 1
    words = window_stream(own)
    channels = call.output.shape[3]
    shape = window_fields(call, (3, 3))
    columns = (call.output.shape[2] - 1) * call.attrs.stride[1] + 3
    left = min(call.attrs.pads[2], columns)
    inside = max(min(call.input(0).shape[2], columns - left), 0)
    shape |= {
        "images": call.input(0).shape[0], "columns": columns, "left": left,
        "inside": inside, "right": columns - left - inside,
        "words_per_four": 4 * len(words) // channels,
    }  # fmt: skip
    border = requant.input_zero_point & 0xFFFF
    fixed = {
        "tile": rows_name(rows, own.quick, own.clamped), "rows": rows,
        "zero_pair": f"0x{border << 16 | border:08x}u",
        "zero_word": f"0x{(requant.input_zero_point & 0xFF) * 0x01010101:08x}u",
        "padded": any(call.attrs.pads), "batch": call.input(0).shape[0] > 1,
    }  # fmt: skip
    return KernelPlan(
        fixed, shape, (*MAC_POINTERS, STREAM_POINTER, LINE_POINTER),
        (stream_constant(call, words, "row pairs of weights and requantization, channel by channel"),),
        4 * columns * 8, {0: window_overlap_rows(call, rows)},
    )  # fmt: skip
