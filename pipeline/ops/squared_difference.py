"""SquaredDifference: (a - b)^2 with broadcasting."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Activation, Array, DType
from tinsmith.pipeline.ops.add import AddConstants, accepts, infer
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, Values

LEFT_SHIFT = {DType.INT8: 7, DType.INT16: 0}  # fraction bits of the difference


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    a, b = values[0], values[1]
    assert a is not None
    assert b is not None
    return (np.square(a - b).astype(np.float32),)


def constants(call: OpCall) -> AddConstants:
    """TFLM's SquaredDifferencePrepare: both inputs relative to twice the larger scale.

    y = clamp(zero + requant((requant((a - za) << left, ma) - requant((b - zb) << left, mb))^2, my))
    """
    a, b, y = call.input(0), call.input(1), call.output
    twice = 2 * max(a.scale, b.scale)
    left_shift = LEFT_SHIFT[y.dtype]
    low, high = numerics.activation_range(Activation.NONE, y)
    return AddConstants(
        left_shift,
        (a.zero_point, b.zero_point),
        (
            numerics.quantize_multiplier(a.scale / twice),
            numerics.quantize_multiplier(b.scale / twice),
        ),
        numerics.quantize_multiplier(twice * twice / ((1 << (2 * left_shift)) * y.scale)),
        y.zero_point,
        low,
        high,
    )


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    k = constants(call)
    terms = []
    for x, zero, m in zip(values, k.zero_points, k.multipliers, strict=True):
        assert x is not None
        shifted = (x.astype(np.int64) - zero) << k.left_shift
        terms.append(numerics.requantize(shifted, m.m, m.shift))
    squared = np.square(terms[0] - terms[1])
    y = numerics.requantize(squared, k.output.m, k.output.shift) + k.output_zero_point
    return (np.clip(y, k.act_min, k.act_max).astype(call.output.dtype.numpy),)


SQUARED_DIFFERENCE = OpDef(
    name="squared_difference",
    title="(a - b)^2, broadcasting",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    accepts=accepts,
    data_inputs=2,
    int16=Oracle.TFLM,
)
