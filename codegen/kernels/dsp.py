"""Plans of the kernels for cores with dual 16-bit multiplies (Cortex-M4, M7, M33): conv2d,
fully_connected.

Weights, biases and requantization constants of four output channels at a time form one stream of
words that the tiles read in order; see templates/tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.column_sums import in_fours, streamed
from tinsmith.codegen.kernels.kernel import has_wide_weights, is_int8, is_int8_of_any_weights
from tinsmith.codegen.kernels.mac import MAC_POINTERS, bias_of, window_fields, window_overlap
from tinsmith.codegen.kernels.packing import c_comment, c_identifier, mac_constants
from tinsmith.codegen.kernels.tiles import dot_name
from tinsmith.codegen.program import Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline import requant_proofs as proofs
from tinsmith.pipeline.ops import OpCall, conv2d, fully_connected
from tinsmith.pipeline.ops.mac import Requant

STREAM_POINTER = Pointer("const uint32_t", "stream", ("const", 0))
COLUMN_POINTER = Pointer("uint32_t", "column", ("scratch", 0))
Weights = NDArray[np.signedinteger[Any]]
HIGH_BYTE_BOUND = 1 << 23  # the sums of B must fit 24 bits, beside 8 of A


@dataclass(frozen=True, eq=False)
class Layer:
    """A multiply-accumulate layer with its proven requantization.

    weights: int8, or int16 of 9 bits, [channels, taps].
    constants: uint32 [channels, 3], or [1, 3] where all channels share them; bias: what
    accumulators start from, int64.
    """

    weights: Weights
    bias: NDArray[np.int64]
    constants: NDArray[np.uint32]
    quick: bool
    act_min: int
    act_max: int
    shared: bool = False

    @property
    def clamped(self) -> bool:
        return (self.act_min, self.act_max) != (-128, 127)


def channels_of(weights: Weights, bias: NDArray[np.int64], r: Requant) -> proofs.Channels:
    low, high = proofs.reachable(weights, bias)
    return proofs.Channels(
        r.multiplier, r.shift, low, high, r.output_zero_point, r.act_min, r.act_max
    )


def is_provable(weights: Weights, call: OpCall, r: Requant) -> bool:
    """Whether the tiles' arithmetic is TFLite's for these weights [channels, taps]."""
    k = mac_constants(weights, bias_of(call), r)
    if k.acc_bound >= 1 << 31:
        return False
    channels = channels_of(weights, k.bias.astype(np.int64), r)
    return proofs.high_multiply(channels) is not None or bool(
        proofs.one_multiply(channels).found.all()
    )


def layer(weights: Weights, call: OpCall, r: Requant) -> Layer:
    """The constants of a call that is_provable. weights: [channels, taps]."""
    bias = mac_constants(weights, bias_of(call), r).bias.astype(np.int64)
    channels = channels_of(weights, bias, r)
    quick = proofs.one_multiply(channels)
    if quick.found.all():
        parts = (quick.m, quick.c & 0xFFFFFFFF, quick.c >> 32)
    else:
        exact = proofs.high_multiply(channels)
        assert exact is not None, call.name
        parts = (exact.m, exact.offset, exact.right)
    constants = np.stack([as_words(p) for p in parts], axis=1)
    return Layer(weights, bias, constants, bool(quick.found.all()), r.act_min, r.act_max)


def with_bias(own: Layer) -> NDArray[np.uint32]:
    """(acc + bias) * m + c is acc * m + (c + bias * m): the constants with the bias in c."""
    m = own.constants[:, 0].view(np.int32).astype(np.int64)
    c = own.constants[:, 2].view(np.int32).astype(np.int64) << 32 | own.constants[:, 1].astype(
        np.int64
    )
    c = c + own.bias * m
    return np.stack([own.constants[:, 0], as_words(c), as_words(c >> 32)], axis=1)


def shared_layer(own: Layer, call: OpCall, r: Requant) -> Layer:
    """The same with one requantization for all channels, where they have one scale and a proof for
    all at once."""
    if np.ptp(r.multiplier) or np.ptp(r.shift):
        return own
    channels = channels_of(own.weights, own.bias, r)
    whole = replace(
        channels,
        m=r.multiplier[:1],
        shift=r.shift[:1],
        low=channels.low.min(keepdims=True),
        high=channels.high.max(keepdims=True),
    )
    quick = proofs.one_multiply(whole)
    if quick.found.all():
        parts = (quick.m, quick.c & 0xFFFFFFFF, quick.c >> 32)
    else:
        exact = proofs.high_multiply(whole)
        if exact is None:
            return own
        parts = (exact.m, exact.offset, exact.right)
    constants = np.stack([as_words(p) for p in parts], axis=1)
    return replace(own, constants=constants, quick=bool(quick.found.all()), shared=True)


def as_words(values: NDArray[np.int64]) -> NDArray[np.uint32]:
    return (values & 0xFFFFFFFF).astype(np.uint32)


def quad_stream(layer: Layer, high: bool) -> NDArray[np.uint32]:
    """The words that the dot tiles read: channels and taps are padded to multiples of 4 by zero
    weights."""
    values = streamed(layer.weights)
    count, taps = values.shape
    quads, groups = -(-count // 4), taps // 4
    w = np.zeros((quads * 4, taps), np.int64)
    w[:count] = values
    w = w.reshape(quads, 2, 2, groups, 2, 2)
    a, b = w[:, :, 0], w[:, :, 1].copy()  # [quad, pair, group, tap / 2, tap % 2]
    if high:
        b -= a < 0
    assert b.min(initial=0) >= -128
    # bytes of a word: A k, B k, A k + 2, B k + 2 for k = 0, 1
    lanes = np.stack([a, b], axis=-1)  # [quad, pair, group, tap / 2, tap % 2, channel]
    packed = lanes.transpose(0, 2, 4, 1, 3, 5).astype(np.int8)
    body = np.ascontiguousarray(packed).view(np.uint8).reshape(quads, -1)
    parts = [body.view("<u4")]
    if not in_constants(layer):
        bias = np.zeros(quads * 4, np.int64)
        bias[:count] = layer.bias
        bias = bias.reshape(quads, 2, 2)
        if high:
            bias[:, :, 1] = bias[:, :, 0] + 256 * bias[:, :, 1]
        parts.insert(0, as_words(bias.reshape(quads, 4)))
    bounds = as_words(
        np.array([[layer.act_min, layer.act_max]] if layer.clamped else [[]], np.int64)
    )
    if layer.shared:
        head = np.concatenate([layer.constants, bounds], axis=1)
        return np.concatenate([head.reshape(-1), np.concatenate(parts, axis=1).reshape(-1)])
    constants = np.zeros((quads * 4, 3), np.uint32)
    constants[:count] = with_bias(layer) if in_constants(layer) else layer.constants
    parts += [constants.reshape(quads, 12), np.repeat(bounds, quads, axis=0)]
    stream: NDArray[np.uint32] = np.concatenate(parts, axis=1).reshape(-1)
    return stream


def in_constants(layer: Layer) -> bool:
    """Whether the bias is part of the constants, so that sums start from 0."""
    return layer.quick and not layer.shared


def high_byte(layer: Layer) -> bool:
    """Whether odd channels may ride on the upper byte of even ones. Only the whole sum matters:
    parts wrap."""
    bias = np.zeros_like(layer.bias) if in_constants(layer) else layer.bias
    low, high = proofs.reachable(layer.weights, bias)
    fits = np.maximum(np.abs(low), np.abs(high))[1::2].max(initial=0) < HIGH_BYTE_BOUND
    return bool(streamed(layer.weights)[1::2].min(initial=0) >= -127) and bool(fits)


def stream_constant(call: OpCall, words: NDArray[np.uint32], layout: str) -> Constant:
    name, label = f"{c_identifier(call.name)}_stream", c_comment(call.name)
    return Constant(name, "uint32_t", words, f"{label}: {layout}", align=4)


def dot_fields(
    pixels: int, taps: int, channels: int, layer: Layer
) -> tuple[dict[str, object], dict[str, int], NDArray[np.uint32]]:
    """Fixed fields, shape fields and stream of a kernel around a dot tile."""
    high = high_byte(layer)
    words = quad_stream(layer, high)
    quads = -(-channels // 4)
    fixed: dict[str, object] = {
        "tile": dot_name(pixels, high, layer.quick, layer.clamped, layer.shared),
        "rest": channels % 4,
        "whole": channels >= 4,
    }
    whole = in_fours(taps)
    total = streamed(layer.weights).shape[1]
    fixed["sums"] = total > whole
    shape = {"gathered": whole} if total > whole else {}
    shape |= {
        "taps": total,
        "quads": channels // 4,
        "rest_words": len(words) // quads * (channels // 4),
    }
    return fixed, shape, words


LAYOUT = "biases, int8 weights and requantization of four channels at a time"


def conv2d_when(call: OpCall) -> bool:
    return is_int8(call) and is_provable_window(call)


def is_provable_window(call: OpCall) -> bool:
    """Whether the tiles' arithmetic is that of a convolution of one group."""
    w = call.input(1).value()
    whole = call.input(0).shape[3] == w.shape[3]
    return whole and is_provable(w.reshape(len(w), -1), call, conv2d.requant(call))


