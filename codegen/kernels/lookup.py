"""Plans of the kernels that pick values, change their type, and combine two tensors."""

from __future__ import annotations

import numpy as np

from tinsmith.codegen.kernels.binary import overlap_in_order
from tinsmith.codegen.kernels.elementwise import (
    Steps,
    broadcast_steps,
    broadcast_strides,
    in_order,
    operands,
    pair_steps,
)
from tinsmith.codegen.kernels.mac import INT32_SAFE
from tinsmith.codegen.program import C_TYPES, KernelPlan, Pointer
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.ops import OpCall, batch_matmul, squared_difference


def cast_plan(call: OpCall) -> KernelPlan:
    x, y = call.input(0), call.output
    pointers = (
        Pointer(f"const {C_TYPES[x.dtype]}", "x", ("in", 0)),
        Pointer(C_TYPES[y.dtype], "y", ("out", 0)),
    )
    fixed = {"type": C_TYPES[y.dtype], "truth": y.dtype is DType.BOOL}
    overlap = {0: in_order(x.nbytes, y.nbytes, x.size)}
    return KernelPlan(fixed, {"size": x.size}, pointers, (), 0, overlap)


def is_cast_source(call: OpCall) -> bool:
    return call.input(0).dtype is not DType.FLOAT32


def gather_plan(call: OpCall) -> KernelPlan:
    x, axis = call.input(0), call.attrs.axis
    pointers, constants = operands(call, ("x", "indices"))
    fields = {
        "outer": int(np.prod(x.shape[:axis], dtype=np.int64)),
        "count": x.shape[axis],
        "inner": int(np.prod(x.shape[axis + 1 :], dtype=np.int64)),
        "picks": call.input(1).size,
    }
    fixed = {
        "known": call.input(1).is_constant,
        "index": C_TYPES[call.input(1).dtype],
        "type": C_TYPES[x.dtype],
    }
    return KernelPlan(fixed, fields, pointers, constants)


def squared_difference_plan(call: OpCall) -> KernelPlan:
    k = squared_difference.constants(call)
    pointers, constants = operands(call, ("a", "b"))
    fields = {
        "a_zero": k.zero_points[0], "a_m": k.multipliers[0].m, "a_shift": -k.multipliers[0].shift,
        "b_zero": k.zero_points[1], "b_m": k.multipliers[1].m, "b_shift": -k.multipliers[1].shift,
        "y_m": k.output.m, "y_shift": k.output.shift, "y_zero": k.output_zero_point,
        "y_min": k.act_min, "y_max": k.act_max, "left": k.left_shift, "size": call.output.size,
    }  # fmt: skip
    overlap = overlap_in_order(call)
    return KernelPlan({"steps": broadcast_steps(call)}, fields, pointers, constants, 0, overlap)


def batch_matmul_plan(call: OpCall) -> KernelPlan:
    """Every product of matrices by strides, so that a swap of axes costs nothing."""
    m, depth = batch_matmul.multiplier(call), batch_matmul.matrices(call)[0][-1]
    steps, strides = matrix_walk(call)
    pointers, constants = operands(call, ("a", "b"))
    fields = strides | {
        "a_zero": call.input(0).zero_point, "b_zero": call.input(1).zero_point,
        "m": m.m, "shift": m.shift, "y_zero": call.output.zero_point,
    }  # fmt: skip
    fixed = {"steps": steps, "wraps": 255 * 255 * depth > INT32_SAFE}
    return KernelPlan(fixed, fields, pointers, constants)


def matrix_walk(call: OpCall) -> tuple[Steps, dict[str, int]]:
    """The loops over a batch of matrices, and the sizes and strides of a product of two."""
    a, b = batch_matmul.matrices(call)
    lead = call.output.shape[:-2]
    rows, depth, columns = a[-2], a[-1], b[-1]
    steps = pair_steps(
        lead,
        [s * rows * depth for s in broadcast_strides(a[:-2], len(lead))],
        [s * depth * columns for s in broadcast_strides(b[:-2], len(lead))],
    )
    a_strides = (1, rows) if call.attrs.adjoint_a else (depth, 1)
    b_strides = (1, depth) if call.attrs.adjoint_b else (columns, 1)
    return steps, {
        "rows": rows, "depth": depth, "columns": columns,
        "a_row": a_strides[0], "a_step": a_strides[1],
        "b_step": b_strides[0], "b_column": b_strides[1],
    }  # fmt: skip
