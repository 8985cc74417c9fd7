"""Plans of the kernels of two operands that broadcast: sub, mul, maximum, minimum, prelu."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinsmith.codegen.kernels.elementwise import broadcast_steps, in_order, operands
from tinsmith.codegen.kernels.kernel import is_int8
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.program import C_TYPES, Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops import OPS, OpCall, add, mul, prelu


def has_one_value(call: OpCall) -> bool:
    """True where one operand is a constant of a single value: a table of 256 bytes computes it."""
    single = [t is not None and t.is_constant and t.size == 1 for t in call.inputs]
    return is_int8(call) and single.count(True) == 1


def one_value_plan(call: OpCall) -> KernelPlan:
    """y[i] = table[x[i]], the table made by the op's own definition."""
    x_index = next(i for i, t in enumerate(call.inputs) if t is not None and not t.is_constant)
    every = np.arange(256, dtype=np.uint8).view(np.int8)
    inputs = [
        replace(call.input(i), shape=(256,))
        if i == x_index
        else replace(call.input(i), shape=(1,), data=call.input(i).value().reshape(1))
        for i in (0, 1)
    ]
    values = [every if t.data is None else t.data for t in inputs]
    output = replace(call.output, shape=(256,))
    table = OPS[call.op].run_int(replace(call, inputs=tuple(inputs), outputs=(output,)), values)[0]
    constant = Constant(
        f"{c_identifier(call.name)}_table",
        "int8_t",
        table.reshape(-1),
        f"{c_comment(call.name)}: {call.op} of every byte, indexed as unsigned",
        role="table",
    )
    pointers = (
        Pointer("const int8_t", "x", ("in", x_index)),
        Pointer("int8_t", "y", ("out", 0)),
        Pointer("const int8_t", "table", ("const", 0)),
    )
    size = call.output.size
    fixed = {"x_type": "int8_t", "y_type": "int8_t"}
    overlap = {x_index: in_order(size, size, size)}
    return KernelPlan(fixed, {"size": size}, pointers, (constant,), 0, overlap)


def _plan(call: OpCall, fixed: dict[str, object], fields: dict[str, int]) -> KernelPlan:
    steps = broadcast_steps(call)
    pointers, constants = operands(call, ("a", "b"))
    shape = {"size": call.output.size, **fields}
    overlap = overlap_in_order(call)
    return KernelPlan({"steps": steps, **fixed}, shape, pointers, constants, 0, overlap)


def overlap_in_order(call: OpCall) -> dict[int, Overlap]:
    """An operand of the output's size is read in order, also where the other one broadcasts."""
    nbytes, size = call.output.nbytes, call.output.size
    return {i: in_order(nbytes, nbytes, size) for i in (0, 1) if call.input(i).size == size}


def scaling_fields(m: Multiplier, prefix: str) -> tuple[bool, dict[str, int]]:
    """(whether the shift goes right, the fields of a requantization)."""
    right = m.shift <= 0
    return right, {f"{prefix}_m": m.m, f"{prefix}_shift": -m.shift if right else m.shift}


def sub_plan(call: OpCall) -> KernelPlan:
    k = add.constants(call)
    right, output = scaling_fields(k.output, "y")
    fields = {
        "a_zero": k.zero_points[0], "a_m": k.multipliers[0].m, "a_shift": -k.multipliers[0].shift,
        "b_zero": k.zero_points[1], "b_m": k.multipliers[1].m, "b_shift": -k.multipliers[1].shift,
        "y_zero": k.output_zero_point, "y_min": k.act_min, "y_max": k.act_max,
        "left": k.left_shift,
    }  # fmt: skip
    return _plan(call, {"right_only": right}, fields | output)


def mul_plan(call: OpCall) -> KernelPlan:
    k = mul.constants(call)
    right, output = scaling_fields(k.output, "y")
    fields = {
        "a_zero": k.zero_points[0], "b_zero": k.zero_points[1],
        "y_zero": k.output_zero_point, "y_min": k.act_min, "y_max": k.act_max,
    }  # fmt: skip
    return _plan(call, {"right_only": right}, fields | output)


def extremum_plan(call: OpCall) -> KernelPlan:
    sign = ">" if call.op == "maximum" else "<"
    return _plan(call, {"sign": sign, "type": C_TYPES[call.output.dtype]}, {})


def prelu_plan(call: OpCall) -> KernelPlan:
    k = prelu.constants(call)
    above_right, above = scaling_fields(k.above, "above")
    below_right, below = scaling_fields(k.below, "below")
    fields = {
        "a_zero": k.zero_points[0], "b_zero": k.zero_points[1], "y_zero": k.output_zero_point,
    }  # fmt: skip
    fixed: dict[str, object] = {"above_right": above_right, "below_right": below_right}
    return _plan(call, fixed, fields | above | below)
