"""Plans of the plain C kernels that multiply and accumulate: conv2d, depthwise_conv2d,
fully_connected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.packing import (
    MacConstants,
    c_comment,
    c_identifier,
    mac_arrays,
    mac_constants,
    shape_text,
    split_weights,
)
from tinsmith.codegen.program import C_TYPES, Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.ops import OpCall, conv2d, depthwise_conv2d, fully_connected
from tinsmith.pipeline.ops.mac import Requant

INT32_SAFE = (1 << 31) - 1


def mac_fixed(bound: int, right_only: bool) -> dict[str, object]:
    """What decides the arithmetic: whether sums may wrap, whether shifts go right only."""
    return {"wraps": bound > INT32_SAFE, "right_only": right_only}


def clamp_fields(requant: Requant) -> dict[str, int]:
    return {
        "y_zero": requant.output_zero_point,
        "y_min": requant.act_min,
        "y_max": requant.act_max,
    }


MAC_POINTERS = (
    Pointer("const int8_t", "x", ("in", 0)),
    Pointer("int8_t", "y", ("out", 0)),
)
BIAS_POINTER = Pointer("const int32_t", "bias", ("const", 1))
REQUANT_POINTERS = (
    BIAS_POINTER,
    Pointer("const int32_t", "multiplier", ("const", 2)),
    Pointer("const int8_t", "shift", ("const", 3)),
)
WEIGHTS_POINTER = Pointer("const int8_t", "weights", ("const", 0))
SCRATCH_POINTER = Pointer("int8_t", "column", ("scratch", 0))


def weights_constant(call: OpCall, w: NDArray[np.generic], layout: str) -> Constant:
    name = f"{c_identifier(call.name)}_weights"
    label, ctype = c_comment(call.name), C_TYPES[DType.of(w)]
    return Constant(name, ctype, w, f"{label}: weights {shape_text(w.shape)}, {layout}")


def bias_of(call: OpCall) -> NDArray[np.generic] | None:
    bias = call.optional(2)
    return None if bias is None else bias.value()


def window_fields(call: OpCall, kernel: tuple[int, int]) -> dict[str, int]:
    """Sizes, strides, dilation and padding of an op that slides a window over NHWC."""
    _, ih, iw, ic = call.input(0).shape
    _, oh, ow, oc = call.output.shape
    a = call.attrs
    dilation = getattr(a, "dilation", (1, 1))
    return {
        "in_h": ih,
        "in_w": iw,
        "in_c": ic,
        "out_h": oh,
        "out_w": ow,
        "out_c": oc,
        "kernel_h": kernel[0],
        "kernel_w": kernel[1],
        "stride_h": a.stride[0],
        "stride_w": a.stride[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "pad_top": a.pads[0],
        "pad_left": a.pads[2],
    }


def misses(call: OpCall, kernel: tuple[int, int]) -> bool:
    """Whether some windows have no tap in the image: beside it, or on both sides of it."""
    a, size = call.attrs, call.input(0).shape[1:3]
    return any(
        max(a.pads[2 * i : 2 * i + 2]) > (kernel[i] - 1) * a.dilation[i] or size[i] < a.dilation[i]
        for i in (0, 1)
    )


def window_overlap(call: OpCall, *, reads_first: bool) -> Overlap:
    """The access trace of a kernel that makes output pixels in order, each from its window of the
    input.

    The lowest byte that pixel (oy, ox) reads is that of its window's first row and column inside
    the image. n counts images one after another; elements have the bytes of their type.
    """
    n, ih, iw, ic = call.input(0).shape
    _, oh, ow, oc = call.output.shape
    a = call.attrs
    iy = np.clip(np.arange(oh) * a.stride[0] - a.pads[0], 0, ih - 1)
    ix = np.clip(np.arange(ow) * a.stride[1] - a.pads[2], 0, iw - 1)
    image = ((iy[:, None] * iw + ix[None, :]) * ic).reshape(-1)
    low = (np.arange(n)[:, None] * (ih * iw * ic) + image[None, :]).reshape(-1)
    low = low * call.input(0).dtype.bytes
    later = np.minimum.accumulate(low[::-1])[::-1]
    high = (np.arange(n * oh * ow) + 1) * oc * call.output.dtype.bytes
    return Overlap(later.astype(np.int64), high.astype(np.int64), reads_first)


@dataclass(frozen=True, eq=False)
class RequantParts:
    """How a kernel gets its requantization: arrays, or one multiplier and shift as numbers."""

    fixed: Mapping[str, object]
    shape: Mapping[str, int]
    pointers: tuple[Pointer, ...]
    constants: tuple[Constant, ...]


def requant_parts(call: OpCall, k: MacConstants) -> RequantParts:
    """Numbers in the text where all channels share them, as they do with per-tensor weights."""
    fixed = mac_fixed(k.acc_bound, k.right_only)
    arrays = mac_arrays(call, k)
    uniform = len(k.multiplier) > 1 and len(set(zip(k.multiplier, k.shift, strict=True))) == 1
    if not uniform:
        return RequantParts(fixed | {"uniform": False}, {}, REQUANT_POINTERS, arrays)
    numbers = {"m": int(k.multiplier[0]), "s": int(k.shift[0])}
    return RequantParts(fixed | {"uniform": True}, numbers, (BIAS_POINTER,), arrays[:1])


def with_offset(k: MacConstants, bytes_: NDArray[np.int8], offset: int) -> MacConstants:
    """The same for weights that are split: parts of a sum may be larger than the whole."""
    if offset == 0:
        return k
    w = np.abs(bytes_.astype(np.int64)).reshape(len(bytes_), -1)
    parts = 128 * (w.sum(axis=1).max() + abs(offset) * w.shape[1])
    return replace(k, acc_bound=int(np.abs(k.bias.astype(np.int64)).max() + parts))


def offset_fields(offset: int) -> tuple[dict[str, object], dict[str, int]]:
    """(fixed, shape) fields of a kernel whose weights are bytes and an offset."""
    return {"offset": offset != 0}, {"w_offset": offset} if offset else {}


def rows_fixed(count: int) -> dict[str, object]:
    """How `count` channels go two at a time."""
    return {"several": count >= 2, "rest": count % 2 != 0}


def conv2d_plan(call: OpCall) -> KernelPlan:
    """Column kernel: the window is gathered into scratch, then every channel is a dot product."""
    oc, kh, kw, ic = call.input(1).shape
    w, offset = split_weights(call.input(1).value())
    a = call.attrs
    requant = conv2d.requant(call)
    k = mac_constants(call.input(1).value().reshape(oc, -1), bias_of(call), requant)
    parts = requant_parts(call, with_offset(k, w, offset))
    groups = call.input(0).shape[3] // ic
    pointwise = (kh, kw) == (1, 1) and groups == 1 and not any(a.pads)
    images, ih, iw, _ = call.input(0).shape
    with_sum, sum_fields = offset_fields(offset)
    fields = window_fields(call, (kh, kw)) | dict(parts.shape) | sum_fields
    fields |= {
        "group_in_c": ic,
        "groups": groups,
        "group_out_c": oc // groups,
        "taps": kh * kw * ic,
        "x_zero": requant.input_zero_point,
        "images": images,
    }
    fixed = {
        **parts.fixed,
        **rows_fixed(oc // groups),
        **with_sum,
        "grouped": groups > 1,
        "misses": misses(call, (kh, kw)),
        "pointwise": pointwise,
        "dense": pointwise and call.output.shape[1:3] == (ih, iw),
        "batch": images > 1,
        "padded": any(a.pads),
        "dilated": a.dilation[1] != 1,
        "by_words": call.input(0).shape[3] % 4 == 0,
    }
    pointers = (*MAC_POINTERS, WEIGHTS_POINTER, *parts.pointers)
    return KernelPlan(
        fixed,
        fields | clamp_fields(requant),
        pointers if pointwise else (*pointers, SCRATCH_POINTER),
        (weights_constant(call, w, "output, height, width, input channel"), *parts.constants),
        0 if pointwise else kh * kw * ic,
        # Groups gather again for each group, after channels of the pixel have been written.
        {0: window_overlap(call, reads_first=not pointwise and groups == 1)},
    )


def depthwise_plan(call: OpCall) -> KernelPlan:
    """Windows inside the image are read where they lie, others from a copy in scratch."""
    w = call.input(1).value()
    _, kh, kw, oc = w.shape
    a = call.attrs
    images, _, _, ic = call.input(0).shape
    requant = depthwise_conv2d.requant(call)
    parts = requant_parts(call, mac_constants(w.reshape(kh * kw, oc).T, bias_of(call), requant))
    fields = window_fields(call, (kh, kw)) | dict(parts.shape)
    fields |= {
        "depth": oc // ic,
        "x_zero": requant.input_zero_point,
        "images": images,
        "span_h": (kh - 1) * a.dilation[0] + 1,
        "span_w": (kw - 1) * a.dilation[1] + 1,
    }
    padded = any(a.pads)
    fixed = {
        **parts.fixed,
        "padded": padded,
        "misses": misses(call, (kh, kw)),
        "deep": oc != ic,
        "w_type": C_TYPES[DType.of(w)],
        "batch": images > 1,
        "dilated": a.dilation[1] != 1,
        "by_words": call.input(0).shape[3] % 4 == 0,
    }
    weights = replace(WEIGHTS_POINTER, ctype=f"const {C_TYPES[DType.of(w)]}")
    pointers = (*MAC_POINTERS, weights, *parts.pointers)
    return KernelPlan(
        fixed,
        fields | clamp_fields(requant),
        (*pointers, SCRATCH_POINTER) if padded else pointers,
        (weights_constant(call, w, "height, width, channel"), *parts.constants),
        kh * kw * ic if padded else 0,
        {0: window_overlap(call, reads_first=False)},
        literal_if_few=not padded,  # the copies take more than what literals save
    )


def fully_connected_plan(call: OpCall) -> KernelPlan:
    outputs, inputs = call.input(1).shape
    w, offset = split_weights(call.input(1).value())
    requant = fully_connected.requant(call)
    k = mac_constants(call.input(1).value(), bias_of(call), requant)
    parts = requant_parts(call, with_offset(k, w, offset))
    rows = call.input(0).size // inputs
    with_sum, sum_fields = offset_fields(offset)
    fields = {"rows": rows, "inputs": inputs, "outputs": outputs} | dict(parts.shape) | sum_fields
    return KernelPlan(
        {**parts.fixed, **rows_fixed(outputs), **with_sum, "batch": rows > 1},
        fields | clamp_fields(requant),
        (*MAC_POINTERS, WEIGHTS_POINTER, *parts.pointers),
        (weights_constant(call, w, "output, input"), *parts.constants),
    )
