"""L2Normalization: each row along the last axis divided by its length."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops.fixedpoint import inverse_square_root
from tinsmith.pipeline.ops.op import OpCall, OpDef, ScaleRule, Values
from tinsmith.pipeline.ops.unary import accepts, infer

OUTPUT_BITS = 7  # the output counts in 1/128
EPSILON = 1e-6  # the least length of a row in float


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    x = values[0].astype(np.float64)
    length = np.sqrt(np.square(x).sum(axis=-1, keepdims=True))
    return ((x / np.maximum(length, EPSILON)).astype(np.float32),)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    """reference_integer_ops::L2Normalization, with the reciprocal root in fixed point."""
    assert values[0] is not None
    x = values[0].astype(np.int64) - call.input(0).zero_point
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty_like(rows)
    for i, power in enumerate(np.square(rows).sum(axis=1)):
        inverse = inverse_square_root(int(power))
        y[i] = numerics.requantize(rows[i], inverse.m, inverse.shift + OUTPUT_BITS)
    return (np.clip(y, -128, 127).astype(np.int8).reshape(x.shape),)


def checked(call: OpCall) -> tuple[str, ...]:
    if not call.input(0).shape:
        return ("rank 0; allowed: 1 and more",)
    # Squares of up to 255 in an int32.
    if call.input(0).shape[-1] > 1 << 15:
        return (f"rows of {call.input(0).shape[-1]}; allowed: up to {1 << 15}",)
    return accepts(call)


L2_NORMALIZATION = OpDef(
    name="l2_normalization",
    title="rows along the last axis, divided by their length",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    scale_rule=ScaleRule.FIXED,
    fixed_quant=(1.0 / 128.0, 0),
    accepts=checked,
)
