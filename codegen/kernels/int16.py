"""Plans of the kernels of one int16 value in and out, which no table of bytes can serve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.binary import scaling_fields
from tinsmith.codegen.kernels.elementwise import in_order, rescaling_plan, through_pointers
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.program import Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Activation
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops import OpCall, leaky_relu, logistic, relu, softmax, unary
from tinsmith.pipeline.ops.gate_functions import sigmoid_table


def _overlap(call: OpCall) -> dict[int, Overlap]:
    x, y = call.input(0), call.output
    return {0: in_order(x.nbytes, y.nbytes, x.size)}


def relu_plan(call: OpCall) -> KernelPlan:
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
