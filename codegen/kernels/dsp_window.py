"""Plan of the depthwise 3x3 kernel for cores with dual 16-bit multiplies (Cortex-M4, M7, M33)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dsp import (
    STREAM_POINTER,
    Layer,
    as_words,
    is_provable,
    layer,
    stream_constant,
    with_bias,
)
from tinsmith.codegen.kernels.kernel import is_int8_of_any_weights
from tinsmith.codegen.kernels.mac import MAC_POINTERS, window_fields
from tinsmith.codegen.kernels.tiles import rows_name
from tinsmith.codegen.program import KernelPlan, Overlap, Pointer
from tinsmith.pipeline.ops import OpCall, depthwise_conv2d

MOST_LINE_BYTES = 640
MOST_WHOLE_LINE_BYTES = 1024
LINE_POINTER = Pointer("uint32_t", "line", ("scratch", 0))


def window_when(call: OpCall) -> bool:
    """3x3 without dilation or multiplier, rows one after another in pairs, channels in fours."""
    if not is_int8_of_any_weights(call):
        return False
    w = call.input(1).value()
    plain = w.shape[1:3] == (3, 3) and call.attrs.dilation == (1, 1)
    if not plain or w.shape[3] != call.input(0).shape[3] or w.shape[3] % 4:
        return False
    if call.attrs.stride[0] != 1 or not (call.output.shape[1] > 1 or in_place(call)):
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


def window_overlap_rows(call: OpCall, rows: int) -> Overlap:
    """A unit is `rows` output rows, all channels: each group of four reads its input, then
    writes."""
    n, ih, iw, c = call.input(0).shape
    _, oh, ow, _ = call.output.shape
    first = np.arange(0, oh, rows)
    top = np.clip(first * call.attrs.stride[0] - call.attrs.pads[0], 0, ih - 1)
    image = np.arange(n)[:, None]
    low = (image * (ih * iw * c) + (top * iw * c)[None, :]).reshape(-1)
    later = np.minimum.accumulate(low[::-1])[::-1]
    high = (image * (oh * ow * c) + (np.minimum(first + rows, oh) * ow * c)[None, :]).reshape(-1)
    return Overlap(later.astype(np.int64), high.astype(np.int64), False)


def strip_width(out_w: int, stride: int) -> int:
    """How many outputs of a row go through the line at once: all, or a part that keeps the line
    short."""
    parts = [w for w in range(1, out_w + 1) if out_w % w == 0]
    fitting = [w for w in parts if 32 * ((w - 1) * stride + 3) <= MOST_LINE_BYTES]
    return max(fitting) if fitting and max(fitting) > 3 else out_w


def in_place(call: OpCall) -> bool:
    """Whether a channel's output takes the place of its input: the same size, a border of one.

    Wide images go by rows, in strips, since the line of a whole row would cost more than it saves.
    """
    a = call.attrs
    if 32 * (call.output.shape[2] + 2) > MOST_WHOLE_LINE_BYTES:
        return False
    return (
        call.input(0).shape == call.output.shape and a.stride == (1, 1) and a.pads == (1, 1, 1, 1)
    )


def window_plan(call: OpCall) -> KernelPlan:
    """In place, four channels go through the whole image before the next; else row by row."""
    requant = depthwise_conv2d.requant(call)
    own = layer(by_channel(call.input(1).value()), call, requant)
    same = in_place(call)
    words = window_stream(own)
    channels = call.output.shape[3]
    shape = window_fields(call, (3, 3))
    strip = (
        call.output.shape[2] if same else strip_width(call.output.shape[2], call.attrs.stride[1])
    )
    columns = (strip - 1) * call.attrs.stride[1] + 3
    left = min(call.attrs.pads[2], columns)
    inside = max(min(call.input(0).shape[2], columns - left), 0)
    shape |= {
        "images": call.input(0).shape[0],
        "columns": columns,
        "left": left,
        "strip_w": strip,
        "inside": inside,
        "right": columns - left - inside,
        "words_per_four": 4 * len(words) // channels,
    }
    overlap = window_overlap_rows(call, 2)
    if same:
        overlap = replace(overlap, exact=True)
    border = requant.input_zero_point & 0xFFFF
    fixed = {
        "tile": rows_name(own.quick, own.clamped),
        "zero_pair": f"0x{border << 16 | border:08x}u",
        "zero_word": f"0x{(requant.input_zero_point & 0xFF) * 0x01010101:08x}u",
        "padded": any(call.attrs.pads),
        "batch": call.input(0).shape[0] > 1,
        "in_place": same,
        "strips": strip < call.output.shape[2],
    }
    return KernelPlan(
        fixed,
        shape,
        (*MAC_POINTERS, STREAM_POINTER, LINE_POINTER),
        (
            stream_constant(
                call, words, "row pairs of weights and requantization, channel by channel"
            ),
        ),
        4 * columns * 8 + (4 * call.input(0).shape[2] if same else 0),
        {0: overlap},
    )
