"""Logistic and Tanh, with a fixed output scale.

int8 by gemmlowp's fixed-point functions, int16 by an interpolated table.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.numerics import Int64
from tinsmith.pipeline.ops import fixedpoint
from tinsmith.pipeline.ops.gate_functions import general_scaling, sigmoid_q15, tanh_q15
from tinsmith.pipeline.ops.op import (
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
    int8_int16_or_float,
)

INTEGER_BITS = 4  # of the scaled input, Q4.27
MAX_INT16_SCALE = 4.0  # beyond it the product with the multiplier may leave an int32


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(call.input(0).shape, call.input(0).dtype),)


def _run_int(
    call: OpCall, values: Values, function: Callable[[Int64, int], Int64], output_bits: int
) -> tuple[Array, ...]:
    """TFLM's reference_integer_ops::Logistic and Tanh.

    output_bits: the scale of the output is 2^-output_bits. Beyond CalculateInputRadius the output
    is one end of the range.
    """
    assert values[0] is not None
    real = call.input(0).scale * (1 << (31 - INTEGER_BITS))
    m = numerics.quantize_multiplier(real)
    exponent = math.frexp(real)[1]
    radius = math.floor(((1 << INTEGER_BITS) - 1) * math.ldexp(1.0, 31 - INTEGER_BITS - exponent))
    centred = values[0].astype(np.int64) - call.input(0).zero_point
    inside = np.abs(centred) < radius
    scaled = numerics.requantize(np.where(inside, centred, 0), m.m, m.shift)
    raw = function(scaled, INTEGER_BITS)
    y = numerics.divide_by_power_of_two(raw, 31 - output_bits) + call.output.zero_point
    # At -radius and below the lower end wins, as it does where the radius is 0.
    y = np.where(centred >= radius, 127, y)
    y = np.where(centred <= -radius, -128, y)
    return (np.clip(y, -128, 127).astype(np.int8),)


def logistic_scaling(call: OpCall) -> tuple[int, int]:
    """(multiplier, right shift) of int16 inputs to the unit of the interpolated table."""
    return general_scaling(call.input(0).scale, (-12,))


def tanh_scaling(call: OpCall) -> tuple[int, int]:
    """The same of Tanh."""
    return general_scaling(call.input(0).scale, (-12, -11))


def _run_logistic(call: OpCall, values: Values) -> tuple[Array, ...]:
    if call.input(0).dtype is DType.INT16:
        assert values[0] is not None
        return (sigmoid_q15(values[0], logistic_scaling(call)).astype(np.int16),)
    return _run_int(call, values, fixedpoint.logistic, 8)


def _run_tanh(call: OpCall, values: Values) -> tuple[Array, ...]:
    if call.input(0).dtype is DType.INT16:
        assert values[0] is not None
        return (tanh_q15(values[0], tanh_scaling(call)).astype(np.int16),)
    return _run_int(call, values, fixedpoint.tanh, 7)


def logistic_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    x = values[0].astype(np.float64)
    e = np.exp(-np.abs(x))
    return (np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(np.float32),)


def tanh_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (np.tanh(values[0].astype(np.float64)).astype(np.float32),)


def accepts(call: OpCall) -> tuple[str, ...]:
    reasons = int8_int16_or_float(call)
    x = call.input(0)
    if x.dtype is DType.INT16 and x.quant is not None and x.scale > MAX_INT16_SCALE:
        reasons += (f"input scale {x.scale:g}; allowed for int16: up to {MAX_INT16_SCALE:g}",)
    return reasons


LOGISTIC = OpDef(
    name="logistic",
    title="1 / (1 + e^-x)",
    infer=infer,
    run_float=logistic_float,
    run_int=_run_logistic,
    scale_rule=ScaleRule.FIXED,
    fixed_quant=(1.0 / 256.0, -128),
    fixed_quant_int16=(1.0 / 32768.0, 0),
    accepts=accepts,
    int16=Oracle.TFLM,
)

TANH = OpDef(
    name="tanh",
    title="hyperbolic tangent",
    infer=infer,
    run_float=tanh_float,
    run_int=_run_tanh,
    scale_rule=ScaleRule.FIXED,
    fixed_quant=(1.0 / 128.0, 0),
    fixed_quant_int16=(1.0 / 32768.0, 0),
    accepts=accepts,
    int16=Oracle.TFLM,
)