def any_conv2d_when(call: OpCall) -> bool:
    """The same of the kernel that also takes weights of 9 bits."""
    return is_int8_of_any_weights(call) and is_provable_window(call)


def conv2d_plan(call: OpCall) -> KernelPlan:
    w = call.input(1).value()
    oc, kh, kw, ic = w.shape
    a = call.attrs
    requant = conv2d.requant(call)
    own = layer(w.reshape(oc, -1), call, requant)
    taps = kh * kw * ic
    fixed, shape, words = dot_fields(2, taps, oc, own)
    pointwise = (kh, kw) == (1, 1) and a.stride == (1, 1) and not any(a.pads)
    by_words = ic % 4 == 0
    images, oh, ow, _ = call.output.shape
    shape |= window_fields(call, (kh, kw))
    shape |= {"pixels": images * oh * ow, "x_zero": requant.input_zero_point}
    border = requant.input_zero_point & 0xFFFF
    fixed |= {
        "pointwise": pointwise,
        "by_words": by_words,
        "padded": any(a.pads),
        "dilated": a.dilation[1] != 1,
        "zero_pair": f"0x{border << 16 | border:08x}u",
        "odd_taps": taps % 4,
        "batch": images > 1,
    }
    column_bytes = 4 * int(shape["taps"])
    scratch = column_bytes if by_words else column_bytes + int(shape["taps"])
    return KernelPlan(
        fixed,
        shape,
        (*MAC_POINTERS, STREAM_POINTER, COLUMN_POINTER),
        (stream_constant(call, words, LAYOUT),),
        scratch,
        {0: in_pairs(window_overlap(call, reads_first=True))},
    )


