"""Plans of the convolutions that put two output channels into one multiply, for cores without dual
multiplies.

(w0 + (w4 << 16)) times an input is both products at once, and sums of them stay exact in both
halves as long as the magnitudes of the weights of each channel add up to 255 at most; see pairs.
No column of pixels is packed, but weights take more than twice their bytes: for layers of few
channels over many pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dealing import deal_parts
from tinsmith.codegen.kernels.dsp import (
    STREAM_POINTER,
    as_words,
    layer,
    stream_constant,
)
from tinsmith.codegen.kernels.mac import MAC_POINTERS, window_fields, window_overlap
from tinsmith.codegen.kernels.pairs import (
    BLOCK_COST,
    MOST_WAITING_GROUPS,
    blocks_of,
)
from tinsmith.codegen.kernels.short import steps_of
from tinsmith.codegen.kernels.tiles import eights_name
from tinsmith.codegen.program import KernelPlan, Pointer
from tinsmith.pipeline.ops import OpCall, conv2d

CHANNELS = 8
TAP_WORDS = 5
MOST_MORE_BYTES = 4096
PACKING = 3  # instructions that a column takes for each tap of a pixel
WORTH = 20  # instructions that a byte must save
WINDOW_POINTER = Pointer("int8_t", "window", ("scratch", 0))


def is_worth(call: OpCall) -> bool:
    """Whether the time that packing pixels would take is worth the flash of wider weights."""
    outputs, taps = call.input(1).shape[0], math.prod(call.input(1).shape[1:])
    pixels = call.output.size // outputs
    wide = -(-outputs // CHANNELS) * taps * 4 * TAP_WORDS
    more = wide - (outputs + 2) * taps
    return more <= MOST_MORE_BYTES and pixels * taps * PACKING >= WORTH * more


def in_parts(weights: NDArray[np.int8]) -> list[NDArray[np.int8]]:
    """[a multiple of eight channels, taps], eight by eight."""
    return list(weights.reshape(-1, CHANNELS, weights.shape[1]))


def tap_words(
    weights: NDArray[np.int8], places: list[NDArray[np.int64]], slots: int
) -> NDArray[np.uint32]:
    """[eights, slots * 5]: the weights of two channels in each of four words, and the tap."""
    taps = weights.shape[1]
    eights = weights.reshape(-1, 2, CHANNELS // 2, taps).astype(np.int64)
    words = np.zeros((len(eights), slots, TAP_WORDS), np.uint32)
    for i, place in enumerate(places):
        low, high = eights[i]
        words[i, place, : CHANNELS // 2] = as_words(low + (high << 16)).T
        words[i, place, -1] = np.arange(taps)
    return words.reshape(len(eights), -1)


def start_words(start: NDArray[np.int64], carried: int) -> NDArray[np.uint32]:
    """[eights, 8]: what S and H start from. carried: what all groups together add to S."""
    low, high = start.reshape(-1, 2, CHANNELS // 2).transpose(1, 0, 2)
    return np.concatenate([as_words(low + (high << 16) - carried), as_words(high)], axis=1)


def in_eights(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Filled up with zero channels."""
    return np.pad(values, ((0, -len(values) % CHANNELS), *((0, 0),) * (values.ndim - 1)))


def eights_plan(call: OpCall) -> KernelPlan:
    w = call.input(1).value()
    own = layer(w.reshape(len(w), -1), call, conv2d.requant(call))
    weights = in_eights(own.weights).astype(np.int8)
    taps = weights.shape[1]
    group, places = deal_parts(in_parts(weights), lambda g: -(-taps // g) * (6 * g + 13))
    groups = -(-taps // group)
    constants = in_eights(own.constants).astype(np.uint32).reshape(len(places), -1)
    if own.clamped:
        bounds = as_words(np.array([[own.act_min, own.act_max]], np.int64))
        constants = np.concatenate([constants, np.repeat(bounds, len(places), axis=0)], axis=1)
    bias = in_eights(own.bias).astype(np.int64)
    parts = [start_words(bias, 0x8000 * groups), tap_words(weights, places, groups * group)]
    tile = eights_name(
        group, 1 + (groups + 1) % 2, "quick" if own.quick else "exact", 0, own.clamped
    )
    words = np.concatenate([*parts, constants], axis=1)
    return _plan(call, tile, words, (groups, 1), "copy_bytes")


def short_cost(group: int, taps: int) -> float:
    """Instructions of the tile without long multiplies."""
    unit = 10 * group + 17
    blocks, groups = blocks_of(-(-taps // group), MOST_WAITING_GROUPS, unit)
    return blocks * (groups * unit + BLOCK_COST)


def eights_plan_short(call: OpCall) -> KernelPlan:
    """Without long multiplies."""
    w = call.input(1).value()
    flat = w.reshape(len(w), -1)
    steps = steps_of(flat, call, conv2d.requant(call))
    assert steps is not None
    weights = in_eights(flat).astype(np.int8)
    taps = weights.shape[1]
    group, places = deal_parts(in_parts(weights), lambda g: short_cost(g, taps))
    blocks, groups = blocks_of(-(-taps // group), MOST_WAITING_GROUPS, 10 * group + 17)
    start = in_eights(steps.start).astype(np.int64)
    parts = [start_words(start, 0), tap_words(weights, places, groups * blocks * group)]
    constants = in_eights(steps.words).astype(np.uint32).reshape(len(places), -1)
    tile = eights_name(group, 1, steps.kind, steps.half, False)
    words = np.concatenate([*parts, constants], axis=1)
    return _plan(call, tile, words, (groups, blocks), "copy_each")


def _plan(
    call: OpCall, tile: str, words: NDArray[np.uint32], groups: tuple[int, int], copy: str
) -> KernelPlan:
    """words: [eights, words of each]. groups: of a block, blocks. copy: of bytes at any address."""
    oc, kh, kw, ic = call.input(1).shape
    a = call.attrs
    pointwise = (kh, kw) == (1, 1) and not any(a.pads)
    shape = window_fields(call, (kh, kw))
    shape |= {
        "images": call.input(0).shape[0], "x_zero": conv2d.requant(call).input_zero_point,
        "groups": groups[0], "blocks": groups[1], "eights": oc // CHANNELS,
        "rest_words": words.shape[1] * (oc // CHANNELS),
    }  # fmt: skip
    fixed: dict[str, object] = {
        "tile": tile, "pointwise": pointwise, "padded": any(a.pads),
        "dilated": a.dilation[1] != 1, "by": 4 if ic % 4 == 0 else 1,
        "copy": "copy_words" if ic % 4 == 0 else copy, "whole": oc >= CHANNELS,
        "rest": oc % CHANNELS,
    }  # fmt: skip
    stream = stream_constant(
        call, words.reshape(-1), "starts, weights and requantization of eight channels at a time"
    )
    pointers = (*MAC_POINTERS, STREAM_POINTER)
    return KernelPlan(
        fixed, shape, pointers if pointwise else (*pointers, WINDOW_POINTER), (stream,),
        0 if pointwise else kh * kw * ic,
        {0: window_overlap(call, reads_first=not pointwise)},
    )  # fmt: skip
