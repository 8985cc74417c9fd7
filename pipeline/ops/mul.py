"""Mul: elementwise product with broadcasting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Activation, Array
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.ops import add, mac
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, Values


@dataclass(frozen=True)
class MulAttrs:
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class MulConstants:
    """y = clamp(zero + requant((a - za) * (b - zb), m))"""

    zero_points: tuple[int, int]
    output: Multiplier
    output_zero_point: int
    act_min: int
    act_max: int


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    a, b = values[0], values[1]
    assert a is not None
    assert b is not None
    return (mac.apply_activation((a * b).astype(np.float32), call.attrs.activation),)


def constants(call: OpCall) -> MulConstants:
    """TFLM's CalculateOpDataMul: the double product of the input scales over the output's."""
    a, b, y = call.input(0), call.input(1), call.output
    low, high = numerics.activation_range(call.attrs.activation, y)
    real = a.scale * b.scale / y.scale
    return MulConstants(
        (a.zero_point, b.zero_point),
        numerics.quantize_multiplier(real),
        y.zero_point,
        low,
        high,
    )


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    a, b = values[0], values[1]
    assert a is not None
    assert b is not None
    k = constants(call)
    product = (a.astype(np.int64) - k.zero_points[0]) * (b.astype(np.int64) - k.zero_points[1])
    y = numerics.requantize(product, k.output.m, k.output.shift) + k.output_zero_point
    return (np.clip(y, k.act_min, k.act_max).astype(call.output.dtype.numpy),)


MUL = OpDef(
    name="mul",
    title="elementwise product, broadcasting, with fused activation",
    infer=add.infer,
    run_float=run_float,
    run_int=run_int,
    attrs=MulAttrs,
    accepts=add.accepts,
    data_inputs=2,
    int16=Oracle.TFLM,
)
