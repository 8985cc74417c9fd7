"""Plans of the kernels that work on int16 value by value, which no table of bytes can serve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.binary import overlap_in_order, scaling_fields
from tinsmith.codegen.kernels.elementwise import (
    broadcast_steps,
    in_order,
    operands,
    through_pointers,
)
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.program import C_TYPES, Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Activation, DType
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops import (
    OpCall,
    add,
    leaky_relu,
    logistic,
    mul,
    quantize,
    relu,
    softmax,
    squared_difference,
    unary,
)
from tinsmith.pipeline.ops.gate_functions import sigmoid_table
from tinsmith.pipeline.ops.interpolation import INT16_MAX, INT16_MIN
from tinsmith.pipeline.requant_proofs import doubled


def _overlap(call: OpCall) -> dict[int, Overlap]:
    x, y = call.input(0), call.output
    return {0: in_order(x.nbytes, y.nbytes, x.size)}


Parts = tuple[dict[str, object], dict[str, int]]  # fixed and shape fields


def _scaling(name: str, m: Multiplier, low: int, high: int, left: int = 0) -> Parts:
    """The fields of one requantization, of a value << left that lies in low..high.

    Its form: one rounding high word, that and a shift, or TFLite's own two steps where the range
    leaves no room for them.
    """
    found = doubled(m, low, high, 1 << left)
    if found is None:
        return {name: ("general", 1 << left)}, {f"{name}_m": m.m, f"{name}_shift": m.shift}
    if not found.right:
        return {name: ("high", found.factor)}, {f"{name}_m": found.m}
    shifts = {f"{name}_half": found.half, f"{name}_right": found.right}
    return {name: ("shifted", found.factor)}, {f"{name}_m": found.m, **shifts}


def _operand(name: str, m: Multiplier, left: int) -> tuple[Parts, tuple[int, int]]:
    """The fields of an operand shifted left and requantized, and the range of what that gives."""
    ends = np.array([INT16_MIN << left, INT16_MAX << left])
    low, high = (int(end) for end in numerics.requantize(ends, m.m, m.shift))
    shift = left - 1 + m.shift
    if m.m == 1 << 30 and m.shift <= 0 <= shift:  # a power of two: nothing is rounded
        return ({name: ("exact", 1 << shift)}, {}), (low, high)
    return _scaling(name, m, int(ends[0]), int(ends[1]), left), (low, high)


def _pair_plan(
    call: OpCall, parts: Sequence[Parts], low: int, high: int, sign: str = "+"
) -> KernelPlan:
    pointers, constants = operands(call, ("a", "b"))
    fixed: dict[str, object] = {"steps": broadcast_steps(call), "sign": sign}
    fields = {"size": call.output.size, "y_min": low, "y_max": high}
    for part in parts:
        fixed |= part[0]
        fields |= part[1]
    return KernelPlan(fixed, fields, pointers, constants, 0, overlap_in_order(call))


def sum_plan(call: OpCall) -> KernelPlan:
    """Of add and sub."""
    k = add.constants(call)
    a, (low, high) = _operand("a", k.multipliers[0], k.left_shift)
    b, ends = _operand("b", k.multipliers[1], k.left_shift)
    sign = "-" if call.op == "sub" else "+"
    more = ends if sign == "+" else (-ends[1], -ends[0])
    y = _scaling("y", k.output, low + more[0], high + more[1])
    return _pair_plan(call, (a, b, y), k.act_min, k.act_max, sign)


def square_plan(call: OpCall) -> KernelPlan:
    """Of squared_difference."""
    k = squared_difference.constants(call)
    a, (a_low, a_high) = _operand("a", k.multipliers[0], k.left_shift)
    b, (b_low, b_high) = _operand("b", k.multipliers[1], k.left_shift)
    most = max(a_high - b_low, b_high - a_low)
    y = _scaling("y", k.output, 0, most * most)
    return _pair_plan(call, (a, b, y), k.act_min, k.act_max)


def product_plan(call: OpCall) -> KernelPlan:
    k = mul.constants(call)
    y = _scaling("y", k.output, INT16_MIN * INT16_MAX, INT16_MIN * INT16_MIN)
    return _pair_plan(call, (y,), k.act_min, k.act_max)


def _rescaling_plan(call: OpCall, m: Multiplier, low: int, high: int) -> KernelPlan:
    x, y = call.input(0), call.output
    least, most = numerics.integer_range(x.dtype)
    fixed, scaling = _scaling("y", m, least - x.zero_point, most - x.zero_point)
    fixed |= {"type": C_TYPES[y.dtype], "clamped": y.dtype is not DType.INT32}
    fields = {
        "size": x.size, "x_zero": x.zero_point, "y_zero": y.zero_point,
        "y_min": low, "y_max": high,
    }  # fmt: skip
    return KernelPlan(fixed, fields | scaling, through_pointers(call), (), 0, _overlap(call))


def quantize_when(call: OpCall) -> bool:
    """Between int8 and int16, and from int16 to int32."""
    kinds = (call.input(0).dtype, call.output.dtype)
    return kinds[0] in (DType.INT8, DType.INT16) and DType.INT16 in kinds


def quantize_plan(call: OpCall) -> KernelPlan:
    low, high = numerics.integer_range(call.output.dtype)
    return _rescaling_plan(call, quantize.requantize_multiplier(call), low, high)


def relu_plan(call: OpCall) -> KernelPlan:
    return _rescaling_plan(call, *relu.constants(call, Activation(call.op)))


def leaky_relu_plan(call: OpCall) -> KernelPlan:
    above, below = leaky_relu.multipliers(call)
    first = _scaling("above", above, 0, INT16_MAX)
    second = _scaling("below", below, INT16_MIN, 0)
    low, high = numerics.integer_range(call.output.dtype)
    fields = {"size": call.output.size, "y_min": low, "y_max": high} | first[1] | second[1]
    pointers = through_pointers(call)
    return KernelPlan(first[0] | second[0], fields, pointers, (), 0, _overlap(call))


def abs_plan(call: OpCall) -> KernelPlan:
    m = unary.abs_multiplier(call)
    part: Parts = ({}, {}) if m is None else _scaling("y", m, 0, -INT16_MIN)
    low, high = numerics.integer_range(call.output.dtype)
    fields = {"size": call.output.size, "y_min": low, "y_max": high}
    fixed = {"scaled": m is not None, **part[0]}
    return KernelPlan(fixed, fields | part[1], through_pointers(call), (), 0, _overlap(call))


def exp_plan(call: OpCall) -> KernelPlan:
    table = Constant(
        f"{c_identifier(call.name)}_table",
        "int16_t",
        unary.exp_table_int16(call),
        f"{c_comment(call.name)}: exp of every 128th value, to be interpolated",
        role="table",
    )
    pointers = (*through_pointers(call), Pointer("const int16_t", "table", ("const", 0)))
    return KernelPlan({}, {"size": call.output.size}, pointers, (table,), 0, _overlap(call))


def _gate_plan(call: OpCall, scaling: tuple[int, int]) -> KernelPlan:
    m, right = scaling
    table = Constant(
        "sigmoid_table", "uint16_t", sigmoid_table(), "sigmoid of i / 24, times 2^16", role="table"
    )
    fields = {"size": call.output.size, "m": m, "half": (1 << right) >> 1, "right": right}
    pointers = (*through_pointers(call), Pointer("const uint16_t", "sigmoid", ("const", 0)))
    return KernelPlan({}, fields, pointers, (table,), 0, _overlap(call))


def logistic_plan(call: OpCall) -> KernelPlan:
    return _gate_plan(call, logistic.logistic_scaling(call))


def tanh_plan(call: OpCall) -> KernelPlan:
    return _gate_plan(call, logistic.tanh_scaling(call))


def _shared(name: str, table: NDArray[np.int16], what: str) -> Constant:
    """A table that is the same in every layer, and stands in the program once."""
    return Constant(name, "int16_t", table, what, role="table")


def softmax_plan(call: OpCall) -> KernelPlan:
    exp, reciprocal = softmax.int16_tables()
    right, scaling = scaling_fields(softmax.int16_multiplier(call), "x")
    depth = call.input(0).shape[-1]
    fields = {"rows": call.input(0).size // depth, "depth": depth} | scaling
    pointers = (
        *through_pointers(call),
        Pointer("const int16_t", "exp_table", ("const", 0)),
        Pointer("const int16_t", "reciprocal_table", ("const", 1)),
    )
    constants = (
        _shared("softmax_exp_table", exp, "exp(x) for x in -10..0, Q15"),
        _shared("softmax_reciprocal_table", reciprocal, "1 / (1 + x) for x in 0..1, Q15"),
    )
    return KernelPlan({"right_only": right}, fields, pointers, constants, 0, _overlap(call))
