"""Plans of the kernels that multiply and accumulate on int16 activations.

Their zero point is 0, so a border adds nothing: a window is walked where it meets the image, and
nothing is gathered. Sums are int32 where the weights and the bias prove that they fit, else int64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.elementwise import operands
from tinsmith.codegen.kernels.lookup import matrix_walk
from tinsmith.codegen.kernels.mac import (
    INT32_SAFE,
    WEIGHTS_POINTER,
    bias_of,
    misses,
    window_fields,
    window_overlap,
)
from tinsmith.codegen.kernels.movement import copy_pointers
from tinsmith.codegen.kernels.packing import c_comment, c_identifier, shape_text
from tinsmith.codegen.program import Constant, KernelPlan, Pointer
from tinsmith.pipeline import numerics, requant_proofs
from tinsmith.pipeline.ops import (
    OpCall,
    batch_matmul,
    conv2d,
    depthwise_conv2d,
    fully_connected,
    mac,
    transpose_conv2d,
)
from tinsmith.pipeline.ops.mac import Requant

Int64 = NDArray[np.int64]
INT16_MAGNITUDE = 1 << 15


@dataclass(frozen=True, eq=False)
class WideParts:
    """How a kernel sums and requantizes: what its text depends on, its numbers and its arrays.

    fixed: `acc` is the type of a sum. `by_sums`: parts of a sum fit an int32, the whole does not.
        `wraps`: sums are int32 and wrap. `form` is how outputs follow from sums: "high", the high
        word of a product; "wide", a shift of an int64 product; "twice", int8's double rounding.
    """

    fixed: Mapping[str, object]
    shape: Mapping[str, int]
    pointers: tuple[Pointer, ...]
    constants: tuple[Constant, ...]


def wide_parts(call: OpCall, rows: Int64, requant: Requant, run: int) -> WideParts:
    """rows: weights [output channels, taps]. run: so many taps are summed in one go."""
    stored = bias_of(call)
    bias = np.zeros(len(rows), np.int64) if stored is None else stored.reshape(-1).astype(np.int64)
    reach = INT16_MAGNITUDE * np.abs(rows).sum(axis=1) + np.abs(bias)
    narrow = bool(reach.max(initial=0) <= INT32_SAFE)
    largest_run = INT16_MAGNITUDE * int(np.abs(rows).max(initial=0)) * run
    short = not mac.is_wide(call)
    fixed: dict[str, object] = {
        "acc": "int32_t" if narrow or short else "int64_t",
        "by_sums": not narrow and not short and largest_run <= INT32_SAFE,
        "wraps": short and not narrow,
    }
    base, label = c_identifier(call.name), c_comment(call.name)
    form, arrays, right_only = _requant_arrays(requant, narrow, short)
    fixed |= {"form": form, "right_only": right_only}
    fits = bool(np.all(bias == bias.astype(np.int32)))
    ctype, kind = ("int32_t", np.int32) if fits else ("int64_t", np.int64)
    constants = [Constant(f"{base}_bias", ctype, bias.astype(kind), f"{label}: bias")]
    pointers = [Pointer(f"const {ctype}", "bias", ("const", 1))]
    uniform = len(rows) > 1 and all(len(np.unique(data)) == 1 for _, _, data, _ in arrays)
    shape = {name: int(data[0]) for name, _, data, _ in arrays} if uniform else {}
    for name, array_type, data, what in () if uniform else arrays:
        pointers.append(Pointer(f"const {array_type}", name, ("const", 1 + len(constants))))
        constants.append(Constant(f"{base}_{name}", array_type, data, f"{label}: {what}"))
    clamps = {"y_min": requant.act_min, "y_max": requant.act_max}
    return WideParts(fixed | {"uniform": uniform}, shape | clamps, tuple(pointers),
                     tuple(constants))  # fmt: skip


_Arrays = list[tuple[str, str, NDArray[np.generic], str]]


def _requant_arrays(requant: Requant, narrow: bool, short: bool) -> tuple[str, _Arrays, bool]:
    """The form of the requantization, its arrays (name, type, data, what), and whether all shift
    right."""
    if short:
        right_only = bool(np.all(requant.shift <= 0))
        shift = (-requant.shift if right_only else requant.shift).astype(np.int8)
        side = "right" if right_only else "left"
        return "twice", [
            ("multiplier", "int32_t", requant.multiplier.astype(np.int32), "multipliers, Q31"),
            ("shift", "int8_t", shift, f"{side} shifts"),
        ], right_only  # fmt: skip
    high = requant_proofs.high_word(requant.multiplier, requant.shift) if narrow else None
    if high is not None:
        return "high", [("multiplier", "int32_t", high.astype(np.int32), "multipliers, Q32")], True
    m, right = numerics.reduced_multiplier(requant.multiplier, requant.shift)
    return "wide", [
        ("multiplier", "int16_t", m.astype(np.int16), "multipliers"),
        ("shift", "int8_t", right.astype(np.int8), "right shifts"),
    ], True  # fmt: skip


def _weights(call: OpCall, layout: str) -> Constant:
    w, label = call.input(1).value(), c_comment(call.name)
    comment = f"{label}: weights {shape_text(w.shape)}, {layout}"
    return Constant(f"{c_identifier(call.name)}_weights", "int8_t", w, comment)


def _window_fixed(call: OpCall, kernel: tuple[int, int]) -> dict[str, object]:
    a = call.attrs
    return {
        "padded": any(a.pads),
        "dilated": a.dilation[1] != 1,
        "batch": call.input(0).shape[0] > 1,
        "misses": misses(call, kernel),
    }


def conv2d_plan(call: OpCall) -> KernelPlan:
    """Every output channel of a pixel is summed over the rows of its window."""
    w = call.input(1).value()
    oc, kh, kw, ic = w.shape
    groups = call.input(0).shape[3] // ic
    fixed = _window_fixed(call, (kh, kw))
    run = ic if groups > 1 or fixed["dilated"] else kw * ic
    rows = w.reshape(oc, -1).astype(np.int64)
    parts = wide_parts(call, rows, conv2d.requant(call), run)
    fields = window_fields(call, (kh, kw)) | {
        "group_in_c": ic, "groups": groups, "group_out_c": oc // groups, "taps": kh * kw * ic,
        "images": call.input(0).shape[0],
    }  # fmt: skip
    return KernelPlan(
        {**parts.fixed, **fixed, "grouped": groups > 1},
        fields | dict(parts.shape),
        (*copy_pointers(call), WEIGHTS_POINTER, *parts.pointers),
        (_weights(call, "output, height, width, input channel"), *parts.constants),
        0,
        {0: window_overlap(call, reads_first=False)},
    )


def depthwise_plan(call: OpCall) -> KernelPlan:
    w = call.input(1).value()
    _, kh, kw, oc = w.shape
    ic = call.input(0).shape[3]
    rows = w.reshape(-1, oc).T.astype(np.int64)
    parts = wide_parts(call, rows, depthwise_conv2d.requant(call), kw)
    fields = window_fields(call, (kh, kw)) | {"depth": oc // ic, "images": call.input(0).shape[0]}
    return KernelPlan(
        {**parts.fixed, **_window_fixed(call, (kh, kw)), "deep": oc != ic},
        fields | dict(parts.shape),
        (*copy_pointers(call), WEIGHTS_POINTER, *parts.pointers),
        (_weights(call, "height, width, channel"), *parts.constants),
        0,
        {0: window_overlap(call, reads_first=False)},
    )


def fully_connected_plan(call: OpCall) -> KernelPlan:
    w = call.input(1).value()
    outputs, inputs = w.shape
    parts = wide_parts(call, w.astype(np.int64), fully_connected.requant(call), inputs)
    rows = call.input(0).size // inputs
    return KernelPlan(
        {**parts.fixed, "batch": rows > 1},
        {"rows": rows, "inputs": inputs, "outputs": outputs} | dict(parts.shape),
        (*copy_pointers(call), WEIGHTS_POINTER, *parts.pointers),
        (_weights(call, "output, input"), *parts.constants),
    )


def transpose_conv2d_plan(call: OpCall) -> KernelPlan:
    """Each output pixel gathers from the input pixels whose windows reach it."""
    w = call.input(1).value()
    oc, kh, kw, ic = w.shape
    n, ih, iw, _ = call.input(0).shape
    rows = w.reshape(oc, -1).astype(np.int64)
    parts = wide_parts(call, rows, transpose_conv2d.requant(call), ic)
    fields = {
        "images": n, "in_h": ih, "in_w": iw, "in_c": ic,
        "out_h": call.output.shape[1], "out_w": call.output.shape[2], "out_c": oc,
        "kernel_h": kh, "kernel_w": kw,
        "stride_h": call.attrs.stride[0], "stride_w": call.attrs.stride[1],
        "pad_top": call.attrs.pads[0], "pad_left": call.attrs.pads[2],
    }  # fmt: skip
    return KernelPlan(
        parts.fixed,
        fields | dict(parts.shape),
        (*copy_pointers(call), WEIGHTS_POINTER, *parts.pointers),
        (_weights(call, "output, height, width, input channel"), *parts.constants),
    )


def batch_matmul_plan(call: OpCall) -> KernelPlan:
    """Products of matrices by strides, summed in int64: two of int16 may already leave an int32."""
    steps, strides = matrix_walk(call)
    pointers, constants = operands(call, ("a", "b"))
    factor = batch_matmul.multiplier(call)
    m, right = numerics.reduced_multiplier(factor.m, factor.shift)
    low, high = numerics.integer_range(call.output.dtype)
    fields = strides | {"multiplier": int(m), "shift": int(right), "y_min": low, "y_max": high}
    fixed = {"steps": steps, "acc": "int64_t", "form": "wide", "uniform": True}
    return KernelPlan(fixed, fields, pointers, constants)
