"""Plans of the kernels that work on int16 value by value, which no table of bytes can serve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.binary import overlap_in_order, scaling_fields
from tinsmith.codegen.kernels.elementwise import (
    broadcast_steps,
    in_order,
    operands,
    rescaling_plan,
    through_pointers,
)
from tinsmith.codegen.kernels.kernel import is_int16
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
from tinsmith.pipeline.requant_proofs import Doubled, doubled


def _overlap(call: OpCall) -> dict[int, Overlap]:
    x, y = call.input(0), call.output
    return {0: in_order(x.nbytes, y.nbytes, x.size)}


Parts = tuple[dict[str, object], dict[str, int]]  # fixed and shape fields


def _scaling(name: str, found: Doubled) -> Parts:
    """The fields of one requantization: its form, and the constants that the form needs."""
    form = "shifted" if found.right else "high"
    fixed: dict[str, object] = {name: (form, found.factor)}
    return fixed, {f"{name}_m": found.m, f"{name}_half": found.half, f"{name}_right": found.right}


def _exact(name: str, m: Multiplier, left: int) -> Parts | None:
    """The same of a power of two times value << left, where nothing is rounded."""
    shift = left - 1 + m.shift
    if m.m != 1 << 30 or m.shift > 0 or shift < 0:
        return None
    return {name: ("exact", 1 << shift)}, {}


def _merged(*parts: Parts) -> Parts:
    fixed: dict[str, object] = {}
    shape: dict[str, int] = {}
    for part in parts:
        fixed |= part[0]
        shape |= part[1]
    return fixed, shape


def _operand(name: str, m: Multiplier, left: int) -> tuple[Parts, tuple[int, int]] | None:
    """The fields of an operand shifted left and requantized, and the range of what that gives."""
    ends = numerics.requantize(np.array([INT16_MIN << left, INT16_MAX << left]), m.m, m.shift)
    found = doubled(m, INT16_MIN << left, INT16_MAX << left, 1 << left)
    part = _exact(name, m, left) or (None if found is None else _scaling(name, found))
    return None if part is None else (part, (int(ends[0]), int(ends[1])))


def _sum_parts(call: OpCall) -> Parts | None:
    """Of add and sub; None where a sum times its multiplier would leave 32 bits."""
    k = add.constants(call)
    a, b = (_operand(n, m, k.left_shift) for n, m in zip("ab", k.multipliers, strict=True))
    if a is None or b is None:
        return None
    low, high = b[1] if call.op == "add" else (-b[1][1], -b[1][0])
    found = doubled(k.output, a[1][0] + low, a[1][1] + high)
    return None if found is None else _merged(a[0], b[0], _scaling("y", found))


def _square_parts(call: OpCall) -> Parts | None:
    """Of squared_difference."""
    k = squared_difference.constants(call)
    a, b = (_operand(n, m, k.left_shift) for n, m in zip("ab", k.multipliers, strict=True))
    if a is None or b is None:
        return None
    most = max(a[1][1] - b[1][0], b[1][1] - a[1][0])
    found = doubled(k.output, 0, most * most)
    return None if found is None else _merged(a[0], b[0], _scaling("y", found))


def _product_parts(call: OpCall) -> Parts | None:
    found = doubled(mul.constants(call).output, INT16_MIN * INT16_MAX, INT16_MIN * INT16_MIN)
    return None if found is None else _scaling("y", found)


def _pair_plan(call: OpCall, parts: Parts | None, low: int, high: int) -> KernelPlan:
    assert parts is not None
    pointers, constants = operands(call, ("a", "b"))
    fixed = {"steps": broadcast_steps(call), "sign": "-" if call.op == "sub" else "+"}
    fields = {"size": call.output.size, "y_min": low, "y_max": high}
    overlap = overlap_in_order(call)
    return KernelPlan(fixed | parts[0], fields | parts[1], pointers, constants, 0, overlap)


def sum_when(call: OpCall) -> bool:
    return is_int16(call) and _sum_parts(call) is not None


def sum_plan(call: OpCall) -> KernelPlan:
    k = add.constants(call)
    return _pair_plan(call, _sum_parts(call), k.act_min, k.act_max)


def square_when(call: OpCall) -> bool:
    return is_int16(call) and _square_parts(call) is not None


def square_plan(call: OpCall) -> KernelPlan:
    k = squared_difference.constants(call)
    return _pair_plan(call, _square_parts(call), k.act_min, k.act_max)


def product_when(call: OpCall) -> bool:
    return is_int16(call) and _product_parts(call) is not None


def product_plan(call: OpCall) -> KernelPlan:
    k = mul.constants(call)
    return _pair_plan(call, _product_parts(call), k.act_min, k.act_max)


def _rescaling(call: OpCall, m: Multiplier) -> Doubled | None:
    """Of every value of the input's type, less its zero point."""
    x = call.input(0)
    low, high = numerics.integer_range(x.dtype)
    return doubled(m, low - x.zero_point, high - x.zero_point)


def _rescaling_plan(call: OpCall, m: Multiplier, low: int, high: int) -> KernelPlan:
    found = _rescaling(call, m)
    assert found is not None
    x, y = call.input(0), call.output
    fixed, scaling = _scaling("y", found)
    fixed |= {"type": C_TYPES[y.dtype], "clamped": y.dtype is not DType.INT32}
    fields = {
        "size": x.size, "x_zero": x.zero_point, "y_zero": y.zero_point,
        "y_min": low, "y_max": high,
    }  # fmt: skip
    return KernelPlan(fixed, fields | scaling, through_pointers(call), (), 0, _overlap(call))


def quantize_when(call: OpCall) -> bool:
    """Between int8 and int16, and from these to int32."""
    kinds = (call.input(0).dtype, call.output.dtype)
    small = kinds[0] in (DType.INT8, DType.INT16) and DType.INT16 in kinds
    return small and _rescaling(call, quantize.requantize_multiplier(call)) is not None


def quantize_plan(call: OpCall) -> KernelPlan:
    low, high = numerics.integer_range(call.output.dtype)
    return _rescaling_plan(call, quantize.requantize_multiplier(call), low, high)


def relu_when(call: OpCall) -> bool:
    m, _, _ = relu.constants(call, Activation(call.op))
    return is_int16(call) and _rescaling(call, m) is not None


def relu_plan(call: OpCall) -> KernelPlan:
    return _rescaling_plan(call, *relu.constants(call, Activation(call.op)))


def plain_relu_plan(call: OpCall) -> KernelPlan:
    return rescaling_plan(call, *relu.constants(call, Activation(call.op)))


def leaky_relu_plan(call: OpCall) -> KernelPlan:
    above, below = leaky_relu.multipliers(call)
    above_right, above_fields = scaling_fields(above, "above")
    below_right, below_fields = scaling_fields(below, "below")
    low, high = numerics.integer_range(call.output.dtype)
    fields = {"size": call.output.size, "y_min": low, "y_max": high}
    fixed = {"above_right": above_right, "below_right": below_right}
    pointers = through_pointers(call)
    fields |= above_fields | below_fields
    return KernelPlan(fixed, fields, pointers, (), 0, _overlap(call))


def abs_plan(call: OpCall) -> KernelPlan:
    m = unary.abs_multiplier(call)
    right, scaling = scaling_fields(m or Multiplier(0, 0), "y")
    fields = {"size": call.output.size, "y_max": numerics.integer_range(call.output.dtype)[1]}
    fixed = {"scaled": m is not None, "right_only": right}
    return KernelPlan(fixed, fields | scaling, through_pointers(call), (), 0, _overlap(call))


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
