"""Plans of the kernels that put two pixels into one multiply, for cores without dual multiplies.

x0 + (x1 << 16) times a weight is both products at once, and sums of them stay exact in both halves
as long as the magnitudes of the weights add up to 255 at most. The taps are dealt into groups of
one length for which that holds in every channel; `place` is where a tap goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dsp import (
    STREAM_POINTER,
    Layer,
    as_words,
    conv2d_when,
    layer,
    steps_of,
    stream_constant,
)
from tinsmith.codegen.kernels.mac import MAC_POINTERS, window_fields, window_overlap
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.kernels.tiles import LONGEST_GROUP, octets_name, pairs_name
from tinsmith.codegen.program import Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline.ops import OpCall, conv2d, fully_connected

GROUP_SUM = 255  # 128 * 255 < 2^15
PIXELS = 4
MOST_WAITING_GROUPS = 16  # of 16 bytes each
PLACE_POINTER = Pointer("const uint16_t", "place", ("const", 1))
COLUMN_POINTER = Pointer("uint32_t", "column", ("scratch", 0))


def deal(weights: NDArray[np.int8], cost: Callable[[int], float]) -> tuple[int, NDArray[np.int64]]:
    """(group length, place of each tap) so that no channel's group sums exceed GROUP_SUM.

    weights: [channels, taps]. cost: of a group length; the cheapest that can be dealt is taken.
    Heavy taps go first, each to the group that stays lightest by it.
    """
    a = np.abs(weights.astype(np.int64))
    taps = a.shape[1]
    order = np.argsort(-(a.max(axis=0) * 1000 + a.mean(axis=0)), kind="stable")
    fewest = max(-(-int(a.sum(axis=1).max(initial=0)) // GROUP_SUM), 1)
    # Weights that are not -128 go in twos wherever they lie.
    always = 2 if taps > 1 and int(a.max(initial=0)) <= 127 else 1
    longest = min(max(taps // fewest, always), LONGEST_GROUP, taps)
    for group in sorted(range(always, longest + 1), key=cost):
        place = np.arange(taps, dtype=np.int64) if group == always else _dealt(a, order, group)
        if place is not None:
            return group, place
    raise AssertionError("groups of the shortest length can always be dealt")


def pairs_cost(group: int, taps: int) -> float:
    """Instructions of a pairs tile for two channels: 6.5 a tap, 15 a group."""
    return -(-taps // group) * (6.5 * group + 0.5 * (group % 2) + 15)


def octets_shape(group: int, taps: int) -> tuple[int, int]:
    """(padded taps, taps of a block) of an octets tile.

    It reads whole words of weights, and a block's groups wait on the stack.
    """
    unit = group * (4 if group % 2 else 2 if group % 4 else 1)
    units = -(-taps // unit)
    blocks = -(-units * unit // group // MOST_WAITING_GROUPS)
    block = -(-units // blocks) * unit
    return block * blocks, block


def octets_cost(group: int, taps: int) -> float:
    """Instructions of an octets tile for a channel: 10.75 a tap, 17 a group, 33 a block."""
    padded, block = octets_shape(group, taps)
    return padded * (10.75 + 17 / group) + 33 * (padded // block)


def _dealt(
    a: NDArray[np.int64], order: Sequence[int] | NDArray[np.int64], group: int
) -> NDArray[np.int64] | None:
    taps = a.shape[1]
    groups = -(-taps // group)
    load = np.zeros((a.shape[0], groups))
    count = np.zeros(groups, np.int64)
    place = np.zeros(taps, np.int64)
    for tap in order:
        grown = load + a[:, tap : tap + 1]
        cost = ((grown / GROUP_SUM) ** 8).sum(axis=0)
        cost[(count >= group) | (grown.max(axis=0) > GROUP_SUM)] = np.inf
        best = int(np.argmin(cost))
        if not np.isfinite(cost[best]):
            return None
        place[tap] = best * group + count[best]
        load[:, best] = grown[:, best]
        count[best] += 1
    return place


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


def in_units(single: Overlap, pixels: int) -> Overlap:
    """The trace of a kernel that makes so many pixels a unit."""
    low, high = single.read_low[::pixels], single.write_high[pixels - 1 :: pixels]
    if len(high) < len(low):
        high = np.append(high, single.write_high[-1])
    return Overlap(low, high, single.reads_first)


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
        name, "uint16_t", (2 * place).astype(np.uint16), f"{label}: places of the taps"
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
    words = np.concatenate([w.view("<u4"), steps.words], axis=1).reshape(-1)
    name, label = f"{c_identifier(call.name)}_place", c_comment(call.name)
    table = Constant(
        name, "uint16_t", (4 * place).astype(np.uint16), f"{label}: places of the taps"
    )
    stream = stream_constant(call, words, "weights and requantization, channel by channel")
    shape = {"taps": padded, "block": block}
    return (
        {"tile": octets_name(group, steps.half, steps.mirrored)},
        shape,
        (stream, table),
        16 * padded,
    )


def octets_when(call: OpCall) -> bool:
    if not conv2d_when(call):
        return False
    w = call.input(1).value()
    return steps_of(w.reshape(len(w), -1), call, conv2d.requant(call)) is not None


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
    shape |= window_fields(call, (kh, kw))
    shape |= {"pixels": images * oh * ow, "x_zero": requant.input_zero_point}
    fixed |= {
        "pointwise": (kh, kw) == (1, 1) and a.stride == (1, 1) and not any(a.pads),
        "padded": any(a.pads),
        "dilated": a.dilation[1] != 1,
        "batch": images > 1,
        "unit": unit,
    }
    return KernelPlan(
        fixed,
        shape,
        (*MAC_POINTERS, STREAM_POINTER, PLACE_POINTER, COLUMN_POINTER),
        constants,
        scratch,
        {0: in_units(window_overlap(call, reads_first=True), unit)},
    )


def rows_pairs_plan(call: OpCall) -> KernelPlan:
    """A fully connected layer of several rows: a 1x1 convolution of as many pixels."""
    w = call.input(1).value()
    outputs, inputs = w.shape
    rows = call.input(0).size // inputs
    own = layer(w, call, fully_connected.requant(call))
    fixed, shape, constants, scratch = pairs_parts(call, own)
    fixed |= {"pointwise": True, "unit": PIXELS}
    shape |= {"pixels": rows, "in_c": inputs, "out_c": outputs}
    n = np.arange(rows, dtype=np.int64)
    overlap = in_units(Overlap(n * inputs, (n + 1) * outputs, True), PIXELS)
    return KernelPlan(
        fixed,
        shape,
        (*MAC_POINTERS, STREAM_POINTER, PLACE_POINTER, COLUMN_POINTER),
        constants,
        scratch,
        {0: overlap},
    )


def has_rows(call: OpCall) -> bool:
    """Whether a fully connected layer has more than one row."""
    return call.input(0).size > call.input(1).shape[1]
