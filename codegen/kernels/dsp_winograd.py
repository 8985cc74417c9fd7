"""Plan of the 3x3 convolution by Winograd F(2x2,3x3) for cores with dual 16-bit multiplies.

Exact in integers: with the weights' transform times 4, all of it is sums of products, which wrap as
one sum does; the outputs' sums come out times 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dsp import (
    STREAM_POINTER,
    Layer,
    as_words,
    conv2d_when,
    layer,
    stream_constant,
    with_bias,
)
from tinsmith.codegen.kernels.mac import MAC_POINTERS, bias_of, clamp_fields, window_fields
from tinsmith.codegen.kernels.packing import mac_constants
from tinsmith.codegen.kernels.tiles import winograd_name, winograd_outputs_name
from tinsmith.codegen.program import KernelPlan, Overlap, Pointer
from tinsmith.pipeline.ops import OpCall, conv2d

V_POINTER = Pointer("uint32_t", "v", ("scratch", 0))
ACC_LIMIT = 1 << 27  # 4 times the sum and the constants that match it fit their words
SUMS_BYTES = 4 * 8 * 8
TRANSFORM = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.int64)


def winograd_when(call: OpCall) -> bool:
    """3x3 of stride 1, channels in fours, an output of one unit at least, sums of 30 bits.

    The transformed weights take 3.6 times the flash, so it is for the objective "time" only.
    """
    if not conv2d_when(call):
        return False
    w = call.input(1).value()
    a = call.attrs
    plain = w.shape[1:3] == (3, 3) and a.stride == (1, 1) and a.dilation == (1, 1)
    _, oh, ow, oc = call.output.shape
    if not plain or w.shape[3] % 4 or oc % 4 or oh < 2 or ow < 4:
        return False
    k = mac_constants(w.reshape(oc, -1), bias_of(call), conv2d.requant(call))
    return k.acc_bound < ACC_LIMIT


def transformed(w: NDArray[np.int8]) -> NDArray[np.int64]:
    """[positions 4x4, out, in] of weights [out, 3, 3, in]: G w G^T, times 4."""
    wide, g = w.astype(np.int64), TRANSFORM
    positions: NDArray[np.int64] = np.einsum("ia,jb,oabc->ijoc", g, g, wide)
    return positions


def in_tile_order(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """[16, out, in] as the tile goes: by columns, in a column rows 1 2 0 3; row 3 and column 3
    negated, which turns the subtractions of the way back into additions."""
    sign = np.where(np.arange(4) == 3, -1, 1)
    signed = positions * (sign[:, None] * sign[None, :])[:, :, None, None]
    ordered: NDArray[np.int64] = signed[[1, 2, 0, 3]].transpose(1, 0, 2, 3)
    return ordered.reshape(16, *positions.shape[2:])


def winograd_stream(own: Layer, w: NDArray[np.int8]) -> NDArray[np.uint32]:
    """For every four output channels: weights of each position and pair, then requantization."""
    oc, _, _, ic = w.shape
    # input channel k = 4 * group + 2 * high + odd
    u = in_tile_order(transformed(w)).reshape(16, oc // 4, 4, ic // 4, 2, 2)
    low, high = u[..., 0, :] & 0xFFFF, u[..., 1, :] & 0xFFFF
    words = (low | high << 16).transpose(1, 0, 3, 4, 2)  # [quad, position, group, odd, channel]
    if own.quick:
        constants = times_4(with_bias(own))
    else:
        constants = np.concatenate([as_words(2 * own.bias[:, None]), own.constants], axis=1)
    body: NDArray[np.uint32] = words.reshape(oc // 4, -1).astype(np.uint32)
    stream: NDArray[np.uint32] = np.concatenate([body, constants.reshape(oc // 4, -1)], axis=1)
    return stream.reshape(-1)


def times_4(constants: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """m and c of (sum * m + c) >> 34 for 4 times the sum, from those of (sum * m + c) >> 32."""
    c = np.ascontiguousarray(constants[:, 2]).view(np.int32).astype(np.int64) << 32 | constants[
        :, 1
    ].astype(np.int64)
    assert np.abs(c).max() < 1 << 61
    return np.stack([constants[:, 0], as_words(4 * c), as_words(4 * c >> 32)], axis=1)


def winograd_overlap(call: OpCall) -> Overlap:
    """A unit makes 2 rows of 4 outputs, all channels: it reads its whole patch before it writes."""
    n, ih, iw, ic = call.input(0).shape
    _, oh, ow, oc = call.output.shape
    oy = np.minimum(np.arange(0, oh, 2), oh - 2)[:, None]
    ox = np.minimum(np.arange(0, ow, 4), ow - 4)[None, :]
    iy = np.clip(oy - call.attrs.pads[0], 0, ih - 1)
    ix = np.clip(ox - call.attrs.pads[2], 0, iw - 1)
    images = np.arange(n)[:, None]
    low = images * (ih * iw * ic) + ((iy * iw + ix) * ic).reshape(1, -1)
    high = images * (oh * ow * oc) + (((oy + 1) * ow + ox + 4) * oc).reshape(1, -1)
    later = np.minimum.accumulate(low.reshape(-1)[::-1])[::-1]
    until = np.maximum.accumulate(high.reshape(-1))
    return Overlap(later.astype(np.int64), until.astype(np.int64), True)


def pairs_per_round(channels: int) -> int:
    """How many pairs of input channels the tile's loop makes at once."""
    return 8 if channels % 16 == 0 else 4 if channels % 8 == 0 else 2


LAYOUT = "Winograd weights and requantization of four channels at a time"


def winograd_plan(call: OpCall) -> KernelPlan:
    w = call.input(1).value()
    oc, _, _, ic = w.shape
    requant = conv2d.requant(call)
    own = layer(w.reshape(oc, -1), call, requant)
    images, oh, ow, _ = call.output.shape
    fixed = {
        "tile": winograd_name(pairs_per_round(ic)), "quick": own.quick,
        "outputs": winograd_outputs_name(own.quick, own.clamped),
        "clamped": own.clamped, "batch": images > 1,
        "padded": any(call.attrs.pads), "even_h": oh % 2 == 0, "whole_w": ow % 4 == 0,
        "zero_word": f"0x{(requant.input_zero_point & 0xFF) * 0x01010101:08x}u",
    }  # fmt: skip
    shape = {"images": images} | window_fields(call, (3, 3)) | clamp_fields(requant)
    words = winograd_stream(own, w)
    patch_bytes = 24 * ic if any(call.attrs.pads) else 0
    return KernelPlan(
        fixed, shape, (*MAC_POINTERS, STREAM_POINTER, V_POINTER),
        (stream_constant(call, words, LAYOUT),),
        4 * 16 * ic + max(SUMS_BYTES, patch_bytes), {0: winograd_overlap(call)},
    )  # fmt: skip
