"""Softmax over the last axis.

int8 by TFLite's fixed-point exponential and reciprocal, int16 by two interpolated tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Array, DType
from tinsmith.pipeline.ops import fixedpoint, interpolation
from tinsmith.pipeline.ops.op import (
    OpCall,
    OpDef,
    Oracle,
    ScaleRule,
    TensorSpec,
    Values,
    int8_int16_or_float,
)

DIFF_INTEGER_BITS = 5  # of the scaled difference to the row's maximum, Q5.26
SUM_INTEGER_BITS = 12  # of the sum of exponentials, Q12.19
MAX_INT16_SCALE = 2.0  # beyond it the scaled difference of two int16 may leave an int32
MAX_INT16_ROW = 1 << 16  # beyond it the sum of exponentials, Q16.15, may


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


def int16_multiplier(call: OpCall) -> numerics.Multiplier:
    """From differences of int16 inputs to steps of 10 / 65535, in which the exponential counts."""
    return numerics.quantize_multiplier(
        call.input(0).scale * float(call.attrs.beta) / (10.0 / 65535.0)
    )


def int16_tables() -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """(exp(x) for x in -10..0, 1 / (1 + x) for x in 0..1), both Q0.15."""
    low, high = interpolation.INT16_MIN, interpolation.INT16_MAX
    span = np.float32(high - low)
    out = float(np.float32(2.0) / span)
    exp = interpolation.interpolated_table(
        lambda x: np.exp(x.astype(np.float64)).astype(np.float32),
        float(np.float32(10.0) / span), high, out,
    )  # fmt: skip
    one = np.float32(1.0)
    reciprocal = interpolation.interpolated_table(
        lambda x: one / (one + x), float(one / span), low, out
    )
    return exp, reciprocal


def _run_int16(call: OpCall, values: Values) -> tuple[Array, ...]:
    """TFLite's SoftmaxInt16."""
    x = values[0]
    assert x is not None
    exp_table, reciprocal_table = int16_tables()
    m = int16_multiplier(call)
    rows = x.astype(np.int64).reshape(-1, x.shape[-1])
    below = rows - rows.max(axis=1, keepdims=True)
    place = np.clip(numerics.requantize(below, m.m, m.shift) + 32767, -32768, 32767)
    exp = interpolation.looked_up(place, exp_table)
    total = exp.sum(axis=1, keepdims=True)
    right = np.frexp(total.astype(np.float64))[1].astype(np.int64) - 1  # 2^right <= total
    # 1.f of the sum, less the one, as the table's place: f of 16 bits about its middle.
    fraction = ((total << (30 - right)) + (1 << 13)) >> 14
    place = np.clip(fraction - (1 << 16) - (1 << 15), -32768, 32767)
    reciprocal = interpolation.looked_up(place, reciprocal_table)
    y = (exp * reciprocal + (np.int64(1) << (right - 1))) >> right
    return (np.clip(y, 0, 32767).astype(np.int16).reshape(x.shape),)


def run_int(call: OpCall, values: Values) -> tuple[Array, ...]:
    if call.input(0).dtype is DType.INT16:
        return _run_int16(call, values)
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
    reasons = int8_int16_or_float(call) or has_rows(call)
    x = call.input(0)
    if reasons or x.dtype is not DType.INT16:
        return reasons
    if x.quant is not None and x.scale * call.attrs.beta > MAX_INT16_SCALE:
        return (
            f"input scale {x.scale:g} with beta {call.attrs.beta:g}; "
            f"allowed for int16: a product up to {MAX_INT16_SCALE:g}",
        )
    if x.shape[-1] > MAX_INT16_ROW:
        return (f"rows of {x.shape[-1]}; allowed for int16: up to {MAX_INT16_ROW}",)
    return ()


def has_rows(call: OpCall) -> tuple[str, ...]:
    """Reasons of an op that works along the last axis."""
    return () if call.input(0).shape else ("rank 0; allowed: 1 and more",)


SOFTMAX = OpDef(
    name="softmax",
    title="softmax over the last axis",
    infer=infer,
    run_float=run_float,
    run_int=run_int,
    attrs=SoftmaxAttrs,
    scale_rule=ScaleRule.FIXED,
    fixed_quant=(1.0 / 256.0, -128),
    fixed_quant_int16=(1.0 / 32768.0, 0),
    accepts=accepts,
    int16=Oracle.TFLM,
)
