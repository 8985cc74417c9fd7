"""Plans of the kernels that work element by element: add, tables, softmax, changes of scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.program import C_TYPES, Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import DType, Shape
from tinsmith.pipeline.ops import OPS, OpCall, add, quantize, softmax

Steps = tuple[tuple[int, int, int], ...]  # extent, stride of a, stride of b


def in_order(input_bytes: int, output_bytes: int, count: int) -> Overlap:
    """The trace of a kernel that reads element i, then writes element i, for i in order."""
    i = np.arange(count, dtype=np.int64)
    return Overlap(i * (input_bytes // count), (i + 1) * (output_bytes // count), True)


def add_plan(call: OpCall) -> KernelPlan:
    """Any shapes that broadcast."""
    k = add.constants(call)
    shape = {
        "size": call.output.size,
        "a_zero": k.zero_points[0],
        "a_m": k.multipliers[0].m,
        "a_shift": -k.multipliers[0].shift,
        "b_zero": k.zero_points[1],
        "b_m": k.multipliers[1].m,
        "b_shift": -k.multipliers[1].shift,
        "y_m": k.output.m,
        "y_shift": -k.output.shift if k.output.shift <= 0 else k.output.shift,
        "y_zero": k.output_zero_point,
        "y_min": k.act_min,
        "y_max": k.act_max,
        "left": k.left_shift,
    }
    whole = [i for i in (0, 1) if call.input(i).size == call.output.size]
    fixed = {"right_only": k.output.shift <= 0, "steps": broadcast_steps(call)}
    pointers, constants = operands(call, ("a", "b"))
    size = call.output.size
    overlap = {i: in_order(size, size, size) for i in whole if fixed["steps"] is None}
    return KernelPlan(fixed, shape, pointers, constants, 0, overlap)


def operands(
    call: OpCall, names: tuple[str, ...]
) -> tuple[tuple[Pointer, ...], tuple[Constant, ...]]:
    """Pointers to the inputs (constants are packed) and to the output `y`."""
    pointers: list[Pointer] = []
    constants: list[Constant] = []
    for i, name in enumerate(names):
        tensor = call.input(i)
        if tensor.data is None:
            pointers.append(Pointer(f"const {C_TYPES[tensor.dtype]}", name, ("in", i)))
            continue
        source = ("const", len(constants))
        pointers.append(Pointer(f"const {C_TYPES[tensor.dtype]}", name, source))
        label = c_comment(call.name)
        base = f"{c_identifier(call.name)}_{name}"
        constants.append(
            Constant(base, C_TYPES[tensor.dtype], tensor.data, f"{label}: constant operand")
        )
    pointers.append(Pointer(C_TYPES[call.output.dtype], "y", ("out", 0)))
    return tuple(pointers), tuple(constants)


def broadcast_steps(call: OpCall) -> Steps | None:
    """The loops over two operands that broadcast; None for equal shapes."""
    a, b, y = call.input(0).shape, call.input(1).shape, call.output.shape
    if a == b:
        return None
    return pair_steps(y, broadcast_strides(a, len(y)), broadcast_strides(b, len(y)))


def broadcast_strides(shape: Shape, rank: int) -> list[int]:
    """Strides of a dense tensor that is broadcast to a rank; 0 where it is repeated."""
    padded = (1,) * (rank - len(shape)) + shape
    strides, step = [], 1
    for d in reversed(padded):
        strides.append(0 if d == 1 else step)
        step *= d
    return strides[::-1]


def pair_steps(out: Shape, a: list[int], b: list[int]) -> Steps:
    """Loops over an output with the strides of both operands, merged where they can be."""
    axes: list[tuple[int, int, int]] = []
    for extent, sa, sb in zip(out, a, b, strict=True):
        if extent == 1:
            continue
        if axes and axes[-1][1] == sa * extent and axes[-1][2] == sb * extent:
            axes[-1] = (axes[-1][0] * extent, sa, sb)
        else:
            axes.append((extent, sa, sb))
    return tuple(axes) or ((1, 0, 0),)


def is_byte_table(call: OpCall) -> bool:
    """True for an op of one byte a value in and out, which a table of 256 bytes computes."""
    return call.input(0).dtype.bytes == 1 and call.output.dtype.bytes == 1


def table_plan(call: OpCall) -> KernelPlan:
    """y[i] = table[x[i]]: the table is what the op's own definition gives for every value."""
    values = np.arange(256, dtype=np.uint8).view(call.input(0).dtype.numpy)
    flat = replace(
        call,
        inputs=(replace(call.input(0), shape=(256,)),),
        outputs=(replace(call.output, shape=(256,)),),
    )
    table = OPS[call.op].run_int(flat, (values,))[0]
    # Indexed by the byte as unsigned, so that int8 and uint8 inputs share one kernel.
    constant = Constant(
        f"{c_identifier(call.name)}_table",
        C_TYPES[call.output.dtype],
        table.reshape(-1),
        f"{c_comment(call.name)}: {call.op} of every byte, indexed as unsigned",
        role="table",
    )
    pointers = (
        Pointer(f"const {C_TYPES[call.input(0).dtype]}", "x", ("in", 0)),
        Pointer(C_TYPES[call.output.dtype], "y", ("out", 0)),
        Pointer(f"const {C_TYPES[call.output.dtype]}", "table", ("const", 0)),
    )
    size = call.output.size
    fixed = {"x_type": C_TYPES[call.input(0).dtype], "y_type": C_TYPES[call.output.dtype]}
    return KernelPlan(
        fixed, {"size": size}, pointers, (constant,), 0, {0: in_order(size, size, size)}
    )


