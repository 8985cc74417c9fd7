"""Plans of the kernels that put two pixels into one multiply, for cores without dual multiplies.

x0 + (x1 << 16) times a weight is both products at once, and sums of them stay exact in both halves
as long as the magnitudes of the weights add up to 255 at most. The taps are dealt into groups of
one length for which that holds in every channel; `place` is where a tap goes; see dealing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dealing import deal
from tinsmith.codegen.kernels.dsp import (
    STREAM_POINTER,
    Layer,
    as_words,
    conv2d_when,
    layer,
    stream_constant,
)
from tinsmith.codegen.kernels.kernel import is_int8
from tinsmith.codegen.kernels.mac import MAC_POINTERS, window_fields, window_overlap
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.kernels.short import steps_of
from tinsmith.codegen.kernels.tiles import octets_name, pack_name, pairs_name
from tinsmith.codegen.program import Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline.ops import OpCall, conv2d

PIXELS = 4
MOST_WAITING_GROUPS = 8  # of 16 bytes each, on the stack
BLOCK_COST = 33  # instructions
MOST_TAPS = 0xFFFF // 16 - 64  # places are 16 bits, taps are filled up to whole blocks
MOST_SIZE = 0xFFFF
PLACE_POINTER = Pointer("const uint16_t", "place", ("const", 1))
COLUMN_POINTER = Pointer("uint32_t", "column", ("scratch", 0))


def pairs_cost(group: int, taps: int) -> float:
    """Instructions of a pairs tile for two channels: 6.5 a tap, 15 a group."""
    return -(-taps // group) * (6.5 * group + 0.5 * (group % 2) + 15)


def octets_shape(group: int, taps: int) -> tuple[int, int]:
    """(padded taps, taps of a block) of an octets tile.

    It reads whole words of weights, and a block's groups wait on the stack.
    """
    unit = group * (4 if group % 2 else 2 if group % 4 else 1)
    most = max(MOST_WAITING_GROUPS * group // unit, 1)
    blocks, length = blocks_of(-(-taps // unit), most, unit * (10.75 + 17 / group))
    return blocks * length * unit, length * unit


def blocks_of(units: int, most: int, unit_cost: float) -> tuple[int, int]:
    """(blocks, units of each) that hold so many and cost the least, `most` to a block."""
    lengths = range(1, min(most, units) + 1)
    length = min(lengths, key=lambda n: -(-units // n) * (n * unit_cost + BLOCK_COST))
    return -(-units // length), length


def octets_cost(group: int, taps: int) -> float:
    """Instructions of an octets tile for a channel: 10.75 a tap, 17 a group, 33 a block."""
    padded, block = octets_shape(group, taps)
    return padded * (10.75 + 17 / group) + BLOCK_COST * (padded // block)


def two_stream(own: Layer, group: int, place: NDArray[np.int64]) -> NDArray[np.uint32]:
    """What the pairs tiles read: two channels at a time, taps in their places."""
    count, taps = own.weights.shape
    twos, groups = -(-count // 2), -(-taps // group)
    w = np.zeros((twos * 2, groups * group), np.int8)
    w[:count, place] = own.weights
    body = w.reshape(twos, 2, -1).transpose(0, 2, 1).reshape(twos, -1)
    body = np.pad(body, ((0, 0), (0, -body.shape[1] % 4)))
    bias = np.zeros(twos * 2, np.int64)
    bias[:count] = own.bias
    whole = bias + (bias << 16) - 0x8000 * groups
    first = np.concatenate(
        [as_words(whole).reshape(twos, 2), as_words(bias).reshape(twos, 2)], axis=1
    )
    constants = np.zeros((twos * 2, 3), np.uint32)
    constants[:count] = own.constants
    if own.clamped:
        bounds = as_words(np.array([[own.act_min, own.act_max]], np.int64))
        constants = np.concatenate([constants, np.repeat(bounds, twos * 2, axis=0)], axis=1)
    words = np.ascontiguousarray(body).view("<u4")
    parts = [first, words, constants.reshape(twos, -1)]
    stream: NDArray[np.uint32] = np.concatenate(parts, axis=1).reshape(-1)
    return stream


def in_units(single: Overlap, pixels: int, of: int) -> Overlap:
    """The trace of a kernel that makes so many pixels a unit, beginning anew after `of` pixels."""
    low, high = single.read_low.reshape(-1, of), single.write_high.reshape(-1, of)
    ends = np.minimum(np.arange(pixels - 1, of + pixels - 1, pixels), of - 1)
    return Overlap(low[:, ::pixels].reshape(-1), high[:, ends].reshape(-1), single.reads_first)


def pairs_parts(
    call: OpCall, own: Layer
) -> tuple[dict[str, object], dict[str, int], tuple[Constant, ...], int]:
    """Fixed fields, shape fields, constants and scratch bytes of a kernel around a pairs tile."""
    channels, taps = own.weights.shape
    group, place = deal(own.weights, lambda g: pairs_cost(g, taps))
    words = two_stream(own, group, place)
    twos, padded = -(-channels // 2), -(-taps // group) * group
    fixed: dict[str, object] = {
        "tile": pairs_name(group, 1 + (padded // group + 1) % 2, own.quick, own.clamped),
        "rest": channels % 2,
        "whole": channels >= 2,
    }
    shape = {
        "taps": padded,
        "twos": channels // 2,
        "rest_words": len(words) // twos * (channels // 2),
    }
    name, label = f"{c_identifier(call.name)}_place", c_comment(call.name)
    table = Constant(
        name, "uint16_t", (8 * place).astype(np.uint16), f"{label}: places of the taps, in bytes"
    )
    stream = stream_constant(
        call, words, "starts, weights and requantization of two channels at a time"
    )
    return fixed, shape, (stream, table), 8 * padded


def octets_parts(
    call: OpCall, weights: NDArray[np.int8]
) -> tuple[dict[str, object], dict[str, int], tuple[Constant, ...], int]:
    """Fixed fields, shape fields, constants and scratch bytes of a kernel around an octets tile."""
    steps = steps_of(weights, call, conv2d.requant(call))
    assert steps is not None
    channels, taps = weights.shape
    group, place = deal(weights, lambda g: octets_cost(g, taps))
    padded, block = octets_shape(group, taps)
    w = np.zeros((channels, padded), np.int8)
    w[:, place] = weights
    start = as_words(steps.start[:, None])
    words = np.concatenate([start, w.view("<u4"), steps.words], axis=1).reshape(-1)
    name, label = f"{c_identifier(call.name)}_place", c_comment(call.name)
    table = Constant(
        name, "uint16_t", (16 * place).astype(np.uint16), f"{label}: places of the taps, in bytes"
    )
    stream = stream_constant(call, words, "start, weights and requantization, channel by channel")
    shape = {"taps": padded, "block": block}
    return (
        {"tile": octets_name(group, steps.half, steps.mirrored)},
        shape,
        (stream, table),
        16 * padded,
    )


def _fits(call: OpCall) -> bool:
    """Whether places of taps and sizes of windows are as narrow as the kernel holds them."""
    _, height, width, _ = call.input(1).shape
    taps, fields = call.input(1).value()[0].size, window_fields(call, (height, width))
    return taps <= MOST_TAPS and max(fields[f] for f in fields if f != "out_c") <= MOST_SIZE


def pairs_when(call: OpCall) -> bool:
    return conv2d_when(call) and _fits(call)


def short_when(call: OpCall) -> bool:
    """Whether a convolution over all channels is requantized by short products."""
    if not is_int8(call) or call.input(0).shape[3] != call.input(1).shape[3]:
        return False
    w = call.input(1).value()
    return steps_of(w.reshape(len(w), -1), call, conv2d.requant(call)) is not None


def octets_when(call: OpCall) -> bool:
    return short_when(call) and _fits(call)


def conv2d_octets_plan(call: OpCall) -> KernelPlan:
    w = call.input(1).value()
    return _conv2d_plan(call, octets_parts(call, w.reshape(len(w), -1)), 8)


def conv2d_pairs_plan(call: OpCall) -> KernelPlan:
    w = call.input(1).value()
    own = layer(w.reshape(len(w), -1), call, conv2d.requant(call))
    return _conv2d_plan(call, pairs_parts(call, own), PIXELS)


def _conv2d_plan(
    call: OpCall,
    parts: tuple[dict[str, object], dict[str, int], tuple[Constant, ...], int],
    unit: int,
) -> KernelPlan:
    """The plan of a convolution that packs `unit` pixels into a column for its tile."""
    _, kh, kw, _ = call.input(1).shape
    requant = conv2d.requant(call)
    fixed, shape, constants, scratch = parts
    a = call.attrs
    images, oh, ow, _ = call.output.shape
    pointwise = (kh, kw) == (1, 1) and a.stride == (1, 1) and not any(a.pads)
    if pointwise:
        images, oh, ow = 1, 1, images * oh * ow
    shape |= window_fields(call, (kh, kw))
    shape |= {"images": images, "pixels": oh * ow, "x_zero": requant.input_zero_point}
    fixed |= {
        "pointwise": pointwise,
        "padded": any(a.pads),
        "unit": unit,
        "pack": pack_name(unit == 8, pointwise),
    }
    if any(a.pads):
        scratch += call.input(0).shape[3]  # a pixel of the border
    return KernelPlan(
        fixed,
        shape,
        (*MAC_POINTERS, STREAM_POINTER, PLACE_POINTER, COLUMN_POINTER),
        constants,
        scratch,
        {0: in_units(window_overlap(call, reads_first=True), unit, oh * ow)},
    )
