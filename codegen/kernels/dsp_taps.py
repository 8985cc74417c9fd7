"""Plan of the depthwise kernel of any window for cores with dual 16-bit multiplies."""

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
    with_bias,
)
from tinsmith.codegen.kernels.kernel import is_int8_of_any_weights
from tinsmith.codegen.kernels.mac import MAC_POINTERS, clamp_fields, window_fields, window_overlap
from tinsmith.codegen.kernels.tiles import MOST_COLUMNS, taps_name
from tinsmith.codegen.program import KernelPlan, Pointer
from tinsmith.pipeline.ops import OpCall, depthwise_conv2d

COLUMN_POINTER = Pointer("uint32_t", "column", ("scratch", 0))
LAYOUT = "int16 weights and requantization of four channels at a time"


def by_channel(w: NDArray[np.int8]) -> NDArray[np.int8]:
    """[channels, taps] of weights [1, height, width, channels]."""
    return w.reshape(-1, w.shape[3]).T


def taps_when(call: OpCall) -> bool:
    """Channels in fours, each with one output, and a window of few columns."""
    if not is_int8_of_any_weights(call):
        return False
    w = call.input(1).value()
    channels = call.input(0).shape[3]
    if w.shape[3] != channels or channels % 4 or w.shape[2] > MOST_COLUMNS:
        return False
    return is_provable(by_channel(w), call, depthwise_conv2d.requant(call))


def taps_stream(own: Layer) -> NDArray[np.uint32]:
    """For every four channels: biases where they are apart, weights tap by tap, requantization."""
    quads = len(own.weights) // 4
    w = own.weights.astype(np.int64).reshape(quads, 2, 2, -1) & 0xFFFF  # [quad, high, odd, tap]
    words: NDArray[np.int64] = (w[:, 0] | w[:, 1] << 16).transpose(0, 2, 1)
    parts = [words.reshape(quads, -1).astype(np.uint32)]
    if not own.quick:
        parts.insert(0, as_words(own.bias.reshape(quads, 4)))
    parts.append((with_bias(own) if own.quick else own.constants).reshape(quads, 12))
    stream: NDArray[np.uint32] = np.concatenate(parts, axis=1)
    return stream.reshape(-1)


def taps_plan(call: OpCall) -> KernelPlan:
    """Windows inside the image are read where they lie, others from a copy in scratch."""
    w = call.input(1).value()
    _, kh, kw, channels = w.shape
    a = call.attrs
    requant = depthwise_conv2d.requant(call)
    own = layer(by_channel(w), call, requant)
    padded = any(a.pads)
    images = call.input(0).shape[0]
    shape = window_fields(call, (kh, kw)) | clamp_fields(requant)
    shape |= {
        "images": images,
        "span_h": (kh - 1) * a.dilation[0] + 1,
        "span_w": (kw - 1) * a.dilation[1] + 1,
    }
    fixed = {
        "tile": taps_name(kw, own.quick, own.clamped),
        "clamped": own.clamped,
        "padded": padded,
        "batch": images > 1,
        "zero_word": f"0x{(requant.input_zero_point & 0xFF) * 0x01010101:08x}u",
    }
    pointers = (*MAC_POINTERS, STREAM_POINTER)
    return KernelPlan(
        fixed,
        shape,
        (*pointers, COLUMN_POINTER) if padded else pointers,
        (stream_constant(call, taps_stream(own), LAYOUT),),
        kh * kw * channels if padded else 0,
        {0: window_overlap(call, reads_first=False)},
    )
