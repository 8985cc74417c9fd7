"""Plans of the kernels that work along an axis: sums, extremes, their places, norms, log
softmax."""

from __future__ import annotations

import numpy as np

from tinsmith.codegen.kernels.elementwise import in_order
from tinsmith.codegen.kernels.mac import MAC_POINTERS
from tinsmith.codegen.kernels.movement import copy_pointers, merge_axes
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.program import C_TYPES, Constant, KernelPlan, Pointer
from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.ops import OpCall, log_softmax, mean, reduce
from tinsmith.pipeline.ops.l2_normalization import OUTPUT_BITS

Walk = tuple[tuple[int, int], ...]


def reduction_walks(call: OpCall) -> tuple[Walk, Walk]:
    """(extent, stride) of the loops over the axes that are kept, and over those that are
    reduced."""
    shape = call.input(0).shape
    strides = [int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))]
    axes = list(zip(shape, strides, strict=True))
    kept = [a for i, a in enumerate(axes) if i not in call.attrs.axes]
    reduced = [a for i, a in enumerate(axes) if i in call.attrs.axes]
    return merge_axes(kept), merge_axes(reduced)


def sum_plan(call: OpCall) -> KernelPlan:
    m = reduce.sum_multiplier(call)
    kept, reduced = reduction_walks(call)
    low, high = numerics.integer_range(call.output.dtype)
    fields = {
        "offset": -call.input(0).zero_point * mean.count(call),
        "m": m.m, "shift": -m.shift if m.shift <= 0 else m.shift,
        "y_zero": call.output.zero_point, "y_min": low, "y_max": high,
    }  # fmt: skip
    fixed = {
        "kept": kept, "reduced": reduced, "right_only": m.shift <= 0,
        "type": C_TYPES[call.input(0).dtype],
    }  # fmt: skip
    return KernelPlan(fixed, fields, copy_pointers(call))


def extreme_plan(call: OpCall) -> KernelPlan:
    kept, reduced = reduction_walks(call)
    fixed = {
        "kept": kept, "reduced": reduced, "better": ">" if call.op == "reduce_max" else "<",
        "type": C_TYPES[call.input(0).dtype],
    }  # fmt: skip
    return KernelPlan(fixed, {}, copy_pointers(call))


def _around(shape: tuple[int, ...], axis: int) -> dict[str, int]:
    """A tensor as [outer, count, inner] around an axis."""
    return {
        "outer": int(np.prod(shape[:axis], dtype=np.int64)),
        "count": shape[axis],
        "inner": int(np.prod(shape[axis + 1 :], dtype=np.int64)),
    }


def arg_plan(call: OpCall) -> KernelPlan:
    ctype = C_TYPES[call.output.dtype]
    pointers = (Pointer("const int8_t", "x", ("in", 0)), Pointer(ctype, "y", ("out", 0)))
    fixed = {"better": ">" if call.op == "arg_max" else "<", "type": ctype}
    return KernelPlan(fixed, _around(call.input(0).shape, call.attrs.axis), pointers)


def is_int8_source(call: OpCall) -> bool:
    return call.input(0).dtype is DType.INT8


def _rows(call: OpCall) -> dict[str, int]:
    depth = call.input(0).shape[-1]
    return {"rows": call.input(0).size // depth, "depth": depth}


def l2_normalization_plan(call: OpCall) -> KernelPlan:
    fields = _rows(call) | {"x_zero": call.input(0).zero_point, "bits": OUTPUT_BITS}
    size = call.input(0).size
    return KernelPlan({}, fields, MAC_POINTERS, (), 0, {0: in_order(size, size, size)})


def log_softmax_plan(call: OpCall) -> KernelPlan:
    k = log_softmax.constants(call)
    reach = int(np.max(np.nonzero(k.exp)[0])) + 1  # beyond it the exponential is 0
    constant = Constant(
        f"{c_identifier(call.name)}_exp",
        "int32_t",
        k.exp[:reach].astype(np.int32),
        f"{c_comment(call.name)}: exp(-i * scale), Q31",
        role="table",
    )
    fields = _rows(call) | {
        "reach": reach, "m": k.input.m, "shift": k.input.shift,
        "reverse_m": k.reverse.m, "reverse_shift": k.reverse.shift, "least": k.diff_min - 1,
    }  # fmt: skip
    pointers = (*MAC_POINTERS, Pointer("const int32_t", "exp_table", ("const", 0)))
    size = call.input(0).size
    return KernelPlan({}, fields, pointers, (constant,), 0, {0: in_order(size, size, size)})
