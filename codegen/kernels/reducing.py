"""Plans of the kernels that reduce an image to a pixel by rows: sums of some rows at a time, and
what is made of the sums in the end."""

from __future__ import annotations

import numpy as np

from tinsmith.codegen.kernels.movement import average_plan, mean_plan
from tinsmith.codegen.program import C_TYPES, KernelPlan, Overlap, Pointer
from tinsmith.pipeline.graph import Shape
from tinsmith.pipeline.ops import OpCall


def sum_bytes(shape: Shape) -> int:
    """Of the sums over an image of this shape: an int32 a channel."""
    return 4 * shape[3]


def sum_rows_plan(call: OpCall, rows: int, *, first: bool) -> KernelPlan:
    """Adds rows of the input to the sums, in place. first: the sums are nothing yet."""
    x = call.input(0)
    pointers = (
        Pointer(f"const {C_TYPES[x.dtype]}", "x", ("in", 0)),
        Pointer("int32_t", "sums", ("out", 0)),
    )
    shape = {
        "pixels": rows * x.shape[2], "channels": x.shape[3], "first": int(first),
        "start": mean_plan(call).shape["offset"] if call.op == "mean" else 0,
    }  # fmt: skip
    once = np.zeros(1, np.int64)
    in_place = Overlap(once, once + sum_bytes(x.shape), True, exact=True)
    return KernelPlan({}, shape, pointers, (), 0, {1: in_place})


def pixel_of_sums_plan(call: OpCall) -> KernelPlan:
    """The output of an average pool or a mean over the whole image, from the sums."""
    plan = mean_plan(call) if call.op == "mean" else average_plan(call)
    ctype = C_TYPES[call.output.dtype]
    pointers = (Pointer("const int32_t", "sums", ("in", 0)), Pointer(ctype, "y", ("out", 0)))
    unused = ("kept", "reduced", "factors")
    fixed = {k: v for k, v in plan.fixed.items() if k not in unused} | {"mean": call.op == "mean"}
    shape = {**plan.shape, "channels": call.input(0).shape[3]}
    return KernelPlan(fixed, shape, pointers)
