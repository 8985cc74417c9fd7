"""Softmax over the last axis; int8 by TFLite's fixed-point exponential and reciprocal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.ops import fixedpoint
from tinsmith.pipeline.ops.op import OpCall, OpDef, ScaleRule, TensorSpec, Values

DIFF_INTEGER_BITS = 5  # of the scaled difference to the row's maximum, Q5.26
SUM_INTEGER_BITS = 12  # of the sum of exponentials, Q12.19


@dataclass(frozen=True)
class SoftmaxAttrs:
    """beta scales the logits; a float32 value, as files store it."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", float(np.float32(self.beta)))


def infer(call: OpCall) -> tuple[TensorSpec, ...]:
    return (TensorSpec(call.input(0).shape, call.input(0).dtype),)


def run_float(call: OpCall, values: Values) -> tuple[Array, ...]:
    assert values[0] is not None
    x = values[0].astype(np.float64) * call.attrs.beta
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return ((e / e.sum(axis=-1, keepdims=True)).astype(np.float32),)


def input_multiplier(call: OpCall) -> numerics.Multiplier:
    """From differences of inputs to Q5.26 (PreprocessSoftmaxScaling)."""
    real = min(
        float(call.attrs.beta) * call.input(0).scale * (1 << (31 - DIFF_INTEGER_BITS)),
        float((1 << 31) - 1),
    )
    return numerics.quantize_multiplier(real)


def input_radius(m: numerics.Multiplier) -> int:
    """The greatest difference that Q5.26 holds (CalculateInputRadius)."""
    if m.shift < 0:
        return (1 << 31) - 1
    largest = ((1 << DIFF_INTEGER_BITS) - 1) * (1 << (31 - DIFF_INTEGER_BITS))
    return int(np.floor(1.0 * largest / (1 << m.shift)))


def exp_table(call: OpCall) -> NDArray[np.int64]:
    """exp(-d * scale * beta) for d = 0..255, Q0.31; 0 where TFLite leaves the term out.

    By gemmlowp's exp_on_negative_values.
    """
    m = input_multiplier(call)
    radius = input_radius(m)
    diff = -np.arange(256, dtype=np.int64)
    scaled = numerics.requantize(diff, m.m, m.shift)
    exp = fixedpoint.exp_on_negative_values(scaled, DIFF_INTEGER_BITS)
    return np.where(diff >= -radius, exp, 0)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    x = values[0]
    assert x is not None
    rows = x.astype(np.int64).reshape(-1, x.shape[-1])
    exp = exp_table(call)[rows.max(axis=1, keepdims=True) - rows]
    terms = numerics.divide_by_power_of_two(exp, SUM_INTEGER_BITS)
    total = numerics.wrap_int32(terms.sum(axis=1, keepdims=True))
    reciprocal, bits_over_unit = fixedpoint.reciprocal(total, SUM_INTEGER_BITS)
    product = numerics.high_multiply(reciprocal, exp)
    y = numerics.divide_by_power_of_two(product, bits_over_unit + 31 - 8) - 128
    y = np.where(exp > 0, y, -128)
    return (np.clip(y, -128, 127).astype(np.int8).reshape(x.shape),)


def accepts(call: OpCall) -> tuple[str, ...]:
    kinds = (call.input(0).dtype, call.output.dtype)
    if kinds not in ((DType.INT8,) * 2, (DType.FLOAT32,) * 2):
        return (f"{kinds[0].value} to {kinds[1].value}; allowed: int8 to int8, float32",)
    if not call.input(0).shape:
        return ("rank 0; allowed: 1 and more",)
    return ()


SOFTMAX = OpDef(
    name="softmax",
    title="softmax over the last axis",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=SoftmaxAttrs,
    scale_rule=ScaleRule.FIXED,
    fixed_quant=(1.0 / 256.0, -128),
    accepts=accepts,
)
