"""Sub: elementwise difference with broadcasting; the arithmetic of Add with one sign changed."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops import add, mac
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, Values


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    a, b = values[0], values[1]
    assert a is not None
    assert b is not None
    return (mac.apply_activation((a - b).astype(np.float32), call.attrs.activation),)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """TFLM's quantized Sub, with the constants of Add."""
    k = add.constants(call)
    scaled = []
    for x, zero, m in zip(values, k.zero_points, k.multipliers, strict=True):
        assert x is not None
        shifted = (x.astype(np.int64) - zero) << k.left_shift
        scaled.append(numerics.requantize(shifted, m.m, m.shift))
    y = numerics.requantize(scaled[0] - scaled[1], k.output.m, k.output.shift)
    y = np.clip(y + k.output_zero_point, k.act_min, k.act_max)
    return (y.astype(call.output.dtype.numpy),)


SUB = OpDef(
    name="sub",
    title="elementwise difference, broadcasting, with fused activation",
    infer=add.infer,
    run_float=run_float,
    run_int=run_int,
    attrs=add.AddAttrs,
    accepts=add.accepts,
    data_inputs=2,
    int16=Oracle.TFLM,
)
