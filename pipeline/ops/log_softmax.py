"""LogSoftmax over the last axis; int8 by TFLite's fixed-point exponential and logarithm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.ops import fixedpoint, softmax
from tinsmith.pipeline.ops.op import OpCall, OpDef, ScaleRule, Values, int8_or_float
from tinsmith.pipeline.ops.softmax import DIFF_INTEGER_BITS, SUM_INTEGER_BITS, SoftmaxAttrs

OUTPUT_INTEGER_BITS = 4  # the output counts in 16/256


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    x = values[0].astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return ((x - np.log(np.exp(x).sum(axis=-1, keepdims=True))).astype(np.float32),)


@dataclass(frozen=True, eq=False)
class LogSoftmaxConstants:
    """exp: of d = 0..255 below the row's maximum, Q0.31, 0 where TFLite leaves the term out.

    input: from input steps to Q5.26; reverse: back. diff_min: no output below it.
    """

    exp: NDArray[np.int64]
    input: numerics.Multiplier
    reverse: numerics.Multiplier
    diff_min: int


def constants(call: OpCall) -> LogSoftmaxConstants:
    """PreprocessLogSoftmaxScalingExp and CalculateInputRadius."""
    plain = replace(call, attrs=SoftmaxAttrs())
    m = softmax.input_multiplier(plain)
    divisor = float(1 << (31 - m.shift)) / m.m
    return LogSoftmaxConstants(
        softmax.exp_table(plain),
        m,
        numerics.quantize_multiplier(divisor),
        -softmax.input_radius(m),
    )


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    k = constants(call)
    x = values[0]
    assert x is not None
    rows = x.astype(np.int64).reshape(-1, x.shape[-1])
    below = rows.max(axis=1, keepdims=True) - rows
    terms = numerics.divide_by_power_of_two(k.exp[below], SUM_INTEGER_BITS)
    total = numerics.wrap_int32(terms.sum(axis=1, keepdims=True))
    log = fixedpoint.log_of_at_least_one(total, SUM_INTEGER_BITS, DIFF_INTEGER_BITS)
    least = numerics.requantize(log + numerics.INT32_MIN, k.reverse.m, k.reverse.shift)
    least = np.maximum(k.diff_min - 1, least)
    scaled = numerics.requantize(-below, k.input.m, k.input.shift)
    shift = 31 - DIFF_INTEGER_BITS - OUTPUT_INTEGER_BITS
    y = numerics.divide_by_power_of_two(numerics.wrap_int32(scaled - log), shift) + 127
    y = np.where(-below > least, np.clip(y, -128, 127), -128)
    return (y.astype(np.int8).reshape(x.shape),)


LOG_SOFTMAX = OpDef(
    name="log_softmax",
    title="logarithm of the softmax over the last axis",
    infer=softmax.infer,
    run_float=run_float,
    run_int=run_int,
    scale_rule=ScaleRule.FIXED,
    fixed_quant=(16.0 / 256.0, 127),
    accepts=lambda call: int8_or_float(call) or softmax.has_rows(call),
)
