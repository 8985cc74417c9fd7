"""Plans of the C kernels for cores without dual multiplies: depthwise 3x3 from a line, dense by fours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinsmith.codegen.kernels.dsp import as_words, is_provable, layer
from tinsmith.codegen.kernels.dsp_window import by_channel, in_place, window_overlap_rows
from tinsmith.codegen.kernels.kernel import is_int8
from tinsmith.codegen.kernels.mac import MAC_POINTERS, WEIGHTS_POINTER, window_fields
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.program import Constant, KernelPlan, Pointer
from tinsmith.pipeline.ops import OpCall, depthwise_conv2d, fully_connected

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


def line_plan(call: OpCall) -> KernelPlan:
    requant = depthwise_conv2d.requant(call)
    own = layer(by_channel(call.input(1).value()), call, requant)
    same = in_place(call)
    a = call.attrs
    columns = (call.output.shape[2] - 1) * a.stride[1] + 3
    shape = window_fields(call, (3, 3))
    shape |= {
        "images": call.input(0).shape[0], "columns": columns, "x_zero": requant.input_zero_point,
        "words": 4, "y_min": requant.act_min, "y_max": requant.act_max,
    }  # fmt: skip
    base, label = c_identifier(call.name), c_comment(call.name)
    # Column by column, as the line has it.
    w = own.weights.reshape(-1, 3, 3).transpose(0, 2, 1)
    words = np.concatenate([own.constants, as_words(own.bias[:, None])], axis=1)
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
        {"in_place": same, "quick": own.quick}, shape,
        (*MAC_POINTERS, WEIGHTS_POINTER, CONSTANTS_POINTER, LINE_POINTER), constants, 12 * columns,
        {0: overlap},
    )  # fmt: skip


def fours_when(call: OpCall) -> bool:
    return is_int8(call) and is_provable(call.input(1).value(), call, fully_connected.requant(call))


def fours_plan(call: OpCall) -> KernelPlan:
    """Weights of four outputs side by side; outputs are filled up with zero weights."""
    w = call.input(1).value()
    outputs, inputs = w.shape
    requant = fully_connected.requant(call)
    own = layer(w, call, requant)
    quads = -(-outputs // 4)
    packed = np.zeros((quads * 4, inputs), np.int8)
    packed[:outputs] = own.weights
    words = np.zeros((quads * 4, 4), np.uint32)
    words[:outputs] = np.concatenate([own.constants, as_words(own.bias[:, None])], axis=1)
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
        "y_min": requant.act_min, "y_max": requant.act_max,
    }  # fmt: skip
    return KernelPlan(
        {"quick": own.quick, "rest": outputs % 4}, shape,
        (*MAC_POINTERS, WEIGHTS_POINTER, CONSTANTS_POINTER), constants,
    )  # fmt: skip
