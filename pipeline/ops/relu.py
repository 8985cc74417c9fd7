"""Relu, Relu6 and other clamps where no op before takes them in; rescaled to the output."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Activation, Array
from tinsmith.pipeline.ops import mac
from tinsmith.pipeline.ops.op import (
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
    int8_int16_or_float,
    int8_or_float,
)


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(call.input(0).shape, call.input(0).dtype),)


def run_float(call: OpCall, values: Values, activation: Activation) -> tuple[Array, ...]:
    assert values[0] is not None
    return (mac.apply_activation(values[0], activation),)


def constants(call: OpCall, activation: Activation) -> tuple[numerics.Multiplier, int, int]:
    """(multiplier of input scale / output scale, lower clamp, upper clamp).

    The two oracles differ where a value lies on a tie: TFLM, which defines Relu, divides the scales
    in double (CalculateReluOpData); TFLite's reference, which defines the others, in float32.
    """
    x_scale, y_scale = call.input(0).scale, call.output.scale
    real = x_scale / y_scale
    if activation is not Activation.RELU:
        real = float(np.float32(x_scale) / np.float32(y_scale))
    low, high = numerics.activation_range(activation, call.output)
    return numerics.quantize_multiplier(real), low, high


def run_int(call: OpCall, values: Values, activation: Activation) -> tuple[Array, ...]:
    assert values[0] is not None
    m, low, high = constants(call, activation)
    centred = values[0].astype(np.int64) - call.input(0).zero_point
    y = numerics.requantize(centred, m.m, m.shift) + call.output.zero_point
    return (np.clip(y, low, high).astype(call.output.dtype.numpy),)


def _zero_to_one_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    return (np.clip(values[0], np.float32(0), np.float32(1)),)


def _zero_to_one_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """As Relu6 with another top; no op can take this one in, so that it is no Activation."""
    assert values[0] is not None
    m, low, _ = constants(call, Activation.RELU6)
    top = min(numerics.integer_range(call.output.dtype)[1], numerics.quantize_value(1, call.output))
    centred = values[0].astype(np.int64) - call.input(0).zero_point
    y = numerics.requantize(centred, m.m, m.shift) + call.output.zero_point
    return (np.clip(y, low, top).astype(call.output.dtype.numpy),)


RELU = OpDef(
    name="relu",
    title="max(x, 0), where it can't be fused",
    infer=infer,
    run_float=lambda call, values: run_float(call, values, Activation.RELU),
    run_int=lambda call, values: run_int(call, values, Activation.RELU),
    scale_rule=ScaleRule.FREE,
    accepts=int8_int16_or_float,
    int16=Oracle.TFLM,
)

RELU6 = OpDef(
    name="relu6",
    title="min(max(x, 0), 6), where it can't be fused",
    infer=infer,
    run_float=lambda call, values: run_float(call, values, Activation.RELU6),
    run_int=lambda call, values: run_int(call, values, Activation.RELU6),
    scale_rule=ScaleRule.FREE,
    oracle=Oracle.REF,
    disagree=(Oracle.TFLM,),  # it ignores the rescale
    accepts=int8_int16_or_float,
    int16=Oracle.REF,
)

RELU_N1_TO_1 = OpDef(
    name="relu_n1_to_1",
    title="min(max(x, -1), 1), where it can't be fused",
    infer=infer,
    run_float=lambda call, values: run_float(call, values, Activation.RELU_N1_TO_1),
    run_int=lambda call, values: run_int(call, values, Activation.RELU_N1_TO_1),
    oracle=Oracle.REF,
    disagree=(Oracle.TFLM,),  # it has no such op
    accepts=int8_or_float,
)

RELU_0_TO_1 = OpDef(
    name="relu_0_to_1",
    title="min(max(x, 0), 1)",
    infer=infer,
    run_float=_zero_to_one_float,
    run_int=_zero_to_one_int,
    oracle=Oracle.REF,
    disagree=(Oracle.TFLM,),  # it has no such op
    accepts=int8_or_float,
)