def in_pairs(single: Overlap) -> Overlap:
    """The trace of a kernel that makes two pixels a unit."""
    low, high = single.read_low[::2], single.write_high[1::2]
    if len(high) < len(low):
        high = np.append(high, single.write_high[-1])
    return replace(single, read_low=low, write_high=high)


def fully_connected_when(call: OpCall) -> bool:
    """Whether a fully connected layer goes through a column: it is no single row of whole words, or
    its weights have 9 bits."""
    return not _is_row_of_words(call) and _is_provable_dense(call)


def fully_connected_plan(call: OpCall) -> KernelPlan:
    """One row is read as it lies; several go through a column two at a time, as a 1x1 convolution
    does."""
    w = call.input(1).value()
    outputs, inputs = w.shape
    own = layer(w, call, fully_connected.requant(call))
    rows = call.input(0).size // inputs
    if _is_row_of_words(call):
        if outputs % 4 == 0:
            own = shared_layer(own, call, fully_connected.requant(call))
        fixed, shape, words = dot_fields(1, inputs, outputs, own)
        constants = (stream_constant(call, words, LAYOUT),)
        return KernelPlan(fixed, shape, (*MAC_POINTERS, STREAM_POINTER), constants)
    fixed, shape, words = dot_fields(2, inputs, outputs, own)
    fixed |= {"pointwise": True, "by_words": inputs % 4 == 0, "odd_taps": inputs % 4}
    shape |= {"pixels": rows, "in_c": inputs, "out_c": outputs}
    scratch = 4 * shape["taps"] + (shape["taps"] if inputs % 4 else 0)
    n = np.arange(rows, dtype=np.int64)
    overlap = in_pairs(Overlap(n * inputs, (n + 1) * outputs, True))
    return KernelPlan(
        fixed,
        shape,
        (*MAC_POINTERS, STREAM_POINTER, COLUMN_POINTER),
        (stream_constant(call, words, LAYOUT),),
        scratch,
        {0: overlap},
    )


def is_row(call: OpCall) -> bool:
    """Whether a fully connected layer has a single row of whole words."""
    return _is_row_of_words(call) and _is_provable_dense(call)


def _is_row_of_words(call: OpCall) -> bool:
    inputs = call.input(1).shape[1]
    return call.input(0).size == inputs and inputs % 4 == 0 and not has_wide_weights(call)


def _is_provable_dense(call: OpCall) -> bool:
    if not is_int8_of_any_weights(call):
        return False
    return is_provable(call.input(1).value(), call, fully_connected.requant(call))