def softmax_plan(call: OpCall) -> KernelPlan:
    table = softmax.exp_table(call)
    reach = int(np.max(np.nonzero(table)[0])) + 1  # beyond it the exponential is 0
    constant = Constant(
        f"{c_identifier(call.name)}_exp",
        "int32_t",
        table[:reach].astype(np.int32),
        f"{c_comment(call.name)}: exp(-i * scale), Q31",
        role="table",
    )
    depth = call.input(0).shape[-1]
    rows = call.input(0).size // depth
    pointers = (
        Pointer("const int8_t", "x", ("in", 0)),
        Pointer("int8_t", "y", ("out", 0)),
        Pointer("const int32_t", "exp_table", ("const", 0)),
    )
    size = rows * depth
    return KernelPlan(
        {"sum_integer_bits": softmax.SUM_INTEGER_BITS},
        {"rows": rows, "depth": depth, "reach": reach},
        pointers,
        (constant,),
        0,
        {0: in_order(size, size, size)},
    )


def quantize_float_plan(call: OpCall) -> KernelPlan:
    """float32 to an integer type."""
    y = call.output
    low, high = np.iinfo(y.dtype.numpy).min, np.iinfo(y.dtype.numpy).max
    size = y.size
    return KernelPlan(
        {"y_type": C_TYPES[y.dtype], "scale": float(y.scale).hex()},
        {"size": size, "y_zero": y.zero_point, "y_min": int(low), "y_max": int(high)},
        (
            Pointer("const float", "x", ("in", 0)),
            Pointer(C_TYPES[y.dtype], "y", ("out", 0)),
        ),
        (),
        0,
        {0: in_order(4 * size, y.dtype.bytes * size, size)},
    )


def dequantize_plan(call: OpCall) -> KernelPlan:
    x = call.input(0)
    return KernelPlan(
        {"x_type": C_TYPES[x.dtype], "scale": float(x.scale).hex()},
        {"size": x.size, "x_zero": x.zero_point},
        (
            Pointer(f"const {C_TYPES[x.dtype]}", "x", ("in", 0)),
            Pointer("float", "y", ("out", 0)),
        ),
    )


def requantize_plan(call: OpCall) -> KernelPlan:
    """Integers to another integer type and scale, where a table of bytes does not serve."""
    m = quantize.requantize_multiplier(call)
    x, y = call.input(0), call.output
    low, high = numerics.integer_range(y.dtype)
    right_only = m.shift <= 0
    fixed = {
        "x_type": C_TYPES[x.dtype], "y_type": C_TYPES[y.dtype], "right_only": right_only,
        "clamped": y.dtype is not DType.INT32,
    }  # fmt: skip
    fields = {
        "size": x.size, "x_zero": x.zero_point, "y_zero": y.zero_point,
        "m": m.m, "shift": -m.shift if right_only else m.shift, "y_min": low, "y_max": high,
    }  # fmt: skip
    overlap = {0: in_order(x.nbytes, y.nbytes, x.size)}
    return KernelPlan(fixed, fields, through_pointers(call), (), 0, overlap)


def through_pointers(call: OpCall) -> tuple[Pointer, Pointer]:
    """The pointers of an op of one input and one output, each of its own type."""
    return (
        Pointer(f"const {C_TYPES[call.input(0).dtype]}", "x", ("in", 0)),
        Pointer(C_TYPES[call.output.dtype], "y", ("out", 0)),
    )


def is_float_source(call: OpCall) -> bool:
    return call.input(0).dtype is DType.FLOAT32 and call.output.dtype is not DType.FLOAT32


def is_integer(call: OpCall) -> bool:
    return call.input(0).dtype in (DType.INT8, DType.UINT8, DType.INT16, DType.INT32)
