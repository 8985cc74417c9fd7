"""Plans of the C kernels for cores without dual multiplies: depthwise 3x3 from a line, dense by fours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dsp import HIGH_BYTE_BOUND, as_words, is_provable, layer, steps_of
from tinsmith.codegen.kernels.dsp_window import by_channel, in_place, window_overlap_rows
from tinsmith.codegen.kernels.kernel import is_int8
from tinsmith.codegen.kernels.mac import MAC_POINTERS, WEIGHTS_POINTER, window_fields
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.kernels.tiles import sums_name
from tinsmith.codegen.program import Constant, KernelPlan, Pointer
from tinsmith.pipeline import requant_proofs as proofs
from tinsmith.pipeline.ops import OpCall, depthwise_conv2d, fully_connected
from tinsmith.pipeline.ops.mac import Requant

CONSTANTS_POINTER = Pointer("const uint32_t", "constants", ("const", 1))
LINE_POINTER = Pointer("int32_t", "line", ("scratch", 0))


def line_when(call: OpCall) -> bool:
    """3x3 without dilation or multiplier."""
    if not is_int8(call):
        return False
    w = call.input(1).value()
    plain = w.shape[1:3] == (3, 3) and call.attrs.dilation == (1, 1)
    if not plain or w.shape[3] != call.input(0).shape[3]:
        return False
    return is_provable(by_channel(w), call, depthwise_conv2d.requant(call))


def finish(
    weights: NDArray[np.int8], call: OpCall, requant: Requant, short: bool
) -> tuple[dict[str, object], dict[str, int], NDArray[np.uint32]]:
    """How accumulators become outputs: fixed and shape fields, and the words of each channel.

    short: by 32-bit products alone where that is proven.
    """
    bounds = {"y_min": requant.act_min, "y_max": requant.act_max}
    found = steps_of(weights, call, requant) if short else None
    if found is not None:
        fixed = {"by": found.kind, "half": found.half, "words": found.words.shape[1]}
        return fixed, bounds, found.words
    own = layer(weights, call, requant)
    words = np.concatenate([own.constants, as_words(own.bias[:, None])], axis=1)
    return {"by": "quick" if own.quick else "exact", "half": 0, "words": 4}, bounds, words


def line_plan(call: OpCall, *, short: bool = False) -> KernelPlan:
    requant = depthwise_conv2d.requant(call)
    weights = by_channel(call.input(1).value())
    fixed, bounds, words = finish(weights, call, requant, short)
    same = in_place(call)
    a = call.attrs
    columns = (call.output.shape[2] - 1) * a.stride[1] + 3
    shape = window_fields(call, (3, 3))
    shape |= {
        "images": call.input(0).shape[0], "columns": columns, "x_zero": requant.input_zero_point,
        **bounds,
    }  # fmt: skip
    base, label = c_identifier(call.name), c_comment(call.name)
    # Column by column, as the line has it.
    w = weights.reshape(-1, 3, 3).transpose(0, 2, 1)
    constants = (
        Constant(
            f"{base}_weights",
            "int8_t",
            np.ascontiguousarray(w),
            f"{label}: weights by channel and column",
        ),
        Constant(f"{base}_constants", "uint32_t", words, f"{label}: requantization and bias"),
    )
    overlap = window_overlap_rows(call, 1)
    if same:
        overlap = replace(overlap, exact=True)
    return KernelPlan(
        fixed | {"in_place": same}, shape,
        (*MAC_POINTERS, WEIGHTS_POINTER, CONSTANTS_POINTER, LINE_POINTER), constants, 12 * columns,
        {0: overlap},
    )  # fmt: skip


def fours_when(call: OpCall) -> bool:
    return is_int8(call) and is_provable(call.input(1).value(), call, fully_connected.requant(call))


def rides(w: NDArray[np.int8]) -> bool:
    """Whether odd outputs may ride on the upper byte of even ones: their sums fit 24 bits."""
    low, high = proofs.reachable(w[1::2], np.zeros(len(w[1::2]), np.int64))
    fits = max(-int(low.min(initial=0)), int(high.max(initial=0))) < HIGH_BYTE_BOUND
    return fits and int(w[1::2].min(initial=0)) >= -127


def fours_plan(call: OpCall, *, short: bool = False) -> KernelPlan:
    """Weights of four outputs side by side; outputs are filled up with zero weights."""
    w = call.input(1).value()
    outputs, inputs = w.shape
    requant = fully_connected.requant(call)
    fixed, bounds, words = finish(w, call, requant, short)
    quads = -(-outputs // 4)
    packed = np.zeros((quads * 4, inputs), np.int8)
    packed[:outputs] = w
    tile = "" if inputs % 4 or (short and not rides(w)) else sums_name(short)
    if tile and short:
        packed[1::2] -= packed[::2] < 0
    words = np.pad(words, ((0, quads * 4 - outputs), (0, 0)))
    base, label = c_identifier(call.name), c_comment(call.name)
    constants = (
        Constant(
            f"{base}_weights", "int8_t", packed.reshape(quads, 4, inputs).transpose(0, 2, 1).copy(),
            f"{label}: weights, four outputs side by side", align=4,
        ),
        Constant(f"{base}_constants", "uint32_t", words, f"{label}: requantization and bias"),
    )  # fmt: skip
    shape = {
        "rows": call.input(0).size // inputs, "inputs": inputs, "outputs": outputs,
        **bounds,
    }  # fmt: skip
    return KernelPlan(
        fixed | {"rest": outputs % 4, "tile": tile}, shape,
        (*MAC_POINTERS, WEIGHTS_POINTER, CONSTANTS_POINTER), constants,
    )  # fmt: skip


def line_plan_short(call: OpCall) -> KernelPlan:
    """Without long multiplies."""
    return line_plan(call, short=True)


def fours_plan_short(call: OpCall) -> KernelPlan:
    """Without long multiplies."""
    return fours_plan(call, short=True)
